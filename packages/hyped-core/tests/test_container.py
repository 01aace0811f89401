"""Containers: whole or not at all, lazy, one object in every view, no cell joined to a nucleus."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_core.container import HypedData, assemble
from hyped_core.design import Design, default_design
from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingDependencyError,
    MissingFileError,
    UnsupportedDataError,
    UsageError,
    ValidationError,
)
from hyped_core.io.hashing import digest


@pytest.fixture(scope="session")
def tiny(tiny_built: Path) -> HypedData:
    return HypedData.read(tiny_built)


@pytest.fixture
def given(tiny_maker, tiny_built: Path, tmp_path: Path) -> dict:
    """Movies, labels, nuclei and cells as the pipeline's steps leave them, to be assembled or broken."""
    steps = tmp_path / "steps"
    for kind in ("movies", "labels"):
        shutil.copytree(tiny_built / kind, steps / kind)
    nuclei = [shutil.copy(path, steps) for path in sorted(tiny_built.parent.glob("*.parquet"))]
    (steps / "cells").mkdir()
    tiny_maker.rna().write_h5ad(steps / "cells" / "rna.h5ad")
    return {
        "design": Design.model_validate(tiny_maker.DESIGN),
        "movies": steps / "movies",
        "labels": steps / "labels",
        "nuclei": [Path(path) for path in nuclei],
        "cells": steps / "cells",
    }


# ---------------------------------------------------------------- what is in it
def test_parts_and_manifest(tiny_built: Path):
    manifest = json.loads((tiny_built / "manifest.json").read_text())
    kinds = {part["path"]: part["kind"] for part in manifest["parts"]}
    assert kinds == {
        "movies/A.zarr": "movie",
        "movies/B.zarr": "movie",
        "labels/A.zarr": "labels",
        "labels/B.zarr": "labels",
        "spatial.zarr": "spatialdata",
    }
    assert manifest["schema_version"] == 1 and manifest["design"]["name"] == "tiny"
    for part in manifest["parts"]:
        found = digest(tiny_built / part["path"])
        assert (found.sha256, found.n_bytes, found.n_files) == (
            part["sha256"],
            part["n_bytes"],
            part["n_files"],
        )
    assert str(tiny_built.parent) not in (tiny_built / "manifest.json").read_text()


def test_nuclei_and_tracks_tables(tiny: HypedData, tiny_maker):
    nuclei, tracks = tiny.table("nuclei"), tiny.table("tracks")
    assert list(nuclei.obs_names[:4]) == ["A_f00000_n1", "A_f00001_n1", "A_f00002_n2", "A_f00002_n3"]
    assert list(nuclei.obs.columns[:11]) == [
        *("scene", "frame", "time_h", "label", "track_id", "parent_id"),
        *("condition", "replicate", "y_um", "x_um", "phase"),
    ]
    rows = nuclei.obs[nuclei.obs["scene"] == "B"]
    assert set(rows["condition"]) == {"MYOD1"} and set(rows["replicate"]) == {2}
    assert np.array_equal(nuclei[:, "area_um2"].X.ravel(), nuclei.obs["area_um2"])
    assert np.array_equal(nuclei.obsm["spatial"], nuclei.obs[["x_um", "y_um"]])
    family = tracks.obs[tracks.obs["scene"] == "A"].set_index("track_id")
    assert family["parent_id"].to_dict() == {1: 0, 2: 1, 3: 1}
    assert family["n_daughters"].to_dict() == {1: 2, 2: 0, 3: 0}
    assert family.loc[1, ["first_frame", "last_frame", "n_frames"]].tolist() == [0, 1, 2]
    assert family.loc[1, "duration_h"] == 0.5
    assert family.loc[1, "path_um"] == pytest.approx(0.5)  # one pixel to the right


def test_cells_keep_counts(tiny: HypedData, tiny_maker):
    stored, truth = tiny.table("rna"), tiny_maker.rna()
    assert np.array_equal(stored.layers["counts"].toarray(), truth.layers["counts"].toarray())
    assert np.array_equal(stored.X.toarray(), truth.X.toarray()) and stored.X.dtype == np.float32
    pd.testing.assert_frame_equal(stored.obs.astype(str), truth.obs.astype(str))


def test_one_object_in_every_view(tiny: HypedData):
    for name in tiny.table_names:
        assert tiny.mdata[name] is tiny.sdata[name]
        assert tiny.mdata[name] is tiny.table(name)
    assert not [c for c in tiny.mdata.obs.columns if ":" in c], (
        "nothing is pulled from one modality to another"
    )


def test_any_spatialdata_reader_reads_the_store_without_a_warning(tiny_built: Path):
    import spatialdata

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sdata = spatialdata.read_zarr(tiny_built / "spatial.zarr")
    assert set(sdata.tables) == {"rna", "nuclei", "tracks"}
    assert set(sdata.images) == {"A_f00000", "A_f00002", "B_f00000", "B_f00002"}
    regions = sdata["nuclei"].obs["region"].astype(str)
    assert set(regions) - {""} == set(sdata.labels)


def test_reading_key_frames_says_nothing_and_leaves_the_logger_alone(tiny_built: Path, caplog):
    logger = logging.getLogger("ome_zarr.reader")
    before = logger.level
    with caplog.at_level(logging.WARNING):
        assert len(HypedData.read(tiny_built).sdata.labels) == 4
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert logger.level == before


def test_where_every_frame_is_kept_the_table_annotates_the_labels(given: dict, tmp_path: Path):
    import spatialdata

    for path in given["nuclei"]:
        table = pd.read_parquet(path)
        table[table["frame"] != 1].to_parquet(path)
    hd = assemble(tmp_path / "t.hyped", **given)
    stored = spatialdata.read_zarr(tmp_path / "t.hyped" / "spatial.zarr")
    assert set(stored["nuclei"].uns["spatialdata_attrs"]["region"]) == set(stored.labels)
    joined = spatialdata.join_spatialelement_table(
        sdata=stored, spatial_element_names="A_f00002_labels", table_name="nuclei", how="left"
    )[1]
    assert joined.obs["label"].tolist() == [2, 3]
    hd.validate(deep=True)


# ---------------------------------------------------------------- frames and selections
def test_a_frame_as_spatialdata(tiny: HypedData, tiny_maker):
    import spatialdata

    sdata = tiny.frame("A", 2)
    image, labels, nuclei = sdata["A_f00002"], sdata["A_f00002_labels"], sdata["nuclei"]
    assert np.array_equal(image.values, tiny_maker.frame(2))
    assert list(image.coords["c"].values) == ["Cy5", "mKate"]
    assert np.array_equal(labels.values, tiny_maker.labels(2))
    assert nuclei.obs["label"].tolist() == [2, 3]
    assert nuclei.uns["spatialdata_attrs"]["region"] == ["A_f00002_labels"]
    extent = spatialdata.get_extent(image)
    assert extent["y"] == (0, 6.0) and extent["x"] == (0, 8.0)  # 12 x 16 pixels of half a micrometre
    with pytest.raises(InvalidDataError, match="scene 'C'"):
        tiny.frame("C", 0)
    with pytest.raises(InvalidDataError, match="no frame 7"):
        tiny.frame("A", 7)


def test_select_by_condition_and_time(tiny: HypedData):
    view = tiny.select(condition="MYOD1", time=(0, 1))
    assert list(view.movies) == list(view.labels) == ["B"]
    assert view.frames("B") == [0, 1]
    assert set(view.table("nuclei").obs["scene"]) == {"B"} and view.table("nuclei").n_obs == 2
    assert view.table("tracks").obs["track_id"].tolist() == [1]
    assert view.table("rna").n_obs == 0  # cells were harvested at 2 h
    assert tiny.select(condition="MYOD1", time=(1, 2)).table("rna").n_obs == 2
    assert set(view.sdata.images) == {"B_f00000"}
    assert tiny.table("nuclei").n_obs == 8, "the whole is as it was"


def test_select_by_phase_and_its_system(tiny: HypedData):
    rna = tiny.select(phase="G2M")
    assert rna.table("rna").obs_names.tolist() == ["p1_CELL2"]
    assert "fucci" in rna.left_out["nuclei"]
    with pytest.raises(InvalidDataError, match="fucci"):
        rna.table("nuclei")
    coarse = tiny.select(phase="S_G2M", coarse=True)
    assert coarse.table("rna").obs["phase"].tolist() == ["S", "G2M"]
    assert set(coarse.table("nuclei").obs["phase"]) == {"S_G2M"}
    with pytest.raises(InvalidDataError, match="no phase 'G7'"):
        tiny.select(phase="G7")


def test_cells_have_no_replicate(tiny: HypedData):
    view = tiny.select(replicate=2)
    assert list(view.movies) == ["B"] and view.left_out == {"rna": "has no replicate"}
    assert "rna" in view.summary()["absent"] and view.summary()["left_out"]


def test_selections_add_up_and_can_be_written(tiny: HypedData, tmp_path: Path):
    view = tiny.select(condition=["control", "MYOD1"]).select(condition="control").select(time=(0, 0.6))
    written = view.write(tmp_path / "control.hyped")
    written.validate(deep=True)
    assert list(written.movies) == ["A"] and written.table("nuclei").n_obs == 2
    with pytest.raises(InvalidDataError, match="condition 'none'"):
        tiny.select(condition="none")


def test_nothing_joins_cells_to_nuclei(tiny: HypedData):
    public = [name for name in dir(HypedData) if not name.startswith("_")]
    assert not [name for name in public if any(word in name for word in ("join", "pair", "match", "merge"))]
    assert [link.by for link in tiny.links()] == ["condition", "condition x time", "condition x phase"]
    assert any("sorting" in why for why in tiny.links()[2].beware)
    assert any("cannot be told apart" in why for why in tiny.links()[0].beware)


def test_summary_is_json_and_says_what_is_absent(tiny: HypedData):
    found = json.loads(json.dumps(tiny.summary()))
    assert found["absent"] == ["hto", "isoform"]
    assert found["scenes"]["B"]["condition"] == "MYOD1"
    assert found["scenes"]["B"]["movie"]["longest_gap_h"] == 1.5
    assert found["tables"]["rna"] == {"n_obs": 6, "n_vars": 4, "layers": ["counts"]}
    assert found["design"]["pooled_wells"] is True


# ---------------------------------------------------------------- partial containers
def test_only_movies(given: dict, tmp_path: Path):
    hd = assemble(tmp_path / "m.hyped", design=given["design"], movies=given["movies"])
    hd.validate()
    assert hd.table_names == () and len(hd.movies) == 2 and hd.links() == ()
    assert set(hd.sdata.images) and not hd.sdata.tables
    assert "nuclei" not in hd.frame("A", 0)
    with pytest.raises(InvalidDataError, match="has no table 'rna'"):
        hd.table("rna")


def test_only_cells_in_memory(tiny_maker, tmp_path: Path):
    rna = tiny_maker.rna()
    hd = HypedData(Design.model_validate(tiny_maker.DESIGN), name="cells", tables={"rna": rna})
    assert hd.mdata["rna"] is hd.sdata["rna"] is rna
    before = rna.obs.dtypes.tolist()
    written = hd.write(tmp_path / "c.hyped")
    written.validate()
    assert rna.obs.dtypes.tolist() == before
    assert not (tmp_path / "c.hyped" / "movies").exists()
    assert HypedData.read(tmp_path / "c.hyped").name == "cells"
    with pytest.raises(InvalidDataError, match="only in memory"):
        hd.validate()
    with pytest.raises(InvalidDataError, match="no table 'cells'"):
        HypedData(default_design(), tables={"cells": rna})


def test_nuclei_before_tracking(given: dict, tmp_path: Path):
    for path in given["nuclei"]:
        pd.read_parquet(path).drop(columns=["track_id", "parent_id", "phase"]).to_parquet(path)
    hd = assemble(tmp_path / "n.hyped", **given)
    hd.validate(deep=True)
    assert "tracks" not in hd.table_names
    assert set(hd.table("nuclei").obs["track_id"]) == {0}


# ---------------------------------------------------------------- cost
def test_tables_and_movies_cost_no_spatialdata(tiny_built: Path):
    code = (
        "import sys; from hyped_core.container import HypedData; hd = HypedData.read(sys.argv[1]);"
        "hd.summary(); hd.movies['A'].frame(0); hd.table('rna');"
        "hd.select(condition='MYOD1').table('nuclei');"
        "print([m for m in ('spatialdata', 'mudata', 'scanpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_built)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# ---------------------------------------------------------------- assembling
def test_same_inputs_same_bytes(given: dict, tmp_path: Path):
    for name in "ab":
        assemble(tmp_path / name / "t.hyped", **given)
    assert digest(tmp_path / "a" / "t.hyped") == digest(tmp_path / "b" / "t.hyped")
    again = assemble(tmp_path / "a" / "t.hyped", **{**given, "movies": None, "labels": None})
    assert digest(again.path) == digest(tmp_path / "b" / "t.hyped"), (
        "parts in place or copied: the same container"
    )


@pytest.mark.parametrize("broken", ["nuclei", "cells", "movies", "labels", "design", "nothing"])
def test_bad_inputs_leave_nothing_behind(given: dict, tmp_path: Path, broken: str):
    if broken == "nuclei":
        given["nuclei"][1].write_bytes(b"PAR1 no more")
    elif broken == "cells":
        (given["cells"] / "rna.h5ad").write_bytes(b"not hdf5")
    elif broken in ("movies", "labels"):
        shutil.rmtree(given[broken] / "B.zarr" / "0")
    elif broken == "design":
        (tmp_path / "empty").mkdir()
        given["cells"] = tmp_path / "empty"
    else:
        given = {"design": given["design"]}
    with pytest.raises(InvalidDataError) as caught:
        assemble(tmp_path / "t.hyped", **given)
    assert caught.value.where and caught.value.mend
    assert not (tmp_path / "t.hyped").exists()


def test_a_failure_leaves_the_old_container_as_it_was(
    tiny_container: Path, tiny_maker, tmp_path, monkeypatch
):
    from hyped_core.container import assembly

    before = digest(tiny_container)

    def fails(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(assembly, "write_store", fails)
    with pytest.raises(OSError, match="No space"):
        assemble(tiny_container, design=default_design(), tables={"rna": tiny_maker.rna()})
    assert digest(tiny_container) == before


def test_killed_before_the_manifest_the_container_says_so(tiny_container: Path, tiny_maker, monkeypatch):
    from hyped_core.container import assembly

    whole = digest(tiny_container)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (tiny_container / ".spatial.zarr.99.part").mkdir()
    given = {
        "design": Design.model_validate(tiny_maker.DESIGN),
        "tables": {"rna": tiny_maker.rna()},
        "name": "tiny",
    }
    given["nuclei"] = sorted((tiny_container / "..").resolve().glob("*.parquet"))
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            assemble(tiny_container, **given)
    with pytest.raises(CorruptFileError, match="never finished") as caught:
        HypedData.read(tiny_container)
    assert "hyped data assemble" in caught.value.mend
    assemble(tiny_container, **given)
    HypedData.read(tiny_container).validate()
    assert not [p for p in tiny_container.iterdir() if p.name.startswith(".")]
    assert whole.n_files > 0


def test_a_container_is_not_written_over_itself(tiny_container: Path):
    hd = HypedData.read(tiny_container)
    with pytest.raises(UsageError, match="over itself"):
        hd.write(tiny_container)
    hd.validate()


# ---------------------------------------------------------------- reading what is damaged
def test_what_is_no_container(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no such container"):
        HypedData.read(tmp_path / "none.hyped")
    with pytest.raises(CorruptFileError, match="not a HYPED container"):
        HypedData.read(tmp_path)


def test_a_truncated_manifest(tiny_container: Path):
    file = tiny_container / "manifest.json"
    file.write_text(file.read_text()[:-100])
    with pytest.raises(CorruptFileError, match="damaged") as caught:
        HypedData.read(tiny_container)
    assert caught.value.where == str(file) and caught.value.mend


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"schema_version": 2}, UnsupportedDataError, "version 2, this HYPED knows up to 1"),
        ({"schema_version": "new"}, CorruptFileError, "schema_version"),
        ({"format": "other"}, CorruptFileError, "not the manifest"),
        ({"parts": [{"path": "x"}]}, CorruptFileError, "parts/0/kind"),
        (
            {"design": {"name": "x", "scenes": [{"name": "A", "condition": "?"}]}},
            ValidationError,
            "unknown condition",
        ),
    ],
)
def test_manifests_from_elsewhere(tiny_container: Path, change: dict, kind: type, message: str):
    file = tiny_container / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(kind, match=message):
        HypedData.read(tiny_container)


def test_a_part_that_is_gone_is_named(tiny_container: Path):
    shutil.rmtree(tiny_container / "labels" / "B.zarr")
    with pytest.raises(MissingFileError, match=r"labels/B.zarr") as caught:
        HypedData.read(tiny_container)
    assert "assemble" in caught.value.mend


def test_a_corrupt_table_is_named(tiny_container: Path):
    (tiny_container / "spatial.zarr" / "tables" / "rna" / "zarr.json").write_text("{")
    hd = HypedData.read(tiny_container)
    with pytest.raises(CorruptFileError, match="tables/rna"):
        hd.table("rna")


# ---------------------------------------------------------------- a light installation
@pytest.mark.parametrize(
    ("lacking", "use"),
    [
        ("zarr", lambda hd: hd.movies["A"]),
        ("spatialdata", lambda hd: hd.sdata),
        ("spatialdata", lambda hd: hd.frame("A", 0)),
        ("mudata", lambda hd: hd.mdata),
    ],
)
def test_a_library_that_lacks_is_asked_for(tiny_built: Path, monkeypatch, lacking: str, use):
    hd = HypedData.read(tiny_built)
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(MissingDependencyError, match=lacking) as caught:
        use(hd)
    assert "hyped-core[container]" in caught.value.mend


def test_key_frames_are_the_events_nearest_frames(tiny_maker, tmp_path: Path):
    from hyped_core.container.movies import Movie, write_movie
    from hyped_core.container.spatial import key_frames

    times = [*np.arange(0, 24, 0.4), *np.arange(25.1, 67.3, 0.4)]  # the medium is changed at 24 h
    frame = tiny_maker.frame(0)
    path = write_movie(
        tmp_path / "S6.zarr", [frame] * len(times), channels=["Cy5", "mKate"], pixel_size_um=1, time_h=times
    )
    kept = key_frames(Movie.open(path), default_design())
    assert [round(times[i], 1) for i in kept] == [0, 23.6, 47.9, 67.1]
