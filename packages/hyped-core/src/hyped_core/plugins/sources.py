"""Finding and hashing the source of a module without importing it or its parents."""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from hyped_core.errors import HypedError, PluginError
from hyped_core.spec import ModelSpec


def locate(module: str) -> Path:
    """The file of a module, or the folder of a package; nothing is imported.

    Raises
    ------
    PluginError
        There is no such module, or it has no file (a built-in, a namespace without code).
    """
    found = find_module(module)
    if found is None:
        raise PluginError("there is no such module", where=module, mend="reinstall the package it belongs to")
    if found.submodule_search_locations:
        folder = Path(next(iter(found.submodule_search_locations)))
        if folder.is_dir():
            return folder
    if not found.origin or not Path(found.origin).is_file():
        raise PluginError("has no file to hash", where=module)
    return Path(found.origin)


def find_module(module: str) -> ModuleSpec | None:
    """The import system's record of ``module``, walking down from the top-level package; nothing is imported."""
    top, *rest = module.split(".")
    try:
        found = find_spec(top)
    except (ImportError, ValueError):
        return None
    name = top
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        found = PathFinder.find_spec(name, list(found.submodule_search_locations))
    return found


def source_files(module: str) -> dict[str, Path]:
    """Stable name -> file of a module: the one file, or every ``.py`` file of a package."""
    place = locate(module)
    if place.is_dir():
        files = {f"{module}/{path.relative_to(place).as_posix()}": path for path in place.rglob("*.py")}
        if not files:
            raise PluginError("a package without Python files", where=module)
        return files
    return {f"{module}{place.suffix}": place}


def source_hash(modules: Iterable[str]) -> str:
    """sha256 over the sources of ``modules``: names and contents, wherever they are installed.

    Line ends are read as ``\\n``, so that a checkout on another system has the same hash.
    """
    files: dict[str, Path] = {}
    for module in sorted(set(modules)):
        files.update(source_files(module))
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        if files[name].suffix == ".py":
            content = content.replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def model_modules(spec: ModelSpec) -> list[str]:
    """The modules whose code is the model: its target's, its config's, those it names as ``sources``, and those of its
    package that it does not name and that they import."""
    unseen: list[str] = []
    with contextlib.suppress(HypedError, OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        unseen = undeclared_modules(spec)  # a stranger's source may hold anything
    return sorted({*declared_modules(spec), *unseen})


def declared_modules(spec: ModelSpec) -> list[str]:
    """The modules of its target, its config and its ``sources``."""
    targets = [spec.target] if spec.config is None else [spec.target, spec.config]
    return sorted({*(target.partition(":")[0] for target in targets), *spec.sources})


def undeclared_modules(spec: ModelSpec) -> list[str]:
    """Modules of the model's own package that its code imports, these in turn too, and that its spec does not name.

    A package is one where what is imported is made in its ``__init__.py``.
    """
    declared = declared_modules(spec)
    top = spec.target.partition(":")[0].partition(".")[0]
    found: list[str] = []
    waiting = list(declared)
    while waiting:
        for name, path in source_files(waiting.pop()).items():
            if path.suffix != ".py":
                continue
            inner = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            package = inner if path.name == "__init__.py" else inner.rpartition(".")[0]
            for module in _imported(path, package, top):
                known = (module == one or module.startswith(f"{one}.") for one in (*declared, *found))
                if not any(known) and _has_code(module):
                    found.append(module)
                    waiting.append(module)
    return sorted(found)


def _imported(path: Path, package: str, top: str) -> Iterator[str]:
    """The module below ``top`` that makes each thing that a file imports, type-checking blocks left out."""
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{top}."))
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            if module.partition(".")[0] != top:
                continue
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                if find_module(inner) is not None:
                    yield inner
                elif not alias.name.startswith("__"):  # __version__ and its like decide nothing
                    yield module


def _has_code(module: str) -> bool:
    """False of a package whose ``__init__.py`` is absent or holds no more than a docstring, and of no module."""
    if find_module(module) is None:
        return False
    place = locate(module)
    if not place.is_dir():
        return True
    start = place / "__init__.py"
    body = ast.parse(start.read_bytes()).body if start.is_file() else []
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
