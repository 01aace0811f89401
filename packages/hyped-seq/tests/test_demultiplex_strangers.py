"""Demultiplexers of other packages in the steps: whatever they do, stdout is data and a failure has a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.plugins.host import default_host
from hyped_core.remote import environments
from hyped_core.testing.plugins import make_distribution
from hyped_seq.demultiplex.run import read_calls
from hyped_seq.process.layout import Layout
from hyped_seq.process.params import ProcessParams
from hyped_seq.process.run import Job

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        for name in ("prints", "segfaults", "hangs", "raises"):
            yield ModelSpec(f"lab-{name}", "demultiplex", f"labx_models:{name.capitalize()}")
        yield ModelSpec("lab-apart", "demultiplex", "labx_apart:Apart", "labx_apart:Config", environment=("tiny",))
    """
MODELS = """
    import ctypes, os, pathlib, time
    import numpy as np
    import pandas as pd

    class Prints:
        def assign(self, hto, *, context):
            print("{not json")
            os.write(1, b"nor this\\n")
            best = np.asarray(hto.X.todense()).argmax(axis=1)
            calls = {"call": hto.var_names[best], "kind": "singlet", "probability": 1.0, "tags": hto.var_names[best]}
            return pd.DataFrame(calls, index=hto.obs_names)

    class Segfaults(Prints):
        def assign(self, hto, *, context):
            ctypes.string_at(0)

    class Hangs(Prints):
        def assign(self, hto, *, context):
            pathlib.Path(os.environ["LABX_PID"]).write_text(str(os.getpid()))
            time.sleep(600)

    class Raises(Prints):
        def assign(self, hto, *, context):
            raise ValueError("no such tag")
    """
APART = """
    import tiny
    from hyped_core import Params
    from labx_models import Prints

    class Config(Params):
        probability: float = tiny.ONE

    class Apart(Prints):
        def __init__(self, config):
            self.config = config

        def assign(self, hto, *, context):
            return super().assign(hto, context=context).assign(probability=self.config.probability)
    """


@pytest.fixture
def lab(tmp_path, monkeypatch, small_design):
    """lab-x 1.0 is installed; ``hto.h5ad`` holds 40 cells of pool p1."""
    folder = tmp_path / "lab"
    make_distribution(folder, "lab-x", {"labx_plugin": PLUGIN, "labx_models": MODELS, "labx_apart": APART})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LABX_PID", str(tmp_path / "pid"))
    counts = np.random.default_rng(0).poisson((3, 30), (40, 2)).astype(np.int32)
    obs = pd.DataFrame({"pool": "p1"}, index=[f"p1_c{i}" for i in range(40)])
    hto = anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=["A", "B"]))
    hto.write_h5ad(tmp_path / "hto.h5ad")
    default_host.cache_clear()
    yield tmp_path
    default_host.cache_clear()
    sys.modules.pop("labx_plugin", None)


def arguments(folder: Path, model: str) -> list[str]:
    options = ["--model", model, "--json", "--design", str(folder / "design.yaml")]
    return ["seq", "demultiplex", str(folder / "hto.h5ad"), str(folder / "out.csv"), *options]


def gone(pid: int) -> bool:
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def tiny(lab, monkeypatch):
    """The environment that lab-apart asks for, made by hand: this interpreter, and a module that is not here."""
    (lab / "more").mkdir()
    (lab / "more" / "tiny.py").write_text("ONE = 1.0\n")
    python = lab / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    path = os.pathsep.join([str(lab / "more"), *filter(None, sys.path)])
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(environments, "environment_for", lambda requirements, spec, distribution: python)


def test_what_it_prints_is_not_in_the_data(lab, capfd):
    assert run(arguments(lab, "lab-prints")) == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == {"p1": {"singlet": 40}}
    assert "{not json" in said.err and "nor this" in said.err
    calls = read_calls(lab / "out.csv")["call"]
    assert len(calls) == 40 and set(calls) == {"B"}


@pytest.mark.parametrize(
    ("model", "word"), [("segfaults", "SIGSEGV"), ("hangs", "5 seconds"), ("raises", "ValueError: no such tag")]
)
def test_one_that_fails_ends_the_command_with_owner_reason_and_removal(lab, capfd, monkeypatch, model, word):
    monkeypatch.setenv("HYPED_MODEL_SECONDS", "5")
    started = time.monotonic()
    assert run(arguments(lab, f"lab-{model}")) == 4
    assert time.monotonic() - started < 40
    said = capfd.readouterr()
    assert said.out == "" and word in said.err
    assert "(lab-x 1.0)" in said.err and "pip uninstall lab-x" in said.err
    assert not (lab / "out.csv").exists()


def test_an_interrupt_ends_it_too(lab):
    # a shell's background job ignores interrupts
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{heed} runpy.run_module('hyped_core.cli.main', None, '__main__')"
    command = [sys.executable, "-c", code, *arguments(lab, "lab-hangs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (lab / "pid").exists() and (lab / "pid").read_text():
            break
        time.sleep(0.05)
    pid = int((lab / "pid").read_text())
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and out == "" and gone(pid)


def test_it_works_in_the_environment_that_it_asks_for(lab, tiny, capfd):
    assert run(arguments(lab, "lab-apart")) == 0
    assert json.loads(capfd.readouterr().out) == {"p1": {"singlet": 40}}
    assert set(read_calls(lab / "out.csv")["probability"]) == {1.0}
    assert "tiny" not in sys.modules and "labx_apart" not in sys.modules


def test_the_step_of_process_does_the_same(lab, tiny, small_design, capfd):
    layout = Layout(lab / "out.h5ad")
    layout.ingest.mkdir(parents=True)
    (lab / "hto.h5ad").rename(layout.ingest / "hto.h5ad")
    params = ProcessParams.model_validate({"demultiplex": {"model": "lab-apart", "config": {"probability": 0.5}}})
    job = Job(SimpleNamespace(pools={"p1": lab}), layout, small_design, params, RunContext())
    assert set(job.calls()["probability"]) == {0.5}
    model = job._demultiplex_facts({})["model"]
    assert model[:3] == ["demultiplex/lab-apart", "labx_apart:Apart", {"probability": 0.5}]
    assert "tiny" not in sys.modules and capfd.readouterr().out == ""
