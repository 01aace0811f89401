"""Runs cell-gears 0.1.2 on a small made-up screen and writes down what it does: the fixtures of the parity tests.

Run by the python of the pinned environment (`make gears-oracle`)::

    .gears-oracle/bin/python scripts/gears_oracle/fixtures.py packages/hyped-seq/tests/data/gears

With ``--norman packages/hyped-core/tests/data/norman_split.json`` in place of the folder it splits the labels in that
file as cell-gears does (kind simulation, the file's seed) and writes the sets back beside them.

Everything drawn is seeded and one thread computes, so that the same versions give the same numbers (``config.pkl`` also
holds names of storages that differ from run to run). Written: the screen (``screen.npz``, ``screen.json``), for each
model the official checkpoint (``<model>/config.pkl``, ``<model>/model.pt``) and ``<model>.npz`` with outputs,
gradients, one step, evaluation and prediction.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

GENES = 48
SINGLES = ("TOY03", "TOY07", "TOY11", "TOY19", "TOY23", "TOY31", "AWAY1")
COMBINATIONS = (("TOY03", "TOY07"), ("TOY11", "TOY03"), ("TOY19", "TOY31"), ("TOY23", "TOY07"))
CONTROLS = 40
CELLS = 11
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 8},
    "uncertain": {"hidden_size": 8, "uncertainty": True, "uncertainty_reg": 0.7, "direction_lambda": 0.3},
    "deep": {
        "hidden_size": 12,
        "num_go_gnn_layers": 2,
        "num_gene_gnn_layers": 2,
        "num_similar_genes_go_graph": 6,
        "num_similar_genes_co_express_graph": 5,
        "coexpress_threshold": 0.2,
    },
}
BATCHES: dict[str, list[tuple[str, int]]] = {
    "mixed": [("TOY03+ctrl", 0), ("ctrl", 3), ("TOY03+TOY07", 1), ("TOY03+ctrl", 2), ("TOY11+TOY03", 0)]
    + [("ctrl", 9), ("ctrl+TOY19", 4), ("ctrl+AWAY1", 5), ("TOY03+TOY07", 6), ("TOY23+ctrl", 7)],
    "control": [("ctrl", i) for i in range(4)],
    "one_perturbed": [("ctrl", 1), ("TOY07+ctrl", 2), ("ctrl", 5), ("ctrl", 6)],
    "same": [("TOY07+ctrl", i) for i in (4, 1, 2, 3, 0)],
    "pair": [("TOY19+TOY31", 2), ("TOY31+ctrl", 2)],
}
"""Condition and number of the cell within it, for every cell of a batch."""


def condition_names() -> list[str]:
    """Conditions in the original's spelling, control first or last in turn."""
    singles = [f"ctrl+{g}" if i % 3 == 0 and i else f"{g}+ctrl" for i, g in enumerate(SINGLES)]
    return ["ctrl", *singles, *("+".join(pair) for pair in COMBINATIONS)]


def made_up_screen() -> tuple[np.ndarray, list[str], list[str]]:
    """Log-normalised values (cells, genes), names of the genes, condition of each cell; one gene is never seen."""
    rng = np.random.default_rng(7)
    genes = [f"TOY{i:02d}" for i in range(GENES)]
    base = rng.gamma(1.2, 1.5, GENES)
    loadings = rng.normal(0, 0.5, (4, GENES))
    effects = {g: rng.normal(0, 0.6, GENES) * (rng.random(GENES) < 0.4) for g in SINGLES}
    conditions, counts = [], []
    for name in condition_names():
        shift = sum((effects[g] for g in name.split("+") if g != "ctrl"), np.zeros(GENES))
        for _ in range(CONTROLS if name == "ctrl" else CELLS):
            rate = base * np.exp(rng.normal(0, 1, 4) @ loadings + shift)
            rate[47] = 0.0
            rate[46] *= name == "ctrl" or "TOY03" in name
            counts.append(rng.poisson(rate))
            conditions.append(name)
    table = np.asarray(counts, dtype=np.float64)
    values = np.log1p(table / table.sum(1, keepdims=True) * 100.0).astype(np.float32)
    order = rng.permutation(len(values))
    return values[order], genes, [conditions[i] for i in order]


def made_up_terms(genes: list[str]) -> dict[str, set[str]]:
    """Terms of genes: groups that overlap, a gene with a term of its own, some without any."""
    rng = np.random.default_rng(11)
    terms: dict[str, set[str]] = {}
    for i, gene in enumerate([*genes, "AWAY1", "ELSEWHERE"]):
        if gene in ("TOY05", "TOY40", "ELSEWHERE"):
            continue
        near = {f"term{(i + j) % 12:02d}" for j in range(3)}
        terms[gene] = near | {f"term{n:02d}" for n in rng.integers(12, 30, 3)}
    terms["TOY31"] = {"alone"}
    return terms


def prepared(scratch: Path) -> Any:
    """The original's data object of the made-up screen, in a folder of its own."""
    import anndata
    import pandas as pd
    from gears import PertData
    from scipy import sparse

    values, genes, conditions = made_up_screen()
    folder = scratch / "data"  # the original writes the edges of the term graph to ./data
    folder.mkdir()
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps(made_up_terms(genes)))
    cells = anndata.AnnData(
        sparse.csr_matrix(values),
        obs=pd.DataFrame(
            {"condition": conditions, "cell_type": "toy"}, index=[f"c{i}" for i in range(len(values))]
        ),
        var=pd.DataFrame({"gene_name": genes}, index=genes),
    )
    np.random.seed(3)  # noqa: NPY002  (control cells are drawn from the global generator)
    data = PertData(str(folder), default_pert_graph=False)
    data.new_data_process("toy", adata=cells)
    names = condition_names()
    split = {"train": [*names[:6], names[8], names[9]], "val": [names[10], names[6]], "test": [names[11], names[7]]}
    (scratch / "split.pkl").write_bytes(pickle.dumps(split))
    data.prepare_split("custom", seed=1, split_dict_path=str(scratch / "split.pkl"))
    data.get_dataloader(batch_size=16, test_batch_size=16)
    return data


def in_double(model: Any, batch: Any) -> None:
    """Model and batch in double precision.

    Where a batch normalisation sees equal rows (few distinct cells in a batch) it magnifies the rounding of single
    precision by up to 316, so that such batches tell nothing beyond 1e-4; in double they do.
    """
    model.double()
    model.G_sim_weight, model.G_coexpress_weight = model.G_sim_weight.double(), model.G_coexpress_weight.double()
    batch.x, batch.y = batch.x.double(), batch.y.double()


class AsOnGpu:
    """The ``torch`` its losses see: the running sum is no leaf, as after a copy to a GPU.

    On a CPU the original's uncertainty loss adds in place to a leaf that wants a gradient, which torch refuses: it
    trains on a GPU only.
    """

    def __getattr__(self, name: str) -> Any:
        import torch

        if name == "tensor":
            return lambda value, **options: torch.tensor(value, **options) * 1
        return getattr(torch, name)


def batch_of(data: Any, cells: list[tuple[str, int]]) -> Any:
    """The original's batch of the given cells, in order."""
    from torch_geometric.data import Batch

    return Batch.from_data_list([deepcopy(data.dataset_processed[name][i]) for name, i in cells])


def loss_of(owner: Any, output: Any, batch: Any) -> Any:
    """The original's loss as its training loop calls it."""
    from gears.utils import loss_fct, uncertainty_loss_fct

    shared = {
        "ctrl": owner.ctrl_expression,
        "dict_filter": owner.dict_filter,
        "direction_lambda": owner.config["direction_lambda"],
    }
    if owner.config["uncertainty"]:
        return uncertainty_loss_fct(*output, batch.y, batch.pert, reg=owner.config["uncertainty_reg"], **shared)
    return loss_fct(output, batch.y, batch.pert, **shared)


def as_pair(output: Any) -> tuple[Any, Any]:
    """Output and log variance (None where the model has none)."""
    return output if isinstance(output, tuple) else (output, None)


def write_model(name: str, options: dict[str, Any], data: Any, folder: Path) -> dict[str, Any]:
    """Train a little, save the official checkpoint and record what the model does; returns the metrics."""
    import gears.utils
    import torch
    from gears import GEARS
    from gears.inference import compute_metrics, deeper_analysis, evaluate

    gears.utils.torch = AsOnGpu()
    torch.manual_seed(5)
    owner = GEARS(data, device="cpu")
    owner.model_initialize(**options)
    torch.manual_seed(6)
    owner.train(epochs=2, lr=0.01)
    owner.best_model = deepcopy(owner.model)
    owner.save_model(str(folder / name))
    found: dict[str, np.ndarray] = {}
    names: dict[str, list[str]] = {}

    for kind, cells in BATCHES.items():
        batch = batch_of(data, cells)
        found[f"{kind}/x"] = batch.x.reshape(len(cells), -1).numpy()
        found[f"{kind}/y"] = batch.y.numpy()
        for mode in ("eval", "train"):
            model = deepcopy(owner.model).train(mode == "train")
            if mode == "train" and kind != "mixed":
                in_double(model, batch)
            output, log_variance = as_pair(model(batch))
            found[f"{kind}/{mode}/output"] = output.detach().numpy().astype(np.float32)
            if log_variance is not None:
                found[f"{kind}/{mode}/log_variance"] = log_variance.detach().numpy().astype(np.float32)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)
        loss = loss_of(owner, output if log_variance is None else (output, log_variance), batch)
        optimiser.zero_grad()
        loss.backward()
        found[f"{kind}/loss"] = np.float64(loss.item())
        if kind in ("mixed", "one_perturbed"):
            held = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
            names["gradient"], found[f"{kind}/gradient"] = flat(held)
        torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)
        optimiser.step()
        if kind in ("mixed", "control"):
            names["after"], found[f"{kind}/after"] = flat(model.state_dict())

    results = evaluate(data.dataloader["test_loader"], owner.model, owner.config["uncertainty"], "cpu")
    found["test/pred"] = results["pred"]
    found["test/truth"] = results["truth"]
    metrics, each = compute_metrics(results)
    deeper = deeper_analysis(data.adata, results)

    controls = data.adata[data.adata.obs["condition"] == "ctrl"].X.toarray()
    asked = [["TOY31"], ["TOY03", "TOY23"], ["TOY44"]]
    for i, perturbed in enumerate(asked):
        np.random.seed(100 + i)  # noqa: NPY002
        draws = np.random.randint(0, len(controls), 300)  # noqa: NPY002
        np.random.seed(100 + i)  # noqa: NPY002
        answer = owner.predict([perturbed])
        found[f"predict/{'+'.join(perturbed)}/draws"] = draws.astype(np.int16)
        key = "_".join(perturbed)
        found[f"predict/{'+'.join(perturbed)}/mean"] = (answer[0] if isinstance(answer, tuple) else answer)[key]
    np.savez_compressed(folder / f"{name}.npz", **found)
    return {
        "options": {**options, "num_genes": owner.num_genes, "num_perts": owner.num_perts},
        "names": names,
        "coexpression": edges(owner.config["G_coexpress"], owner.config["G_coexpress_weight"]),
        "term": edges(owner.config["G_go"], owner.config["G_go_weight"]),
        "metrics": {k: float(v) for k, v in metrics.items()},
        "metrics_each": {p: {k: float(v) for k, v in m.items()} for p, m in each.items()},
        "pearson_delta": {p: float(m["pearson_delta"]) for p, m in deeper.items()},
    }


def flat(tensors: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """Names in order and all values one after the other (a file entry for each would be larger than its values)."""
    return list(tensors), np.concatenate([t.detach().numpy().reshape(-1).astype(np.float32) for t in tensors.values()])


def edges(index: Any, weight: Any) -> dict[str, list]:
    """A graph's edges by number of the node, sorted by target, then source."""
    source, target = index.numpy()
    order = np.lexsort((source, target))
    return {
        "sources": source[order].tolist(),
        "targets": target[order].tolist(),
        "weights": [round(float(w), 8) for w in weight.numpy()[order]],
    }


def split_norman(path: Path) -> None:
    """Write the original's sets of the file's labels into the file; the labels stay as they are.

    They are those of Norman et al. 2019 as GEARS distributes the data (column ``condition``), without the seven with
    RHOXF2BB, IER5L or KIAA1804, which its gene ontology lacks.
    """
    from types import SimpleNamespace

    import pandas as pd
    from gears.data_utils import DataSplitter

    known = json.loads(path.read_text(encoding="utf-8"))
    cells = SimpleNamespace(obs=pd.DataFrame({"condition": ["ctrl", *known["labels"]]}))
    cells, groups = DataSplitter(cells, split_type="simulation").split_data(seed=known["seed"])
    sets = cells.obs.loc[cells.obs["condition"] != "ctrl"].groupby("split")["condition"].apply(sorted)
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        known[part] = sets[name]
    known["subgroups"] = {name: sorted(part) for name, part in groups["test_subgroup"].items()}
    path.write_text(json.dumps(known, separators=(",", ":")), encoding="utf-8")


def main(folder: Path) -> None:
    """Write all fixtures into the folder."""
    import torch

    torch.set_num_threads(1)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        data = prepared(Path(scratch))
        values, genes, conditions = made_up_screen()
        rows = {row.tobytes(): i for i, row in enumerate(values)}
        pairs: dict[str, list[int]] = {
            name: [rows[cell.x.numpy().reshape(-1).tobytes()] for cell in graphs]
            for name, graphs in data.dataset_processed.items()
        }
        uns, named = data.adata.uns, dict(data.adata.obs[["condition", "condition_name"]].values)
        facts = {
            "made_with": "cell-gears 0.1.2, numpy 1.26.4, pandas 2.2.2, scipy 1.14.1, scanpy 1.10.2, torch 2.13.0",
            "genes": genes,
            "perturbations": [str(p) for p in data.pert_names],
            "conditions": conditions,
            "terms": {gene: sorted(terms) for gene, terms in data.gene2go.items()},
            "split": data.set2conditions,
            "batches": BATCHES,
            "control_of": pairs,
            "top_20": {c: list(uns["rank_genes_groups_cov_all"][n][:20]) for c, n in named.items() if c != "ctrl"},
            "non_zero": {c: uns["non_zeros_gene_idx"][n].tolist() for c, n in named.items() if c != "ctrl"},
            "models": {},
        }
        np.savez_compressed(folder / "screen.npz", values=values)
        for name, options in MODELS.items():
            (folder / name).mkdir(exist_ok=True)
            facts["models"][name] = write_model(name, options, data, folder)
    (folder / "screen.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the original sums losses in the order of a set of names
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    split_norman(Path(sys.argv[2])) if sys.argv[1] == "--norman" else main(Path(sys.argv[1]))
