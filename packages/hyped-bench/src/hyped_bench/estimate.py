"""What a benchmark run will take, roughly: frames and rows counted from headers, no data read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_bench.readers import IMAGE_SUFFIXES, existing
from hyped_core.errors import CorruptFileError
from hyped_core.io.zarrs import open_zarr

if TYPE_CHECKING:
    from hyped_bench.runner import Job

START_S = 2.0
"""Seconds to import, read and score whatever the size."""
SECONDS = {"frames": 0.1, "rows": 1e-4}
"""Seconds a frame and a row (cell, nucleus) take a model of middling cost, on one core."""
SECONDS_OF_TASK = {"embedding": {"rows": 0.02}}
"""Where a task's units take longer: each cell is embedded several times, for every perturbation and draw of genes."""
_MAIN = ("table", "nuclei", "cells", "counts", "noisy", "movie", "qc")
"""Fields of a source that name what a model works on, the first that is set; all inputs where none is."""
_TABLES = {"nuclei": "nuclei", "counts": "hto"}
"""Table of a container that a field means; ``rna`` for others."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of all inputs, number of ``frames`` and ``rows``, and seconds for one model with their rate."""

    size: int
    units: dict[str, int]
    seconds: float
    rate: str


def estimate(job: Job) -> Estimate:
    """The estimate for one model of a job that need not be loaded.

    Raises
    ------
    MissingFileError, CorruptFileError
        An input is absent or not what its name says.
    """
    size = sum(_size(existing(path)) for path in sorted(set(job.task.inputs())))
    units: dict[str, int] = {}
    sources = getattr(job.task.params, "sources", ())
    for kind, count in [pair for source in sources for pair in _of_source(source)]:
        units[kind] = units.get(kind, 0) + count
    rate = {**SECONDS, **SECONDS_OF_TASK.get(job.name, {})}
    seconds = START_S + sum(rate[kind] * count for kind, count in units.items())
    rates = [f"{rate[kind]:g} s a {kind[:-1]}" for kind in units]
    return Estimate(size, units, seconds, ", ".join([f"{START_S:g} s", *rates]))


def _of_source(source: Any) -> list[tuple[str, int]]:
    """Units of a source: its chosen frames, or those of the file it is about."""
    name = next((field for field in _MAIN if getattr(source, field, None)), None)
    if name is None:
        return []
    wanted = getattr(source, "frames", None)
    if wanted:
        return [("frames", len(wanted))]
    found = count_units(getattr(source, name), _TABLES.get(name, "rna"))
    return [] if found is None else [found]


def count_units(path: str | Path, table: str = "rna") -> tuple[str, int] | None:
    """``("frames", n)`` of images, ``("rows", n)`` of tables and of a container's ``table``; None for others."""
    found = existing(path)
    try:
        if found.is_dir():
            return _of_folder(found, table)
        if found.suffix == ".h5ad":
            import h5py

            with h5py.File(found, "r") as file:
                obs = file["obs"]
                length = obs.shape if hasattr(obs, "shape") else obs[obs.attrs["_index"]].shape
            return "rows", int(length[0])
        if found.suffix == ".parquet":
            import pyarrow.parquet

            return "rows", int(pyarrow.parquet.ParquetFile(found).metadata.num_rows)
        if found.suffix in (".csv", ".tsv", ".txt"):
            with found.open("rb") as lines:
                if table == "hto":  # hashtag counts have a column a cell
                    return "rows", lines.readline().count(b",")
                return "rows", max(0, sum(1 for _ in lines) - 1)
        if found.suffix in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(found) as image:
                return "frames", len(image.pages)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path, mend="make it again") from error
    return ("frames", 1) if found.suffix in IMAGE_SUFFIXES else None


def _of_folder(folder: Path, table: str) -> tuple[str, int] | None:
    inner = folder / "spatial.zarr" / "tables" / table
    obs = (inner if inner.is_dir() else folder) / "obs"
    if obs.is_dir():
        group = open_zarr(obs)
        return "rows", int(group[str(group.attrs["_index"])].shape[0])  # type: ignore[union-attr]
    if folder.suffix == ".hyped":
        return None
    if (folder / "zarr.json").is_file():
        from hyped_core.container.movies import Movie

        return "frames", int(Movie.open(folder).shape[0])
    images = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    return ("frames", images) if images else None


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
