"""What a model of each task has to offer: protocols on plain arrays, tables and AnnData, nothing to inherit from.

Every call gets a :class:`~hyped_core.context.RunContext` as keyword ``context``. Inputs belong to the
caller: a model must not modify them. Models that learn offer ``save(folder)`` and ``load(folder)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import Perturbation


@dataclass(frozen=True, slots=True)
class ImageMeta:
    """What is known about an image stack.

    Attributes
    ----------
    channel : name, or names joined with ``+`` for several planes.
    data_range : (lowest, highest) value the camera can give, e.g. ``(0, 16383)`` for 14 bits.
    offset : camera offset in camera units, where known.
    gain : camera units per photo-electron, where known.
    pixel_size_um : edge of a pixel in micrometres.
    time_h : acquisition time of each plane in hours since the experiment's zero, where known.
    channels : names of the planes given to a segmenter, in order.
    """

    channel: str = ""
    data_range: tuple[float, float] = (0.0, 65535.0)
    offset: float | None = None
    gain: float | None = None
    pixel_size_um: float = 1.0
    time_h: tuple[float, ...] | None = None
    channels: tuple[str, ...] = ()


@runtime_checkable
class ExpressionPredictor(Protocol):
    """Predicts the expression of perturbed cells from control cells.

    ``X`` is ln(1 + counts per 10,000), float32; ``obs["perturbation"]`` names each cell's perturbation
    (``"control"``, ``"GENE"`` or ``"GENE1+GENE2"``); ``uns["perturbations"]`` maps the names to
    :class:`~hyped_core.design.Perturbation` as dicts; covariates are ``obs["phase"]`` and ``obs["pool"]``. In `fit`,
    ``uns["asked_genes"]`` lists the genes that predictions may be asked for (names only), for models that need to know
    them before they learn.

    Optional: ``facts``, a dict that JSON can hold, is what the record of a run should say of the model: what it left
    out in `fit`, where it fell back on something simpler.
    """

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Learn from control and perturbed training cells."""
        ...

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """Predicted cells under ``perturbation``: any number of rows, ``var_names`` as ``control`` has them."""
        ...


@runtime_checkable
class CellEmbedder(Protocol):
    """Maps cells to vectors.

    Input: AnnData whose ``X`` holds raw integer counts (sparse rows); ``var`` has ``gene_id`` and ``symbol`` where they
    are known; ``obs`` has ``n_counts`` (counts of the cell over all genes), ``phase`` and ``pool``; where the cells are
    control cells, ``perturbation`` says so (of perturbed cells the benchmark does not tell, since that is the truth).
    A cell that cannot be embedded (none of its genes is known) gets a row of NaN: the benchmark leaves it out and
    counts it.

    Two things are optional. ``fit(train, *, context)`` learns from cells before any is embedded (the benchmark gives
    control cells only). ``facts``, a dict that JSON can hold, is what the record of a run should say of the model:
    which weights, what a perturbation did to the cells.
    """

    def embed(self, cells: AnnData, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(cells, d) float32."""
        ...

    def embed_perturbed(
        self, cells: AnnData, perturbation: Perturbation, *, context: RunContext
    ) -> npt.NDArray[np.float32]:
        """(cells, d) float32 of the cells after the perturbation was applied in silico."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """Removes noise from the planes of one channel.

    Three things are optional. ``fit(stack, meta, *, context)`` learns a channel from some of its frames (t, y, x),
    spread over the movie; `denoise` then learns nothing more. ``neighbours``, on the model or on its ``config``, is how
    many frames before and after a frame its result depends on (0 where absent): a long movie is given in windows with
    as many frames more on each side. ``denoise_frames(read, count, meta, *, context, frames=None)`` goes through a
    movie frame by frame and is given no windows: ``read`` gives the frame (y, x) of a number from 0 to ``count`` - 1
    and may be asked for one more than once; yielded are the frames of the numbers ``frames``, ascending (all where
    None): (y, x) float32, the pixels that `denoise` of the whole movie gives, whichever frames are asked for.
    """

    def denoise(
        self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext
    ) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32, camera units."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Finds nuclei in one frame."""

    def segment(
        self, planes: npt.NDArray, meta: ImageMeta, *, context: RunContext
    ) -> npt.NDArray[np.int32]:
        """(c, y, x) in camera units, channels named by ``meta.channels`` -> labels (y, x), 0 is background."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Links nuclei over time."""

    def track(
        self, objects: pd.DataFrame, labels: npt.NDArray | None = None, *, context: RunContext
    ) -> pd.DataFrame:
        """Return ``objects``, rows in the same order, with two int64 columns more.

        Input columns: ``frame, time_h, y_um, x_um, label, area_um2`` and intensities. ``track_id`` is
        positive (0 for an object left unassigned, then ``unassigned_reason`` says why); ``parent_id`` is the
        track this one came from by division, 0 where there is none.
        """
        ...


@runtime_checkable
class Demultiplexer(Protocol):
    """Assigns each cell to the hashtag it carries."""

    def assign(self, hto: AnnData, *, context: RunContext) -> pd.DataFrame:
        """Cells x tags raw counts in ``X`` -> one row a cell, indexed by ``hto.obs_names``.

        Columns: ``call`` (tag name, ``"Doublet"`` or ``"Negative"``), ``kind`` (``singlet``, ``doublet``,
        ``negative``), ``probability`` of the call in [0, 1], ``tags`` (names joined with ``+``).
        Optional further columns: ``forced_call`` (best tag, "" without counts), ``doublet_probability``,
        ``margin``.
        """
        ...


class Trainable(Protocol):
    """A model with learned state: safetensors and JSON in a folder, never pickle."""

    def save(self, folder: Path) -> None:
        """Write the state into an empty or new folder."""
        ...

    def load(self, folder: Path) -> None:
        """Read the state back; checks that it fits."""
        ...


PROTOCOLS: dict[str, type] = {
    "expression": ExpressionPredictor,
    "embedding": CellEmbedder,
    "denoise": Denoiser,
    "segment": Segmenter,
    "track": Tracker,
    "demultiplex": Demultiplexer,
}
"""Task name -> the protocol its models satisfy."""

REQUIRED_METHODS: dict[str, Sequence[str]] = {
    "expression": ("fit", "predict"),
    "embedding": ("embed", "embed_perturbed"),
    "denoise": ("denoise",),
    "segment": ("segment",),
    "track": ("track",),
    "demultiplex": ("assign",),
}

OPTIONAL_MEMBERS: dict[str, tuple[str, ...]] = {
    "ExpressionPredictor": ("facts",),
    "CellEmbedder": ("fit", "facts"),
    "Denoiser": ("fit", "neighbours", "denoise_frames"),
    "Demultiplexer": ("forced_call", "doublet_probability", "margin"),
    "Tracker": ("unassigned_reason",),
}
"""Protocol -> what its docstring leaves to a model: methods, attributes and, of tables, columns."""

ADDED_IN: dict[str, str] = {
    "ImageMeta": "0.1.0",
    "ExpressionPredictor": "0.1.0",
    "ExpressionPredictor.fit": "0.1.0",
    "ExpressionPredictor.predict": "0.1.0",
    "ExpressionPredictor.facts": "0.1.0",
    "CellEmbedder": "0.1.0",
    "CellEmbedder.embed": "0.1.0",
    "CellEmbedder.embed_perturbed": "0.1.0",
    "CellEmbedder.fit": "0.1.0",
    "CellEmbedder.facts": "0.1.0",
    "Denoiser": "0.1.0",
    "Denoiser.denoise": "0.1.0",
    "Denoiser.fit": "0.1.0",
    "Denoiser.neighbours": "0.1.0",
    "Denoiser.denoise_frames": "0.1.0",
    "Segmenter": "0.1.0",
    "Segmenter.segment": "0.1.0",
    "Tracker": "0.1.0",
    "Tracker.track": "0.1.0",
    "Tracker.unassigned_reason": "0.1.0",
    "Demultiplexer": "0.1.0",
    "Demultiplexer.assign": "0.1.0",
    "Demultiplexer.forced_call": "0.1.0",
    "Demultiplexer.doublet_probability": "0.1.0",
    "Demultiplexer.margin": "0.1.0",
    "Trainable": "0.1.0",
    "Trainable.save": "0.1.0",
    "Trainable.load": "0.1.0",
}
"""Contract, or ``Contract.member`` -> the hyped-core it came with: what a plugin's ``hyped-core>=`` has to name."""
