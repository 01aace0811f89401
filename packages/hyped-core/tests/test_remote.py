"""Models in a process of their own: equal results, and every way to misbehave ends in a typed error and no process."""

from __future__ import annotations

import io
import sys
import warnings

import numpy as np
import pytest

from hyped_core.blame import place_of
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import (
    HypedError,
    InvalidDataError,
    MissingDependencyError,
    MissingHardwareError,
    ParamsError,
    PluginError,
    Problem,
    UnknownNameError,
    UnsupportedDataError,
    ValidationError,
)
from hyped_core.plugins.registry import models
from hyped_core.remote import process
from hyped_core.remote.host import RemoteError, RemoteModel, Runner, read_runner
from hyped_core.remote.worker import error_out
from hyped_core.spec import import_target
from hyped_core.testing.plugins import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ModelSpec, Needs, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("toy", "denoise", "toylab_models:Toy", "toylab_models:ToyConfig", deterministic=False)
        needs = Needs(("no_such_lib",), "pip install no-such-lib")
        yield ModelSpec("bare", "denoise", "toylab_models:Toy", needs=needs)
    """
MODELS = """
    import ctypes, os, subprocess, sys, time
    import numpy as np
    from hyped_core import Params
    from hyped_core.errors import HypedError, InvalidDataError, Problem, UnsupportedDataError, ValidationError

    class TooFewPlanes(UnsupportedDataError):
        def __init__(self, count):
            super().__init__(f"{count} planes", where="stack", mend="give more")

    class UsageError(InvalidDataError):
        pass  # named as one of HYPED's, but of another kind

    class Unsaid(HypedError):
        def __init__(self):
            pass

    class ToyConfig(Params):
        does: str = "work"
        scale: float = 1.5

        @classmethod
        def for_design(cls, values, design):
            return {"scale": 2.5, **values}

    class Toy:
        neighbours = 2

        def __init__(self, config):
            self.config = config
            self.facts = {"made": 1}

        def fit(self, stack, meta, *, context):
            self.mean = float(stack.mean())

        @property
        def learned(self):
            raise InvalidDataError("has learned nothing yet")

        def denoise_frames(self, read, count, meta, *, context, frames=None):
            raise NotImplementedError

        def denoise(self, stack, meta, *, context):
            does = self.config.does
            if does == "work":
                print("a line on stdout")
                os.write(1, b"bytes on the pipe\\n")
                subprocess.run([sys.executable, "-c", "print('a child prints')"])
                assert sys.stdin.read() == ""
                noise = context.rng("toy").normal(size=stack.shape)
                for _ in context.progress.track(range(3), "toying"):
                    pass
                self.facts = {"seed": context.seed, "channel": meta.channel, "scratch": context.scratch.is_dir()}
                return (stack * self.config.scale + noise + getattr(self, "mean", 0)).astype(np.float32)
            if does == "raise":
                raise RuntimeError("out of luck")
            if does == "deep":
                np.linalg.inv(np.zeros((2, 2)))
            if does == "refuse":
                raise InvalidDataError("these are no planes", where="stack", mend="give planes")
            if does == "odd":
                raise TooFewPlanes(3)
            if does == "namesake":
                raise UsageError("not the user's doing")
            if does == "unsaid":
                raise Unsaid()
            if does == "problems":
                raise ValidationError("the stack", [Problem("z", "is empty", "fill it"), Problem("y", "is short")])
            if does == "function":
                return lambda: 1
            if does == "exit":
                sys.stderr.write("last words\\n"); sys.stderr.flush(); os._exit(7)
            if does == "segfault":
                ctypes.string_at(0)
            if does == "sleep":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
                with open(meta.channel, "w") as file:
                    file.write(f"{os.getpid()} {child.pid}")
                time.sleep(300)
            if does == "eat":
                held = [bytearray(30_000_000) for _ in range(40)]
                time.sleep(5)
            if does == "loop":
                for _ in context.progress.track(range(10_000), "looping"):
                    time.sleep(0.05)
    """


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the plugin, as an environment of its own would have it."""
    folder = tmp_path_factory.mktemp("lab")
    make_distribution(folder, "toylab", {"toylab_plugin": PLUGIN, "toylab_models": MODELS})
    return folder


@pytest.fixture
def remote(lab):
    """Opens the model over there; nothing here knows it."""
    opened = []

    def make(name="toy", values=None, **limits):
        runner = Runner(env={"PYTHONPATH": str(lab)}, **limits)
        opened.append(RemoteModel("denoise", name, runner, values=values))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


STACK = np.random.default_rng(1).normal(500, 20, (3, 8, 9)).astype(np.float32)


def test_a_model_over_there_gives_the_bytes_it_gives_here(remote, lab, capfd, monkeypatch):
    far = remote(seconds=60, memory_gb=4)
    assert (far.distribution, far.version, far.spec.deterministic) == ("toylab", "1.0", False)
    assert far.config == {"does": "work", "scale": 2.5}  # filled for the design, over there
    model = far.create({"scale": 3.0})
    assert model.facts == {"made": 1} and model.neighbours == 2
    context = RunContext(seed=5)
    model.fit(STACK, ImageMeta(), context=context)
    there = model.denoise(STACK, ImageMeta(channel="Cy5"), context=context)
    assert model.facts == {"seed": 5, "channel": "Cy5", "scratch": True}
    assert not hasattr(model, "denoise_frames") and not hasattr(model, "predict")
    assert not list(far.process.folder.glob("*.npy"))  # nothing piles up
    said = capfd.readouterr()
    assert said.out == "" and "a line on stdout" in said.err and "bytes on the pipe" in said.err
    far.close()
    with isolated_host(lab) as host:
        own = models(host).get("denoise/toy").create({"scale": 3.0})
        own.fit(STACK, ImageMeta(), context=context)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        here = own.denoise(STACK, ImageMeta(channel="Cy5"), context=context)
    assert there.dtype == here.dtype and there.tobytes() == here.tobytes()


def test_instances_are_apart_and_forgotten(remote):
    far = remote()
    first, second = far.create({"scale": 1.0}), far.create({"scale": 2.0})
    first.fit(STACK, ImageMeta(), context=RunContext())
    a, b = (m.denoise(STACK, ImageMeta(), context=RunContext()) for m in (first, second))
    assert not np.array_equal(a, b)
    del first
    assert far.gone == [0]
    second.fit(STACK, ImageMeta(), context=RunContext())
    assert far.gone == []


def test_a_model_known_here_need_not_be_registered_there(lab, tmp_path):
    (tmp_path / "toylab_models.py").write_text((lab / "toylab_models.py").read_text())
    with isolated_host(lab) as host:
        provided = models(host).provided("denoise/toy")
    runner = Runner(env={"PYTHONPATH": str(tmp_path)})
    with RemoteModel("denoise", "toy", runner, provided=provided) as far:
        assert far.distribution == "toylab" and far.create().neighbours == 2
    with pytest.raises(UnknownNameError):
        RemoteModel("denoise", "toy", runner)


def test_errors_come_back_as_they_are(remote):
    for does, kind, text in (
        ("raise", RemoteError, "RuntimeError: out of luck"),
        ("deep", RemoteError, "LinAlgError: Singular"),
        ("refuse", InvalidDataError, "these are no planes"),
        ("function", PluginError, "type function"),
    ):
        far = remote(values={"does": does})
        model = far.create()
        with pytest.raises(kind, match=text) as caught:
            model.denoise(STACK, ImageMeta(), context=RunContext())
        if does == "raise":
            assert any("toylab_models.py" in line and "denoise" in line for line in caught.value.frames)
        if does == "deep":
            assert "linalg" in caught.value.frames[-1] and place_of(caught.value).startswith("toylab_models.py:")
        if does == "refuse":
            assert (caught.value.where, caught.value.mend) == ("stack", "give planes")
    with pytest.raises(ParamsError, match="scale"):
        remote(values={"sclae": 1})
    with pytest.raises(MissingDependencyError, match="no_such_lib"):
        remote("bare").create()


@pytest.mark.parametrize(
    ("does", "kind", "code", "text"),
    [
        ("odd", UnsupportedDataError, 3, "3 planes"),
        ("namesake", InvalidDataError, 3, "not the user's doing"),
        ("unsaid", HypedError, 1, "Unsaid"),
        ("problems", ValidationError, 3, "2 problems"),
    ],
)
def test_errors_that_are_no_class_here_are_the_nearest_that_is(remote, does, kind, code, text):
    model = remote(values={"does": does}).create()
    with pytest.raises(HypedError, match=text) as caught:
        model.denoise(STACK, ImageMeta(), context=RunContext())
    error = caught.value
    assert type(error) is kind and error.exit_code == code
    assert "denoise" in error.frames[-1] and "toylab_models.py" in error.frames[-1]
    if does == "odd":
        assert (error.where, error.mend) == ("stack", "give more")
    if does == "problems":
        assert error.problems == (Problem("z", "is empty", "fill it"), Problem("y", "is short"))


def test_a_limit_of_memory_that_cannot_be_held_is_said_once(remote, monkeypatch):
    monkeypatch.setattr(process, "is_watched", lambda: False)
    process._warn_unwatched.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        remote()
        assert not said  # no limit was asked for
        remote(memory_gb=4)
        remote(memory_gb=5)
    assert [w.category for w in said] == [RuntimeWarning] and "memory_gb" in str(said[0].message)
    process._warn_unwatched.cache_clear()


@pytest.mark.parametrize(
    ("does", "words"),
    [("exit", ("exit code 7", "last words")), ("segfault", ("SIGSEGV", "Segmentation fault"))],
)
def test_a_crash_of_the_interpreter_is_an_error_of_the_model(remote, does, words, capfd):
    far = remote(values={"does": does})
    model = far.create()
    with pytest.raises(PluginError) as caught:
        model.denoise(STACK, ImageMeta(), context=RunContext())
    assert all(word in str(caught.value) for word in words) and "denoise/toy" in str(caught.value)
    if does == "segfault":  # in ctypes; the stack itself is on stderr
        assert "in denoise" in caught.value.frames[-1] and "toylab_models.py:" in caught.value.frames[-1]
        assert "most recent call first" not in str(caught.value)
        said = capfd.readouterr().err
        assert "most recent call first" in said and "Extension modules:" not in said
    assert not far.process.folder.exists()


def test_an_error_has_the_frames_of_what_it_came_from(tmp_path, monkeypatch):
    (tmp_path / "toy_halts.py").write_text("\n1 + 'one'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="fails on import: TypeError") as caught:
        import_target("toy_halts:Toy")
    frames = error_out(caught.value)["frames"]
    assert "toy_halts.py:2 in <module>" in frames and frames[-1].endswith("in import_target")


def test_a_hang_ends_at_its_limit_with_all_its_children(remote, tmp_path, gone):
    far = remote(values={"does": "sleep"}, seconds=3)
    model = far.create()
    with pytest.raises(PluginError, match="3 seconds") as caught:
        model.denoise(STACK, ImageMeta(channel=str(tmp_path / "pids")), context=RunContext())
    assert "denoise/toy" in str(caught.value)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and all(gone(pid) for pid in pids)


def test_memory_past_its_limit_ends_the_model(remote):
    far = remote(values={"does": "eat"}, memory_gb=0.6)
    model = far.create()
    with pytest.raises(MissingHardwareError, match=r"more than the 0\.6 GB"):
        model.denoise(STACK, ImageMeta(), context=RunContext())
    assert 600e6 < far.process.peak_memory_mb * 2**20 < 1.8e9


def test_progress_is_followed_and_an_interrupt_leaves_no_process(remote, gone):
    seen = []

    class Impatient:
        def track(self, items, description, total=None):
            for item in items:
                seen.append((description, item, total))
                if item == 6:
                    raise KeyboardInterrupt
                yield item

    far = remote(values={"does": "loop"})
    model = far.create()
    with pytest.raises(KeyboardInterrupt):
        model.denoise(STACK, ImageMeta(), context=RunContext(progress=Impatient()))
    assert seen[:2] == [("looping", 0, 10_000), ("looping", 1, 10_000)]
    assert gone(far.process.pid)


def test_an_interpreter_that_does_not_start_or_lacks_hyped_core(tmp_path):
    with pytest.raises(PluginError, match="cannot be started") as caught:
        RemoteModel("denoise", "toy", Runner(python=str(tmp_path / "nowhere")))
    assert "python" in caught.value.mend
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(PluginError, match="lacks hyped-core") as caught:
        RemoteModel("denoise", "toy", Runner(python=str(bare)))
    assert "pip install" in caught.value.mend


def test_runners_of_parameter_files():
    assert read_runner({"python": "p", "seconds": 5, "memory_gb": None}, "x") == Runner("p", 5)
    for bad, word in (
        ({"pyhton": "p"}, "pyhton"),
        ({"seconds": 0}, "positive"),
        ({"memory_gb": "8"}, "positive"),
        ({"env": ["a"]}, "mapping"),
        ("python", "not a runner"),
    ):
        with pytest.raises(ParamsError, match=word):
            read_runner(bad, "expression/runners/m")


def test_the_worker_imports_nothing_heavy():
    import subprocess

    code = (
        "import sys, hyped_core.remote.worker; "
        "print([m for m in ('anndata', 'pandas', 'scipy', 'torch', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
