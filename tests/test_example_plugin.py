"""examples/halfway-model: the files are those that docs/plugins.md shows, and the model does what the page says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_core import ModelSpec, Perturbation, RunContext
from hyped_core.contracts import ExpressionPredictor
from hyped_core.errors import ParamsError
from hyped_core.plugins.registry import get_model
from hyped_core.testing import check_model, isolated_host, make_distribution

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "halfway-model"
SHOWN = re.compile(r"`examples/halfway-model/([^`]+)`:\n\n```\w+\n(.*?)```", re.S)


@pytest.fixture
def model_class(tmp_path: Path):
    """Make the model as an installed plugin's: ``model_class({"share": 0.7})``."""
    source = EXAMPLE / "src"
    modules = {file.relative_to(source).as_posix(): file.read_text() for file in sorted(source.rglob("*.py"))}
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]["hyped"]
    make_distribution(tmp_path, "halfway-model", modules, entry_points=points)
    with isolated_host(tmp_path, strict=True) as host:
        assert [plugin.state for plugin in host.check()] == ["active"]
        yield get_model("expression", "halfway", host).create


def cells(sparse: bool = False) -> anndata.AnnData:
    """Genes at (1, 2, 3); A adds 1 to the first, B takes 2 from the last."""
    names = np.repeat(["control", "A", "B"], 4)
    shift = {"control": (0, 0, 0), "A": (1, 0, 0), "B": (0, 0, -2)}
    x: Any = np.array([np.add((1, 2, 3), shift[name]) for name in names], dtype=np.float32)
    if sparse:
        from scipy.sparse import csr_matrix

        x = csr_matrix(x)
    obs = pd.DataFrame({"perturbation": names}, index=[f"cell{i}" for i in range(12)])
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=["G1", "G2", "G3"]))


def test_the_page_shows_the_files_as_they_are():
    shown = dict(SHOWN.findall((ROOT / "docs" / "plugins.md").read_text()))
    assert set(shown) == {"pyproject.toml", "src/halfway_model/plugin.py", "src/halfway_model/model.py"}
    for place, text in shown.items():
        assert text == (EXAMPLE / place).read_text(), f"docs/plugins.md and examples/halfway-model/{place} differ"


def test_the_example_imports_nothing_of_hyped_but_the_core():
    for file in (EXAMPLE / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.startswith("hyped_") and n.partition(".")[0] != "hyped_core"], file


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_it_predicts_a_share_of_the_summed_changes(model_class, share: float, sparse: bool):
    train = cells(sparse)
    control = train[train.obs.perturbation == "control"].copy()
    before = control.to_df().copy()
    model = model_class({"share": share})
    assert isinstance(model, ExpressionPredictor)
    model.fit(train, None, context=RunContext())
    predicted = model.predict(control, Perturbation.from_name("A+B"), context=RunContext())
    assert list(predicted.var_names) == list(control.var_names) and predicted.X.dtype == np.float32
    np.testing.assert_allclose(predicted.X, [[1 + share, 2, 3 - 2 * share]] * 4)
    unseen = model.predict(control, Perturbation.from_name("C"), context=RunContext())
    np.testing.assert_allclose(unseen.X, before)
    pd.testing.assert_frame_equal(control.to_df(), before)


def test_every_check_passes(model_class):
    spec = ModelSpec("halfway", "expression", "halfway_model.model:Halfway", "halfway_model.model:HalfwayConfig",
                     seeded=False)
    records = check_model(spec, lambda values=None: model_class(values or {}))
    assert len(records) > 30 and not [r for r in records if r.status not in ("passed", "skipped")]


def test_a_key_the_config_does_not_know_is_named(model_class):
    with pytest.raises(ParamsError, match="did you mean 'share'"):
        model_class({"shar": 0.7})
