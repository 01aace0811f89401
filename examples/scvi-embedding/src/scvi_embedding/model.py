"""The model and its config. scvi-tools is imported when the model learns or embeds."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from pydantic import Field
from scipy import sparse

from hyped_core import Params, Perturbation, RunContext
from hyped_core.errors import InvalidDataError, UsageError
from scvi_embedding.counts import columns_of, counts_of, high_counts, perturbed
from scvi_embedding.network import Network, anndata_of, made, read_network
from scvi_embedding.process import apart

LEAST_CELLS = 10
TRAINING_THREADS = 1
"""Sums in another order are rounded otherwise, and training magnifies that; one thread is the same anywhere."""


class ScviConfig(Params):
    """Parameters of SCVI, and of perturbing cells in silico."""

    epochs: int = Field(20, ge=1)
    """Passes over the cells. Few, so that a try is quick; 400 for some thousands of cells."""
    batch_size: int = Field(64, ge=2)
    latent: int = Field(10, ge=1)
    """Length of a cell's vector."""
    hidden: int = Field(64, ge=1)
    """Units of a hidden layer."""
    layers: int = Field(1, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    activated_quantile: float = Field(0.99, ge=0, le=1)
    """An activated gene gets the count that this share of the learned cells do not exceed, or keeps a higher one."""


class Scvi:
    """Embeds cells by SCVI. It learns in `fit`, from counts alone; phases, pools and labels are not used."""

    def __init__(self, config: ScviConfig) -> None:
        self.config = config
        self.network: Network | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a record of a run says."""
        return {
            "genes": 0 if self.network is None else len(self.network.genes),
            "perturbation": f"counts: activation to quantile {self.config.activated_quantile:g}, suppression to 0",
        }

    def fit(self, train: AnnData, *, context: RunContext) -> None:
        """Learn from the counts of ``train``.

        Raises
        ------
        InvalidDataError
            Fewer than 10 cells, or values that are no counts.
        """
        counts, genes = counts_of(train), sorted(map(str, train.var_names))
        counts = sparse.csr_matrix(counts[np.asarray(counts.sum(axis=1)).ravel() > 0])
        if counts.shape[0] < LEAST_CELLS:
            raise InvalidDataError(f"{counts.shape[0]} cells with counts are too few to learn from", where="train")
        config = self.config
        options = {"n_latent": config.latent, "n_hidden": config.hidden, "n_layers": config.layers}
        context.scratch.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=context.scratch) as place,
            apart(context, Path(place), TRAINING_THREADS) as seed,
        ):
            import scvi

            scvi.settings.seed = seed
            model = made(anndata_of(counts, genes), options)
            gpu = context.device.startswith("cuda")
            model.train(
                max_epochs=config.epochs,
                batch_size=min(config.batch_size, counts.shape[0]),
                accelerator="gpu" if gpu else "cpu",
                devices=[int(context.device.partition(":")[2] or 0)] if gpu else 1,
                plan_kwargs={"lr": config.learning_rate},
                default_root_dir=place,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                callbacks=[_progress(context, config.epochs * math.ceil(0.9 * counts.shape[0] / config.batch_size))],
            )
        tensors = {name: value.detach().cpu().clone() for name, value in model.module.state_dict().items()}
        self.network = Network(genes, options, high_counts(counts, config.activated_quantile), tensors)

    def embed(self, cells: AnnData, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(cells, latent) float32; a row of NaN for a cell without counts of genes that were learned from."""
        network = self._learned()
        return self._embedded(network, counts_of(cells, network.genes), context)

    def embed_perturbed(
        self, cells: AnnData, perturbation: Perturbation, *, context: RunContext
    ) -> npt.NDArray[np.float32]:
        """The same after the perturbed genes' counts were set.

        Raises
        ------
        InvalidDataError
            A gene of the perturbation is not known.
        """
        network = self._learned()
        changes = columns_of(cells, perturbation, network.genes)
        counts = counts_of(cells, network.genes)
        empty = np.asarray(counts.sum(axis=1)).ravel() == 0  # an activated gene alone makes no cell
        found = self._embedded(network, perturbed(counts, changes, network.high), context)
        found[empty] = np.nan
        return found

    def _learned(self) -> Network:
        if self.network is None:
            raise UsageError("embed before fit", where="embedding/scvi", mend="call fit(train), or load(folder)")
        return self.network

    def _embedded(
        self, network: Network, counts: sparse.csr_matrix, context: RunContext
    ) -> npt.NDArray[np.float32]:
        context.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=context.scratch) as place, apart(context, Path(place), context.threads):
            return network.embed(counts, context.device)

    def save(self, folder: Path) -> None:
        """Write the network to ``folder`` as safetensors and JSON."""
        self._learned().write(folder)

    def load(self, folder: Path) -> None:
        """Read a network that `save` wrote."""
        self.network = read_network(folder)


def _progress(context: RunContext, steps: int) -> Any:
    """A callback of Lightning's that reports each step to the context."""
    from lightning.pytorch.callbacks import Callback

    class Told(Callback):
        def __init__(self) -> None:
            self.bar = iter(context.progress.track(range(steps), "scvi train", steps))

        def on_train_batch_start(self, *_: Any) -> None:
            next(self.bar, None)

        def on_train_end(self, *_: Any) -> None:
            next(self.bar, None)

    return Told()
