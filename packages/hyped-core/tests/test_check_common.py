"""Checks of every task: a good model passes all, and a model with one defect fails the check for it and no other."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import random
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_core import blame
from hyped_core.checking.catalogue import checks_of
from hyped_core.checking.children import run_checks
from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.report import as_text
from hyped_core.checking.run import check_model
from hyped_core.errors import (
    CorruptFileError,
    MissingDependencyError,
    MissingFileError,
    MissingHardwareError,
    PluginError,
)
from hyped_core.params import Params
from hyped_core.remote.worker import spec_in, spec_out
from hyped_core.spec import ModelSpec, Needs

left: list[subprocess.Popen] = []
over = threading.Event()
COMMON = [check.name for check in checks_of("denoise") if len(check.tasks) == 6]


class Good:
    """Leaves the stack as it is, but for a level that `fit` learns."""

    def __init__(self):
        self.level = 0.0

    def fit(self, stack, meta, *, context):
        self.level = float(np.float32(stack.mean() / 1000))

    def denoise(self, stack, meta, *, context):
        out = np.empty(stack.shape, np.float32)
        for t in context.progress.track(range(len(stack)), "frames"):
            out[t] = stack[t] + self.level
        return out

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"level": self.level}))

    def load(self, folder):
        try:
            self.level = float(json.loads((folder / "state.json").read_text())["level"])
        except OSError as error:
            raise MissingFileError("no state", where=folder / "state.json") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError("no state", where=folder / "state.json") from error


def spec_of(model, **more):
    said = {"name": "under-check", "task": "denoise", "target": f"tests:{model.__name__}", "seeded": False, **more}
    return ModelSpec(**said)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Models that write where they stand do so in a folder of the test; what they leave running ends with it."""
    monkeypatch.chdir(tmp_path)
    over.clear()
    levels = {name: one.disabled for name, one in logging.root.manager.loggerDict.items() if hasattr(one, "disabled")}
    yield
    over.set()
    while left:
        left[0].kill()
        left.pop(0).wait()
    for name, disabled in levels.items():
        logging.getLogger(name).disabled = disabled


def outcomes(model, only=COMMON, make=None, **more):
    """Check -> record of a class."""
    records = check_model(spec_of(model, **more), make or (lambda values=None: model()), only=only)
    return {record.check: record for record in records}


def failures(model, **more):
    return {name: record for name, record in outcomes(model, **more).items() if record.bad}


def test_a_good_model_passes_every_check_of_its_task():
    records = outcomes(Good, only=None)
    assert [r for r in records.values() if r.bad] == []
    asked = {name for name, record in records.items() if record.status == "passed"}
    hard = {"saves_and_loads", "damaged_state_refused", "interrupt_gets_out", "instances_apart", "model_pickles"}
    assert hard <= asked


class WritesInto(Good):
    def denoise(self, stack, meta, *, context):
        out = super().denoise(stack, meta, context=context)
        stack[0, 0, 0] += 1
        return out


class CountsCalls(Good):
    calls = 0

    def denoise(self, stack, meta, *, context):
        self.calls += 1
        return super().denoise(stack, meta, context=context) + np.float32(self.calls)


class DrawsFreely(Good):
    def denoise(self, stack, meta, *, context):
        return super().denoise(stack, meta, context=context) + np.float32(100 * np.random.default_rng().random())


class SeededAfterAll(Good):
    def denoise(self, stack, meta, *, context):
        return super().denoise(stack, meta, context=context) + np.float32(context.rng("level").random())


class SharesState(Good):
    levels: dict = {}

    def fit(self, stack, meta, *, context):
        self.levels["level"] = self.level = float(np.float32(stack.astype(np.float64).std() / 100))

    def denoise(self, stack, meta, *, context):
        self.level = self.levels.get("level", 0.0) if self.level else 0.0
        return super().denoise(stack, meta, context=context)

    def load(self, folder):
        super().load(folder)
        self.levels["level"] = self.level


class CountsThreads(Good):
    def denoise(self, stack, meta, *, context):
        return super().denoise(stack, meta, context=context) + np.float32(context.threads)


class ForgetsOnSave(Good):
    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text('{"level": 0}')


class SavesOnly(Good):
    load = None


class SavesObjects(Good):
    def save(self, folder):
        super().save(folder)
        np.save(folder / "more.npy", np.array([{"level": self.level}], dtype=object))


class LoadsAnything(Good):
    def load(self, folder):
        self.level = float(json.loads((folder / "state.json").read_text())["level"])


class LoadsSilently(Good):
    def load(self, folder):
        try:
            super().load(folder)
        except CorruptFileError:
            self.level = 0.0


class HoldsALock(Good):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class ForgetsOnTheWay(Good):
    def __getstate__(self):
        return {"level": 0.0}


class SwallowsInterrupts(Good):
    def denoise(self, stack, meta, *, context):
        try:
            return super().denoise(stack, meta, context=context)
        except BaseException:
            return stack.astype(np.float32)


class TurnsInterrupts(Good):
    def denoise(self, stack, meta, *, context):
        try:
            return super().denoise(stack, meta, context=context)
        except KeyboardInterrupt as error:
            raise RuntimeError("failed") from error


class IsSpoiltByAnInterrupt(Good):
    def denoise(self, stack, meta, *, context):
        self.level += 1
        out = super().denoise(stack, meta, context=context)
        self.level -= 1
        return out


class Prints(Good):
    def denoise(self, stack, meta, *, context):
        print("denoising")  # noqa: T201  it is to print
        return super().denoise(stack, meta, context=context)


class PrintsInC(Good):
    def denoise(self, stack, meta, *, context):
        os.write(1, b"denoising\n")
        return super().denoise(stack, meta, context=context)


class PrintsInFit(Good):
    def fit(self, stack, meta, *, context):
        print("fitting")  # noqa: T201  it is to print
        super().fit(stack, meta, context=context)


class PrintsInLoad(Good):
    def load(self, folder):
        print("loading")  # noqa: T201  it is to print
        super().load(folder)


class KeepsTheHandle(Good):
    def denoise(self, stack, meta, *, context):
        sys.__stdout__.write("denoising\n")  # and leaves it in the buffer
        return super().denoise(stack, meta, context=context)


class SeedsTheWorld(Good):
    def denoise(self, stack, meta, *, context):
        np.random.seed(context.seed)  # noqa: NPY002  it is to meddle
        return super().denoise(stack, meta, context=context)


class DrawsFromTheWorld(Good):
    def denoise(self, stack, meta, *, context):
        random.random()
        return super().denoise(stack, meta, context=context)


class LeavesFiles(Good):
    def denoise(self, stack, meta, *, context):
        Path("cache.txt").write_text("here")
        return super().denoise(stack, meta, context=context)


class WritesAtHome(Good):
    def denoise(self, stack, meta, *, context):
        place = context.scratch.parent.parent / f"cache-{os.getpid()}.txt"
        place.write_text("there")
        place.unlink()
        return super().denoise(stack, meta, context=context)


class PhonesHome(Good):
    def denoise(self, stack, meta, *, context):
        try:
            socket.create_connection(("example.org", 443), timeout=1)
        except OSError:
            pass
        return super().denoise(stack, meta, context=context)


class MovesAway(Good):
    def denoise(self, stack, meta, *, context):
        os.environ["UNDER_CHECK"] = "1"
        os.chdir(context.scratch)
        return super().denoise(stack, meta, context=context)


class SetsNumpysErrors(Good):
    def denoise(self, stack, meta, *, context):
        np.seterr(all="raise")
        return super().denoise(stack, meta, context=context)


class LeavesAProcess(Good):
    def denoise(self, stack, meta, *, context):
        left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return super().denoise(stack, meta, context=context)


class LeavesADaemon(Good):
    def denoise(self, stack, meta, *, context):
        threading.Thread(target=over.wait, daemon=True, name="watcher").start()
        return super().denoise(stack, meta, context=context)


class WritesByAnother(Good):
    """A process of its own writes where the model was put to work."""

    def denoise(self, stack, meta, *, context):
        subprocess.run([sys.executable, "-c", "open('../cache.bin', 'w').close()"], check=True)
        return super().denoise(stack, meta, context=context)


class DisablesLogging(Good):
    def denoise(self, stack, meta, *, context):
        logging.disable(logging.CRITICAL)
        return super().denoise(stack, meta, context=context)


class ConfiguresLogging(Good):
    def denoise(self, stack, meta, *, context):
        logging.config.dictConfig({"version": 1})  # disables the loggers that there are
        return super().denoise(stack, meta, context=context)


class ConfiguresTheRoot(Good):
    def denoise(self, stack, meta, *, context):
        logging.basicConfig(level=logging.DEBUG, force=True)
        return super().denoise(stack, meta, context=context)


class IgnoresWarnings(Good):
    def denoise(self, stack, meta, *, context):
        warnings.simplefilter("ignore")
        return super().denoise(stack, meta, context=context)


class ForgetsFilters(Good):
    def denoise(self, stack, meta, *, context):
        warnings.resetwarnings()
        return super().denoise(stack, meta, context=context)


class SetsPandas(Good):
    def denoise(self, stack, meta, *, context):
        pd.set_option("display.precision", 3)
        return super().denoise(stack, meta, context=context)


class Fails(Good):
    def denoise(self, stack, meta, *, context):
        raise IndexError("no such frame")


BROKEN = [
    (WritesInto, "inputs_unmodified"),
    (DrawsFreely, "seed_repeats"),
    (SeededAfterAll, "seeded_as_said"),
    (CountsCalls, "calls_repeat"),
    (SharesState, "instances_apart"),
    (CountsThreads, "threads_agree"),
    (ForgetsOnSave, "saves_and_loads"),
    (SavesObjects, "no_pickle_saved"),
    (LoadsAnything, "damaged_state_refused"),
    (LoadsSilently, "damaged_state_refused"),
    (HoldsALock, "model_pickles"),
    (ForgetsOnTheWay, "model_pickles"),
    (SwallowsInterrupts, "interrupt_gets_out"),
    (TurnsInterrupts, "interrupt_gets_out"),
    (IsSpoiltByAnInterrupt, "interrupt_gets_out"),
    (Prints, "stdout_silent"),
    (PrintsInC, "stdout_silent"),
    (PrintsInFit, "stdout_silent"),
    (PrintsInLoad, "stdout_silent"),
    (KeepsTheHandle, "stdout_silent"),
    (SeedsTheWorld, "random_state_untouched"),
    (DrawsFromTheWorld, "random_state_untouched"),
    (LeavesFiles, "scratch_alone_written"),
    (WritesAtHome, "scratch_alone_written"),
    (PhonesHome, "network_unused"),
    (MovesAway, "process_untouched"),
    (SetsNumpysErrors, "process_untouched"),
    (LeavesAProcess, "process_untouched"),
    (LeavesADaemon, "process_untouched"),
    (WritesByAnother, "scratch_alone_written"),
    (DisablesLogging, "process_untouched"),
    (ConfiguresLogging, "process_untouched"),
    (ConfiguresTheRoot, "process_untouched"),
    (IgnoresWarnings, "process_untouched"),
    (ForgetsFilters, "process_untouched"),
    (SetsPandas, "process_untouched"),
    (Fails, "runs"),
]


@pytest.mark.parametrize(("model", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_defect_fails_its_check_and_no_other(model, check):
    SharesState.levels.clear()
    found = failures(model)
    assert set(found) == {check}
    assert found[check].reason
    assert found[check].mend
    assert found[check].where


def test_offering_only_one_of_save_and_load_fails():
    found = failures(SavesOnly)
    assert set(found) == {"saves_and_loads"}
    assert "save without load" in found["saves_and_loads"].reason
    assert "'saves_and_loads'" in outcomes(SavesOnly)["no_pickle_saved"].reason


def test_a_model_that_does_not_run_is_one_problem_with_the_authors_line():
    found = outcomes(Fails)
    assert found["runs"].reason == "raises IndexError: no such frame"
    assert found["runs"].where.startswith("test_check_common.py:")
    rest = [r for name, r in found.items() if name != "runs"]
    assert {r.status for r in rest} == {"skipped"}


def test_a_model_that_ends_the_process_in_a_later_call_is_told_with_its_line():
    class Exits(Good):
        def denoise(self, stack, meta, *, context):
            if not np.isfinite(stack).all():
                sys.exit("bad pixels")
            return super().denoise(stack, meta, context=context)

    found = outcomes(Exits, only=["bad_pixels"])["bad_pixels"]
    assert found.status == "failed" and "raises SystemExit: bad pixels" in found.reason
    assert found.where.startswith("test_check_common.py:")


def test_a_model_that_cannot_be_saved_is_said_to_have_a_fit_and_no_more():
    class KeepsNothing(Good):
        save = load = None

    found = outcomes(KeepsNothing, only=["saves_and_loads"])["saves_and_loads"]
    assert (found.status, found.reason) == ("skipped", "the model offers no save and load, though it has a fit")


def test_the_authors_line_is_found_in_what_faulthandler_wrote(tmp_path):
    package = tmp_path / "lab" / "nets"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    core = Path(blame.__file__)
    lines = [
        "Fatal Python error: Aborted", "", "Current thread 0x1 (most recent call first):",
        f'  File "{json.__file__}", line 5 in loads', f'  File "{package / "a.py"}", line 7 in fit',
        f'  File "{package / "b.py"}", line 8 in outer', f'  File "{core}", line 9 in run', "  ...", "",
        "Extension modules: numpy.core._multiarray_umath (total: 1)",
    ]  # fmt: skip
    assert blame.place_in_dump(lines) == "lab/nets/a.py:7 in fit"
    assert blame.without_dumps(lines) == ["Fatal Python error: Aborted"]
    assert blame.place_in_dump(lines[:1]) == ""


def test_threads_that_libraries_keep_and_filters_of_their_own_are_fine():
    class Usual(Good):
        def denoise(self, stack, meta, *, context):
            warnings.filterwarnings("ignore", message="of a library of mine")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            thread = threading.Thread(target=over.wait, args=(0.2,))  # about to end
            thread.start()
            threading.Thread(target=over.wait, daemon=True, name="zarr_io").start()
            return super().denoise(stack, meta, context=context)

    assert outcomes(Usual, only=["process_untouched"])["process_untouched"].status == "passed"


@pytest.fixture
def plain_filters() -> Iterator[None]:
    """The filters of warnings that a new process has, whatever other tests and libraries did to this one's."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", category=ImportWarning)
        yield


@pytest.mark.usefixtures("plain_filters")
def test_what_is_left_is_named_and_put_back():
    filters, level = list(warnings.filters), logging.root.level
    handlers, precision = list(logging.root.handlers), pd.get_option("display.precision")
    assert "time.sleep(600)" in failures(LeavesAProcess)["process_untouched"].reason
    assert "watcher" in failures(LeavesADaemon)["process_untouched"].reason
    for model, said in (
        (DisablesLogging, "logging.disable"),
        (ConfiguresLogging, "are disabled"),
        (ConfiguresTheRoot, "root logger"),
        (IgnoresWarnings, "action 'ignore'"),
        (ForgetsFilters, "filters of warnings are gone"),
        (SetsPandas, "display.precision"),
    ):
        assert said in failures(model)["process_untouched"].reason
    assert list(warnings.filters) == filters and logging.root.level == level and logging.root.manager.disable == 0
    assert list(logging.root.handlers) == handlers and pd.get_option("display.precision") == precision


def test_what_a_message_says_is_where_and_what():
    found = failures(WritesInto)["inputs_unmodified"]
    assert found.where == "stack"
    assert "1 of" in found.reason
    assert "example.org" in failures(PhonesHome)["network_unused"].reason
    assert "cache.txt" in failures(LeavesFiles)["scratch_alone_written"].reason
    moved = failures(MovesAway)["process_untouched"].reason
    assert "UNDER_CHECK" in moved
    assert "working folder" in moved


def test_what_is_printed_while_another_check_runs_is_told_and_goes_to_stderr(capsys):
    class PrintsOnNan(Good):
        def denoise(self, stack, meta, *, context):
            if not np.isfinite(stack).all():
                print("bad pixels")  # noqa: T201  it is to print
            return super().denoise(stack, meta, context=context)

    found = outcomes(PrintsOnNan, only=["bad_pixels", "stdout_silent"])["stdout_silent"]
    assert found.status == "failed"
    assert "while the check 'bad_pixels' ran" in found.reason and "bad pixels" in found.reason
    seen = capsys.readouterr()
    assert "bad pixels" in seen.err and not seen.out
    assert [check.name for check in checks_of("denoise")][-1] == "stdout_silent"


def test_what_another_check_tells_is_not_told_again_and_what_it_does_not_tell_is():
    found = outcomes(WritesInto, only=None)
    assert found["inputs_unmodified"].status == "failed"
    for name in ("stack_in_any_memory", "fit_settles", "windows_equal_the_whole"):
        assert found[name].status == "skipped" and "see the check 'inputs_unmodified'" in found[name].reason, name
    assert found["tiny_stacks"].status == "failed"  # an IndexError of its own
    alone = outcomes(WritesInto, only=["fit_settles"])["fit_settles"]
    assert alone.status == "failed"  # nothing else was asked that could tell of it


def test_a_model_that_says_how_it_is_quick_is_exercised_so_unless_other_values_are_given():
    spec = spec_of(Good, config="tests:Config", quick={"strength": 2.0})
    seen = []

    def make(values=None):
        seen.append(values)
        return Good()

    runs = check_model(spec, make, only=["runs"])[0]
    assert (runs.status, runs.reason) == ("passed", 'exercised with ModelSpec.quick: {"strength": 2.0}')
    assert check_model(spec, make, only=["runs"], values={"strength": 3.0})[0].reason == ""
    assert check_model(spec, make, only=["runs"], values={})[0].reason == ""
    assert seen == [{"strength": 2.0}, {"strength": 3.0}, None]
    assert as_text("x", [runs], 1.0).count("exercised with ModelSpec.quick") == 1
    plain = check_model(spec_of(Good), lambda values=None: Good(), only=["runs"])
    assert "passed:" not in as_text("x", plain, 1.0)


@pytest.mark.parametrize(
    ("config", "quick", "said"),
    [
        ("tests:Config", {"strenght": 2.0}, "strenght: unknown key (to mend: did you mean 'strength'?)"),
        ("tests:Config", {"strength": "much"}, "strength: Input should be a valid number"),
        (None, {"strength": 2.0}, "takes no parameters, got ['strength']"),
    ],
)
def test_values_that_the_config_refuses_are_one_problem_with_the_field(config, quick, said, monkeypatch):
    monkeypatch.setattr("hyped_core.spec.import_target", lambda name: Config)
    spec = spec_of(Good, config=config, quick=quick)
    found = {r.check: r for r in check_model(spec, lambda values=None: spec.load_config(values) or Good())}
    assert [name for name, record in found.items() if record.bad and name != "config_pickles"] == ["runs"]
    assert said in found["runs"].reason and found["runs"].where == "ModelSpec.quick"


def test_quick_is_a_mapping_of_fields_to_values_of_json():
    for wrong in ({1: 2}, [("epochs", 1)], {"path": Path("x")}, {"rate": float("nan")}):
        with pytest.raises(PluginError, match="quick must"):
            spec_of(Good, quick=wrong)
    spec = spec_of(Good, quick={"pretrain": {"steps": 4}})
    assert spec_in(json.loads(json.dumps(spec_out(spec)))) == spec
    assert hash(spec) == hash(spec_of(Good))


class DiffersOnTheGpu(Good):
    def denoise(self, stack, meta, *, context):
        return super().denoise(stack, meta, context=context) + np.float32(500 * (context.device != "cpu"))


class FindsNoGpu(Good):
    def denoise(self, stack, meta, *, context):
        if context.device != "cpu":
            raise MissingHardwareError("there is no GPU")
        return super().denoise(stack, meta, context=context)


@pytest.mark.parametrize(("model", "status"), [(Good, "passed"), (DiffersOnTheGpu, "failed"), (FindsNoGpu, "skipped")])
def test_what_the_gpu_gives_is_compared_where_the_model_can_use_one(model, status, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # it would say that there is none
    assert outcomes(model, only=["gpu_agrees"])["gpu_agrees"].status == status


def test_what_c_code_prints_is_captured_where_the_c_library_holds_it_back():
    code = (
        "import ctypes\n"
        "from hyped_core.checking.printed import captured\n"
        "c = ctypes.CDLL(None)\n"
        "c.puts(b'before')\n"
        "with captured() as printed:\n"
        "    c.puts(b'within')\n"
        "print(repr(printed()))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "before\n'within\\n'\n", done.stderr


def test_the_process_is_put_back_after_a_check():
    folder, state = os.getcwd(), np.random.get_state()[1].copy()  # noqa: NPY002
    failures(MovesAway)
    failures(SeedsTheWorld)
    failures(SetsNumpysErrors)
    assert os.getcwd() == folder
    assert "UNDER_CHECK" not in os.environ
    assert np.geterr()["invalid"] != "raise"
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_what_is_not_deterministic_or_seeded_is_not_asked_to_repeat_itself():
    found = outcomes(DrawsFreely, deterministic=False, seeded=True)
    assert [r for r in found.values() if r.bad] == []
    assert found["seed_repeats"].status == "skipped"
    assert outcomes(SeededAfterAll, seeded=True)["seeded_as_said"].status == "skipped"


class Config(Params):
    """Parameters."""

    strength: float = 1.0
    """How much."""


class NeedsALibrary(Good):
    def __init__(self):
        super().__init__()
        try:
            import wave  # noqa: F401  stands for an optional library
        except ModuleNotFoundError as error:
            raise MissingDependencyError("needs wave", mend="pip install wave") from error


class LacksALibrary(Good):
    def __init__(self):
        super().__init__()
        import wave  # noqa: F401


class SaysNotHow(Good):
    def __init__(self):
        super().__init__()
        try:
            import wave  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingDependencyError("needs wave") from error


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        (NeedsALibrary, "passed", ""),
        (LacksALibrary, "failed", "ModuleNotFoundError"),
        (SaysNotHow, "failed", "does not say how"),
        (Good, "failed", "is made all the same"),
    ],
)
def test_a_missing_library_has_to_be_named_with_its_command(model, status, said):
    found = outcomes(model, needs=Needs(modules=("wave",), install="pip install wave"))["missing_library_named"]
    assert found.status == status
    assert said in found.reason
    import wave

    assert wave.open  # and it is there again


def test_a_config_that_cannot_be_sent_fails(monkeypatch):
    class Local(Params):
        strength: float = 1.0

    monkeypatch.setattr("hyped_core.spec.import_target", lambda name: Local)
    found = outcomes(Good, config="tests:Local")["config_pickles"]
    assert found.status == "failed"
    assert "cannot be sent" in found.reason


def test_a_model_that_cannot_run_here_is_left_out_with_the_command():
    class Absent(Good):
        def denoise(self, stack, meta, *, context):
            raise MissingDependencyError("needs a library", mend="pip install it")

    found = outcomes(Absent)
    assert {record.status for record in found.values()} == {"skipped"}
    assert "pip install it" in found["runs"].reason


def test_a_check_may_skip_and_an_unknown_name_gets_the_closest():
    from hyped_core.errors import PluginError

    assert outcomes(Good, only=["gpu_agrees"])["gpu_agrees"].status in ("skipped", "passed")
    with pytest.raises(PluginError, match="stdout_silnt") as error:
        check_model(spec_of(Good), Good, only=["stdout_silnt"])
    assert "stdout_silent" in error.value.mend
    assert issubclass(CheckSkipped, Exception)


def test_expected_failures_need_to_fail():
    records = {
        record.check: record
        for record in check_model(
            spec_of(Prints, expected_failures={"stdout_silent": "a library prints", "runs": "it hangs"}),
            lambda values=None: Prints(),
            only=["runs", "stdout_silent"],
        )
    }
    assert records["stdout_silent"].status == "expected"
    assert "a library prints" in records["stdout_silent"].reason
    assert not records["stdout_silent"].bad
    assert records["runs"].status == "stale"
    assert records["runs"].bad
    assert "expected_failures" in records["runs"].mend


SPOILS_AND_CRASHES = """
import os
import sys

import numpy as np

sys.path.insert(0, {tests!r})
from test_check_common import Good


class Model(Good):
    def load(self, folder):
        print("loading")
        super().load(folder)

    def denoise(self, stack, meta, *, context):
        if not np.isfinite(stack).all():
            os._exit(3)
        out = super().denoise(stack, meta, context=context)
        stack[0, 0, 0] += 1
        return out
"""


def test_what_was_told_and_printed_before_a_crash_is_known_after_it(tmp_path, monkeypatch):
    name = f"spoils_and_crashes_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(SPOILS_AND_CRASHES.format(tests=str(Path(__file__).parent)))
    monkeypatch.syspath_prepend(tmp_path)
    spec = ModelSpec("spoils", "denoise", f"{name}:Model", seeded=False)
    checks = ["runs", "inputs_unmodified", "saves_and_loads", "bad_pixels", "fit_settles", "stdout_silent"]
    job = {"kind": "behaviour", "checks": checks, "spec": spec_out(spec), "folder": None, "python": None}
    found = {record.check: record for record in run_checks(job, spec.key)}
    assert list(found) == checks
    assert found["inputs_unmodified"].status == "failed"
    assert "exit code 3" in found["bad_pixels"].reason
    assert "see the check 'inputs_unmodified'" in found["fit_settles"].reason
    assert "while the check 'saves_and_loads' ran" in found["stdout_silent"].reason
