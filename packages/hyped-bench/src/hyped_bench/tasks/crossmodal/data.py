"""Sources of the cross-modal tasks: what a container has to hold, what stands against reading too much into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_bench.readers import existing, read_cells, read_obs, read_table, require_columns
from hyped_bench.tasks.base import Scores, Task, TaskParams, check_sources
from hyped_bench.tasks.crossmodal.courses import SceneSums, scene_sums
from hyped_core.container.links import Link, links
from hyped_core.container.manifest import read_manifest
from hyped_core.design import Design, coarse_phase
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.params import Params

if TYPE_CHECKING:
    from anndata import AnnData

FloatArray = npt.NDArray[np.float64]
REFERENCES = ("replicate", "oracle")
"""What no model can be held to be, and none can be registered as.

``replicate``: halves of the lineages (or cells) against each other, errors divided by 2: halves differ by twice the
noise of the whole, so this is what a prediction without noise scores against a truth that has some. ``oracle``: the
simulator's truth, where a source names it."""
MIN_BINS = 3
FEW = 8
"""With fewer conditions intervals are over nuclei and cells."""
_NUCLEI = ("scene", "condition", "replicate", "frame", "time_h", "y_um", "x_um")
_MEND = {
    "nuclei": "assemble the container with --phases (movies: stitch or import-movie, segment, track, phases)",
    "rna": "assemble the container with --cells (ingest, demultiplex, annotate)",
}


class CrossmodalSource(Params):
    """One container."""

    name: str
    container: str
    """``.hyped`` container."""
    tracks: str | None = None
    """True tracks (parquet), for the reference ``oracle`` of simulated movies."""
    primary: bool = True


class CrossmodalParams(TaskParams):
    """What the tasks have in common."""

    draws: int = Field(200, ge=20)
    """Redraws of lineages within scenes and of cells within conditions; as many halvings for ``replicate``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of a unit, row 0 as measured, the others for each redraw.

    Attributes
    ----------
    predicted : (1 + draws, ...).
    truth : the same; None for the task's own truth.
    halves : True for halves held against each other: errors are divided by 2, the score is the mean over the rows
        from 1 on, and row 0 is not read.
    """

    predicted: FloatArray
    truth: FloatArray | None = None
    halves: bool = False


Answers = dict[tuple[str, str], Answer]
"""(source, unit) -> answer."""


class CrossmodalTask(Task):
    """Base: reading, references, and the tables of units and draws."""

    name: ClassVar[str] = ""
    truth: ClassVar[str] = "tracks"
    """Parameter of a source that names the simulated truth."""
    link: ClassVar[Literal["condition", "condition x time", "condition x phase"]] = "condition"
    unit: ClassVar[str] = "condition"
    reference_names: ClassVar[tuple[str, ...]] = REFERENCES

    def __init__(self, params: Any, context: Any) -> None:
        super().__init__(params, context)
        self.params = params
        check_sources([s.name for s in params.sources])
        self.data: dict[str, Any] = {}

    def inputs(self) -> list[str]:
        """Containers and truths."""
        names = ("container", "tracks", "population")
        return [p for s in self.params.sources for n in names if (p := getattr(s, n, None))]

    def facts(self) -> dict[str, Any]:
        """Link, unit of inference, what was held out, number of units and what the design cannot show."""
        splits = {name: data.split() for name, data in sorted(self.data.items())}
        return {
            "unit": self.unit,
            "link": self.link,
            "split": splits,
            "split_sha256": {name: _sha256(split) for name, split in splits.items()},
            "n_units": {name: len(data.units) for name, data in sorted(self.data.items())},
            "confounded": {name: data.confounded for name, data in sorted(self.data.items())},
            "beware": {name: list(data.beware) for name, data in sorted(self.data.items())},
            "draws": "lineages redrawn within scenes, cells within conditions; conditions and scenes stay as they are",
        }

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references that these sources have."""
        return REFERENCES if any(getattr(s, self.truth) for s in self.params.sources) else REFERENCES[:1]

    def reference(self, name: str) -> Scores:
        """Scores of a reference, which sees the truth.

        Raises
        ------
        UsageError
            There is no such reference.
        InvalidDataError
            ``oracle`` without a source that has a simulated truth.
        """
        if name not in REFERENCES:
            raise UsageError(f"there is no reference {name!r}", mend=f"references: {', '.join(self.references)}")
        answers = self.replicate() if name == "replicate" else self.oracle()
        if not answers:
            raise InvalidDataError(
                "no source has a simulated truth", where=f"{self.name}/sources", mend=f"name it under `{self.truth}`"
            )
        return self.score(answers)

    def replicate(self) -> Answers:
        """Halves of the lineages against each other."""
        raise NotImplementedError

    def oracle(self) -> Answers:
        """The simulator's truth; no entry for sources without one."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Rows of an answer: as measured, and the draws."""
        return 1 + self.params.draws

    def frame(self, found: dict[str, FloatArray], ids: dict[str, Any], answer: Answer, errors: Iterable[str]) -> tuple[
        dict[str, Any], pd.DataFrame
    ]:  # fmt: skip
        """The row of a unit and its draws, from each metric's value in every row of the answer."""
        for key in errors if answer.halves else ():
            found[key] = found[key] / 2
        point = {k: float(np.mean(v[1:])) if answer.halves else float(v[0]) for k, v in found.items()}
        draws = pd.DataFrame({**ids, "draw": np.arange(self.params.draws)})
        for key, values in found.items():
            draws[key] = np.round(values[1 : self.rows], 9)  # sums of many threads differ in the last bits
        return {**ids, **point}, draws


def _sha256(split: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(split, sort_keys=True).encode()).hexdigest()


def read_design_of(source: CrossmodalSource) -> Design:
    """The design a container was made with."""
    return read_manifest(existing(source.container)).design


def read_nuclei(source: CrossmodalSource, design: Design) -> pd.DataFrame:
    """``obs`` of the nuclei, of scenes with a condition.

    Raises
    ------
    InvalidDataError
        The container has no nuclei, or not their condition and time.
    """
    _table_there(source, "nuclei")
    nuclei = read_obs(source.container, "nuclei")
    require_columns(nuclei, list(_NUCLEI), f"{source.container}: nuclei")
    named = nuclei["condition"].astype(str).isin({c.name for c in design.conditions})
    if not named.any():
        raise InvalidDataError(
            "no nucleus has a condition", where=f"{source.container}: nuclei.condition",
            mend="name the scenes in the design and assemble the container again",
        )  # fmt: skip
    return nuclei[named.to_numpy()]


def read_rna(source: CrossmodalSource, design: Design) -> AnnData:
    """Cells of a condition.

    Raises
    ------
    InvalidDataError
        The container has no cells, or not their condition.
    """
    _table_there(source, "rna")
    cells = read_cells(source.container, "rna")
    require_columns(cells.obs, ["condition"], f"{source.container}: rna")
    named = cells.obs["condition"].astype(str).isin({c.name for c in design.conditions}).to_numpy()
    if not named.any():
        raise InvalidDataError(
            "no cell has a condition", where=f"{source.container}: rna.condition",
            mend="demultiplex the cells and assemble the container again",
        )  # fmt: skip
    return cells[named].copy()


def _table_there(source: CrossmodalSource, table: str) -> None:
    found = read_manifest(existing(source.container)).tables
    if table not in found:
        raise InvalidDataError(
            f"has no table {table!r} (tables there: {', '.join(sorted(found)) or 'none'})",
            where=source.container, mend=_MEND[table],
        )  # fmt: skip


def need_phases(table: pd.DataFrame, system: str, where: str) -> None:
    """Refuse a table in which no row has a phase of ``system``."""
    phases = coarse_phase(table["phase"].astype(str), system) if "phase" in table else []
    if not any(p is not None for p in phases):
        step = "hyped imaging phases" if system == "fucci" else "hyped seq annotate"
        raise InvalidDataError("no row has a phase", where=f"{where}.phase", mend=f"run `{step}` and assemble again")


def cautions(design: Design, by: str, *, cells: bool) -> tuple[str, ...]:
    """What the design says against the link ``by``; nothing where one modality is used."""
    found: list[Link] = [link for link in links(design, nuclei=True, cells=cells) if link.by == by]
    return found[0].beware if found else ()


def few_conditions(n: int) -> list[str]:
    """What a reader has to know where conditions are too few to draw from."""
    said = f"{n} conditions: intervals are over nuclei and cells, and say nothing of other conditions"
    return [said] if n < FEW else []


def is_confounded(design: Design) -> bool:
    """Whether condition and pool cannot be told apart."""
    return any({"condition", "pool"} == set(pair) for pair in design.flags.confounded)


def true_sums(source: CrossmodalSource, bin_h: float) -> dict[str, SceneSums]:
    """Sums of the true tracks by scene; empty where the source names none."""
    if source.tracks is None:
        return {}
    truth = read_table(source.tracks)
    require_columns(truth, [*_NUCLEI, "track_id", "parent_id", "phase"], source.tracks)
    return {scene.scene: scene for scene in scene_sums(truth, bin_h)}


def same_bins(scene: SceneSums, truth: SceneSums | None, where: str | None) -> FloatArray:
    """True quantities (bins, 4) at the bins of ``scene``.

    Raises
    ------
    InvalidDataError
        The truth lacks the scene or one of its bins.
    """
    place = {} if truth is None else {round(float(t), 6): i for i, t in enumerate(truth.time_h)}
    rows = [place.get(round(float(t), 6)) for t in scene.time_h]
    if truth is None or None in rows:
        raise InvalidDataError(f"has no nuclei of scene {scene.scene!r} at all of its hours", where=where)
    return truth.values()[np.array(rows, dtype=int)]
