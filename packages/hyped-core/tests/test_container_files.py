"""Hashes of folders and tables on disk: content alone decides, damage is typed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Movie, MovieWriter
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io.hashing import digest, sha256_file
from hyped_core.io.tables import read_h5ad, read_parquet, read_table_zarr, write_h5ad, write_parquet


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


names = st.text("abc", min_size=1, max_size=3)
trees = st.dictionaries(st.tuples(names, names).map("/".join), st.binary(max_size=20), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(first=trees, second=trees)
def test_folders_hash_alike_only_where_their_files_are_alike(tmp_path_factory, first, second):
    a = digest(folder(tmp_path_factory.mktemp("a"), first))
    b = digest(folder(tmp_path_factory.mktemp("b"), dict(reversed(second.items()))), threads=1)
    assert (a.sha256 == b.sha256) == (first == second)
    assert a.n_files == len(first) and a.n_bytes == sum(map(len, first.values()))


def test_times_and_places_do_not_matter(tmp_path: Path):
    one = folder(tmp_path / "one", {"x/a": b"1", "b": b"2"})
    two = folder(tmp_path / "two" / "deep", {"b": b"2", "x/a": b"1"})
    os.utime(two / "b", (1, 1))
    assert digest(one) == digest(two)
    (two / "x" / "a").rename(two / "x" / "c")
    assert digest(one).sha256 != digest(two).sha256


def test_links_count_as_what_they_point_to(tmp_path: Path):
    one = folder(tmp_path / "one", {"a": b"content"})
    two = tmp_path / "two"
    two.mkdir()
    (two / "a").symlink_to(one / "a")
    assert digest(one) == digest(two)


def test_the_hash_of_a_file(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")
    assert digest(path).sha256 == sha256_file(path)
    with pytest.raises(MissingFileError):
        digest(tmp_path / "none")


def table() -> anndata.AnnData:
    obs = pd.DataFrame({"pool": pd.Categorical(["a", "b"])}, index=["c1", "c2"])
    return anndata.AnnData(np.eye(2, 3, dtype=np.float32), obs=obs)


def test_tables_have_stable_bytes(tmp_path: Path):
    for name in "ab":
        write_h5ad(tmp_path / name / "t.h5ad", table())
        write_parquet(tmp_path / name / "t.parquet", table().obs)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert np.array_equal(read_h5ad(tmp_path / "a" / "t.h5ad").X, table().X)
    assert read_parquet(tmp_path / "a" / "t.parquet", ["pool"])["pool"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("read", "name"), [(read_h5ad, "t.h5ad"), (read_parquet, "t.parquet"), (read_table_zarr, "t.zarr")]
)
def test_missing_and_damaged_tables(tmp_path: Path, read, name: str):
    with pytest.raises(MissingFileError, match=name):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\nPAR1 cut short")
    with pytest.raises(CorruptFileError, match=name) as caught:
        read(tmp_path / name)
    assert caught.value.mend


def test_missing_columns_are_named_together(tmp_path: Path):
    write_parquet(tmp_path / "t.parquet", pd.DataFrame({"frame": [1]}))
    with pytest.raises(InvalidDataError, match="lacks columns label, y_um"):
        read_parquet(tmp_path / "t.parquet", ["frame", "label", "y_um"])


def test_frames_written_by_several_threads(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 99, (16, 2, 64, 64)).astype("uint16")
    writer = MovieWriter(
        tmp_path / "S.zarr",
        shape=frames.shape,
        dtype="uint16",
        channels="ab",
        pixel_size_um=1,
        time_h=range(16),
    )
    with writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(writer.write_frame, range(16), frames))
    movie = Movie.open(tmp_path / "S.zarr")
    assert np.array_equal(np.stack([movie.frame(i) for i in range(16)]), frames)
