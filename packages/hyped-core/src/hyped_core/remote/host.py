"""The near side of a model that runs in a process of its own: the contract's methods, as if it were here.

    >>> from hyped_core.remote.host import RemoteModel, Runner
    >>> with RemoteModel("expression", "no_change", Runner()) as remote:  # doctest: +SKIP
    ...     model = remote.create({})
    ...     model.fit(train, context=context)
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyped_core.context import Progress, RunContext, SilentProgress
from hyped_core.errors import ParamsError
from hyped_core.plugins.registry import Provided
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
        An unknown key, no interpreter, or a limit that is not positive.
    """
    import dataclasses

    known = [field.name for field in dataclasses.fields(Runner)]
    if not isinstance(value, dict) or set(value) - set(known):
        odd = sorted(set(value) - set(known)) if isinstance(value, dict) else value
        raise ParamsError(f"not a runner: {odd}", where=where, mend=f"keys: {', '.join(known)}")
    for key in ("seconds", "memory_gb"):
        limit = value.get(key)
        if limit is not None and not (isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit > 0):
            raise ParamsError(f"must be a positive number, not {limit!r}", where=f"{where}/{key}")
    if not isinstance(value.get("python", ""), str) or not isinstance(value.get("env", {}), dict):
        raise ParamsError("python is a path and env a mapping of text", where=where)
    return Runner(**{k: v for k, v in value.items() if v is not None})


class RemoteModel:
    """A model in a process of its own, to be made as often as a task wants.

    The model is looked up in the other environment; where nothing there registers it, ``provided`` (as it is
    registered here) says what to import there.

    Parameters
    ----------
    task, name
        As in the registry; the name may be ``distribution:name``.
    values, design
        The model's parameters, and the design that fills what they leave open.

    Raises
    ------
    HypedError
        The process cannot be started, or does not know the model, or refuses its parameters.
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
        self.who = f"{task}/{name} in a process of its own"
        known = None
        if provided is not None:
            owner = {"distribution": provided.plugin.distribution, "version": provided.plugin.version}
            known = {"spec": spec_out(provided.spec), **owner}
        self._asked = {"task": task, "name": name, "spec": known}
        self.gone: list[int] = []
        """Instances that nobody holds any more: the next request says so."""
        self.process = WorkerProcess(runner, self.who)
        try:
            place = None if design is None else str(Path(design).resolve())
            found = self.ask({"do": "describe", **self._asked, "values": values or {}, "design": place})
        except BaseException:
            self.close()
            raise
        self.spec: ModelSpec = spec_in(found["spec"])
        self.distribution, self.version = str(found["distribution"]), str(found["version"])
        self.sha256, self.config, self.values = str(found["sha256"]), found["config"], found["values"]

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self.process.close()

    def environment(self) -> dict[str, Any]:
        """What the other process runs on: `hyped_core.provenance.environment_record` over there."""
        return self.ask({"do": "environment"})

    def create(self, values: dict[str, Any] | None = None) -> Any:
        """A new instance over there, as an object with the methods that it has; ``values`` over the filled ones."""
        made = self.ask({"do": "make", **self._asked, "values": {**self.values, **(values or {})}})
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
