"""The manifest of the public files against the table and the bytes they came with, where that is."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from hyped_core.data.fetch import fetch
from hyped_core.data.manifest import read_manifest

FOLDER = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))
RENAMED = {
    "czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi",
    "reference/celltypist_sample_cell_by_gene_f04e3dd.csv",
    "perturb/perturbench_devel.h5ad",
}
"""Files that have another name in their repository."""

pytestmark = [
    pytest.mark.public,
    pytest.mark.skipif(
        not os.environ.get("HYPED_PUBLIC_DATA") or not (FOLDER / "manifest.csv").is_file(),
        reason="HYPED_PUBLIC_DATA does not name the folder of public files",
    ),
]


def test_manifest_agrees_with_the_table():
    with (FOLDER / "manifest.csv").open() as stream:
        table = {row["file"]: row for row in csv.DictReader(stream)}
    files = {file.path: file for file in read_manifest("public").files}
    assert files.keys() == table.keys()
    for path, row in table.items():
        file = files[path]
        assert (file.bytes, file.sha256, file.licence) == (int(row["bytes"]), row["sha256"], row["licence"])
        assert file.source.repository == row["github_repository"]
        if "(in history)" not in row["path_in_repository"]:
            assert file.source.commit == row["commit"]
        assert file.source.path.startswith(row["path_in_repository"].removesuffix("(in history)").strip())
        if path not in RENAMED and "BBBC007" not in path:
            assert file.source.path.rsplit("/", 1)[-1] == path.rsplit("/", 1)[-1]


def test_the_bytes_are_what_the_manifest_says(tmp_path):
    only = ("timelapse/btrack/*", "hto/gmm_demux/*", "reference/scanpy_10x/*")
    done = fetch(read_manifest("public"), tmp_path, source=FOLDER, only=only)
    assert len(done.fetched) == 17
