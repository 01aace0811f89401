"""Validation finds every fault with its place, all at once, and none in a sound container."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_core.container import HypedData, assemble
from hyped_core.container.manifest import read_manifest
from hyped_core.container.movies import LabelsWriter, write_movie
from hyped_core.container.validate import find_problems, validate_container
from hyped_core.container.validate_tables import (
    cell_problems,
    name_problems,
    nuclei_problems,
    track_problems,
)
from hyped_core.design import Design
from hyped_core.errors import Problem, ValidationError


def problems(path: Path, **options) -> list[Problem]:
    return find_problems(path, read_manifest(path), **options)


def remake(path: Path, maker, **changes) -> Path:
    """Change the design of a stored container in place."""
    values = json.loads((path / "manifest.json").read_text())
    values["design"] = Design.model_validate({**maker.DESIGN, **changes}).model_dump(mode="json")
    (path / "manifest.json").write_text(json.dumps(values))
    return path


def test_a_sound_container_has_no_problems(tiny_built: Path):
    assert problems(tiny_built, deep=True) == []
    assert validate_container(tiny_built, quick=True).name == "tiny"


def test_all_faults_are_raised_at_once(tiny_container: Path):
    shutil.rmtree(tiny_container / "movies" / "A.zarr")
    shard = next((tiny_container / "labels" / "B.zarr" / "0" / "c").rglob("0"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    shard.write_bytes(b"damaged")
    with pytest.raises(ValidationError) as caught:
        validate_container(tiny_container)
    found = {(p.where, p.message.split(":")[0]) for p in caught.value.problems}
    assert ("movies/A.zarr", "is gone") in found
    assert ("labels/B.zarr", "is not what was assembled") in found
    assert all(p.mend for p in caught.value.problems)
    assert caught.value.exit_code == 3


def test_quick_skips_hashes_but_not_absence(tiny_container: Path):
    extra = tiny_container / "movies" / "A.zarr" / "note.txt"
    extra.write_text("x")
    assert [p.where for p in problems(tiny_container)] == ["movies/A.zarr"]
    assert problems(tiny_container, quick=True) == []
    shutil.rmtree(tiny_container / "movies" / "A.zarr")
    assert "movies/A.zarr" in [p.where for p in problems(tiny_container, quick=True)]


def test_a_missing_frame_is_found(tiny_container: Path):
    shutil.rmtree(tiny_container / "movies" / "B.zarr" / "0" / "c" / "1")
    assert "pixels of 1 of 3 frames" in problems(tiny_container, quick=True)[0].message


def _drop(table: str, column: str):
    return lambda tables: tables[table].obs.drop(columns=column, inplace=True)


def _set(table: str, column: str, value: object, row: int = 0):
    def edit(tables: dict) -> None:
        obs = tables[table].obs
        values = obs[column].astype(object).to_numpy()
        values[row] = value
        obs[column] = pd.Series(list(values), index=obs.index)

    return edit


def _counts(value: float):
    def edit(tables: dict) -> None:
        counts = tables["rna"].layers["counts"].astype(np.float32)
        counts.data[0] = value
        tables["rna"].layers["counts"] = counts

    return edit


def _names(table: str, names: dict[int, str]):
    def edit(tables: dict) -> None:
        new = tables[table].obs_names.to_numpy().astype(object)
        for row, name in names.items():
            new[row] = name
        tables[table].obs_names = new

    return edit


def _nan_x(tables: dict) -> None:
    tables["rna"].X.data[0] = np.nan


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize(
    ("edit", "where", "message"),
    [
        (_drop("rna", "hashtag_kind"), "tables/rna/obs/hashtag_kind", "missing"),
        (_drop("nuclei", "parent_id"), "tables/nuclei/obs/parent_id", "missing"),
        (_drop("tracks", "first_h"), "tables/tracks/obs/first_h", "missing"),
        (_set("rna", "condition", "PAX7"), "tables/rna/obs/condition", "'PAX7'"),
        (_set("rna", "assigned_condition", "PAX7"), "tables/rna/obs/assigned_condition", "'PAX7'"),
        (_set("rna", "phase", "S_G2M"), "tables/rna/obs/phase", "'S_G2M'"),
        (_set("rna", "hashtag_kind", "triplet"), "tables/rna/obs/hashtag_kind", "'triplet'"),
        (_set("rna", "pool", "p9"), "tables/rna/obs/pool", "'p9'"),
        (_set("nuclei", "phase", "G2M"), "tables/nuclei/obs/phase", "'G2M'"),
        (_set("nuclei", "condition", "PAX7"), "tables/nuclei/obs/condition", "'PAX7'"),
        (_set("nuclei", "y_um", np.nan), "tables/nuclei/obs/y_um", "NaN"),
        (_set("nuclei", "x_um", 900.0), "tables/nuclei/obs/scene/A/x_um", "outside"),
        (_set("nuclei", "frame", 3), "tables/nuclei/obs/scene/A", "names frame 3"),
        (_set("nuclei", "time_h", 0.4, row=1), "tables/nuclei/obs/scene/A", "not the movie's"),
        (_set("nuclei", "label", 9), "tables/nuclei/obs/scene/A/frame/0", "labels image (9)"),
        (_set("tracks", "parent_id", 77), "tables/tracks/obs/parent_id", "77 in A"),
        (_counts(-1), "tables/rna/layers/counts", "negative"),
        (_counts(0.5), "tables/rna/layers/counts", "whole"),
        (_counts(np.inf), "tables/rna/layers/counts", "not numbers"),
        (_nan_x, "tables/rna/X", "NaN"),
        (_names("rna", {0: "A_f00000_n1"}), "spatial.zarr/tables", "both cells and nuclei"),
        (_names("rna", {0: "p1_CELL1"}), "tables/rna/obs_names", "twice"),
    ],
)
def test_faults_of_tables(tiny_built: Path, edit, where: str, message: str):
    hd = HypedData.read(tiny_built)
    tables = {name: hd.table(name) for name in hd.table_names}
    edit(tables)
    place = "spatial.zarr/tables/"
    found = [
        *cell_problems(f"{place}rna", tables["rna"], hd.design),
        *nuclei_problems(f"{place}nuclei", tables["nuclei"], hd.design, hd.movies, hd.labels, deep=False),
        *track_problems(f"{place}tracks", tables["tracks"]),
        *name_problems({name: table.obs_names for name, table in tables.items()}),
    ]
    fits = [p for p in found if p.where.endswith(where)]
    assert fits and message in fits[0].message and fits[0].mend, found


def tagged(maker, *tags: tuple[str, str]) -> Design:
    pools = sorted({pool for pool, _ in tags} | {"p1"})
    return Design.model_validate(
        {
            **maker.DESIGN,
            "pools": [{"name": pool} for pool in pools],
            "hashtags": [{"pool": pool, "tag": tag, "condition": "control"} for pool, tag in tags],
        }
    )


def test_singlets_are_called_by_tags_of_their_own_pool(tiny_built: Path, tiny_maker):
    rna = HypedData.read(tiny_built).table("rna")  # t1 twice, t2 twice, a doublet and a negative, all of p1
    assert list(cell_problems("rna", rna, tagged(tiny_maker, ("p1", "t1"), ("p1", "t2")))) == []
    design = tagged(tiny_maker, ("p1", "t1"), ("p1", "t3"), ("p2", "t2"))
    (found,) = cell_problems("rna", rna, design)
    assert found.where == "rna/obs/hashtag_call"
    assert "2 singlets called 't2'" in found.message and "'p1'" in found.message
    assert found.mend == "hashtags of 'p1' in the design: t1, t3"
    assert list(cell_problems("rna", rna, tagged(tiny_maker, ("p2", "t9")))) == [], "p1 lists no tags"


def test_a_singlet_without_a_call_has_no_wrong_one(tiny_built: Path, tiny_maker):
    rna = HypedData.read(tiny_built).table("rna")
    rna.obs["hashtag_call"] = ["t1", "", "Doublet", np.nan, "Doublet", "Negative"]
    (found,) = cell_problems("rna", rna, tagged(tiny_maker, ("p1", "t1")))
    assert "1 singlet called 'Doublet'" in found.message


def test_faults_of_tables_are_found_on_disk(tiny_container: Path, tiny_maker):
    hd = HypedData.read(tiny_container)
    tables = {name: hd.table(name) for name in hd.table_names}
    _counts(-1)(tables)
    _set("nuclei", "phase", "G2M")(tables)
    assemble(tiny_container, design=hd.design, tables=tables)
    found = [p.where for p in problems(tiny_container)]
    assert found == ["spatial.zarr/tables/rna/layers/counts", "spatial.zarr/tables/nuclei/obs/phase"]


def test_deep_looks_at_every_frame(tiny_maker, tmp_path: Path):
    out = tmp_path / "long.hyped"
    times = np.arange(9) / 3
    write_movie(
        out / "movies/A.zarr",
        [tiny_maker.frame(0)] * 9,
        channels=["Cy5", "mKate"],
        pixel_size_um=0.5,
        time_h=times,
    )
    with LabelsWriter(out / "labels/A.zarr", shape=(9, 12, 16), pixel_size_um=0.5, time_h=times) as writer:
        for i in range(9):
            writer.write_frame(i, tiny_maker.labels(0))
    rows = [
        {"scene": "A", "frame": i, "time_h": times[i], "label": 5 if i == 3 else 1, "y_um": 2.0, "x_um": 3.0}
        for i in range(9)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "A.parquet")
    assemble(out, design=Design.model_validate(tiny_maker.DESIGN), nuclei=[tmp_path / "A.parquet"])
    assert problems(out, quick=True) == []
    assert [p.where.rsplit("/", 1)[1] for p in problems(out, quick=True, deep=True)] == ["3"]


def test_the_design_has_to_know_scenes_and_channels(tiny_container: Path, tiny_maker):
    remake(
        tiny_container,
        tiny_maker,
        scenes=[{"name": "A", "condition": "control"}],
        channels=[{"name": "nuclear", "aliases": ["Cy5"]}],
    )
    found = {p.where: p.message for p in problems(tiny_container, quick=True)}
    assert "'B'" in found["movies/B.zarr"]
    assert "'mKate'" in found["movies/A.zarr/channels"]
    assert not [w for w, m in found.items() if "'Cy5'" in m], "an alias is known"


def test_labels_that_do_not_fit_their_movie(tiny_container: Path, tiny_maker):
    path = tiny_container / "labels" / "A.zarr"
    with LabelsWriter(
        path, shape=(3, 10, 16), pixel_size_um=0.5, time_h=tiny_maker.TIME_H, source="../../movies/B.zarr"
    ) as writer:
        for i in range(3):
            writer.write_frame(i, tiny_maker.labels(i)[:10])
    found = {p.where: p.message for p in problems(tiny_container, quick=True)}
    assert "(3, 12, 16)" in found["labels/A.zarr"]
    assert "movies/B.zarr" in found["labels/A.zarr/source"]


@pytest.mark.parametrize("times", [[0.0, 2.0, 0.5], [0.0, 0.5]])
def test_times_of_the_movie(tiny_container: Path, times: list[float]):
    file = tiny_container / "movies" / "A.zarr" / "zarr.json"
    values = json.loads(file.read_text())
    values["attributes"]["hyped"]["time_h"] = times
    file.write_text(json.dumps(values))
    assert "movies/A.zarr/time_h" in [p.where for p in problems(tiny_container, quick=True)]


def test_a_screen_needs_its_own_columns(tmp_path: Path, tiny_maker):
    obs = pd.DataFrame(
        {"perturbation": ["control", "A+B"], "phase": ["G1", "S"], "pool": ["x", "y"]}, index=["a", "b"]
    )
    screen = anndata.AnnData(np.ones((2, 3), np.float32), obs=obs)
    screen.uns["perturbations_json"] = '{"control": {}, "A+B": {}}'
    design = Design.model_validate(tiny_maker.DESIGN)
    hd = assemble(tmp_path / "s.hyped", design=design, tables={"rna": screen})
    hd.validate()
    assert hd.table("rna").uns["perturbations_json"] == screen.uns["perturbations_json"]
    del screen.obs["pool"]
    assemble(tmp_path / "t.hyped", design=design, tables={"rna": screen})
    assert [p.where for p in problems(tmp_path / "t.hyped")] == ["spatial.zarr/tables/rna/obs/pool"]


def test_a_broken_table_does_not_hide_the_others(tiny_container: Path):
    (tiny_container / "spatial.zarr" / "tables" / "rna" / "X" / "zarr.json").write_text("{")
    shutil.rmtree(tiny_container / "spatial.zarr" / "tables" / "tracks")
    found = [p.where for p in problems(tiny_container, quick=True)]
    assert found == ["spatial.zarr/tables/rna", "spatial.zarr/tables/tracks"]
