"""What a container, a movie or labels hold, as plain data for people and programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.container.labels import Labels
from hyped_core.container.manifest import SCHEMA_VERSION, TABLES
from hyped_core.container.movies import Movie
from hyped_core.container.ngff import open_array

if TYPE_CHECKING:
    from hyped_core.container.data import HypedData


def summary(hd: HypedData) -> dict[str, Any]:
    """See `HypedData.summary`."""
    scenes = {}
    known = {scene.name: scene for scene in hd.design.scenes}
    for name in sorted({*hd.movies, *hd.labels}):
        entry: dict[str, Any] = {
            "condition": known[name].condition if name in known else None,
            "replicate": known[name].replicate if name in known else None,
        }
        if name in hd.movies:
            entry["movie"] = describe_frames(hd.movies[name])
        if name in hd.labels:
            entry["labels"] = describe_frames(hd.labels[name])
        entry["selected_frames"] = len(hd.frames(name))
        scenes[name] = entry
    absent = [name for name in TABLES if name not in hd.table_names]
    absent += [kind for kind, held in (("movies", hd.movies), ("labels", hd.labels)) if not held]
    return {
        "name": hd.name,
        "schema_version": hd.manifest.schema_version if hd.manifest else SCHEMA_VERSION,
        "design": {
            "name": hd.design.name,
            "conditions": [c.name for c in hd.design.conditions],
            "sorted_conditions": list(hd.design.sorted_conditions()),
            "confounded": [list(pair) for pair in hd.design.flags.confounded],
            "pooled_wells": hd.design.flags.pooled_wells,
        },
        "scenes": scenes,
        "tables": {name: _describe_table(hd, name) for name in hd.table_names},
        "absent": sorted(absent),
        "left_out": hd.left_out,
        "links": [asdict(link) for link in hd.links()],
        "n_bytes": sum(part.n_bytes for part in hd.manifest.parts) if hd.manifest else None,
        "provenance": hd.provenance,
    }


def _describe_table(hd: HypedData, name: str) -> dict[str, Any]:
    if hd.manifest is not None and hd.selection.free and name in hd.manifest.tables:
        return hd.manifest.tables[name].model_dump(mode="json")
    table = hd.table(name)
    return {"n_obs": table.n_obs, "n_vars": table.n_vars, "layers": sorted(table.layers)}


def describe_frames(source: Movie | Labels) -> dict[str, Any]:
    """Shape, type, channels, pixel size and times of a movie or labels."""
    found: dict[str, Any] = {
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "frames": source.n_frames,
        "frames_written": len(source.written()),
        "pixel_size_um": source.pixel_size_um,
    }
    if source.missing_frames:
        found["frames_missing"] = {str(index): reason for index, reason in source.missing_frames.items()}
    if isinstance(source, Movie):
        found["channels"] = list(source.channels)
        found["data_range"] = list(source.data_range)
    else:
        found["source"] = source.source
    if source.has_times:
        times = source.time_h
        found["time_h"] = [float(times[0]), float(times[-1])]
        gaps = times[1:] - times[:-1]
        found["longest_gap_h"] = round(float(gaps.max()), 6) if len(gaps) else 0.0
    return found


def describe_path(path: Path) -> dict[str, Any]:
    """What a folder holds: a container, a movie or labels.

    Raises
    ------
    HypedError
        It is none of them; the message says what is wrong.
    """
    if (path / "zarr.json").is_file() or (path / ".zgroup").is_file() or path.suffix == ".zarr":
        _, layout = open_array(path, "movie or labels")
        kind = layout.hyped.get("kind") or ("labels" if "image-label" in layout.ome else "movie")
        source = Labels.open(path) if kind == "labels" else Movie.open(path)
        return {"kind": kind, "name": source.name, **describe_frames(source)}
    from hyped_core.container.data import HypedData

    return {"kind": "container", **HypedData.read(path).summary()}
