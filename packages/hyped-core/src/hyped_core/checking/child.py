"""The far side of `children`: one process that works through checks and says, line by line, how far it has come.

The job comes as one line of JSON on stdin, replies go to what was stdout; what plugins print goes to stderr.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyped_core.checking.records import CheckRecord
from hyped_core.remote.memory import adopt

Send = Callable[[dict[str, Any]], None]
WHERE_SIGNAL = getattr(signal, "SIGUSR2", 0)
"""Makes a child write to stderr where it is."""


def main() -> None:
    """Read the job from stdin, do it, end."""
    job = json.loads(sys.stdin.readline())
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    faulthandler.enable(all_threads=False)
    if hasattr(faulthandler, "register"):
        faulthandler.register(WHERE_SIGNAL, all_threads=False)
    tempfile.tempdir = str(Path.cwd())  # removed with it, also where this process is ended in the middle
    adopt()  # so that what a model lets go of is seen
    threading.Thread(target=_follow, args=(job["host"], job["own"]), daemon=True).start()
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            replies.write(json.dumps(message, default=str).encode() + b"\n")

    {"behaviour": behaviour, "static": static}[job["kind"]](job, send)
    send({"finished": True})
    sys.stderr.flush()
    os._exit(0)  # threads or exit handlers that plugins left must not keep the process


def _follow(parent: int, folder: str) -> None:
    """End, and remove its folder, when the process that asked is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def behaviour(job: dict[str, Any], send: Send) -> None:
    """Checks of one model's behaviour, without the network."""
    from hyped_core.checking.observe import block_network
    from hyped_core.checking.run import Maker, chosen, run_check
    from hyped_core.remote.worker import spec_in

    if job["folder"] is not None:
        from hyped_core.checking.static.package import package_of

        package_of(job["folder"], None)
    spec = spec_in(job["spec"])
    checks = {check.name: check for check in chosen(spec.task, job["checks"])}
    with contextlib.ExitStack() as stack:
        create = spec.create
        if job["python"] is not None:
            create = stack.enter_context(_elsewhere(spec, job))
        block_network()
        maker = Maker(create, quick=spec.quick)
        known = job.get("known", {})
        maker.told.update(known.get("told", {}))
        maker.printed.update(known.get("printed", {}))
        send({"ready": True})
        for name in job["checks"]:
            send({"start": name})
            record = run_check(checks[name], spec, maker, remote=job["python"] is not None)
            send({"known": {"told": maker.told, "printed": maker.printed}})
            send({"record": record.as_dict()})
            send({"end": name})


@contextlib.contextmanager
def _elsewhere(spec: Any, job: dict[str, Any]) -> Any:
    """Instances in a process of their own, in the environment of the spec's requirements."""
    from hyped_core.plugins.host import PluginRecord
    from hyped_core.plugins.registry import Provided
    from hyped_core.remote.host import RemoteModel, Runner

    owner = PluginRecord(job["distribution"], job["distribution"], job["version"], "")
    runner = Runner(python=job["python"])
    with RemoteModel(spec.task, spec.name, runner, provided=Provided(spec, owner)) as remote:
        yield remote.create


def static(job: dict[str, Any], send: Send) -> None:
    """Checks of a package and of what it says of its models."""
    from hyped_core.checking.observe import block_network
    from hyped_core.checking.static import all_static
    from hyped_core.checking.static.package import package_of
    from hyped_core.remote.worker import spec_out

    block_network()
    package = package_of(job["folder"], job["distribution"], job.get("limit"))
    if "names" in job["checks"]:
        _ = package.others  # before a check imports the plugin
    send({"ready": True})
    for check in all_static():
        if check.name not in job["checks"]:
            continue
        send({"start": check.name})
        for record in check.records(package, job.get("models")):
            send({"record": record.as_dict()})
        send({"end": check.name})
        if check.name == "entry_point":
            send({"models": [spec_out(spec) for spec in package.models()]})


def failed(model: str, check: str, where: str, reason: str, mend: str, seconds: float) -> CheckRecord:
    """The record of a check whose process did not come back."""
    return CheckRecord(model, check, "failed", where, reason, mend, round(seconds, 3))
