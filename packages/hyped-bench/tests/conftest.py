"""Fixtures of the benchmark's tests: the demo's data, a tiny screen with known effects, bad models."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hyped_bench import plugin as own_plugin
from hyped_bench.demo_data import write_demo
from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.plugins.host import PluginHost
from hyped_core.spec import ModelSpec, Needs


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's container and truth; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "sections.json").write_text(json.dumps(write_demo(folder)))
    return folder


@pytest.fixture
def demo_sections(demo_folder: Path) -> dict[str, Any]:
    """The benchmark's parameters for the demo, by task."""
    return json.loads((demo_folder / "sections.json").read_text())


@pytest.fixture(scope="session")
def tiny_screen(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """12 singles and 6 doubles over 60 genes: singles shift some genes, doubles are additive in the mean."""
    import anndata
    import pandas as pd

    rng = np.random.default_rng(7)
    genes = [f"G{i:02d}" for i in range(60)]
    base = rng.uniform(1.0, 4.0, 60)
    effects = {genes[i]: rng.normal(0, 0.4, 60) * (rng.random(60) < 0.5) for i in range(12)}
    names = ["control", *effects, *(f"{genes[i]}+{genes[i + 6]}" for i in range(6))]
    means, cells, labels = {}, [], []
    for name in names:
        parts = [] if name == "control" else name.split("+")
        means[name] = base + sum((effects[p] for p in parts), np.zeros(60))
        count = 80 if name == "control" else 40
        cells.append(means[name] + rng.normal(0, 0.25, (count, 60)))
        labels += [name] * count
    x = np.clip(np.concatenate(cells), 0, None).astype(np.float32)
    obs = pd.DataFrame(
        {"perturbation": labels, "phase": "G1", "pool": "p"}, index=[f"c{i:04d}" for i in range(len(x))]
    )
    var = pd.DataFrame(index=genes)
    folder = tmp_path_factory.mktemp("screen")
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(folder / "screen.h5ad")
    truth = anndata.AnnData(
        np.array([means[n] for n in names], dtype=np.float32), obs=pd.DataFrame(index=names), var=var
    )
    truth.write_h5ad(folder / "truth.h5ad")
    section = {
        "sources": [
            {
                "name": "screen",
                "cells": str(folder / "screen.h5ad"),
                "oracle": str(folder / "truth.h5ad"),
                "split": {"kind": "unseen_combination", "fraction": 0.99},
            }
        ]
    }
    return SimpleNamespace(folder=folder, section=section, means=means, genes=genes, effects=effects)


@pytest.fixture(scope="session")
def planted_conditions(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """HYPED's conditions in two pools over 40 genes: MYOD1 moves the first ten, PRRX1 the next ten, both add up."""
    import anndata
    import pandas as pd

    rng = np.random.default_rng(11)
    genes = [f"G{i:02d}" for i in range(38)] + ["MYOD1", "PRRX1"]
    base = rng.uniform(1.0, 4.0, 40)
    spread = rng.uniform(0.05, 0.5, 40)
    moved = {"mmMYOD1": range(10), "siPRRX1": range(10, 20), "siPRRX1_mmMYOD1": range(20)}
    cells, labels = [], []
    for name, count in (("control", 50), *((name, 30) for name in moved)):
        shift = np.zeros(40)
        shift[list(moved.get(name, ()))] = 0.8
        cells.append(base + shift + rng.normal(0, 1, (count, 40)) * spread)
        labels += [name] * count
    x = np.clip(np.concatenate(cells), 0, None).astype(np.float32)
    obs = pd.DataFrame(
        {"condition": labels, "phase": "G1", "pool": ["c" if n == "control" else "p" for n in labels]},
        index=[f"c{i:04d}" for i in range(len(x))],
    )
    path = tmp_path_factory.mktemp("conditions") / "cells.h5ad"
    anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)
    source = {"cells": str(path), "kind": "conditions", "primary": False}
    held, recipe = {"name": "held", **source}, {"name": "recipe", "protocol": "relabelled_control", **source}
    return SimpleNamespace(path=path, x=x, obs=obs, genes=genes, held=held, recipe=recipe)


class Misbehaving:
    """Namespace of models that break their contract in one way each."""

    class Raises:
        """Fails while it works."""

        def denoise(self, stack, meta, *, context):
            raise RuntimeError("out of luck")

    class WrongShape:
        """Returns one plane."""

        def denoise(self, stack, meta, *, context):
            return stack[0]

    class Nan:
        """Returns NaN."""

        def denoise(self, stack, meta, *, context):
            sys.stdout.write("noise on stdout")
            os.write(1, b"noise on its descriptor")
            ctypes.CDLL(None).puts(b"noise of C")
            return np.full(stack.shape, np.nan, np.float32)

    class Exits:
        """Wants to end the process."""

        def denoise(self, stack, meta, *, context):
            raise SystemExit(3)

    class Overwrites:
        """Returns its input after emptying it."""

        def denoise(self, stack, meta, *, context):
            out = stack.astype(np.float32).copy()
            stack[...] = 0
            return out


@pytest.fixture
def bench_host() -> PluginHost:
    """A host with hyped-bench's own plugin and nothing else."""
    host = PluginHost(points=[])
    host.register(own_plugin, "hyped-bench", "hyped-bench", "0.1.0")
    return host


@pytest.fixture
def misbehaving_host(bench_host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> PluginHost:
    """The same with denoisers that break their contract."""
    monkeypatch.setitem(sys.modules, "misbehaving_models", SimpleNamespace(**vars(Misbehaving)))

    class Plugin:
        @hookimpl
        def hyped_models(self):
            for name in ("Raises", "WrongShape", "Nan", "Exits", "Overwrites"):
                yield ModelSpec(name.lower(), "denoise", f"misbehaving_models:{name}")
            yield ModelSpec(
                "bare",
                "denoise",
                "misbehaving_models:Raises",
                needs=Needs(("no_such_lib",), "pip install no-such-lib"),
            )
            yield ModelSpec("lost", "denoise", "no_such_module_here:Model")

    host = bench_host
    host.register(Plugin(), "misbehaving", "misbehaving", "9.9")
    return host


TOYS_PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        for name, steady in (("noisy", False), ("steady", True)):
            yield ModelSpec(name, "expression", "toys_models:Noisy", "toys_models:NoisyConfig", seeded=not steady)
    """
TOYS_MODELS = """
    import os, time
    from hyped_core import Params

    class NoisyConfig(Params):
        width: float = 0.1
        weights: str = ""
        fails_with: int = -1

    class Noisy:
        def __init__(self, config):
            self.config = config

        def fit(self, train, validation=None, *, context):
            if "TOYS_LOG" in os.environ:
                with open(os.environ["TOYS_LOG"], "a") as file:
                    file.write(f"{context.seed} ")
            if context.seed == self.config.fails_with:
                raise RuntimeError("out of luck")
            if str(context.seed) == os.environ.get("TOYS_SLEEP_WITH"):
                time.sleep(300)

        def predict(self, control, perturbation, *, context):
            rng = context.rng("noisy", perturbation.name)
            made = control.copy()
            made.X = (made.X + abs(rng.normal(0, self.config.width, made.n_vars))).astype("float32")
            return made
    """


@pytest.fixture
def toys_folder(tmp_path: Path) -> Path:
    """A distribution with expression models `noisy`, which draws from its seed, and `steady`, said to be none."""
    from hyped_core.testing.plugins import make_distribution

    make_distribution(tmp_path / "toys", "toys", {"toys_plugin": TOYS_PLUGIN, "toys_models": TOYS_MODELS})
    return tmp_path / "toys"


@pytest.fixture
def toy_host(toys_folder: Path, bench_host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> PluginHost:
    """hyped-bench's own plugin and the toys."""
    import importlib

    monkeypatch.syspath_prepend(str(toys_folder))
    for name in ("toys_plugin", "toys_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    bench_host.register(importlib.import_module("toys_plugin"), "toys", "toys", "1.0")
    return bench_host
