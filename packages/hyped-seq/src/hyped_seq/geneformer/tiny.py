"""Embedders that need no download: `GeneformerTiny`, pretrained here on control cells, and its untrained control."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_seq.geneformer.model import Embedder, EmbeddingConfig, load_model, need_torch
from hyped_seq.geneformer.pretrain_params import PretrainParams

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_seq.geneformer.pretrain import Pretrained
    from hyped_seq.geneformer.tokenizer import Tokenizer
    from hyped_seq.geneformer.weights import Weights


class GeneformerTinyConfig(EmbeddingConfig):
    """Settings of `GeneformerTiny`."""

    weights: str = ""
    """Folder that `hyped seq geneformer pretrain` wrote; empty: `fit` pretrains."""
    pretrain: PretrainParams = PretrainParams()
    """How `fit` pretrains."""


class GeneformerUntrainedConfig(EmbeddingConfig):
    """Settings of `GeneformerUntrained`."""

    pretrain: PretrainParams = PretrainParams()
    """Sizes and series; nothing is trained."""


class _Fitted(Embedder):
    """What gets its encoder by `fit` or `load`, and keeps the folder it is."""

    name = ""

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(config)
        self._made: Pretrained | None = None
        self._folder: Path | None = None

    def save(self, folder: Path) -> None:
        """Write weights, dictionaries and what the model is into an empty or new folder.

        Raises
        ------
        UsageError
            Nothing was fitted or loaded, or the folder is not empty.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError("is no empty folder", where=folder, mend="give a new folder")
        if self._made is not None:
            self._made.save(folder)
        elif self._folder is not None:
            with atomic_path(folder) as temporary:
                shutil.copytree(self._folder, temporary)
        else:
            raise self._unfitted()

    def load(self, folder: Path) -> None:
        """Take the model of a folder; it is set up, and checked, here."""
        self._from_folder(Path(folder))

    def _from_folder(self, folder: Path) -> None:
        weights, dictionaries = load_model(folder)
        self._made, self._folder = None, weights.folder
        self._use(weights, dictionaries)
        self.facts["published_weights"] = False

    def _take(self, made: Pretrained, what: str) -> None:
        """Use a model that was made here."""
        self._made, self._folder = made, None
        self._use(made.weights(self.name), made.dictionaries)
        self.facts |= {"published_weights": False, "what": what}

    def _ready(self) -> tuple[Weights, Tokenizer]:
        if self._weights is None or self._tokenizer is None:
            raise self._unfitted()
        return self._weights, self._tokenizer

    def _unfitted(self) -> UsageError:
        return UsageError("has not learned anything yet", where=self.name, mend="call fit or load first")


class GeneformerTiny(_Fitted):
    """A small model of Geneformer's architecture, pretrained by masked tokens on control cells; not the published."""

    name = "geneformer-tiny"

    def __init__(self, config: GeneformerTinyConfig | None = None) -> None:
        super().__init__(config or GeneformerTinyConfig())

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Pretrain on the control cells of ``train`` (all where ``obs`` has no ``perturbation``), or load ``weights``.

        Raises
        ------
        InvalidDataError
            There is no control cell, or counts are none.
        """
        config = self.config
        if config.weights:
            self._from_folder(Path(config.weights))
            return
        need_torch()
        from hyped_seq.geneformer.pretrain import pretrain

        cells = control_cells(train)
        made = pretrain(cells, _keep_unseen(config.pretrain), context=context, source="control cells")
        self._take(made, made.record["what"])
        self.facts["pretraining"] = {
            key: made.record[key] for key in ("seed", "cells", "training", "held_out", "notes")
        }

    def _ready(self) -> tuple[Weights, Tokenizer]:
        if self._weights is None and self.config.weights:
            self._from_folder(Path(self.config.weights))
        return super()._ready()


class GeneformerUntrained(_Fitted):
    """The control of `GeneformerTiny`: its first weights, by the same seed, with dictionaries of the same cells."""

    name = "geneformer-untrained"

    def __init__(self, config: GeneformerUntrainedConfig | None = None) -> None:
        super().__init__(config or GeneformerUntrainedConfig())

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Take dictionaries from the control cells of ``train``, and weights from the seed.

        Raises
        ------
        InvalidDataError
            There is no control cell, or counts are none.
        """
        need_torch()
        from hyped_seq.geneformer.masked_lm import first_model
        from hyped_seq.geneformer.pretrain import Curve, Pretrained, architecture_of
        from hyped_seq.geneformer.pretrain_data import prepare

        cells = control_cells(train)
        params = _keep_unseen(self.config.pretrain)
        data = prepare(cells, params, context, "control cells")
        architecture = architecture_of(params, data)
        what = "The seeded weights that geneformer-tiny starts from: a control that was trained on nothing."
        series = data.dictionaries.series.name
        record = {"name": self.name, "what": what, "published_weights": False, "series": series, "seed": context.seed}
        model = first_model(architecture, context).eval().requires_grad_(False)
        self._take(Pretrained(model, architecture, data.dictionaries, Curve(()), record), what)


def control_cells(cells: AnnData) -> AnnData:
    """The cells whose ``perturbation`` is ``control``; all where ``obs`` does not say.

    Raises
    ------
    InvalidDataError
        None of them is.
    """
    if "perturbation" not in cells.obs:
        return cells
    control = (cells.obs["perturbation"].astype(str) == CONTROL).to_numpy()
    if not control.any():
        raise InvalidDataError(
            "holds no control cell", where="obs/perturbation", mend="give control cells to learn from"
        )
    return cells if control.all() else cells[control]


def _keep_unseen(params: PretrainParams) -> PretrainParams:
    """``params`` that give genes without counts a token too, so that any gene of the cells can be activated."""
    return params.model_copy(update={"keep_unseen": True})


__all__ = [
    "GeneformerTiny",
    "GeneformerTinyConfig",
    "GeneformerUntrained",
    "GeneformerUntrainedConfig",
]
