"""Frames are independent: the same job over many of them, here, in several processes, or on a Dask cluster."""

from __future__ import annotations

import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Protocol

import click

from hyped_core.errors import HypedError, MissingDependencyError, NetworkError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hyped_core.context import Progress

_BREAKS = 3
"""How often in a row workers may die before a frame is held to be the reason."""
_AHEAD = 4
"""Frames under way or waiting for their turn, a worker: bounds the memory that results take."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip

_CONNECT_S = 20.0
_JOIN_S = 60.0

Work = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Workers:
    """Where frames are worked on: this process, ``processes`` of this machine, or a Dask cluster.

    Attributes
    ----------
    processes : one means this process.
    scheduler : address of a Dask scheduler (``tcp://host:8786``); its workers must see the same disk.
    """

    processes: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UsageError(f"there cannot be {self.processes} worker processes", mend="--workers 2")
        if self.scheduler is not None and ":" not in self.scheduler:
            raise UsageError(f"{self.scheduler!r} is no scheduler's address", mend="--scheduler tcp://HOST:8786")
        if self.scheduler is not None and self.processes > 1:
            raise UsageError(
                "worker processes and a scheduler were both asked for",
                mend="give --workers or --scheduler; the cluster has its own number of workers",
            )


class FrameJob(Protocol):
    """What is to be done to a frame: small, and pickled to where the work is done."""

    def open(self) -> AbstractContextManager[Work]:
        """Called once in each worker, to open files and make models; gives ``frame -> result``.

        The result should be small: what is large is written by the job.
        """
        ...


def run_frames(
    job: FrameJob,
    frames: Sequence[int],
    workers: Workers,
    *,
    progress: Progress,
    description: str,
) -> Iterator[tuple[int, Any]]:
    """Do ``job`` for each of ``frames`` and yield ``(frame, result)`` in their order.

    A worker that dies costs nothing but time: its frames are done again, so a job that writes must write a
    frame whole or not at all, and the same each time. Errors come as the job raised them, that of the first
    frame in order; later frames may have been done by then.

    Raises
    ------
    HypedError
        Of the job; or workers die over and over at the same frame (out of memory, a crash in a library).
    NetworkError, MissingDependencyError
        The scheduler cannot be reached or is lost; dask.distributed is not installed.
    """
    frames = list(frames)
    if not frames:
        return
    if workers != Workers():
        _check_portable(job)
    if workers.scheduler is not None:
        run = _on_cluster(job, frames, workers.scheduler)
    elif workers.processes > 1:
        run = _in_processes(job, frames, workers.processes)
    else:
        run = _here(job, frames)
    try:
        yield from progress.track(run, description, len(frames))
    finally:
        run.close()


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--workers N`` and ``--scheduler ADDRESS`` to a click command; it gets ``workers: Workers``."""
    @click.option(
        "--workers", "processes", type=click.IntRange(min=1), default=1, show_default=True,
        help="Processes to work in, a frame each at a time.",
    )  # fmt: skip
    @click.option(
        "--scheduler", default=None, metavar="ADDRESS",
        help="Work on this Dask cluster (tcp://host:8786); its workers must see the same disk.",
    )  # fmt: skip
    @wraps(command)
    def wrapped(*args: Any, processes: int, scheduler: str | None, **kwargs: Any) -> Any:
        return command(*args, workers=Workers(processes, scheduler), **kwargs)

    return wrapped


def _check_portable(job: FrameJob) -> None:
    try:
        ForkingPickler.dumps(job)
    except Exception as error:  # whatever a class says that cannot be pickled
        raise UsageError(
            f"the job cannot be sent to workers: {type(error).__name__}: {error}",
            where="workers",
            mend="--workers 1, or a model that can be pickled",
        ) from error


def _here(job: FrameJob, frames: list[int]) -> Iterator[tuple[int, Any]]:
    with job.open() as work:
        for frame in frames:
            yield frame, work(frame)


def _in_processes(job: FrameJob, frames: list[int], processes: int) -> Iterator[tuple[int, Any]]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    left = deque(frames)
    breaks = 0
    context = get_context("spawn")
    with _shared(processes):
        while left:
            stop = context.RawValue("b", 0)  # without a lock, which a worker that is killed would keep
            pool = ProcessPoolExecutor(
                min(processes, len(left)), context, initializer=_start, initargs=(job, stop)
            )
            try:
                for frame, result in _in_order(partial(pool.submit, _work), list(left), _AHEAD * processes):
                    left.popleft()
                    breaks = 0
                    yield frame, result
            except BrokenProcessPool as error:
                breaks += 1
                if breaks >= _BREAKS:
                    raise _dies_again(left[0], processes) from error
            finally:
                stop.value = 1
                pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    submit: Callable[[int], Future[Any]], frames: Sequence[int], ahead: int
) -> Iterator[tuple[int, Any]]:
    """Results in the order of ``frames``, never more than ``ahead`` of them under way or waiting."""
    waiting: deque[tuple[int, Future[Any]]] = deque()
    coming = iter(frames)
    try:
        while True:
            while len(waiting) < ahead and (frame := next(coming, None)) is not None:
                waiting.append((frame, submit(frame)))
            if not waiting:
                return
            frame, future = waiting[0]
            result = future.result()
            waiting.popleft()
            yield frame, result
    finally:
        for _, future in waiting:
            future.cancel()


def _dies_again(frame: int, workers: int) -> HypedError:
    return HypedError(
        f"worker processes died {_BREAKS} times in a row at frame {frame} or one of the next",
        where="workers",
        mend=f"out of memory is the likely reason: use fewer than {workers} workers, or --workers 1 to see the error",
    )


@contextmanager
def _shared(processes: int) -> Iterator[None]:
    """Processes started in this block keep numerical libraries to a thread each, and the model of another package
    beside each to its share of the memory, unless the user said otherwise."""
    from hyped_core.remote.placing import MEMORY_VARIABLE, default_memory_gb

    wanted = dict.fromkeys(_THREAD_VARIABLES, "1")
    if memory := default_memory_gb():
        wanted[MEMORY_VARIABLE] = f"{memory / processes:.3g}"
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


# -- in a worker process -----------------------------------------------------------------------------------

_job: FrameJob | None = None
_opened: Work | None = None
_stop: Any = None
"""Not zero once nobody waits for results any more: frames that are queued are then passed over."""


def _start(job: FrameJob, stop: Any) -> None:
    """Take the job; end with the parent, however it ends; leave Ctrl-C to it."""
    import multiprocessing
    import signal
    from multiprocessing.connection import wait

    global _job, _stop
    _job, _stop = job, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(frame: int) -> Any:
    """One frame; files are opened with the first, so that what is wrong with them comes back as an error."""
    from multiprocessing.util import Finalize

    global _opened
    if _stop.value:
        return None
    if _opened is None:
        assert _job is not None
        stack = ExitStack()
        _opened = stack.enter_context(_job.open())
        Finalize(None, stack.close, exitpriority=10)
    return _done(_opened, frame)


def _done(work: Work, frame: int) -> Any:
    """The result of one frame; an error that would not survive the way home goes as a `HypedError`."""
    try:
        return work(frame)
    except Exception as error:  # any: it is raised again, or told in words
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception as problem:  # its class cannot be pickled, in whatever way
            raise HypedError(f"{type(error).__name__}: {error}", where=f"frame {frame}") from problem
        raise


# -- on a Dask cluster -------------------------------------------------------------------------------------

_jobs: dict[tuple[str, int], tuple[ExitStack, Work]] = {}
"""Jobs open in this worker, by run and thread."""


def _on_cluster(job: FrameJob, frames: list[int], scheduler: str) -> Iterator[tuple[int, Any]]:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "--scheduler needs dask.distributed, which is not installed", mend="pip install distributed"
        ) from error
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise NetworkError(
            f"no Dask scheduler answers: {error}",
            where=scheduler,
            mend="start one (dask scheduler), and workers in the same environment (dask worker ADDRESS)",
        ) from error
    run = uuid.uuid4().hex
    with client:
        _check_cluster(client, scheduler)
        threads = sum(client.nthreads().values())
        try:
            yield from _in_order(
                lambda frame: client.submit(_work_remotely, run, job, frame, pure=False, key=f"hyped-{run}-{frame}"),
                frames,
                _AHEAD * max(threads, 4),
            )
        except distributed.scheduler.KilledWorker as error:
            raise HypedError(
                f"workers of the cluster died over and over: {error}",
                where=scheduler,
                mend="out of memory is the likely reason: give workers more of it, or fewer threads",
            ) from error
        except (distributed.client.FutureCancelledError, distributed.comm.CommClosedError) as error:
            raise NetworkError(
                f"the scheduler was lost: {error}", where=scheduler, mend="run the same command again"
            ) from error
        finally:
            with suppress(Exception):  # a worker that is gone has nothing open
                client.run(_close_remotely, run)


def _check_cluster(client: Any, scheduler: str) -> None:
    """Workers are there, and have our versions: others might write other bytes."""
    from hyped_core.provenance import HYPED_PACKAGES, versions

    try:
        client.wait_for_workers(1, timeout=_JOIN_S)
    except TimeoutError as error:
        raise NetworkError(
            "no worker has joined the cluster", where=scheduler, mend=f"start some: dask worker {scheduler}"
        ) from error
    ours = versions(HYPED_PACKAGES)
    for worker, theirs in client.run(versions, HYPED_PACKAGES).items():
        for name in ("hyped-core", "hyped-imaging"):
            if theirs.get(name) != ours.get(name):
                raise UsageError(
                    f"worker {worker} has {name} {theirs.get(name)}, this process {ours.get(name)}",
                    where=scheduler,
                    mend="start workers in the same environment",
                )


def _work_remotely(run: str, job: FrameJob, frame: int) -> Any:
    key = (run, threading.get_ident())
    if key not in _jobs:
        stack = ExitStack()
        _jobs[key] = (stack, stack.enter_context(job.open()))
    return _done(_jobs[key][1], frame)


def _close_remotely(run: str) -> None:
    for key in [key for key in _jobs if key[0] == run]:
        _jobs.pop(key)[0].close()
