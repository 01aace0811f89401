"""The far side of `hyped_core.remote.host`: ``python -m hyped_core.remote.worker FOLDER`` makes models and calls them.

It needs hyped-core with its light dependencies and what the model needs. Requests come as JSON lines on what was
stdin, replies go to what was stdout; the model itself finds an empty stdin, and what it prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hyped_core import errors
from hyped_core.blame import frame_place, place_of
from hyped_core.context import RunContext
from hyped_core.errors import HypedError, ValidationError, type_and_text
from hyped_core.plugins.streams import Counted, Heard
from hyped_core.remote.exchange import decode, encode, line
from hyped_core.remote.memory import adopt, peak_memory_mb
from hyped_core.spec import ModelSpec, Needs, import_target

PROTOCOL = 2
LOCAL_ONLY = ("denoise_frames",)
"""Methods that take or give functions and frames one by one: they stay in one process."""
FOLDERS_VARIABLE = "HYPED_PLUGIN_FOLDERS"
REPORT_S = 0.2
"""Seconds between two reports of a loop's progress."""


class Worker:
    """Models by number, and what may be asked of them."""

    def __init__(self, folder: Path, send: Callable[[dict[str, Any]], None]) -> None:
        self.folder = folder
        self.send = send
        self.models: dict[int, Any] = {}

    def answer(self, request: dict[str, Any]) -> Any:
        """The result of one request, JSON-able."""
        for number in request["drop"]:
            self.models[number] = None  # a number is given once
        return getattr(self, f"do_{request['do']}")(request)

    def do_describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Which model this is here: its spec, owner and source, and its config filled and written out."""
        from hyped_core.design import read_design
        from hyped_core.plugins.sources import model_modules, source_hash

        spec, owner = find_spec(request)
        values = dict(request["values"])
        fill = None if spec.config is None else getattr(import_target(spec.config), "for_design", None)
        if fill is not None:
            values = fill(values, read_design(request["design"]))
        loaded = spec.load_config(values)
        return {
            "spec": spec_out(spec),
            "distribution": owner[0],
            "version": owner[1],
            "sha256": source_hash(model_modules(spec)),
            "values": values,
            "config": {} if loaded is None else loaded.model_dump(mode="json"),
        }

    def do_make(self, request: dict[str, Any]) -> dict[str, Any]:
        """A new model: its number and what it offers."""
        return self._kept(find_spec(request)[0].create(request["values"]))

    def do_copy(self, request: dict[str, Any]) -> dict[str, Any]:
        """A copy of a model, with what it has learnt."""
        return self._kept(copy.deepcopy(self.models[request["model"]]))

    def _kept(self, model: Any) -> dict[str, Any]:
        number = len(self.models)
        self.models[number] = model
        held = {**{name: getattr(type(model), name, None) for name in dir(type(model))}, **vars_of(model)}
        offered = [
            name
            for name, value in held.items()
            if not name.startswith("_") and name not in LOCAL_ONLY and callable(value)
        ]
        return {"model": number, "methods": offered, "attributes": self._attributes(model)}

    def do_call(self, request: dict[str, Any]) -> dict[str, Any]:
        """One call of a method."""
        model = self.models[request["model"]]
        args = [decode(value, self.folder) for value in request["args"]]
        named = {key: decode(value, self.folder) for key, value in request["named"].items()}
        if request["context"] is not None:
            named["context"] = self._context(request["context"])
        result = getattr(model, request["method"])(*args, **named)
        return {"value": encode(result, self.folder), "attributes": self._attributes(model)}

    def do_environment(self, request: dict[str, Any]) -> dict[str, Any]:
        """What this process runs on, libraries loaded so far included."""
        from hyped_core.provenance import environment_record
        from hyped_core.remote.determinism import determinism_record

        return {**environment_record(commit=False), "determinism": determinism_record()}

    def do_function(self, request: dict[str, Any]) -> Any:
        """What a function gives that plugins of the host's Python offer, called in the host's folder."""
        _put_on_path(request["paths"])
        os.chdir(request["folder"])
        return import_target(request["target"])(**request["given"])

    def _context(self, given: dict[str, Any]) -> RunContext:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return RunContext(**given, scratch=scratch, progress=_Told(self.send))

    def _attributes(self, model: Any) -> dict[str, Any]:
        """What the contracts let a model say of itself: ``facts`` and ``neighbours``."""
        found = {}
        if (facts := _told(model, "facts")) is not None and not callable(facts):
            found["facts"] = encode(dict(facts), self.folder)
        near = _told(model, "neighbours")
        near = _told(_told(model, "config"), "neighbours") if near is None else near
        if isinstance(near, int):
            found["neighbours"] = near
        return found


class _Told:
    """Progress that is told to the host."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.send = send
        self.loops = 0

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        """Yield ``items`` and say how many were done, a few times a second at most."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        self.loops += 1
        loop, last = self.loops, time.monotonic()
        self.send({"progress": loop, "description": description, "total": total, "done": 0})
        done = 0
        for done, item in enumerate(items, start=1):
            yield item
            if (now := time.monotonic()) - last >= REPORT_S:
                last = now
                self.send({"progress": loop, "done": done})
        self.send({"progress": loop, "done": done, "end": True})


def vars_of(model: Any) -> dict[str, Any]:
    """Attributes of the instance alone; nothing is computed."""
    return dict(getattr(model, "__dict__", {}))


def _told(model: Any, name: str) -> Any:
    """An attribute, None where there is none or where it refuses until the model has learned."""
    try:
        return getattr(model, name, None)
    except HypedError:
        return None


def spec_out(spec: ModelSpec) -> dict[str, Any]:
    """A spec as JSON."""
    fields = {name: getattr(spec, name) for name in ModelSpec.__slots__ if name != "needs"}
    fields.update(expected_failures=dict(spec.expected_failures), quick=dict(spec.quick))
    needs = {name: getattr(spec.needs, name) for name in Needs.__slots__}
    return {**fields, "needs": needs}


def spec_in(value: dict[str, Any]) -> ModelSpec:
    """The spec that `spec_out` was given."""
    needs = {**value["needs"], "modules": tuple(value["needs"]["modules"])}
    tuples = {name: tuple(value.get(name, ())) for name in ("sources", "environment")}
    return ModelSpec(**{**value, "needs": Needs(**needs), **tuples})


def find_spec(request: dict[str, Any]) -> tuple[ModelSpec, tuple[str, str]]:
    """The model as it is registered here, else as the host knows it; with distribution and version.

    A host of the same interpreter says where the packages are: then what it knows holds, and no plugin is loaded.
    """
    known = request.get("spec")
    if known is not None and "paths" in known:
        _put_on_path(known["paths"])
        return spec_in(known["spec"]), (known["distribution"], known["version"])
    from hyped_core.plugins.registry import models

    registry = models()
    prefix, _, bare = request["name"].rpartition(":")
    name = f"{prefix}:{request['task']}/{bare}" if prefix else f"{request['task']}/{bare}"
    if known is not None and f"{request['task']}/{bare}" not in registry.names():
        return spec_in(known["spec"]), (known["distribution"], known["version"])
    provided = registry.provided(name)
    return provided.spec, (provided.plugin.distribution, provided.plugin.version)


def _put_on_path(places: list[str]) -> None:
    """Make the model's packages importable, those of source folders in use too."""
    if os.environ.get(FOLDERS_VARIABLE):
        from hyped_core.plugins.folder import folder_distribution, plugin_folders, put_on_path

        for folder in plugin_folders():
            with contextlib.suppress(HypedError):  # another plugin's affair
                put_on_path(folder_distribution(folder))
    sys.path[:0] = [place for place in places if place not in sys.path]


def error_out(error: BaseException) -> dict[str, Any]:
    """An error as JSON: a `HypedError` with its fields, any other by type and text.

    ``kinds`` are the classes of `hyped_core.errors` that it is of, the nearest first; ``frames`` are those of what it
    came from, then its own; ``place`` is the author's own line among them.
    """
    frames: list[str] = []
    for one in filter(None, (error.__cause__, error)):
        frames += [frame_place(f.filename, f.lineno, f.name) for f in traceback.extract_tb(one.__traceback__)[-8:]]
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__]
    told: dict[str, Any] = {"kinds": kinds, "frames": frames, "place": place_of(error)}
    for name in ("message", "where", "mend") if kinds else ():
        value = getattr(error, name, None)
        told[name] = None if value is None else str(value)
    told["message"] = told.get("message") or type_and_text(error)  # its class may not have called HYPED's
    if isinstance(error, ValidationError):
        told["problems"] = [(str(one.where), str(one.message), str(one.mend)) for one in error.problems]
    return told


def _gpu_memory_mb() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20


def _follow_host(parent: int, folder: Path) -> None:
    """End this process, and remove its folder, when the one that started it is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(folder: Path) -> None:
    """Answer requests until there are no more."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    heard = Heard()
    sys.stdout = Counted(heard)  # type: ignore[assignment]  it does what a text stream does
    faulthandler.enable(all_threads=False)
    adopt()  # so that the host sees what a model lets go of
    threading.Thread(target=_follow_host, args=(os.getppid(), folder), daemon=True).start()
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            replies.write(line(message))

    worker = Worker(folder, send)
    send({"hello": PROTOCOL})
    if os.environ.get("HYPED_DETERMINISTIC"):
        from hyped_core.remote.determinism import make_deterministic

        make_deterministic()
    for text in requests:
        request = json.loads(text)
        try:
            reply: dict[str, Any] = {"ok": worker.answer(request)}
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  a stranger's code may raise anything
            reply = {"error": error_out(error)}
        sys.stdout.flush()
        memory = {"peak_memory_mb": peak_memory_mb(), "peak_gpu_memory_mb": _gpu_memory_mb()}
        send({**reply, **memory, "printed": heard.lines})
    shutil.rmtree(folder, ignore_errors=True)  # the host is gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
