"""What the tables of a container have to hold: columns, values, counts, names, and labels that exist."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.container.labels import Labels
from hyped_core.container.manifest import CELL_TABLES, SPATIAL
from hyped_core.container.movies import Movie
from hyped_core.container.nuclei import NUCLEI_COLUMNS
from hyped_core.design import PHASE_SYSTEMS, Design
from hyped_core.design.model import CONTROL
from hyped_core.errors import HypedError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CELL_COLUMNS = (
    "pool", "hashtag_call", "hashtag_kind", "assigned_condition", "condition", "assigned_phase", "phase",
)  # fmt: skip
SCREEN_COLUMNS = ("perturbation", "phase", "pool")
"""Columns of cells with ``obs["perturbation"]`` and no hashtags: a screen."""

TRACK_COLUMNS = (
    "scene",
    "track_id",
    "parent_id",
    "first_frame",
    "last_frame",
    "n_frames",
    "first_h",
    "last_h",
)
HASHTAG_KINDS = ("singlet", "doublet", "negative")
NOT_KNOWN = ("", "unassigned", "nan", "None", "<NA>")
"""How a cell or a nucleus says that it has no value."""

_SAMPLE_FRAMES = 3


def _columns(where: str, obs: pd.DataFrame, columns: Iterable[str], mend: str) -> Iterator[Problem]:
    for name in columns:
        if name not in obs:
            yield Problem(f"{where}/obs/{name}", "this column is missing", mend)


def _values(
    where: str, obs: pd.DataFrame, column: str, allowed: Iterable[str], mend: str
) -> Iterator[Problem]:
    if column not in obs:
        return
    known = {*allowed, *NOT_KNOWN}
    odd = sorted({str(v) for v in obs[column].dropna().unique()} - known)
    if odd:
        shown = ", ".join(map(repr, odd[:5])) + (", ..." if len(odd) > 5 else "")
        yield Problem(f"{where}/obs/{column}", f"unexpected value{'s' if len(odd) > 1 else ''} {shown}", mend)


def _phases(where: str, obs: pd.DataFrame, column: str, system: str) -> Iterator[Problem]:
    phases = PHASE_SYSTEMS[system].phases
    yield from _values(where, obs, column, phases, f"phases of the system {system!r}: {', '.join(phases)}")


def _conditions(where: str, obs: pd.DataFrame, column: str, names: Iterable[str]) -> Iterator[Problem]:
    names = sorted(names)
    mend = f"conditions of the design: {', '.join(names) or 'none'}"
    yield from _values(where, obs, column, names, mend)


def cell_problems(where: str, table: AnnData, design: Design) -> Iterator[Problem]:
    """Problems of rna, isoform or hto."""
    obs = table.obs
    conditions = [condition.name for condition in design.conditions]
    own = own_perturbations(table)
    screen = "perturbation" in obs and bool(own - {*conditions, CONTROL})
    if "perturbation" in obs and not {"hashtag_call", "hashtag_kind"} & set(obs.columns):
        yield from _columns(where, obs, SCREEN_COLUMNS, "import the screen again")
    else:
        yield from _columns(where, obs, CELL_COLUMNS, "run `hyped seq annotate` again")
    yield from _values(where, obs, "hashtag_kind", HASHTAG_KINDS, f"one of {', '.join(HASHTAG_KINDS)}")
    for column in ("condition", "assigned_condition"):
        yield from _conditions(where, obs, column, {*conditions, *(own if screen else ())})
    for column in ("phase", "assigned_phase"):
        yield from _phases(where, obs, column, "rna")
    if design.pools and not screen:
        pools = [pool.name for pool in design.pools]
        yield from _values(where, obs, "pool", pools, f"pools of the design: {', '.join(pools)}")
    if design.hashtags and not screen:
        yield from _hashtag_calls(where, obs, design)
    if "counts" in table.layers:
        yield from _counts(f"{where}/layers/counts", table.layers["counts"])
    if table.X is not None and not np.isfinite(_stored(table.X)).all():
        yield Problem(f"{where}/X", "holds NaN or infinite values", "normalise the counts again")


def _hashtag_calls(where: str, obs: pd.DataFrame, design: Design) -> Iterator[Problem]:
    """Singlets called by a tag that their pool does not have. A pool without tags in the design allows any."""
    if not {"pool", "hashtag_call", "hashtag_kind"} <= set(obs.columns):
        return
    known: dict[str, set[str]] = {}
    for hashtag in design.hashtags:
        known.setdefault(hashtag.pool, set()).add(hashtag.tag)
    singlets = obs.loc[(obs["hashtag_kind"] == "singlet").to_numpy(), ["pool", "hashtag_call"]].dropna()
    counts = Counter(zip(singlets["pool"].astype(str), singlets["hashtag_call"].astype(str), strict=True))
    for (pool, tag), count in sorted(counts.items()):
        if pool in known and tag not in known[pool] and tag not in NOT_KNOWN:
            yield Problem(
                f"{where}/obs/hashtag_call",
                f"{count} singlet{'s' if count > 1 else ''} called {tag!r}, which is no hashtag of the pool "
                f"{pool!r}",
                f"hashtags of {pool!r} in the design: {', '.join(sorted(known[pool]))}",
            )


def own_perturbations(table: AnnData) -> set[str]:
    """Names of the perturbations that a table defines itself, in ``uns``: those of a screen."""
    text = table.uns.get("perturbations_json")
    if isinstance(text, str):
        try:
            found = json.loads(text)
        except ValueError:
            return set()
        return set(found) if isinstance(found, dict) else set()
    return set(table.uns.get("perturbations", ()))


def _stored(matrix: Any) -> np.ndarray:
    """The stored values of a dense or sparse matrix."""
    return matrix.data if hasattr(matrix, "tocsr") else np.asarray(matrix)


def _counts(where: str, matrix: Any) -> Iterator[Problem]:
    values = _stored(matrix)
    mend = "put the raw counts there, not normalised ones"
    if values.dtype.kind not in "iufb" or not np.isfinite(values).all():
        yield Problem(where, "holds values that are not numbers", mend)
        return
    if values.size and values.min() < 0:
        yield Problem(where, "holds negative counts", mend)
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        yield Problem(where, "holds counts that are not whole numbers", mend)


def nuclei_problems(
    where: str,
    table: AnnData,
    design: Design,
    movies: Mapping[str, Movie],
    labels: Mapping[str, Labels],
    *,
    deep: bool,
) -> Iterator[Problem]:
    """Problems of the nuclei table, alone and against movies and labels."""
    obs = table.obs
    absent = list(_columns(where, obs, NUCLEI_COLUMNS, "run `hyped imaging phases` and assemble again"))
    yield from absent
    yield from _conditions(where, obs, "condition", [condition.name for condition in design.conditions])
    yield from _phases(where, obs, "phase", "fucci")
    for column in ("y_um", "x_um", "time_h"):
        if column in obs:
            lost = int((~np.isfinite(obs[column].to_numpy(dtype=float))).sum())
            if lost:
                yield Problem(f"{where}/obs/{column}", f"{lost} values are NaN", "measure the nuclei again")
    if any(problem.where.rsplit("/", 1)[1] in ("scene", "frame", "label", "time_h") for problem in absent):
        return
    known = {scene.name for scene in design.scenes}
    for scene, rows in obs.groupby(obs["scene"].astype(str), sort=True):
        place = f"{where}/obs/scene/{scene}"
        if known and scene not in known:
            yield Problem(
                place, f"the design knows no scene {scene!r}", f"scenes there: {', '.join(sorted(known))}"
            )
        source = movies.get(scene) or labels.get(scene)
        if source is not None:
            yield from _against_frames(place, rows, source)
        if scene in labels:
            yield from _against_labels(place, rows, labels[scene], deep)


def _against_frames(place: str, rows: pd.DataFrame, source: Movie | Labels) -> Iterator[Problem]:
    frames = rows["frame"].to_numpy()
    if len(frames) and (frames.min() < 0 or frames.max() >= source.n_frames):
        yield Problem(
            place,
            f"names frame {frames.max()}, there are {source.n_frames}",
            "assemble with the nuclei of this movie",
        )
        return
    if source.has_times and source.time_h.shape == (source.n_frames,):
        difference = np.abs(rows["time_h"].to_numpy(dtype=float) - source.time_h[frames])
        if (difference > 1e-3).any():
            yield Problem(place, "time_h is not the movie's", "assemble with the nuclei of this movie")
    height, width = source.shape[-2:]
    for column, size in (("y_um", height), ("x_um", width)):
        if column in rows:
            values = rows[column].to_numpy(dtype=float)
            limit = (size + 1) * source.pixel_size_um
            if ((values < -source.pixel_size_um) | (values > limit)).any():
                yield Problem(f"{place}/{column}", "lies outside the image", "give micrometres, not pixels")


def _against_labels(place: str, rows: pd.DataFrame, labels: Labels, deep: bool) -> Iterator[Problem]:
    last = labels.n_frames - 1
    spread = np.linspace(0, last, _SAMPLE_FRAMES).round().astype(int)
    chosen = range(labels.n_frames) if deep else sorted({int(i) for i in spread})
    for frame in chosen:
        listed = set(rows.loc[rows["frame"] == frame, "label"].astype(int))
        if not listed:
            continue
        try:
            there = set(np.unique(labels.frame(frame)).tolist())
        except HypedError as error:
            yield Problem(f"labels/{labels.path.name}/{frame}", error.message, error.mend or "")
            continue
        lost = sorted(listed - there)
        if lost:
            shown = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
            yield Problem(
                f"{place}/frame/{frame}",
                f"{len(lost)} labels are not in the labels image ({shown})",
                "measure and track the nuclei of these labels again",
            )


def track_problems(where: str, table: AnnData) -> Iterator[Problem]:
    """Problems of the tracks table."""
    obs = table.obs
    yield from _columns(where, obs, TRACK_COLUMNS, "assemble again")
    if {"scene", "track_id", "parent_id"} <= set(obs.columns):
        scenes = obs["scene"].astype(str)
        there = set(zip(scenes, obs["track_id"].astype(int), strict=True))
        child = obs["parent_id"].to_numpy() > 0
        pairs = set(zip(scenes[child], obs["parent_id"][child].astype(int), strict=True))
        lost = sorted(pairs - there)
        if lost:
            scene, parent = lost[0]
            yield Problem(
                f"{where}/obs/parent_id",
                f"{len(lost)} parents are no tracks (first: {parent} in {scene})",
                "track again",
            )


def name_problems(names: Mapping[str, Any]) -> Iterator[Problem]:
    """Obs names are unique within each table and across modalities; rna, isoform and hto share cells."""
    groups: dict[str, set[str]] = {"cells": set(), "nuclei": set(), "tracks": set()}
    for table, index in names.items():
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            yield Problem(
                f"{SPATIAL}/tables/{table}/obs_names", f"{twice!r} is there twice", "name cells uniquely"
            )
        groups["cells" if table in CELL_TABLES else table].update(map(str, index))
    kinds = list(groups)
    for i, first in enumerate(kinds):
        for second in kinds[i + 1 :]:
            shared = sorted(groups[first] & groups[second])
            if shared:
                yield Problem(
                    f"{SPATIAL}/tables",
                    f"{len(shared)} names are in both {first} and {second} (first: {shared[0]!r})",
                    "cells of two modalities are never the same: name them <pool>_<barcode> and "
                    "<scene>_f<frame>_n<label>",
                )
