"""Models of steps: HYPED's own in this process, others apart, within limits, with an owner in what they raise."""

from __future__ import annotations

import copy
import gc
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.design import read_design
from hyped_core.errors import (
    HypedError,
    InvalidDataError,
    MissingHardwareError,
    ParamsError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from hyped_core.remote import environments, placing
from hyped_core.remote.placing import place
from hyped_core.testing.plugins import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        for name in ("good", "raises", "segfaults", "hangs", "eats", "refuses"):
            yield ModelSpec(name, "denoise", f"NAME_models:{name.capitalize()}", config="NAME_models:Config")
        yield ModelSpec("apart", "denoise", "NAME_apart:Apart", config="NAME_apart:Config", environment=("tiny",))
    """
MODELS = """
    import ctypes, os, time
    import numpy as np
    from hyped_core import Params
    from hyped_core.errors import InvalidDataError

    class Config(Params):
        factor: float = 2.0
        channel: str = ""

        @classmethod
        def for_design(cls, values, design):
            return {"channel": design.channels[0].name, **values}

    class Good:
        def __init__(self, config):
            self.config = config
            self.level = 0.0

        def fit(self, stack, meta, *, context):
            self.level = float(stack.mean())

        def denoise(self, stack, meta, *, context):
            self.facts = {"pid": os.getpid(), "channel": self.config.channel, "level": self.level}
            print("working")
            return (stack * self.config.factor).astype(np.float32)

    class Raises(Good):
        def denoise(self, stack, meta, *, context):
            raise ValueError("a plane too many")

    class Refuses(Good):
        def denoise(self, stack, meta, *, context):
            raise InvalidDataError("is too dark", where="frame 3", mend="more light")

    class Segfaults(Good):
        def denoise(self, stack, meta, *, context):
            ctypes.string_at(0)

    class Hangs(Good):
        def denoise(self, stack, meta, *, context):
            time.sleep(600)

    class Eats(Good):
        def denoise(self, stack, meta, *, context):
            held = []
            while True:
                held.append(bytearray(20_000_000))
                time.sleep(0.01)
    """
APART = """
    from NAME_models import Config, Good
    import tiny

    class Apart(Good):
        def denoise(self, stack, meta, *, context):
            return super().denoise(stack, meta, context=context) + tiny.ONE
    """
STACK = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
DESIGN = read_design(None)


def lab(folder: Path, distribution: str, name: str) -> Path:
    texts = {"plugin": PLUGIN, "models": MODELS, "apart": APART}
    make_distribution(folder, distribution, {f"{name}_{k}": text.replace("NAME", name) for k, text in texts.items()})
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that sees one package of a stranger, which is version 1.0 of lab-x."""
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    with isolated_host(lab(tmp_path / "lab", "lab-x", "labx")) as host:
        yield host


def denoised(placed) -> tuple[np.ndarray, dict]:
    model = placed.create()
    return model.denoise(STACK, ImageMeta(), context=RunContext()), dict(model.facts)


def test_a_model_of_hyped_s_own_works_in_this_process(tmp_path, capfd):
    with isolated_host(lab(tmp_path, "hyped-seq", "ourlab")) as host:
        placed = place("denoise", "good", {"factor": 3}, DESIGN, host)
        result, facts = denoised(placed)
        assert placed.remote is None and facts["pid"] == os.getpid()
        assert np.array_equal(result, STACK * 3)
        assert placed.values == {"factor": 3, "channel": DESIGN.channels[0].name}
        assert placed.config == {"factor": 3.0, "channel": DESIGN.channels[0].name}
        with pytest.raises(ParamsError, match="factr"):
            place("denoise", "good", {"factr": 3}, DESIGN, host)


def test_a_stranger_s_works_apart_with_the_same_results_and_ends_with_its_model(host, capfd, gone):
    other = DESIGN.model_copy(update={"channels": tuple(reversed(DESIGN.channels))})
    placed = place("denoise", "good", {"factor": 3}, other, host)
    result, facts = denoised(placed)
    assert np.array_equal(result, STACK * 3) and result.dtype == np.float32
    assert facts["pid"] != os.getpid() and "labx_models" not in sys.modules  # its config is not imported here either
    assert facts["channel"] == other.channels[0].name == placed.values["channel"] != DESIGN.channels[0].name
    assert placed.config == {"factor": 3.0, "channel": facts["channel"]}
    placed.remote.process.spent_s = 1e9  # the limit is for a call, not for a step of many frames
    assert np.array_equal(denoised(placed)[0], result)
    del placed
    gc.collect()
    assert gone(facts["pid"])
    said = capfd.readouterr()
    assert said.out == "" and said.err.count("working") == 2 and "wrote 2 lines to stdout" in said.err


def test_a_copy_of_a_model_apart_is_a_model_of_its_own(host):
    model = place("denoise", "good", {}, DESIGN, host).create()
    model.fit(STACK, ImageMeta(), context=RunContext())
    second = copy.deepcopy(model)
    second.fit(STACK + 1, ImageMeta(), context=RunContext())
    third = copy.deepcopy(second)
    for one in (model, second, third):
        one.denoise(STACK, ImageMeta(), context=RunContext())
    assert [one.facts["level"] for one in (model, second, third)] == [5.5, 6.5, 6.5]
    assert len({one.facts["pid"] for one in (model, second, third)}) == 1


@pytest.mark.parametrize(
    ("name", "kind", "word", "removed"),
    [
        ("raises", PluginError, "ValueError: a plane too many", True),
        ("segfaults", PluginError, "SIGSEGV", True),
        ("refuses", InvalidDataError, "frame 3: is too dark", False),
    ],
)
def test_an_error_names_the_owner_and_what_mends_it(host, name, kind, word, removed):
    model = place("denoise", name, {}, DESIGN, host).create()
    with pytest.raises(kind) as caught:
        model.denoise(STACK, ImageMeta(), context=RunContext())
    text = str(caught.value)
    assert word in text and text.count("(lab-x 1.0)") == 1
    assert ("pip uninstall lab-x" in text) == removed
    assert caught.value.exit_code == (4 if removed else 3)


def test_one_that_hangs_or_takes_all_memory_is_ended(host, monkeypatch, gone):
    monkeypatch.setenv("HYPED_MODEL_SECONDS", "5")
    monkeypatch.setenv("HYPED_MODEL_GB", "0.6")
    started = time.monotonic()
    for name, kind, word in (("hangs", PluginError, "5 seconds"), ("eats", MissingHardwareError, "0.6 GB")):
        placed = place("denoise", name, {}, DESIGN, host)
        pid = placed.remote.process.pid
        with pytest.raises(kind, match=word) as caught:
            denoised(placed)
        assert "HYPED_MODEL_" in caught.value.mend and "pip uninstall lab-x" in caught.value.mend
        assert gone(pid)
    assert time.monotonic() - started < 60


def test_limits_are_what_the_variables_say(monkeypatch):
    monkeypatch.delenv("HYPED_MODEL_SECONDS", raising=False)
    monkeypatch.delenv("HYPED_MODEL_GB", raising=False)
    monkeypatch.setattr(placing, "machine_memory_gb", lambda: 10.0)
    assert (placing.default_seconds(), placing.default_memory_gb()) == (3600.0, 8.0)
    monkeypatch.setenv("HYPED_MODEL_SECONDS", "7")
    monkeypatch.setenv("HYPED_MODEL_GB", "1.5")
    assert (placing.default_seconds(), placing.default_memory_gb()) == (7.0, 1.5)
    for bad in ("x", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("HYPED_MODEL_GB", bad)
        with pytest.raises(UsageError, match="HYPED_MODEL_GB"):
            placing.default_memory_gb()


def test_what_cannot_be_placed(host):
    with pytest.raises(UnknownNameError, match="there is no model"):
        place("denoise", "goood", {}, DESIGN, host)
    with pytest.raises(ParamsError, match="factr") as caught:
        place("denoise", "lab-x:good", {"factr": 3}, DESIGN, host)
    assert "(lab-x 1.0)" in str(caught.value) and "uninstall" not in str(caught.value)


def test_one_that_asks_for_an_environment_works_there(host, tmp_path, monkeypatch):
    """The environment is made by hand: this interpreter, and a module that is not here."""
    more = tmp_path / "more"
    more.mkdir()
    (more / "tiny.py").write_text("ONE = 1\n")
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    path = os.pathsep.join([str(more), str(tmp_path / "lab"), *filter(None, sys.path)])
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    asked = []

    def made(requirements, spec, distribution):
        asked.append((tuple(requirements), spec.name, distribution))
        return python

    monkeypatch.setattr(environments, "environment_for", made)
    placed = place("denoise", "apart", {}, DESIGN, host)
    result, facts = denoised(placed)
    assert np.array_equal(result, STACK * 2 + 1) and facts["pid"] != os.getpid()
    assert asked == [(("tiny",), "apart", "lab-x")] and "tiny" not in sys.modules

    def refused(*_):
        raise HypedError("pip cannot install tiny", mend="see to the network")

    monkeypatch.setattr(environments, "environment_for", refused)
    with pytest.raises(HypedError, match=r"\(lab-x 1.0\): pip cannot install tiny"):
        place("denoise", "apart", {}, DESIGN, host)
