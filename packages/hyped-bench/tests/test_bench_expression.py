"""The expression task: nothing leaks, splits are saved with hashes, bad predictions are refused."""

from __future__ import annotations

import gc
import json
from types import SimpleNamespace

import anndata
import numpy as np
import pytest

from hyped_bench.cli import run as run_command
from hyped_bench.cli import score as score_command
from hyped_bench.runner import prepare, run_model, score_file
from hyped_bench.splits import Fold, SplitParams, genes_of, make_folds, split_record
from hyped_bench.tasks.expression import checked_prediction
from hyped_core.errors import InvalidDataError, MissingFileError, ParamsError, PluginError, UsageError


class Spy:
    """Remembers everything it was shown."""

    seen: list = []

    def fit(self, train, validation=None, *, context):
        Spy.seen.append(train)

    def predict(self, control, perturbation, *, context):
        Spy.seen.append(control)
        Spy.seen.append(perturbation)
        return control


def reachable(root, limit=200_000):
    """Every object that can be reached from ``root``, modules and types left out."""
    found, stack = {}, [root]
    while stack and len(found) < limit:
        item = stack.pop()
        if (
            id(item) in found
            or isinstance(item, type)
            or type(item).__name__ in ("module", "function", "method")
        ):
            continue
        found[id(item)] = item
        stack += gc.get_referents(item)
        base = getattr(item, "base", None)
        if isinstance(item, np.ndarray) and base is not None:
            stack.append(base)
    return found.values()


@pytest.mark.parametrize("kind", ["unseen_combination", "unseen_perturbation", "unseen_condition"])
def test_a_model_cannot_reach_a_test_cell(tiny_screen, kind):
    section = json.loads(json.dumps(tiny_screen.section))
    section["sources"][0]["split"] = {"kind": kind, "fraction": 0.5}
    job = prepare("expression", section)
    data = job.task.data["screen"]
    for fold in data.folds[:3]:
        Spy.seen = []
        hidden = {name for test in fold.test for name in data.obs_names[data.rows(test)]}
        rows = {data.x[i].tobytes() for test in fold.test for i in data.rows(test)}
        saved, data.folds = data.folds, [fold]
        job.task.run(Spy)
        data.folds = saved
        train = Spy.seen[0]
        assert not hidden & set(train.obs_names)
        assert not set(fold.test) & set(train.obs["perturbation"])
        assert not set(fold.test) & set(train.uns["perturbations"])
        for item in reachable(train):
            if isinstance(item, np.ndarray) and item.dtype == np.float32 and item.ndim == 2:
                assert not rows & {row.tobytes() for row in item}, "a test cell can be reached"
            if isinstance(item, np.ndarray) and item.dtype == object:
                assert not hidden & {v for v in item.ravel().tolist() if isinstance(v, str)}


def test_under_the_papers_recipe_no_perturbed_cell_can_be_reached(planted_conditions):
    task = prepare("expression", {"sources": [{**planted_conditions.recipe, "primary": True}]}).task
    data = task.data["recipe"]
    control = {name: data.x[i].tobytes() for i, name in enumerate(data.obs_names) if data.labels[i] == "control"}
    hidden = {name for i, name in enumerate(data.obs_names) if data.labels[i] != "control"}
    rows = {data.x[i].tobytes() for i in np.flatnonzero(data.labels != "control")}
    assert len(control) == 50 and len(hidden) == 90 and not rows & set(control.values())
    Spy.seen = []
    task.run(Spy)
    train, given = Spy.seen[0], Spy.seen[1]
    for item in [*reachable(train), *reachable(given)]:
        if isinstance(item, np.ndarray) and item.dtype == np.float32 and item.ndim == 2:
            assert not rows & {row.tobytes() for row in item}, "a perturbed cell can be reached"
        if isinstance(item, np.ndarray) and item.dtype == object:
            assert not any(v.split("/")[-1] in hidden for v in item.ravel().tolist() if isinstance(v, str))
    assert train.obs_names.is_unique and set(train.obs["pool"]) == {"c"}
    assert train.obs["perturbation"].value_counts().to_dict() == dict.fromkeys(
        ("control", "MYOD1", "PRRX1", "PRRX1+MYOD1"), 50
    )
    assert set(train.uns["perturbations"]) == set(train.obs["perturbation"])
    for name, label, values in zip(train.obs_names, train.obs["perturbation"], train.X, strict=True):
        assert values.tobytes() == control[name.split("/")[-1]], "a copy differs from its control cell"
        assert name == name.split("/")[-1] if label == "control" else name.startswith(f"{label}/")
    assert set(given.obs_names) == set(control)


def test_changing_what_it_was_given_does_not_help_a_model(tiny_screen, bench_host):
    class Vandal(Spy):
        def fit(self, train, validation=None, *, context):
            train.X[:] = 0
            train.obs["perturbation"] = "control"

        def predict(self, control, perturbation, *, context):
            control.X[:] = 0
            return control

    job = prepare("expression", tiny_screen.section)
    before = job.task.data["screen"].x.copy()
    with pytest.raises(PluginError, match="stand for 0 times the control's counts"):
        job.task.run(Vandal)
    assert np.array_equal(job.task.data["screen"].x, before)


def test_folds_of_every_kind():
    names = ["control", "A", "B", "C", "A+B", "B+C", "A+C"]
    combos = make_folds(names, SplitParams(kind="unseen_combination", fraction=0.5, seed=1))[0]
    assert all(len(genes_of(n)) == 2 for n in combos.test) and {"A", "B", "C"} <= set(combos.train)
    unseen = make_folds(names, SplitParams(kind="unseen_perturbation", fraction=0.34, seed=1))[0]
    genes = {g for n in unseen.test for g in genes_of(n) if n in ("A", "B", "C")}
    assert len(genes) == 1 and not any(genes & set(genes_of(n)) for n in unseen.train)
    loo = make_folds(names, SplitParams(kind="unseen_condition"))
    assert len(loo) == 6 and all(fold.test[0] not in fold.train for fold in loo)
    listed = make_folds(names, SplitParams(kind="listed", held_out=("A",)))
    assert listed == [Fold("listed", ("A+B", "A+C", "B", "B+C", "C"), ("A",))]


def test_split_hash_changes_with_the_split_only():
    names = ["A", "B", "A+B", "C", "A+C", "B+C"]
    params = [SplitParams(seed=seed) for seed in (0, 0, 3)]
    hashes = [
        split_record(make_folds(order, p), p)["sha256"]
        for order, p in zip((names, names[::-1], names), params)
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 64
    others = {
        split_record(make_folds(names, SplitParams(seed=s)), SplitParams(seed=s))["sha256"] for s in range(8)
    }
    assert len(others) > 1


@pytest.mark.parametrize(
    ("names", "params", "message"),
    [
        (["control", "A", "B"], SplitParams(), "nothing to score"),
        (["control"], SplitParams(kind="unseen_condition"), "nothing to score"),
        (["control", "A"], SplitParams(kind="unseen_condition"), "nothing|no perturbation to learn from"),
        (["A", "B"], SplitParams(kind="listed", held_out=("Z",)), "not there: Z"),
    ],
)
def test_impossible_splits(names, params, message):
    with pytest.raises(InvalidDataError, match=message):
        make_folds(names, params)


GENES = np.array(["A", "B", "C"], dtype=object)


def cells(values, names=("A", "B", "C")):
    import pandas as pd

    return anndata.AnnData(np.array(values, dtype=np.float32), var=pd.DataFrame(index=list(names)))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "expected AnnData"),
        (cells([[1, 2, 3]], "ACB"), "another order"),
        (cells([[1, 2, 3]], "ABX"), "differ"),
        (cells([[1, 2]], "AB"), "2 against 3"),
        (cells(np.zeros((0, 3))), "no cells"),
        (cells([[1, np.nan, 3]]), "NaN"),
        (cells([[1, 500, 3]]), "counts"),
    ],
)
def test_bad_predictions_of_a_model(result, message):
    with pytest.raises(PluginError, match=message):
        checked_prediction(result, GENES, "screen/A")


def predictions_file(tiny_screen, path, change=lambda a: a):
    import pandas as pd

    names = [n for n in tiny_screen.means if "+" in n] + ["control", "G00"]
    x = np.array([tiny_screen.means[n] for n in names for _ in range(3)], dtype=np.float32)
    obs = pd.DataFrame({"perturbation": np.repeat(names, 3)}, index=[f"p{i}" for i in range(len(x))])
    change(anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=tiny_screen.genes))).write_h5ad(path)
    return path


def test_a_file_of_true_means_scores_as_the_oracle(tiny_screen, tmp_path):
    job = prepare("expression", tiny_screen.section)
    oracle = run_model(job, "oracle").metrics
    found = score_file(job, predictions_file(tiny_screen, tmp_path / "p.h5ad"))
    for key in ("mse", "pearson_delta", "wmse", "pds_l1"):
        assert found.metrics[key] == pytest.approx(oracle[key], abs=1e-6), key
    assert found.warnings[0].startswith("1 perturbations that are not held out were ignored: G00")
    assert "control cells in the file were not used" in found.warnings[1]


def test_order_of_genes_and_of_cells_does_not_matter_but_is_said(tiny_screen, tmp_path):
    job = prepare("expression", tiny_screen.section)
    order = np.random.default_rng(0).permutation(60)
    plain = score_file(job, predictions_file(tiny_screen, tmp_path / "a.h5ad"))
    mixed = score_file(
        job, predictions_file(tiny_screen, tmp_path / "b.h5ad", lambda a: a[::-1, order].copy())
    )
    assert "another order" in mixed.warnings[0]
    assert {k: v for k, v in mixed.metrics.items()} == pytest.approx(plain.metrics, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :59].copy(), "1 missing"),
        (lambda a: a[a.obs["perturbation"] != "G00+G06"].copy(), "no prediction for"),
        (
            lambda a: SimpleNamespace(
                write_h5ad=lambda p: (a.X.__setitem__((0, 0), np.nan), a.write_h5ad(p))
            ),
            "NaN",
        ),
        (lambda a: anndata.AnnData(a.X * 100, obs=a.obs, var=a.var), "counts"),
        (lambda a: anndata.AnnData(a.X, var=a.var), "no obs column perturbation"),
    ],
)
def test_bad_files_are_typed_errors_that_name_the_file(tiny_screen, tmp_path, change, message):
    job = prepare("expression", tiny_screen.section)
    with pytest.raises(InvalidDataError, match=message) as caught:
        score_file(job, predictions_file(tiny_screen, tmp_path / "p.h5ad", change))
    assert "p.h5ad" in str(caught.value)


def test_bad_sources(tiny_screen, tmp_path):
    def section(**changes):
        return {"sources": [{**tiny_screen.section["sources"][0], **changes}]}

    with pytest.raises(MissingFileError):
        prepare("expression", section(cells=str(tmp_path / "none.h5ad")))
    with pytest.raises(InvalidDataError, match="no obs column 'guide'"):
        prepare("expression", section(perturbation="guide"))
    with pytest.raises(ParamsError, match="sources.0.splits: unknown key"):
        prepare("expression", section(splits={}))
    with pytest.raises(UsageError, match="which source"):
        score_file(prepare("expression", tiny_screen.section), "x.h5ad", source="other")
    counts = anndata.read_h5ad(tiny_screen.section["sources"][0]["cells"])
    counts.X = counts.X * 100
    counts.write_h5ad(tmp_path / "counts.h5ad")
    with pytest.raises(InvalidDataError, match="not ln"):
        prepare("expression", section(cells=str(tmp_path / "counts.h5ad")))


def test_conditions_are_held_out_one_by_one_without_doublets(demo_sections, bench_host):
    job = prepare("expression", demo_sections["expression"], host=bench_host)
    data = job.task.data["conditions"]
    assert [fold.test for fold in data.folds] == [("MYOD1",), ("PRRX1",), ("PRRX1+MYOD1",)]
    assert {"control", "MYOD1", "PRRX1", "PRRX1+MYOD1"} == set(data.labels) and data.confounded
    directions = {c.gene: c.direction for c in data.perturbations["PRRX1+MYOD1"].changes}
    assert directions == {"PRRX1": "suppression", "MYOD1": "activation"}
    result = run_model(job, "additive", host=bench_host)
    assert result.metrics["n_perturbations_conditions"] == 3 and result.facts["confounded"] == {
        "conditions": True
    }
    said = " ".join(result.warnings)
    assert (
        "no pool holds both" in said and "never saw MYOD1 alone" in said and "too few for intervals" in said
    )
    assert result.metrics["pearson_delta_lo"] is None


def test_score_command(tiny_screen, tmp_path):
    import yaml
    from click.testing import CliRunner

    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"bench": {"expression": tiny_screen.section}}))
    path = predictions_file(tiny_screen, tmp_path / "mine.h5ad")
    arguments = [
        str(path),
        "--params",
        f"{params}#bench.expression",
        "--json",
        "--record",
        str(tmp_path / "rec"),
    ]
    done = CliRunner().invoke(score_command, arguments, catch_exceptions=False)
    assert json.loads(done.stdout)["n_perturbations"] == 6
    record = json.loads((tmp_path / "rec" / "record.json").read_text())
    assert record["model"] == "mine" and record["split_sha256"]["screen"]
    assert (tmp_path / "rec" / "split_screen.json").is_file() and (
        tmp_path / "rec" / "genes.parquet"
    ).is_file()
    assert run_command.name == "run"
