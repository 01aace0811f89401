"""Parameters of the task `expression`: where cells come from, how perturbations are held out, and what is seen."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hyped_bench.splits import SplitParams
from hyped_bench.tasks.base import TaskParams
from hyped_core.params import Params

HELD_OUT, RELABELLED = "held_out", "relabelled_control"
SAID = {
    HELD_OUT: "The cells of every scored condition are held out entirely; the model learns from control and from the "
    "other perturbations.",
    RELABELLED: "By this recipe the model never sees a perturbed cell of the experiment: control cells are relabelled "
    "as each condition, which trains it toward no change. What it predicts beyond that comes from earlier training on "
    "other cells, or from chance.",
}
"""What each protocol means for the numbers; goes into records and beside the tables."""


class ExpressionSource(Params):
    """Perturbed and control cells."""

    name: str
    cells: str
    """Container (table ``rna``) or .h5ad."""
    kind: Literal["screen", "conditions"] = "screen"
    """``conditions``: ``obs.condition`` of the experiment, named after the genes the design gives it."""
    perturbation: str = "perturbation"
    """``obs`` column of a screen that names ``control``, ``GENE`` or ``GENE1+GENE2`` (``ctrl`` too)."""
    where: dict[str, str] = Field(default_factory=dict)
    """Keep cells with these values in these ``obs`` columns."""
    counts: bool = False
    """X holds raw counts, which are brought to ln(1 + counts per 10,000) first."""
    direction: Literal["activation", "suppression"] = "activation"
    """Of perturbations the file says nothing about."""
    design: str | None = None
    """Design file for ``conditions``; HYPED's own where None."""
    protocol: Literal["held_out", "relabelled_control"] = "held_out"
    """``held_out``: the model sees control and the training perturbations of ``split``. ``relabelled_control`` (the
    paper's recipe for GEARS, Table 3): it sees control cells only, beside themselves as a copy for every condition,
    labelled as that condition, and predicts all conditions."""
    split: SplitParams | None = None
    """Where None: a fold a condition for ``conditions``, half of the combinations for a screen. Not for
    ``relabelled_control``."""
    configs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Model -> parameters for this source, laid over the model's own (``gears: {pretrained: FOLDER}``). Pretrained
    weights must come from other cells than those scored here."""
    n_genes: int | None = Field(None, ge=10)
    """Keep the genes with the highest variance among control cells and the perturbed ones; all where None."""
    max_cells: int = Field(500, ge=10)
    """Cells of a perturbation (and of control) used, drawn with the seed."""
    min_cells: int = Field(10, ge=2)
    """Where a split holds out a phase or replicate: perturbations with fewer cells there are not scored."""
    top_genes: int = Field(500, ge=10)
    """Genes of the paper's four numbers in ``cosine_top`` and its kin (``conditions`` only); all if there are fewer."""
    top_genes_by: Literal["variance", "expression", "change"] = "variance"
    """Which are the top: highest variance or mean among control cells, or the largest |t| of the condition against
    control. ``change`` (the usual "top differentially expressed") looks at the truth: a model cannot know these genes,
    and the numbers on them are of another kind."""
    oracle: str | None = None
    """.h5ad of noise-free means (simulated data), for the reference ``oracle``."""
    suffix: bool = True
    """Whether metrics also get this source's name; primary ones are averaged into the plain keys."""
    primary: bool = True

    @property
    def held_out(self) -> SplitParams:
        """The split, with the default of the source's kind."""
        if self.split is not None:
            return self.split
        return SplitParams(kind="unseen_condition" if self.kind == "conditions" else "unseen_combination")

    @model_validator(mode="after")
    def _split_goes_with_held_out(self) -> Self:
        if self.protocol == RELABELLED and self.split is not None:
            raise ValueError("relabelled_control shows no perturbed cell: there is nothing to split, drop `split`")
        return self


class ExpressionParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[ExpressionSource, ...]
    components: int = Field(20, ge=2)
    """Principal components of the training cells for the energy distance."""
    energy_cells: int = Field(200, ge=10)
    """Cells of each group used for distances of populations, and of predicted cells for differential expression."""

    @model_validator(mode="after")
    def _one_protocol_in_the_means(self) -> Self:
        protocols = sorted({source.protocol for source in self.sources if source.primary})
        if len(protocols) > 1:
            raise ValueError(
                f"primary sources have the protocols {' and '.join(protocols)}, whose scores are no mean: set "
                "`primary: false` for those of one"
            )
        return self
