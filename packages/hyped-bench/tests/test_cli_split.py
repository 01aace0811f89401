"""``hyped bench split``: what it writes is what a source then uses, and other cells are refused."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from hyped_bench.cli_split import split_command
from hyped_bench.splits import SplitParams, load_split, make_folds
from hyped_bench.splits.source import source_cells
from hyped_bench.tasks.expression.params import ExpressionSource
from hyped_core.errors import InvalidDataError, MissingFileError, ParamsError, ValidationError


@pytest.fixture
def folder(tmp_path):
    """A screen with names as GEARS has them, and a parameter file with three sources."""
    labels = np.repeat(["ctrl", "A+ctrl", "B+ctrl", "A+B"], 6)
    obs = pd.DataFrame({"perturbation": labels, "phase": ["G1", "S", "G2M"] * 8, "lane": ["1", "2"] * 12})
    obs.index = [f"c{i}" for i in range(len(obs))]
    x = np.ones((len(obs), 3), dtype=np.float32)
    anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=["A", "B", "C"])).write_h5ad(tmp_path / "screen.h5ad")
    cells = str(tmp_path / "screen.h5ad")
    sources = [
        {"name": "pairs", "cells": cells},
        {"name": "phases", "cells": cells, "split": {"kind": "unseen_phase"}, "where": {"lane": "1"}},
        {"name": "paper", "cells": cells, "protocol": "relabelled_control", "primary": False},
    ]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"expression": {"sources": sources, "models": {"linear": {}}}}))
    return tmp_path


def run(folder, *args):
    return CliRunner().invoke(split_command, [f"{folder}/p.yaml#expression", str(folder / "splits"), *args])


def test_splits_are_written_checked_and_used(folder):
    assert run(folder, "--dry-run").exit_code == 0 and not (folder / "splits").exists()
    result = run(folder)
    assert result.exit_code == 0 and "wrote" in result.stderr
    assert sorted(path.name for path in (folder / "splits").iterdir()) == ["pairs.json", "phases.json"]
    pairs, phases = (load_split(folder / "splits" / f"{name}.json") for name in ("pairs", "phases"))
    assert pairs.folds[0].test == ("A+B",) and pairs.source == {**pairs.source, "file": "screen.h5ad", "n_cells": 24}
    assert [fold.held_phase for fold in phases.folds] == ["G1", "G2M", "S"] and phases.source["n_cells"] == 12
    said = json.loads(run(folder, "--check", "--json").stdout)
    assert said["pairs"]["sha256"] == pairs.sha256 and said["phases"]["folds"] == 3
    source = ExpressionSource(name="pairs", cells=str(folder / "screen.h5ad"))
    params = SplitParams(kind="saved", file=str(folder / "splits/pairs.json"))
    assert make_folds([], params, source_cells(source)) == list(pairs.folds)
    again = (folder / "splits/pairs.json").read_bytes()
    run(folder, "--source", "pairs")
    assert (folder / "splits/pairs.json").read_bytes() == again


def test_changed_cells_are_refused(folder):
    run(folder)
    path = folder / "screen.h5ad"
    cells = anndata.read_h5ad(path)
    cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).replace("A+B", "B+ctrl")
    cells.write_h5ad(path)
    error = run(folder, "--check").exception
    assert isinstance(error, ValidationError) and "no cells of A+B" in str(error) and error.exit_code == 3


def test_what_cannot_be_split(folder):
    assert isinstance(run(folder, "--source", "paper").exception, ParamsError)
    assert isinstance(run(folder, "--check").exception, MissingFileError)
    source = ExpressionSource(name="x", cells=str(folder / "screen.h5ad"), where={"lane": "9"})
    with pytest.raises(InvalidDataError, match="no cell is left"):
        source_cells(source)
    (folder / "p.yaml").write_text(yaml.safe_dump({"forecast": {"sources": [{"name": "movies"}]}}))
    other = CliRunner().invoke(split_command, [f"{folder}/p.yaml#forecast", str(folder / "splits")]).exception
    assert isinstance(other, ParamsError) and "forecast: only expression has splits" in str(other)
    (folder / "p.yaml").write_text("expression: {}")
    assert isinstance(run(folder).exception, ParamsError)
