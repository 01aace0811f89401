"""Frames and tables as SpatialData: single frames, key frames, and the store of a container."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.container.extras import need
from hyped_core.container.labels import Labels
from hyped_core.container.manifest import REMAKE
from hyped_core.container.movies import Movie
from hyped_core.container.nuclei import element_name
from hyped_core.errors import CorruptFileError
from hyped_core.io.zarrs import open_zarr

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

    from hyped_core.design import Design

_CHUNK = 512


def key_frames(movie: Movie | Labels, design: Design) -> tuple[int, ...]:
    """Frames worth keeping: the first, the nearest to each event of the timeline, the last of those there."""
    there = np.array([index for index in range(movie.n_frames) if index not in movie.missing_frames], dtype=int)
    if not len(there):
        return ()
    chosen = {int(there[0]), int(there[-1])}
    for event in design.timeline.events:
        if movie.has_times and movie.time_h[0] <= event.time_h <= movie.time_h[-1]:
            chosen.add(int(there[np.argmin(np.abs(movie.time_h[there] - event.time_h))]))
    return tuple(sorted(chosen))


def frame_elements(
    scene: str, frame: int, movie: Movie | None, labels: Labels | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image and the labels of one frame as SpatialData elements, in micrometres."""
    need("spatialdata", "a frame as SpatialData")
    from spatialdata.models import Image2DModel, Labels2DModel

    images, masks = {}, {}
    if movie is not None:
        images[element_name(scene, frame)] = Image2DModel.parse(
            movie.lazy(frame),
            dims=("c", "y", "x"),
            c_coords=list(movie.channels),
            chunks=(1, _CHUNK, _CHUNK),
            transformations={"global": _to_um(movie.pixel_size_um)},
        )
    if labels is not None:
        masks[element_name(scene, frame, labels=True)] = Labels2DModel.parse(
            labels.lazy(frame),
            dims=("y", "x"),
            chunks=(_CHUNK, _CHUNK),
            transformations={"global": _to_um(labels.pixel_size_um)},
        )
    return images, masks


def _to_um(pixel_size_um: float) -> Any:
    from spatialdata.transformations import Scale

    return Scale([pixel_size_um, pixel_size_um], axes=("y", "x"))


def annotate(nuclei: AnnData, elements: Iterable[str]) -> AnnData:
    """Tell SpatialData which labels the nuclei belong to, where every row's labels are among ``elements``.

    SpatialData wants an element for each row and warns otherwise, so a table with nuclei of other frames
    stays unannotated; ``obs["region"]`` names the labels of those that have some.
    """
    import pandas as pd

    nuclei.uns.pop("spatialdata_attrs", None)
    regions = nuclei.obs["region"].astype(str)
    named = sorted(set(regions))
    if named and set(named) <= set(elements):
        nuclei.obs["region"] = pd.Categorical(regions, categories=named)
        nuclei.uns["spatialdata_attrs"] = {"region": named, "region_key": "region", "instance_key": "label"}
    return nuclei


def nuclei_of_frame(nuclei: AnnData, scene: str, frame: int, labels: bool) -> AnnData:
    """A copy of the rows of one frame, annotating the frame's labels where there are any."""
    chosen = (nuclei.obs["scene"].astype(str) == scene) & (nuclei.obs["frame"] == frame)
    table = nuclei[chosen.to_numpy()].copy()
    name = element_name(scene, frame, labels=True)
    table.obs["region"] = _constant(name, table.n_obs)
    return annotate(table, [name] if labels else [])


def _constant(value: str, length: int) -> pd.Categorical:
    import pandas as pd

    return pd.Categorical([value] * length, categories=[value])


def build(images: Mapping[str, Any], labels: Mapping[str, Any], tables: Mapping[str, AnnData]) -> SpatialData:
    """A SpatialData over these elements; tables are kept by reference."""
    return need("spatialdata", "a SpatialData view").SpatialData(
        images=dict(images), labels=dict(labels), tables=dict(tables)
    )


def read_rasters(store: Path) -> SpatialData:
    """Images and labels of a stored SpatialData, lazy; tables are left out."""
    spatialdata = need("spatialdata", "key frames")
    present = set(open_zarr(store).group_keys())
    wanted = tuple(kind for kind in ("images", "labels") if kind in present)
    if not wanted:
        return spatialdata.SpatialData()
    try:
        with _parents_unsaid():
            return spatialdata.read_zarr(store, selection=wanted)
    except Exception as error:
        raise CorruptFileError(
            f"cannot be read as SpatialData: {type(error).__name__}: {str(error)[:200]}",
            where=store,
            mend=REMAKE,
        ) from error


@contextmanager
def _parents_unsaid() -> Iterator[None]:
    """Keep ome-zarr from warning at each labels element that it names no image; errors still come through.

    The labels cannot name one: SpatialData refuses an element whose metadata leads to a second image.
    """
    logger = logging.getLogger("ome_zarr.reader")
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


def write_store(path: Path, sdata: SpatialData) -> None:
    """Write a SpatialData as a new zarr folder with bytes that depend on nothing but its content."""
    import anndata

    # Without a choice anndata warns at each array; its automatic shards differ between releases.
    choice = {"auto_shard_zarr_v3": False} if hasattr(anndata.settings, "auto_shard_zarr_v3") else {}
    with anndata.settings.override(**choice):
        sdata.write(path, consolidate_metadata=True)
    for file in sorted(path.rglob("zarr.json")):
        values = json.loads(file.read_text(encoding="utf-8"))
        merged = values.get("consolidated_metadata")
        if merged:
            merged["metadata"] = dict(sorted(merged["metadata"].items()))
            file.write_text(json.dumps(values, indent=2), encoding="utf-8")
