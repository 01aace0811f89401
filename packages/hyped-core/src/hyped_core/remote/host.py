"""The near side of a model that runs in a process of its own: the contract's methods, as if it were here.

    >>> from hyped_core.remote.host import RemoteModel, Runner
    >>> with RemoteModel("expression", "no_change", Runner()) as remote:  # doctest: +SKIP
    ...     model = remote.create({})
    ...     model.fit(train, context=context)
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyped_core.context import Progress, RunContext, SilentProgress
from hyped_core.errors import ParamsError, PluginError, UsageError
from hyped_core.plugins.registry import Provided
from hyped_core.plugins.sources import locate, model_modules
from hyped_core.remote.exchange import decode, encode
from hyped_core.remote.process import RemoteError, Runner, WorkerProcess
from hyped_core.remote.worker import spec_in, spec_out
from hyped_core.spec import ModelSpec

__all__ = ["RemoteError", "RemoteModel", "Runner", "read_runner"]


def read_runner(value: Any, where: str) -> Runner:
    """A `Runner` from a parameter file's mapping.

    Raises
    ------
    ParamsError
        An unknown key, no interpreter, python and requirements at once, or a limit that is not positive.
    """
    known = [field.name for field in dataclasses.fields(Runner)]
    if not isinstance(value, dict) or set(value) - set(known):
        odd = sorted(set(value) - set(known), key=str) if isinstance(value, dict) else value
        raise ParamsError(f"not a runner: {odd}", where=where, mend=f"keys: {', '.join(known)}")
    given = {key: inner for key, inner in value.items() if inner is not None}
    if given.get("runner", "process") not in ("process", "here"):
        raise ParamsError(f"must be process or here, not {given['runner']!r}", where=f"{where}/runner")
    if given.get("runner") == "here" and len(given) > 1:
        rest = ", ".join(sorted(set(given) - {"runner"}))
        mend = "leave them out, or say runner: process"
        raise ParamsError(f"{rest}: only for processes of their own", where=where, mend=mend)
    for key in ("seconds", "memory_gb"):
        limit = given.get(key, 1)
        if not (isinstance(limit, (int, float)) and not isinstance(limit, bool) and 0 < limit < float("inf")):
            raise ParamsError(f"must be a positive number, not {limit!r}", where=f"{where}/{key}")
    if not isinstance(given.get("python", "python"), str) or not given.get("python", "python").strip():
        raise ParamsError("must be the path of an interpreter", where=f"{where}/python")
    env = given.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(k, str) and "=" not in k for k in env):
        raise ParamsError("must be a mapping of variables to text", where=f"{where}/env")
    if "requirements" in given:
        given["requirements"] = _requirements(given["requirements"], f"{where}/requirements")
        if "python" in given:
            raise ParamsError(
                "python and requirements exclude each other",
                where=where,
                mend="name the interpreter of an environment that is there, or what to install into a new one",
            )
    return Runner(**given)


def _requirements(value: Any, where: str) -> tuple[str, ...]:
    """Lines of a requirements file; those that pip could not read are refused here."""
    from packaging.requirements import InvalidRequirement, Requirement

    if not isinstance(value, (list, tuple)) or not all(isinstance(line, str) and line.strip() for line in value):
        raise ParamsError("must be a list of requirements as text", where=where, mend='requirements: ["torch==2.6"]')
    if not value:
        mend = "leave it out: the model then runs under this Python"
        raise ParamsError("holds no requirement", where=where, mend=mend)
    for line in value:
        if line.startswith("-") or "/" in line or "\\" in line:
            continue  # an option, or a place: pip's own affair
        try:
            Requirement(line)
        except InvalidRequirement as error:
            raise ParamsError(f"{line!r} is no requirement: {error}".splitlines()[0], where=where) from error
    return tuple(value)


class RemoteModel:
    """A model in a process of its own, to be made as often as a task wants.

    Under another interpreter the model is looked up in that environment; where nothing there registers it,
    ``provided`` (as it is registered here) says what to import. Under this interpreter, and in an environment made of
    requirements, it is as it is registered here, and no other plugin is loaded over there.

    The process works in an empty folder of its own; relative paths in the model's parameters are those of this one.

    Parameters
    ----------
    task, name
        As in the registry; the name may be ``distribution:name``.
    values, design
        The model's parameters, and the design that fills what they leave open.

    Raises
    ------
    HypedError
        The process cannot be started, or does not know the model, or refuses its parameters, or its environment
        cannot be made.
    """

    def __init__(
        self,
        task: str,
        name: str,
        runner: Runner,
        *,
        values: dict[str, Any] | None = None,
        design: str | Path | None = None,
        provided: Provided | None = None,
    ) -> None:
        from hyped_core.remote.environments import settled

        self.who = f"{task}/{name} in a process of its own"
        if runner.runner == "here":
            raise UsageError("is to run in this process, as its runner says", where=f"{task}/{name}")
        spec = None if provided is None else provided.spec
        self.requirements = runner.requirements
        settled_runner = settled(runner, spec, "" if provided is None else provided.plugin.distribution)
        known = None
        if provided is not None:
            owner = {"distribution": provided.plugin.distribution, "version": provided.plugin.version}
            known = {"spec": spec_out(provided.spec), **owner}
            if runner.requirements or runner.python == sys.executable:
                known["paths"] = [] if runner.requirements else _places(provided.spec)
        self._asked = {"task": task, "name": name, "spec": known}
        self.gone: list[int] = []
        """Instances that nobody holds any more: the next request says so."""
        self.process = WorkerProcess(settled_runner, self.who)
        self._paths = _Paths()
        try:
            place = None if design is None else str(Path(design).resolve())
            given = self._paths.absolute(values or {})
            found = self.ask({"do": "describe", **self._asked, "values": given, "design": place})
        except BaseException:
            self.close()
            raise
        self.spec: ModelSpec = spec_in(found["spec"])
        self.distribution, self.version = str(found["distribution"]), str(found["version"])
        self.sha256, self.config = str(found["sha256"]), self._paths.as_given(found["config"])
        self.values: dict[str, Any] = self._paths.as_given(found["values"])

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self.process.close()

    def environment(self) -> dict[str, Any]:
        """What the other process runs on: `hyped_core.provenance.environment_record` over there, and what for."""
        asked = {"requirements": list(self.requirements)} if self.requirements else {}
        return {**self.ask({"do": "environment"}), **asked}

    def create(self, values: dict[str, Any] | None = None) -> Any:
        """A new instance over there, as an object with the methods that it has; ``values`` over the filled ones."""
        defaults = {key: value for key, value in self.config.items() if self._paths.absolute(value) != value}
        full = self._paths.absolute({**defaults, **self.values, **(values or {})})
        return self.proxy(self.ask({"do": "make", **self._asked, "values": full}))

    def proxy(self, made: dict[str, Any]) -> _Proxy:
        """An instance that was made over there."""
        return _Proxy(self, made["model"], made["methods"], made["attributes"])

    def ask(self, request: dict[str, Any], progress: Progress | None = None) -> Any:
        """One request and its result."""
        request["drop"], self.gone[:] = list(self.gone), []
        return self.process.ask(request, _Bars(progress or SilentProgress()).note)

    def call(self, model: int, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Call a method over there; the reply's ``value`` is decoded, the files exchanged are removed."""
        folder = self.process.folder
        context: RunContext | None = named.pop("context", None)
        told = None if context is None else {k: getattr(context, k) for k in ("seed", "device", "threads")}
        args = tuple(Path(v).resolve() if isinstance(v, Path) else v for v in args)
        request = {
            "do": "call",
            "model": model,
            "method": method,
            "args": [encode(v, folder) for v in args],
            "named": {k: encode(v, folder) for k, v in named.items()},
            "context": told,
        }
        try:
            reply = self.ask(request, None if context is None else context.progress)
            decoded = {
                "value": decode(reply["value"], folder),
                "attributes": {k: decode(v, folder) for k, v in reply["attributes"].items()},
            }
        finally:
            if folder.is_dir():
                for file in folder.iterdir():
                    if file.is_file():
                        file.unlink()
        return decoded


class _Proxy:
    """An instance over there. What its class does not offer there is not offered here."""

    def __init__(self, remote: RemoteModel, number: int, methods: list[str], attributes: dict[str, Any]) -> None:
        self._remote, self._number, self._methods = remote, number, frozenset(methods)
        self._attributes = {k: decode(v, remote.process.folder) for k, v in attributes.items()}
        weakref.finalize(self, remote.gone.append, number)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Proxy:
        return self._remote.proxy(self._remote.ask({"do": "copy", "model": self._number}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._attributes:
            return self._attributes[name]
        if name not in self._methods:
            raise AttributeError(f"{self._remote.who} offers no {name!r}")

        def method(*args: Any, **named: Any) -> Any:
            reply = self._remote.call(self._number, name, args, named)
            self._attributes = reply["attributes"]
            return reply["value"]

        return method


class _Paths:
    """Relative paths of files and folders in a model's parameters, made absolute for a process that works elsewhere."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def absolute(self, value: Any) -> Any:
        """``value`` with every text that names something below this folder, or beside it, as an absolute path."""
        if isinstance(value, dict):
            return {key: self.absolute(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.absolute(inner) for inner in value]
        if isinstance(value, Path):
            return self.absolute(str(value))
        if not isinstance(value, str) or not ("/" in value or "." in value) or not value.strip("./"):
            return value
        path = Path(value)
        if path.is_absolute() or not path.exists():
            return value
        self._given[str(path.absolute())] = value
        return str(path.absolute())

    def as_given(self, value: Any) -> Any:
        """The same with the paths as they were: records name them as the user did."""
        if isinstance(value, dict):
            return {key: self.as_given(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.as_given(inner) for inner in value]
        return self._given.get(value, value) if isinstance(value, str) else value


def _places(spec: ModelSpec) -> list[str]:
    """Folders that hold the model's packages here, for a process of the same interpreter."""
    found = []
    for module in model_modules(spec):
        with contextlib.suppress(PluginError):  # the other process says that it is not there
            found.append(str(locate(module.partition(".")[0]).parent.absolute()))
    return list(dict.fromkeys(found))


class _Bars:
    """Loops of the other process, shown by this one's progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.loops: dict[int, tuple[Iterator[Any], int]] = {}

    def note(self, message: dict[str, Any]) -> None:
        """Follow one report."""
        loop, done = message["progress"], int(message["done"])
        if loop not in self.loops:
            total = message.get("total")
            items = itertools.count() if total is None else range(total)
            self.loops[loop] = (iter(self.progress.track(items, message["description"], total)), 0)
        bar, shown = self.loops[loop]
        for _ in itertools.islice(bar, max(0, done - shown)):
            pass
        self.loops[loop] = (bar, max(done, shown))
        if message.get("end"):
            if message.get("total") is None and hasattr(bar, "close"):
                bar.close()
            else:
                next(bar, None)
            del self.loops[loop]
