"""Files and lines of a package for what checks talk of: records, classes and their attributes, imports, errors."""

from __future__ import annotations

import ast
import re
import traceback
from collections.abc import Iterator, Sequence

from hyped_core.checking.static.package import Package
from hyped_core.spec import ModelSpec

_ENDS = ("_exit", "exit", "abort", "quit")
_TARGET = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?(.*)", re.DOTALL)


def file_of(package: Package, module: str) -> str:
    """The name of a module's file, empty where the package has no such module."""
    stem = module.replace(".", "/")
    return next((name for name in (f"{stem}.py", f"{stem}/__init__.py") if name in package.trees), "")


def module_place(package: Package, module: str) -> str:
    """A module's file, or its name where it lies elsewhere."""
    return file_of(package, module) or module


def import_place(package: Package, module: str, tops: Sequence[str]) -> str:
    """File and line of the first import of one of ``tops`` in a module; the module where others bring them."""
    name = file_of(package, module)
    tree = package.trees[name][1] if name else None
    for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        if any(found.partition(".")[0] in tops for found in modules):
            return f"{name}:{node.lineno}"
    return name or module


def calls_of(package: Package, record: str) -> Iterator[tuple[str, ast.Call]]:
    """File and call of everything that makes a ``record``, in files that import hyped_core."""
    for name, (_, tree) in package.trees.items():
        nodes = list(ast.walk(tree)) if isinstance(tree, ast.Module) else []
        for node in nodes if any(_imports_core(node) for node in nodes) else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == record:
                yield name, node


def _imports_core(node: ast.AST) -> bool:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        modules = [node.module or ""]
    return any(module.partition(".")[0] == "hyped_core" for module in modules)


def spec_place(package: Package, key: str) -> str:
    """File and line of the ``ModelSpec`` of the model ``key`` (``task/name``); empty where it cannot be told."""
    found = spec_places(package, key)
    return found[0] if len(found) == 1 else ""


def spec_places(package: Package, key: str) -> list[str]:
    """File and line of every ``ModelSpec`` in which the name, and the task or what is no text, stand for ``key``."""
    task, _, name = key.partition("/")
    found = []
    for file, call in calls_of(package, ModelSpec.__name__):
        said = {keyword.arg: keyword.value for keyword in call.keywords}
        said |= dict(zip(("name", "task"), call.args))
        texts = [value.value if isinstance(value, ast.Constant) else None for value in map(said.get, ("name", "task"))]
        if isinstance(texts[0], str) and texts[0].lower() == name and texts[1] in (task, None):
            found.append(f"{file}:{call.lineno}")
    return found


def placed(package: Package, spec: ModelSpec, where: str) -> str:
    """A place as a check names it (``ModelSpec.field``, ``package.module:Class.attribute``), with file and line."""
    if where.startswith("ModelSpec"):
        here = spec_place(package, spec.key)
        return f"{here}: {where}" if here else where
    if target := _TARGET.fullmatch(where):
        module, name, attribute, rest = target.groups()
        if here := defined(package, module, name, attribute):
            return f"{here}: {name}{f'.{attribute}' if attribute else ''}{rest}"
    return where


def defined(package: Package, module: str, name: str, attribute: str | None = None) -> str:
    """File and line of a function or class of a module, or of a class's attribute; empty where it is not there."""
    file = file_of(package, module)
    tree = package.trees[file][1] if file else None
    for node in tree.body if isinstance(tree, ast.Module) else ():
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            inner = [n for n in getattr(node, "body", ()) if attribute and attribute in _names(n)]
            return f"{file}:{(inner or [node])[0].lineno}"
    return ""


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def error_place(package: Package, error: BaseException | None) -> str:
    """File and line of the last frame of an error, or of what it came from, that lies in the package."""
    names = {str(path): name for name, (path, _) in package.trees.items()}
    while error is not None:
        if isinstance(error, SyntaxError) and str(error.filename) in names:
            return f"{names[str(error.filename)]}:{error.lineno or 1}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename in names:
                return f"{names[frame.filename]}:{frame.lineno}"
        error = error.__cause__
    return ""


def trace_place(package: Package, trace: str, function: str) -> str:
    """File and line of the last frame in the package of a traceback's text, of the one that went through a function."""
    names = {str(path): name for name, (path, _) in package.trees.items()}
    for block in trace.split("Traceback (most recent call last):"):
        frames = re.findall(r'File "(.+?)", line (\d+), in (\S+)', block)
        own = [(names[file], line) for file, line, _ in frames if file in names]
        if own and any(place == function for *_, place in frames):
            return f"{own[-1][0]}:{own[-1][1]}"
    return ""


def exit_place(package: Package, module: str, function: str = "") -> str:
    """File and line of a call that ends the process, outside functions or in the one that is named; where there is none
    to be seen, those of the function or the file."""
    name = file_of(package, module)
    tree = package.trees[name][1] if name else None
    waiting: list[ast.AST] = list(tree.body) if isinstance(tree, ast.Module) else []
    if function:
        found = [node for node in waiting if isinstance(node, ast.FunctionDef) and node.name == function]
        waiting = [inner for node in found for inner in node.body]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _ENDS:
            return f"{name}:{node.lineno}"
        waiting += ast.iter_child_nodes(node)
    return function and defined(package, module, function) or name or module

