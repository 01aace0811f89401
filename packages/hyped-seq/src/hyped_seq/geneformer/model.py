"""`Geneformer`: embeddings of cells, as they are or perturbed in silico, by weights from a folder or a hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.errors import InvalidDataError, MissingDependencyError, MissingFileError
from hyped_core.params import Params
from hyped_seq.geneformer.dictionaries import Dictionaries, load_dictionaries
from hyped_seq.geneformer.embedding_cache import EmbeddingCache
from hyped_seq.geneformer.perturb_cells import PerturbedCells, perturb_cells
from hyped_seq.geneformer.tokenizer import Tokenizer
from hyped_seq.geneformer.tokens import TokenSets

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import Perturbation
    from hyped_seq.geneformer.weights import Weights

CARD = "geneformer.json"
"""What a model that was pretrained here says of itself."""
Floats = npt.NDArray[np.float32]
_INTS = np.empty(0, dtype=np.int32)
_NONE = TokenSets(_INTS, np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64), 0, _INTS)


class EmbeddingConfig(Params):
    """How cells are encoded, perturbed and embedded, whatever the weights."""

    layer: Literal[-1, 0] = -1
    """-1: the state before the last layer (the official default, more general); 0: after the last."""
    pooling: Literal["mean", "cls"] = "mean"
    """Mean over a cell's genes, or the state of <cls> (series V2 only)."""
    mode: Literal["expression", "token"] = "expression"
    """Perturbation of counts before they are encoded (the paper's Algorithm 1), or of encoded cells (official)."""
    level: Literal["max", "above"] = "max"
    """Count of an activated gene in mode expression: the cell's maximum, or as much above it as puts it on top."""
    add_absent: bool = False
    """Take a gene to be activated that the data have no column for as not expressed, where False is an error."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest sequence, special tokens included; None: as long as the series has them."""
    batch_tokens: int | None = Field(None, ge=1)
    """Tokens in a batch; None: by the memory there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: fp32 on a CPU, bf16 on a GPU."""
    cache: str = ""
    """Folder that keeps embeddings between runs; empty: in memory, as long as the model lives."""


class GeneformerConfig(EmbeddingConfig):
    """Settings of `Geneformer`."""

    weights: str = ""
    """Folder with config.json and model.safetensors, a hub id (owner/name[/subfolder][@revision]), or a published one:
    geneformer/V1-10M, geneformer/V2-104M, geneformer/V2-316M, fetched where it is not there."""
    dictionaries: str = ""
    """Folder or file of the token and median dictionaries; empty: those in the folder of the weights or beside it."""


class Embedder:
    """What embedders with a Geneformer encoder share: cells to sequences, sequences to vectors, and the record.

    Attributes
    ----------
    facts : what a record should say: weights, dictionaries, settings, cells left out, and what each perturbation did
        (`hyped_seq.geneformer.perturbation.Perturbed`). Updated by every call.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        self.config: Any = config
        self.facts: dict[str, Any] = {}
        self._weights: Weights | None = None
        self._placed: tuple[str, Weights] | None = None
        self._tokenizer: Tokenizer | None = None
        self._cache: EmbeddingCache | None = None
        self._perturbed: dict[str, PerturbedCells] = {}

    def embed(self, cells: AnnData, *, context: RunContext) -> Floats:
        """(cells, d) float32; rows of NaN for cells in which no gene of the dictionary has a count.

        Raises
        ------
        InvalidDataError
            Values that are no raw counts, or no gene of the dictionary.
        """
        _, tokenizer = self.ready(context)
        return self._rows(tokenizer.tokenize_cells(cells, context=context), "", context)

    def embed_perturbed(self, cells: AnnData, perturbation: Perturbation, *, context: RunContext) -> Floats:
        """(cells, d) float32 of the cells after ``perturbation``, by the config's mode and level.

        Raises
        ------
        InvalidDataError
            As `embed`; a gene has no token, or is to be suppressed and is not among the data's genes.
        """
        if perturbation.is_control:
            return self.embed(cells, context=context)
        _, tokenizer = self.ready(context)
        mode, level = self.config.mode, self.config.level
        found = perturb_cells(
            cells, perturbation, tokenizer, mode=mode, level=level, add_absent=self.config.add_absent, context=context
        )
        rows = self._rows(found.tokens, perturbation.name, context)
        self._note(perturbation.name, found)
        return rows

    def _ready(self) -> tuple[Weights, Tokenizer]:
        """Weights as they were given, and tokenizer, set up at the first call."""
        raise NotImplementedError

    def ready(self, context: RunContext) -> tuple[Weights, Tokenizer]:
        """Weights on the context's device in the precision of the config, and tokenizer."""
        weights, tokenizer = self._ready()
        from hyped_seq.geneformer.embedding import device_of, placed, resolve_precision

        if self._placed is None or self._placed[0] != context.device:
            device = device_of(context.device)
            precision = resolve_precision(self.config.precision, device)
            self._placed = context.device, replace(weights, encoder=placed(weights.encoder, device, precision))
            self.facts["precision"] = precision
        return self._placed[1], tokenizer

    def _use(self, weights: Weights, dictionaries: Dictionaries) -> tuple[Weights, Tokenizer]:
        """Take these weights and dictionaries, once it is sure that they fit; what others embedded is forgotten."""
        from hyped_seq.geneformer.weights import check_fit

        config = self.config
        longest = config.max_tokens
        if longest is None and weights.series is not None:  # made here, perhaps for shorter sequences
            longest = min(dictionaries.series.max_tokens, weights.architecture.positions)
        check_fit(weights, dictionaries, max_tokens=longest)
        self._weights, self._tokenizer = weights, Tokenizer(dictionaries, max_tokens=longest)
        self._cache = EmbeddingCache(config.cache or None)
        self._perturbed, self._placed = {}, None
        self.facts = {
            "weights": {
                "source": _short(weights.source),
                "sha256": weights.sha256,
                "architecture": weights.architecture.label,
                "layers": weights.architecture.layers,
                "hidden": weights.architecture.hidden,
            },
            "dictionaries": {
                "source": dictionaries.source,
                "sha256": dictionaries.sha256,
                "series": dictionaries.series.name,
                "genes": len(dictionaries),
            },
            "mode": config.mode,
            "level": config.level if config.mode == "expression" else None,
            "layer": config.layer,
            "pooling": config.pooling,
            "precision": config.precision,
            "max_tokens": self._tokenizer.max_tokens,
            "perturbations": {},
            "cells": {},
        }
        return weights, self._tokenizer

    def _rows(self, tokens: TokenSets, name: str, context: RunContext) -> Floats:
        """Embeddings of sequences at the rows of their cells."""
        from hyped_seq.geneformer.embedding import embed_tokens

        weights, tokenizer = self.ready(context)
        config, cache = self.config, self._cache
        assert cache is not None
        rows = embed_tokens(
            weights, tokens, series=tokenizer.dictionaries.series, layer=config.layer, pooling=config.pooling,
            batch_tokens=config.batch_tokens, precision=config.precision, cache=cache, context=context,
        )  # fmt: skip
        out = np.full((tokens.n_cells, weights.architecture.hidden), np.nan, dtype=np.float32)
        out[tokens.rows] = rows
        counted = self.facts["cells"].setdefault(
            name or "unperturbed", {"embedded": 0, "without_known_gene": 0, "cut": 0}
        )
        counted["embedded"] += len(tokens)
        counted["without_known_gene"] += tokens.n_dropped
        counted["cut"] += int((tokens.n_genes > tokenizer.room).sum())
        if not config.cache:  # of a folder it depends on what earlier runs left there, and a record must not
            self.facts["sequences"] = {"computed": cache.n_computed, "from_cache": cache.n_found}
        if cache.damaged:
            self.facts["damaged_shards"] = list(cache.damaged)
        return out

    def _note(self, name: str, found: PerturbedCells) -> None:
        """Put what a perturbation did into the facts, joined with earlier calls for it."""
        earlier = self._perturbed.get(name)
        if earlier is not None and earlier.edits != found.edits:
            earlier = None  # another perturbation of the same name
        joined = replace(found.joined(earlier), tokens=_NONE)
        self._perturbed[name] = joined
        self.facts["perturbations"][name] = joined.record().as_dict()


class Geneformer(Embedder):
    """Geneformer with published or any other weights of its architecture.

    Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9; Chen et al. 2024, doi:10.1101/2024.08.16.608180.
    """

    def __init__(self, config: GeneformerConfig | None = None) -> None:
        super().__init__(config or GeneformerConfig())

    def _ready(self) -> tuple[Weights, Tokenizer]:
        if self._weights is not None and self._tokenizer is not None:
            return self._weights, self._tokenizer
        config = self.config
        if not config.weights:
            raise MissingFileError(
                "no weights are set",
                where="geneformer",
                mend="`hyped models fetch geneformer` gets the published ones; then give their folder (.../V2-104M) "
                "as weights",
            )
        return self._use(*load_model(config.weights, config.dictionaries))


def load_model(weights: str | Path, dictionaries: str | Path = "") -> tuple[Weights, Dictionaries]:
    """Weights from a folder or hub id, and the dictionaries given or beside them.

    Raises
    ------
    MissingFileError
        The folder of the weights holds no dictionaries and none were given; and all that `load_weights` raises.
    InvalidDataError
        Weights that were pretrained here, with other dictionaries.
    """
    from hyped_seq.geneformer.hub import dictionaries_folder
    from hyped_seq.geneformer.weights import load_weights

    need_torch()
    loaded = load_weights(weights)
    try:
        found = load_dictionaries(dictionaries or dictionaries_folder(loaded.folder))
    except MissingFileError as error:
        if dictionaries:
            raise
        raise MissingFileError(
            "holds no dictionaries beside the weights",
            where=loaded.folder,
            mend="--dictionary FOLDER (in Python dictionaries) with those that belong to the weights",
        ) from error
    trained_with = _card(loaded.folder).get("dictionaries", {}).get("sha256", found.sha256)
    if found.sha256 != trained_with:
        raise InvalidDataError(
            f"the weights were trained with other dictionaries (sha256 {trained_with}, not {found.sha256})",
            where=found.where,
            mend="leave --dictionary (in Python dictionaries) out: those of the weights are then taken"
            if dictionaries
            else "put the folder there again that pretraining wrote: weights and dictionaries belong together",
        )
    return loaded, found


def need_torch() -> None:
    """Raise `MissingDependencyError` with the install command where PyTorch is not there."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "embedding cells needs PyTorch", where="geneformer", mend="pip install 'hyped-seq[torch]'"
        ) from error


def _card(folder: Path) -> dict[str, Any]:
    """What a model that was made here says of itself; empty for others."""
    path = folder / CARD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _short(source: str) -> str:
    """A folder's name without what leads to it (records move between machines), a hub id as it is."""
    path = Path(source)
    return path.name if path.exists() else source
