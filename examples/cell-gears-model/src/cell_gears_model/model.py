"""The model and its config. cell-gears is imported when the model learns or predicts."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from pydantic import Field
from scipy import sparse

from cell_gears_model.graph import edges_of_expression, edges_of_terms, read_terms
from cell_gears_model.process import Told, apart, cells_without_download
from cell_gears_model.state import GRAPHS, Network, read_network
from hyped_core import Params, Perturbation, RunContext
from hyped_core.errors import InvalidDataError, UsageError

CONTROL, MOST_GENES, LEAST_CELLS, LEAST_GENES = "ctrl", 2, 2, 20
"""Its word for control cells, genes of a perturbation, cells of a perturbation, and genes measured."""
TRAINING_THREADS = 1
"""Sums in another order are rounded otherwise, and training magnifies that; one thread is the same anywhere."""


class CellGearsConfig(Params):
    """Parameters of cell-gears; the paper's are 20 epochs and what stands here otherwise."""

    epochs: int = Field(2, ge=1)
    """Passes over the training cells. Few, so that a try is quick; 20 in the paper."""
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    hidden_size: int = Field(64, ge=2)
    """Length of the embeddings of genes."""
    similar_genes: int = Field(20, ge=1)
    """Edges to a gene in each of the two graphs."""
    coexpression_least: float = Field(0.4, ge=0, lt=1)
    """Least correlation of two genes with an edge in the graph of co-expression."""
    direction_weight: float = Field(0.1, ge=0)
    """Weight of the loss of direction."""
    terms: str = ""
    """JSON of gene -> gene ontology terms. Without it, perturbed genes are linked by their correlation."""


class CellGears:
    """GEARS of cell-gears 0.1.2 without uncertainty, whose loss cannot be trained on a CPU."""

    def __init__(self, config: CellGearsConfig) -> None:
        self.config = config
        self.network: Network | None = None
        self.left_out: list[str] = []

    @property
    def facts(self) -> dict[str, Any]:
        """What a record of a run says: the graph of perturbed genes, what was left out, and genes it may only infer."""
        known = self.network
        unseen = [] if known is None else [gene for gene in known.perturbed if gene not in known.seen]
        return {"graph": self.config.terms or "co-expression", "left_out": self.left_out, "unseen": unseen}

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Train as cell-gears does; the epoch with the least error on ``validation`` (else on ``train``) is kept.

        Perturbations of more than two genes, or seen in one cell, are left out: cell-gears has no place for them.

        Raises
        ------
        InvalidDataError
            There are no control cells or perturbations to learn from, fewer than 20 genes, or values not finite.
        """
        genes = sorted(map(str, train.var_names))
        if len(genes) < LEAST_GENES:
            raise InvalidDataError(f"{len(genes)} genes are too few: it needs {LEAST_GENES}", where="train.var_names")
        parts = {"train": _labelled(train, genes), "val": None if validation is None else _labelled(validation, genes)}
        self.left_out = sorted({n for part in parts.values() if part for n in part[2]})
        cells, conditions, sets = _joined(parts)
        seen = sorted({g for name in sets["train"] + sets["val"] for g in name.split("+")} - {CONTROL})
        perturbed = sorted({*seen, *map(str, train.uns.get("asked_genes", ()))})
        control = cells[[c == CONTROL for c in conditions]].toarray()
        k = self.config.similar_genes
        if self.config.terms:
            edges = edges_of_terms(perturbed, read_terms(Path(self.config.terms)), k)
        else:
            edges = edges_of_expression(perturbed, genes, control, k)
        context.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=context.scratch) as place, apart(context, Path(place), TRAINING_THREADS):
            owner = self._trained(Path(place), cells, conditions, genes, perturbed, sets, edges, context)
        options = {k: v for k, v in owner.config.items() if k not in (*GRAPHS, "device")}
        tensors = {f"model.{k}": v.detach().cpu() for k, v in owner.best_model.state_dict().items()}
        tensors |= {name: owner.config[name].detach().cpu() for name in GRAPHS}
        self.network = Network(genes, perturbed, seen, options, tensors)

    def _trained(
        self,
        folder: Path,
        cells: sparse.csr_matrix,
        conditions: list[str],
        genes: list[str],
        perturbed: list[str],
        sets: dict[str, list[str]],
        edges: pd.DataFrame,
        context: RunContext,
    ) -> Any:
        """The library's own object after training, its files in ``folder``."""
        from gears import GEARS
        from gears.utils import GeneSimNetwork

        data = cells_without_download(folder, perturbed)
        table = pd.DataFrame({"condition": conditions, "cell_type": "cells"}).rename(index=lambda i: f"c{i}")
        adata = AnnData(cells, obs=table, var=pd.DataFrame({"gene_name": genes}, index=genes))
        data.new_data_process("cells", adata=adata)
        data.split, data.seed, data.train_gene_set_size, data.set2conditions = "no_test", context.seed, 1, sets
        data.get_dataloader(batch_size=min(self.config.batch_size, len(conditions)))
        data.dataloader = {
            name: Told(loader, context, name.partition("_")[0]) for name, loader in data.dataloader.items()
        }
        owner = GEARS(data, device=context.device)
        graph = GeneSimNetwork(edges, perturbed, node_map=data.node_map_pert)
        owner.model_initialize(
            hidden_size=self.config.hidden_size,
            num_similar_genes_go_graph=self.config.similar_genes,
            num_similar_genes_co_express_graph=self.config.similar_genes,
            coexpress_threshold=self.config.coexpression_least,
            direction_lambda=self.config.direction_weight,
            G_go=graph.edge_index,
            G_go_weight=graph.edge_weight,
        )
        owner.train(epochs=self.config.epochs, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        return owner

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """A cell for each of ``control``, with its genes in its order.

        Raises
        ------
        UsageError
            The model has not learned.
        InvalidDataError
            A gene of the perturbation is not in the graph, or ``control`` lacks genes that the model knows.
        """
        if self.network is None:
            raise UsageError("predict before fit", where="expression/cell-gears", mend="call fit, or load")
        network, names = self.network, list(map(str, control.var_names))
        unknown = [gene for gene in perturbation.genes if gene not in network.perturbed]
        if unknown:
            raise InvalidDataError(
                f"{', '.join(unknown)} is not among the genes that this model can perturb",
                where=perturbation.name,
                mend="name it in uns['asked_genes'] of the training cells",
            )
        if sorted(names) != network.genes:
            raise InvalidDataError("control has other genes than the model learned", where="control.var_names")
        if control.n_obs == 0:
            raise InvalidDataError("there is no cell to predict from", where="control")
        place = {gene: i for i, gene in enumerate(names)}
        order = np.array([place[gene] for gene in network.genes])
        values = _dense(control.X)[:, order]
        _finite(values, "control.X")
        if perturbation.genes:
            context.scratch.mkdir(parents=True, exist_ok=True)
            place = tempfile.TemporaryDirectory(dir=context.scratch)
            with place as folder, apart(context, Path(folder), context.threads):
                values = self._forward(values, [network.perturbed.index(g) for g in perturbation.genes], context)
        out = np.empty_like(values)
        out[:, order] = values
        return AnnData(out, obs=control.obs.copy(), var=control.var.copy())

    def _forward(self, values: npt.NDArray[np.float32], perturbed: list[int], context: RunContext) -> npt.NDArray:
        import torch
        from torch_geometric.data import Batch, Data

        assert self.network is not None
        model = self.network.build(context.device)
        found = []
        starts = range(0, len(values), 64)
        with torch.no_grad():
            for start in context.progress.track(starts, "cell-gears predict", len(starts)):
                rows = torch.from_numpy(values[start : start + 64])
                graphs = [Data(x=row[:, None], pert_idx=perturbed) for row in rows]
                found.append(model(Batch.from_data_list(graphs).to(context.device)).cpu().numpy())
        return np.concatenate(found).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the network to ``folder`` as safetensors and JSON."""
        if self.network is None:
            raise UsageError("save before fit", where="expression/cell-gears", mend="call fit(train)")
        self.network.write(folder)

    def load(self, folder: Path) -> None:
        """Read a network that `save` wrote."""
        self.network = read_network(folder)


Labelled = tuple[sparse.csr_matrix, list[str], list[str]]
"""Cells (genes sorted), condition of each in cell-gears' spelling, and perturbations that were left out."""


def _labelled(cells: AnnData, genes: list[str]) -> Labelled:
    names = cells.obs["perturbation"].astype(str).to_numpy()
    known = cells.uns.get("perturbations", {})
    said = {name: Perturbation.model_validate(value).genes for name, value in known.items()}
    spelled, left_out = {}, []
    for name in sorted(set(names)):
        parts = () if name == "control" else said.get(name) or tuple(name.split("+"))
        if len(parts) > MOST_GENES or (names == name).sum() < LEAST_CELLS:
            left_out.append(name)
        else:
            spelled[name] = "+".join((*parts, CONTROL)[:MOST_GENES]) if parts else CONTROL
    kept = np.array([name in spelled for name in names], dtype=bool)
    place = {str(gene): i for i, gene in enumerate(cells.var_names)}
    values = sparse.csr_matrix(cells.X[kept], dtype=np.float32)[:, [place[gene] for gene in genes]]
    _finite(values.data, "X of the training or validation cells")
    return sparse.csr_matrix(values), [spelled[name] for name in names[kept]], left_out


def _joined(parts: dict[str, Labelled | None]) -> tuple[sparse.csr_matrix, list[str], dict[str, list[str]]]:
    """All cells, their conditions, and the conditions of each set; control cells are those of the training set."""
    train, validation = parts["train"], parts["val"]
    assert train is not None
    cells, conditions = train[0], train[1]
    perturbed = sorted(set(conditions) - {CONTROL})
    if CONTROL not in conditions or not perturbed:
        raise InvalidDataError("needs control cells and cells of at least one perturbation", where="train")
    chosen_by = perturbed
    if validation is not None:
        own = np.array([c != CONTROL and c not in perturbed for c in validation[1]], dtype=bool)
        if own.any():
            cells = sparse.csr_matrix(sparse.vstack([cells, validation[0][own]]))
            conditions = [*conditions, *(c for c, kept in zip(validation[1], own, strict=True) if kept)]
            chosen_by = sorted({c for c, kept in zip(validation[1], own, strict=True) if kept})
    return cells, conditions, {"train": [CONTROL, *perturbed], "val": chosen_by}


def _finite(values: npt.NDArray, where: str) -> None:
    if not np.isfinite(values).all():
        raise InvalidDataError("holds values that are NaN or infinite", where=where, mend="leave these cells out")


def _dense(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float32)
