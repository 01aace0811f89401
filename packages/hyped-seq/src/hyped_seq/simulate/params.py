"""Parameters of the sequencing and screen simulator, and what ``scale`` and ``difficulty`` do to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hyped_core.params import Params
from hyped_core.simulate.biology import BiologyParams
from hyped_core.simulate.programme import ProgrammeParams


class CaptureParams(Params):
    """What happens to cells between the well and the count matrix."""

    depth: float = Field(4000.0, gt=0)
    """Mean molecules of an unperturbed cell."""
    depth_sd: float = Field(0.4, ge=0)
    """Standard deviation of its natural log."""
    ambient: float = Field(0.05, ge=0, lt=1)
    """Mean share of a cell's molecules that come from the soup."""
    doublets: float = Field(0.08, ge=0, lt=1)
    """Share of barcodes that hold two cells (of the same tag or of two)."""
    low_quality: float = Field(0.04, ge=0, lt=1)
    """Share of barcodes with a dying cell: a fifth of the molecules, eight times the mitochondrial ones."""
    read_summary_rows: int = Field(3000, ge=0)
    """Reads listed in ``read_summary.tsv`` beside one for every transcript seen."""
    processed: bool = True
    """Write the workflow's normalised matrices too."""


class HashtagParams(Params):
    """How hashtags stain and how their library is read."""

    brightness: tuple[float, ...] = (45.0, 26.0, 15.0)
    """Mean molecules on a stained cell, by tag of a pool in the design's order (cycled): some are dim."""
    brightness_sd: float = Field(0.7, ge=0)
    """Standard deviation of the natural log of staining over cells."""
    background: tuple[float, ...] = (5.0, 3.0, 4.0)
    """Mean molecules of each tag on cells that do not carry it."""
    background_sd: float = Field(0.6, ge=0)
    dispersion: float = Field(0.15, gt=0)
    untagged: float = Field(0.015, ge=0, lt=1)
    """Share of cells that took up no tag."""
    write_reads: bool = True
    reads_per_molecule: float = Field(1.2, ge=1)
    max_reads: int = Field(150_000, ge=1)
    """Where there would be more, a random part of them is written."""
    substitution: float = Field(0.015, ge=0, lt=0.3)
    insertion: float = Field(0.010, ge=0, lt=0.3)
    deletion: float = Field(0.013, ge=0, lt=0.3)
    """Mean error rates a base; their sum varies from read to read."""
    junk: float = Field(0.02, ge=0, lt=1)
    """Share of reads that are no hashtag at all."""
    adapter: str = Field("CTACACGACGCTCTTCCGATCT", pattern="^[ACGT]+$")
    """What stands before the cell barcode (end of Illumina's read 1 primer)."""


class ScreenParams(Params):
    """The perturb-seq screen: one factor or two activated in each cell, on the same gene programme."""

    singles: int = Field(28, ge=2, le=32)
    doubles: int = Field(14, ge=0)
    cells_min: int = Field(40, ge=1)
    cells_max: int = Field(60, ge=1)
    """Cells of each perturbation, uniform between the two."""
    controls: int = Field(360, ge=1)
    depth: float = Field(4000.0, gt=0)
    depth_sd: float = Field(0.35, ge=0)
    phase_shares: dict[str, float] = {"G1": 0.6, "S": 0.24, "G2M": 0.16}
    """Phases of control cells; factors of the stress module shift cells to G1."""
    not_perturbed: float = Field(0.08, ge=0, lt=1)
    """Share of cells in which the guide does nothing."""
    pool_sd: float = Field(0.12, ge=0)
    """log2 shift between the screen's two captures (each holds cells of everything)."""
    truth_cells: int = Field(800, ge=50)
    """Cells drawn for each expected mean of the truth."""


class SeqSimulationParams(Params):
    """Everything `hyped seq simulate` can be told."""

    scale: Literal["mini", "full"] = "mini"
    """``full``: the paper's dimensions, for whatever is not given explicitly."""
    difficulty: Literal["standard", "hard"] = "standard"
    """``hard``: dimmer tags, more soup and doublets, fewer molecules, a larger pool effect."""
    n_cells: int = Field(1300, ge=20)
    """Barcodes in all pools together."""
    control_share: float = Field(0.44, gt=0, lt=1)
    """Share of the barcodes that are in the pools with control cells."""
    harvest_h: float | None = None
    """None: the design's event ``harvest``, else 48."""
    sorter: dict[str, float] = {"G1": 1 / 3, "S": 1 / 3, "G2M": 1 / 3}
    """Phase composition that the sorter gives a pool hashed by phase."""
    sorter_impurity: float = Field(0.06, ge=0, lt=1)
    """Share of the cells of a gate that are in another phase."""
    chunk_cells: int = Field(200, ge=1)
    """Cells drawn at a time; memory grows with it. Part of the seed: other sizes give other numbers."""
    biology: BiologyParams = BiologyParams()
    programme: ProgrammeParams = ProgrammeParams()
    capture: CaptureParams = CaptureParams()
    hashtags: HashtagParams = HashtagParams()
    screen: ScreenParams = ScreenParams()

    def resolved(self) -> SeqSimulationParams:
        """With ``scale`` and ``difficulty`` applied (both are then ``mini`` and ``standard``, i.e. done)."""
        result = self
        if self.scale == "full":
            result = _given(result, n_cells=20_000, chunk_cells=100)
            programme = _given(self.programme, n_genes=36_000, n_transcripts=150_000, max_transcripts=12)
            capture = _given(self.capture, depth=12_000.0, read_summary_rows=100_000)
            hashtags = _given(self.hashtags, max_reads=5_000_000)
            update = {"programme": programme, "capture": capture, "hashtags": hashtags}
            result = result.model_copy(update=update)
        if self.difficulty == "hard":
            capture, tags, programme, screen = (
                result.capture,
                result.hashtags,
                result.programme,
                result.screen,
            )
            update = {
                "capture": capture.model_copy(
                    update={
                        "ambient": min(2 * capture.ambient, 0.5),
                        "doublets": min(1.6 * capture.doublets, 0.5),
                        "depth": 0.5 * capture.depth,
                    }
                ),
                "hashtags": tags.model_copy(update={"brightness": tuple(0.6 * x for x in tags.brightness)}),
                "programme": programme.model_copy(update={"pool_sd": 1.5 * programme.pool_sd}),
                "screen": screen.model_copy(update={"depth": 0.5 * screen.depth}),
            }
            result = result.model_copy(update=update)
        return result.model_copy(update={"scale": "mini", "difficulty": "standard"})


def _given(params: Any, **values: Any) -> Any:
    """``params`` with ``values`` for the fields that were not set explicitly."""
    return params.model_copy(update={k: v for k, v in values.items() if k not in params.model_fields_set})
