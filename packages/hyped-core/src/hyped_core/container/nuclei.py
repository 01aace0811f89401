"""The nuclei and tracks tables: from the tables of the imaging steps to AnnData. No files here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyped_core.errors import InvalidDataError
from hyped_core.io.tables import require_columns

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from hyped_core.design import Design

NUCLEI_COLUMNS = (
    "scene", "frame", "time_h", "label", "track_id", "parent_id",
    "condition", "replicate", "y_um", "x_um", "phase",
)  # fmt: skip
"""Columns every nuclei table has, in this order, before its measurements."""

_REQUIRED = ("scene", "frame", "time_h", "label", "y_um", "x_um")
_INTEGERS = {
    "frame": np.int32,
    "label": np.int32,
    "track_id": np.int64,
    "parent_id": np.int64,
    "replicate": np.int32,
}


def element_name(scene: str, frame: int, labels: bool = False) -> str:
    """Name of a frame's image or labels in a SpatialData: ``S0_f00012``, ``S0_f00012_labels``."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", scene)
    return f"{safe}_f{frame:05d}" + ("_labels" if labels else "")


def nuclei_table(
    tables: Sequence[pd.DataFrame], design: Design, key_frames: Mapping[str, Sequence[int]]
) -> AnnData:
    """One AnnData over the nuclei of all scenes: every column in ``obs``, measurements repeated in ``X``.

    ``obs_names`` are ``<scene>_f<frame>_n<label>``; ``obsm["spatial"]`` is (x, y) in micrometres;
    ``obs["region"]`` names the labels element of a key frame and is empty elsewhere. Condition and replicate
    come from the design where the tables lack them; track and phase are zero and empty before those steps.
    """
    import anndata
    import pandas as pd

    for number, table in enumerate(tables):
        require_columns(table, _REQUIRED, f"nuclei table {number}")
    frame = pd.concat(list(tables), ignore_index=True)
    scenes = {scene.name: scene for scene in design.scenes}
    names = frame["scene"].astype(str)
    if "condition" not in frame:
        frame["condition"] = [scenes[s].condition if s in scenes else "" for s in names]
    if "replicate" not in frame:
        frame["replicate"] = [scenes[s].replicate if s in scenes else 0 for s in names]
    for column in ("track_id", "parent_id"):
        if column not in frame:
            frame[column] = 0
    if "phase" not in frame:
        frame["phase"] = ""
    for column, dtype in _INTEGERS.items():
        values = pd.to_numeric(frame[column], errors="coerce")
        if column in _REQUIRED and values.isna().any():
            raise InvalidDataError(f"column {column} has values that are no integers", where="nuclei")
        frame[column] = values.fillna(0).astype(dtype)
    for column in ("scene", "condition", "phase"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    others = [c for c in frame.columns if c not in NUCLEI_COLUMNS]
    frame = frame[[*NUCLEI_COLUMNS, *others]].sort_values(["scene", "frame", "label"], kind="stable")
    frame.index = pd.Index(
        [f"{s}_f{f:05d}_n{n}" for s, f, n in zip(frame["scene"], frame["frame"], frame["label"], strict=True)]
    )
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()][0]
        raise InvalidDataError(
            f"nucleus {twice} is there more than once", where="nuclei", mend="give each scene's table once"
        )
    kept = {(scene, int(f)) for scene, frames in key_frames.items() for f in frames}
    frame["region"] = [
        element_name(s, f, labels=True) if (s, f) in kept else ""
        for s, f in zip(frame["scene"], frame["frame"], strict=True)
    ]
    measured = [c for c in others if _is_measure(frame[c])]
    table = anndata.AnnData(
        X=frame[measured].to_numpy(np.float32),
        obs=frame,
        var=pd.DataFrame(index=pd.Index(measured, dtype=object)),
    )
    table.obsm["spatial"] = frame[["x_um", "y_um"]].to_numpy(np.float64)
    table.uns["phase_system"] = "fucci"
    return table


def _is_measure(column: pd.Series) -> bool:
    return column.dtype.kind == "f" or (column.dtype.kind in "iu" and column.name not in _INTEGERS)


def tracks_table(nuclei: AnnData) -> AnnData | None:
    """One row a track (None where nothing was tracked): lineage, first and last frame, hours, condition.

    ``obs_names`` are ``<scene>_t<track_id>``; ``parent_id`` is 0 for a track that no division began;
    ``path_um`` is the length of the way from frame to frame.
    """
    import anndata
    import pandas as pd

    obs = nuclei.obs
    obs = obs[obs["track_id"] > 0]
    if obs.empty:
        return None
    obs = obs.astype({"scene": str, "condition": str}).sort_values(
        ["scene", "track_id", "frame"], kind="stable"
    )
    keys = ["scene", "track_id"]
    step = np.hypot(obs.groupby(keys)["y_um"].diff(), obs.groupby(keys)["x_um"].diff()).fillna(0.0)
    rows = obs.assign(step=step).groupby(keys, sort=True)
    tracks = rows.agg(
        parent_id=("parent_id", "first"),
        first_frame=("frame", "first"),
        last_frame=("frame", "last"),
        n_frames=("frame", "size"),
        first_h=("time_h", "first"),
        last_h=("time_h", "last"),
        condition=("condition", "first"),
        replicate=("replicate", "first"),
        path_um=("step", "sum"),
    ).reset_index()
    tracks["duration_h"] = tracks["last_h"] - tracks["first_h"]
    children = tracks[tracks["parent_id"] > 0].groupby(["scene", "parent_id"]).size()
    places = pd.MultiIndex.from_frame(tracks[keys])
    tracks["n_daughters"] = children.reindex(places, fill_value=0).to_numpy(np.int32)
    tracks.index = pd.Index(
        [f"{s}_t{t:06d}" for s, t in zip(tracks["scene"], tracks["track_id"], strict=True)]
    )
    measured = ["n_frames", "duration_h", "path_um"]
    return anndata.AnnData(
        X=tracks[measured].to_numpy(np.float32),
        obs=tracks,
        var=pd.DataFrame(index=pd.Index(measured, dtype=object)),
    )
