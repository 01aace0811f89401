"""`Gears` and `GearsReference`: the expression models that the registry knows, over training and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError, MissingDependencyError, UsageError
from hyped_seq.gears.checks import log_matrix
from hyped_seq.gears.params import GearsParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import Perturbation
    from hyped_seq.gears.checkpoint import Checkpoint
    from hyped_seq.gears.terms import Terms


class GearsConfig(GearsParams):
    """Settings of `Gears`: how it is built and trained."""

    perturbed: tuple[str, ...] = ()
    """Genes that predictions will be asked for though they are neither on the panel nor perturbed in training cells."""

    @property
    def training(self) -> GearsParams:
        """What training takes of them."""
        return GearsParams.model_validate(self.model_dump(include=set(GearsParams.model_fields)))


class GearsReferenceConfig(GearsConfig):
    """Settings of `GearsReference`."""

    mode: Literal["fixed", "reference"] = "reference"
    """``reference``: the original's arithmetic with its defects."""


class Gears:
    """GEARS (Roohani et al. 2023): changes of expression from graphs of co-expression and of shared terms.

    ``facts``, a dict that JSON can hold, says after `fit` or `load` what the model is: mode, sizes, how cells were held
    out for validation, which epoch was kept, and what a pretrained model's genes became.
    """

    name = "gears"

    def __init__(self, config: GearsConfig | None = None) -> None:
        self.config = config or GearsConfig()
        self.facts: dict[str, Any] = {}
        self._checkpoint: Checkpoint | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """What was trained or loaded.

        Raises
        ------
        UsageError
            Nothing was.
        """
        if self._checkpoint is None:
            raise UsageError(f"{self.name} has learned nothing yet", mend="call fit or load first")
        return self._checkpoint

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Train on control and perturbed cells; from ``config.pretrained`` on where it names a checkpoint.

        The pretrained model is put on the genes of ``train`` first (`hyped_seq.gears.transfer.transfer`). Copies of
        control cells that carry a perturbation's name are trained on like others: their true change is none. Genes
        in ``train.uns["asked_genes"]`` get a node in the perturbation graph beside those of ``config.perturbed``.

        Raises
        ------
        MissingDependencyError
            PyTorch is not installed.
        InvalidDataError
            Cells, names or files are not what they have to be.
        """
        need_torch()
        from hyped_seq.gears.train import fit

        params = self.config.training
        extra = (*self.config.perturbed, *map(str, train.uns.get("asked_genes", ())))
        terms, start = terms_of(params), None
        if params.pretrained:
            start = pretrained_for(train, params, terms=terms, validation=validation, extra=extra, context=context)
        self._take(fit(train, params, terms=terms, validation=validation, start=start, extra=extra, context=context))

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """Control cells as they are predicted to be; see `hyped_seq.gears.predict.predict_cells`.

        ``obs`` is that of ``control`` but for ``perturbation``. ``uns["fallback"]`` is there, and says why, where
        nothing the model has seen speaks of a gene; ``uns["notes"]`` what else there is to know;
        ``layers["log_variance"]`` where the model gives it.

        Raises
        ------
        UsageError
            Not fitted yet.
        UnknownPerturbation
            A gene has no node in the perturbation graph.
        InvalidDataError
            Other genes than the model's, or values that are not ln(1 + counts per 10,000).
        """
        from anndata import AnnData

        from hyped_seq.gears.predict import predict_cells
        from hyped_seq.torch_run import torch_threads

        checkpoint = self.checkpoint
        checkpoint.check_panel(list(map(str, control.var_names)), where="control/var_names")
        with torch_threads(context.threads):
            found = predict_cells(checkpoint, control_matrix(control), perturbation)
        obs = control.obs.copy()
        obs["perturbation"] = perturbation.name
        result = AnnData(X=found.x, obs=obs, var=control.var.copy())
        if found.log_variance is not None:
            result.layers["log_variance"] = np.array(found.log_variance)
        if found.fallback:
            result.uns["fallback"] = found.fallback
        if found.notes:
            result.uns["notes"] = list(found.notes)
        return result

    def save(self, folder: Path) -> None:
        """Write ``gears.safetensors`` and ``gears.json`` into ``folder``; equal models give equal bytes."""
        self.checkpoint.save(Path(folder))

    def load(self, folder: Path) -> None:
        """Read back what `save`, or `hyped seq gears train`, wrote.

        Raises
        ------
        MissingFileError, CorruptFileError, UnsupportedDataError
            See `hyped_seq.gears.checkpoint.load_checkpoint`.
        """
        need_torch()
        from hyped_seq.gears.checkpoint import load_checkpoint

        self._take(load_checkpoint(folder))

    def _take(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        encoding = "as activation" if checkpoint.params.direction == "ignored" else "negative"
        self.facts = checkpoint.facts | {"suppression": encoding}


class GearsReference(Gears):
    """GEARS with the original's arithmetic, defects included."""

    name = "gears-reference"

    def __init__(self, config: GearsReferenceConfig | None = None) -> None:
        super().__init__(config or GearsReferenceConfig())


def pretrained_for(
    cells: AnnData,
    params: GearsParams,
    *,
    terms: Terms | None = None,
    validation: AnnData | None = None,
    extra: Sequence[str] = (),
    context: RunContext,
) -> Checkpoint:
    """The checkpoint of ``params.pretrained`` on the genes of ``cells``, to go on training from.

    Co-expression and cell states are those of the control cells of ``cells``. The perturbation graph comes from
    ``terms``, or, without these, is the checkpoint's between names it shares. Its nodes are the genes of the panel,
    those perturbed in ``cells``, ``extra`` ones, and all that the checkpoint has, since these go on speaking for their
    neighbours.

    Raises
    ------
    MissingFileError, CorruptFileError
        The folder holds no checkpoint.
    InvalidDataError
        See `hyped_seq.gears.transfer.transfer`.
    """
    from hyped_seq.gears.checkpoint import load_checkpoint
    from hyped_seq.gears.data import training_cells
    from hyped_seq.gears.graphs import term_graph
    from hyped_seq.gears.train import panel_graph, training_seed, vocabulary
    from hyped_seq.gears.transfer import match_names, transfer

    old = load_checkpoint(params.pretrained)
    seed = training_seed(context, params)
    data = training_cells(cells, params, validation=validation, seed=seed)
    names = vocabulary(data, extra)
    others = np.setdiff1d(np.arange(len(old.perturbations)), match_names(old.perturbations, names).old)
    names = tuple(sorted({*names, *(old.perturbations[i] for i in others)}))
    graph = None
    if terms is not None:
        graph = term_graph(terms, names, neighbours=params.neighbours, threshold=params.term_threshold)
    ids = [cells.var["gene_id"].astype(str).tolist()] if "gene_id" in cells.var else []
    return transfer(
        old, data.genes, names, gene_graph=panel_graph(data, params), perturbation_graph=graph, symbols=data.symbols,
        aliases=ids, params=params, control_mean=data.control_mean, states=data.states, seed=seed,
        where=params.pretrained,
    )  # fmt: skip


def control_matrix(cells: AnnData, where: str = "control") -> np.ndarray:
    """``X`` as dense (cells, genes) float32, checked to be ln(1 + counts per 10,000); that of ``cells`` is not changed.

    Raises
    ------
    InvalidDataError
        See `hyped_seq.gears.checks.log_matrix`.
    """
    checked = log_matrix(cells, where)
    dense = checked.toarray() if sp.issparse(cells.X) else np.asarray(cells.X, dtype=np.float32)
    if not len(dense):
        raise InvalidDataError("holds no cells", where=where, mend="give control cells")
    return dense


def need_torch() -> None:
    """Raise `MissingDependencyError` with the install command where PyTorch is not there."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("GEARS needs PyTorch", where="gears", mend="pip install 'hyped-seq[torch]'") from (
            error
        )


def terms_of(params: GearsParams) -> Terms | None:
    """The gene sets of ``params.terms``; None where it names no file."""
    if not params.terms:
        return None
    from hyped_seq.gears.terms import read_terms

    return read_terms(Path(params.terms))


__all__ = ["Gears", "GearsConfig", "GearsReference", "GearsReferenceConfig"]
