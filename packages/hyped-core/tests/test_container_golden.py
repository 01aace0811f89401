"""The container that schema version 1 was released with is read, whole, by today's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hyped_core.container import HypedData


def test_golden_v1_reads_and_validates(golden_v1: Path, tiny_maker):
    hd = HypedData.read(golden_v1)
    hd.validate(deep=True)
    assert hd.manifest.schema_version == 1 and hd.name == "tiny"
    for scene in "AB":
        assert hd.movies[scene].time_h.tolist() == tiny_maker.TIME_H
        for i in range(3):
            assert np.array_equal(hd.movies[scene].frame(i), tiny_maker.frame(i))
            assert np.array_equal(hd.labels[scene].frame(i), tiny_maker.labels(i))
    truth = tiny_maker.rna()
    assert np.array_equal(hd.table("rna").X.toarray(), truth.X.toarray())
    assert hd.table("rna").obs["condition"].tolist() == truth.obs["condition"].tolist()
    assert hd.table("nuclei").n_obs == 8 and hd.table("tracks").n_obs == 6
    assert set(hd.sdata.labels) == {
        "A_f00000_labels",
        "A_f00002_labels",
        "B_f00000_labels",
        "B_f00002_labels",
    }
    assert hd.design.scene("B").condition == "MYOD1"


def test_golden_v1_is_small_and_needs_no_hyped(golden_v1: Path):
    import anndata
    import zarr

    archive = Path(__file__).parent / "golden" / "v1" / "tiny.hyped.zip"
    assert archive.stat().st_size < 300_000
    assert zarr.open_group(str(golden_v1 / "movies" / "A.zarr"), mode="r")["0"].shape == (3, 2, 12, 16)
    assert anndata.read_zarr(golden_v1 / "spatial.zarr" / "tables" / "rna").shape == (6, 4)
