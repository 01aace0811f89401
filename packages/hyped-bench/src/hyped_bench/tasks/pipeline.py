"""Tasks that score what the imaging steps wrote: stitching, and phases of nuclei."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_bench.metrics.phases import (
    away_from_transitions,
    best_constant,
    circular_error,
    commonest_accuracy,
    fraction_error,
    phase_accuracy,
    recall_precision,
)
from hyped_bench.readers import existing, read_json, read_obs, read_table, require_columns
from hyped_bench.tasks.base import Scores, Task, TaskParams, check_sources, summarise, summary_keys
from hyped_core.design.phases import PHASE_SYSTEMS, coarse_phase
from hyped_core.errors import InvalidDataError
from hyped_core.params import Params

STITCH_KEYS = ("residual_px", "seam_error", "seam_error_before", "position_error_px", "stage_error_px")
PHASE_KEYS = ("phase_accuracy", "coarse_accuracy", "fraction_error", "commonest_accuracy")
"""``commonest_accuracy`` is what saying the commonest true phase of every one scores: the floor."""
NUCLEI_KEYS = (
    *PHASE_KEYS,
    "phase_accuracy_all",
    *(f"{what}_{phase}" for phase in PHASE_SYSTEMS["fucci"].phases for what in ("recall", "precision")),
    "cycle_position_error",
    "cycle_position_constant_error",
    "away",
    "matched",
)
"""Of nuclei ``phase_accuracy`` and its floor are per frame away from transitions (``transition_h``), a share
``away`` of the matched nuclei; ``phase_accuracy_all`` and all other keys are of every matched nucleus.
``cycle_position_constant_error`` is the error of the one best position said of every nucleus."""


class PipelineTask(Task):
    """Base: there is no model to run."""

    needs_model: ClassVar[bool] = False


class StitchSource(Params):
    """One scene."""

    name: str
    qc: str
    """The JSON that ``hyped imaging stitch`` wrote."""
    truth: str | None = None
    """CSV with ``scene, tile, true_x_px, true_y_px``."""
    scene: str | None = None
    """Name of the scene in the truth; the source's name where None."""
    primary: bool = True


class StitchParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[StitchSource, ...]


class StitchTask(PipelineTask):
    """Seams and tile positions. Unit: a scene."""

    name: ClassVar[str] = "stitch"
    Params: ClassVar[type[TaskParams]] = StitchParams

    def __init__(self, params: StitchParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: StitchParams = params
        check_sources([s.name for s in params.sources])

    def inputs(self) -> list[str]:
        """QC files and truth."""
        return [p for s in self.params.sources for p in (s.qc, s.truth) if p]

    def load(self) -> None:
        """Check that every file is there."""
        for path in self.inputs():
            existing(path)

    def facts(self) -> dict[str, Any]:
        """The reader that each scene was read with."""
        readers = {s.name: read_json(s.qc).get("reader") for s in self.params.sources}
        return {"unit": "scene", "reader": sorted({str(r) for r in readers.values() if r})}

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [*summary_keys(STITCH_KEYS, [s.name for s in self.params.sources]), "n_tiles"]

    def score(self, predictions: Any = None) -> Scores:
        """Read the QC of every scene and compare tile positions with the truth."""
        rows, tiles = [], []
        for source in self.params.sources:
            record = read_json(source.qc)
            missing = [key for key in ("residual_px", "seam_error", "tiles") if key not in record]
            if missing:
                raise InvalidDataError(
                    f"lacks {', '.join(missing)}", where=source.qc, mend="run the stitch step again"
                )
            row = {"source": source.name, **{k: _number(record.get(k)) for k in STITCH_KEYS[:3]}}
            row["n_tiles"] = len(record["tiles"])
            row.update(position_error_px=np.nan, stage_error_px=np.nan)
            if source.truth:
                table = _tile_errors(record["tiles"], source)
                row["position_error_px"] = float(np.sqrt((table["error_px"] ** 2).mean()))
                row["stage_error_px"] = float(np.sqrt((table["stage_error_px"] ** 2).mean()))
                tiles.append(table.assign(source=source.name))
            rows.append(row)
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        metrics, warnings = summarise(
            units, STITCH_KEYS, names, [s.name for s in self.params.sources if s.primary]
        )
        metrics["n_tiles"] = int(units["n_tiles"].sum())
        tables = {"units": units} | ({"tiles": pd.concat(tiles, ignore_index=True)} if tiles else {})
        return Scores(metrics, tables, {}, warnings)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _tile_errors(tiles: list[dict[str, Any]], source: StitchSource) -> pd.DataFrame:
    """Distance of each tile from its true place, after the mean offset of the scene is taken out."""
    truth = read_table(source.truth)  # type: ignore[arg-type]
    require_columns(truth, ["scene", "tile", "true_x_px", "true_y_px"], source.truth)
    true = truth[truth["scene"].astype(str) == (source.scene or source.name)].set_index("tile")
    found = pd.DataFrame(tiles).set_index("m")
    if set(found.index) != set(true.index):
        raise InvalidDataError(f"{len(true)} true tiles, {len(found)} stitched ones", where=source.truth)
    true = true.loc[found.index]
    table = pd.DataFrame({"tile": found.index})
    place = true[["true_x_px", "true_y_px"]].to_numpy(float)
    table["error_px"] = _apart(found[["x", "y"]].to_numpy(float), place)
    table["stage_error_px"] = _apart(found[["stage_x", "stage_y"]].to_numpy(float), place)
    return table


def _apart(found: npt.NDArray, true: npt.NDArray) -> npt.NDArray:
    gap = found - true
    return np.linalg.norm(gap - gap.mean(axis=0), axis=1)


class PhasesImagingSource(Params):
    """Phases of tracked nuclei against true phases."""

    name: str
    nuclei: str
    """Container (table ``nuclei``) or parquet with a phase for each nucleus."""
    truth: str
    """True tracks (parquet) with ``phase``."""
    scene: str | None = None
    """One scene only; all scenes of the truth where None."""
    match_um: float = Field(6.0, gt=0)
    """A found nucleus is a true one where each is the other's nearest within this distance."""
    primary: bool = True


class PhasesImagingParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[PhasesImagingSource, ...]
    bin_h: float = Field(4.0, gt=0)
    """Fractions are compared in bins of this many hours."""
    transition_h: float = Field(0.5, ge=0)
    """Frames within this many hours of a frame of the same true cell (its mother, its daughters) in another
    phase are left out of ``phase_accuracy``: with a frame every 20 minutes, one frame either side."""


class PhasesImagingTask(PipelineTask):
    """Phases (system ``fucci``) of nuclei. Unit: a source."""

    name: ClassVar[str] = "phases_imaging"
    Params: ClassVar[type[TaskParams]] = PhasesImagingParams

    def __init__(self, params: PhasesImagingParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: PhasesImagingParams = params
        check_sources([s.name for s in params.sources])

    def inputs(self) -> list[str]:
        """Nuclei and truth."""
        return [p for s in self.params.sources for p in (s.nuclei, s.truth)]

    def load(self) -> None:
        """Check that every file is there."""
        for path in self.inputs():
            existing(path)

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [*summary_keys(NUCLEI_KEYS, [s.name for s in self.params.sources]), "n_nuclei"]

    def score(self, predictions: Any = None) -> Scores:
        """Match nuclei by place, compare phases; compare fractions over time without matching."""
        rows, fractions, confusion = [], [], []
        needed = ["scene", "frame", "time_h", "y_um", "x_um", "phase"]
        for source in self.params.sources:
            found = (
                read_table(source.nuclei)
                if source.nuclei.endswith(".parquet")
                else read_obs(source.nuclei, "nuclei")
            )
            truth = read_table(source.truth)
            require_columns(found, needed, source.nuclei)
            require_columns(truth, [*needed, "track_id"], source.truth)
            scenes = [source.scene] if source.scene else sorted(set(found["scene"].astype(str)))
            found, truth = (
                t[t["scene"].astype(str).isin(scenes)].reset_index(drop=True) for t in (found, truth)
            )
            if found.empty or truth.empty:
                raise InvalidDataError(f"no nuclei of the scenes {', '.join(scenes)}", where=source.nuclei)
            pairs = match_nuclei(found, truth, source.match_um)
            called = found["phase"].astype(str).to_numpy()[pairs[0]]
            true = truth["phase"].astype(str).to_numpy()[pairs[1]]
            away = away_from_transitions(truth, self.params.transition_h)[pairs[1]]
            error, table = fraction_error(self._coarse(found), self._coarse(truth), ["scene", "bin_h"])
            states = {
                f"{what}_{phase}": value
                for phase in PHASE_SYSTEMS["fucci"].phases
                for what, value in zip(
                    ("recall", "precision"), recall_precision(called, true, phase), strict=True
                )
            }
            rows.append(
                {
                    "source": source.name,
                    "phase_accuracy": phase_accuracy(called[away], true[away]),
                    "phase_accuracy_all": phase_accuracy(called, true),
                    **states,
                    **_positions(found.iloc[pairs[0]], truth.iloc[pairs[1]]),
                    "away": float(away.mean()) if len(away) else None,
                    "coarse_accuracy": phase_accuracy(
                        coarse_phase(called, "fucci"), coarse_phase(true, "fucci")
                    ),
                    "fraction_error": error,
                    "commonest_accuracy": commonest_accuracy(true[away]),
                    "matched": len(true) / len(truth),
                    "n_nuclei": len(true),
                }
            )
            fractions.append(table.assign(source=source.name))
            columns = {"truth": true, "call": called, "away": away}
            counts = pd.DataFrame(columns).value_counts().rename("n").reset_index()
            confusion.append(counts.sort_values(list(columns)).assign(source=source.name))
        units = pd.DataFrame(rows)
        metrics, warnings = summarise(
            units,
            NUCLEI_KEYS,
            [s.name for s in self.params.sources],
            [s.name for s in self.params.sources if s.primary],
        )
        metrics["n_nuclei"] = int(units["n_nuclei"].sum())
        tables = {
            "units": units,
            "fractions": pd.concat(fractions, ignore_index=True),
            "confusion": pd.concat(confusion, ignore_index=True),
        }
        return Scores(metrics, tables, {}, warnings)

    def _coarse(self, nuclei: pd.DataFrame) -> pd.DataFrame:
        """Scene, time bin and coarse phase of nuclei whose phase is known."""
        table = pd.DataFrame(
            {
                "scene": nuclei["scene"].astype(str),
                "bin_h": np.floor(nuclei["time_h"].to_numpy(float) / self.params.bin_h) * self.params.bin_h,
                "phase": coarse_phase(nuclei["phase"].astype(str), "fucci"),
            }
        )
        return table[table["phase"].notna()]


def _positions(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | None]:
    """Error of cycle positions and of the best constant; None where one of the tables has no positions."""
    keys = "cycle_position_error", "cycle_position_constant_error"
    if "cycle_position" not in found or "cycle_position" not in truth or found.empty:
        return dict.fromkeys(keys)
    place, true = (t["cycle_position"].to_numpy(float) for t in (found, truth))
    guess = best_constant(true)
    return dict(zip(keys, (circular_error(place, true, guess), circular_error(0 * true + guess, true)), strict=True))


def match_nuclei(
    found: pd.DataFrame, truth: pd.DataFrame, limit_um: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of found and true nuclei of one scene and frame that are mutually nearest within ``limit_um``."""
    from scipy.spatial import cKDTree

    left, right = [], []
    groups = truth.groupby([truth["scene"].astype(str), "frame"]).indices
    for key, rows in found.groupby([found["scene"].astype(str), "frame"]).indices.items():
        others = groups.get(key)
        if others is None:
            continue
        here, there = (
            found[["y_um", "x_um"]].to_numpy(float)[rows],
            truth[["y_um", "x_um"]].to_numpy(float)[others],
        )
        distance, nearest = cKDTree(there).query(here, distance_upper_bound=limit_um)
        back = cKDTree(here).query(there)[1]
        ok = np.flatnonzero(np.isfinite(distance))
        ok = ok[back[nearest[ok]] == ok]
        left.append(rows[ok])
        right.append(others[nearest[ok]])
    if not left:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    return np.concatenate(left), np.concatenate(right)
