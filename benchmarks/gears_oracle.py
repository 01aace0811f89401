"""Trains and asks cell-gears 0.1.2 on cells given as files, and writes how long it took and what came out.

Run by the python of its pinned environment (`make gears-oracle`); `bench_gears.py` does::

    python benchmarks/gears_oracle.py INPUT OUTPUT.json --seed 0 --epochs 2 --threads 1

INPUT is a folder with ``x.npz`` (CSR, cells x genes, log-normalised) and ``cells.json`` (genes, conditions of the cells
as `A+ctrl`, terms of genes, sets train, val and test). Steps, evaluation and the choice of the epoch are those of its
``GEARS.train``, written out here so that each can be timed. Its ``predict`` starts from 300 control cells of its own
draw: the means written are the change from those, added to the mean of all control cells.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import resource
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from time import perf_counter, process_time
from typing import Any


def prepared(folder: Path, scratch: Path, seed: int) -> Any:
    """Its data object of the given cells."""
    import anndata
    import numpy as np
    import pandas as pd
    from gears import PertData
    from scipy import sparse

    facts = json.loads((folder / "cells.json").read_text())
    genes, conditions = facts["genes"], facts["conditions"]
    (scratch / "data").mkdir()
    terms = {gene: set(names) for gene, names in facts["terms"].items()}
    (scratch / "data" / "gene2go_all.pkl").write_bytes(pickle.dumps(terms))
    (scratch / "split.pkl").write_bytes(pickle.dumps(facts["split"]))
    cells = anndata.AnnData(
        sparse.load_npz(folder / "x.npz").tocsr().astype(np.float32),
        obs=pd.DataFrame({"condition": conditions, "cell_type": "c"}, index=[f"c{i}" for i in range(len(conditions))]),
        var=pd.DataFrame({"gene_name": genes}, index=genes),
    )
    np.random.seed(seed)  # noqa: NPY002  (it draws control cells from the global generator)
    data = PertData(str(scratch / "data"), default_pert_graph=False)
    data.new_data_process("bench", adata=cells)
    data.prepare_split("custom", seed=1, split_dict_path=str(scratch / "split.pkl"))
    data.get_dataloader(batch_size=32, test_batch_size=128)
    return data


def run(folder: Path, scratch: Path, seed: int, epochs: int, ask: int) -> dict[str, Any]:
    """Train, evaluate and predict; seconds and numbers."""
    import numpy as np
    import torch
    from gears import GEARS
    from gears.inference import compute_metrics, evaluate
    from gears.utils import loss_fct

    started = perf_counter()
    data = prepared(folder, scratch, seed)
    prepared_s = perf_counter() - started
    torch.manual_seed(seed)
    started = perf_counter()
    owner = GEARS(data, device="cpu")
    owner.model_initialize(hidden_size=64)
    built_s = perf_counter() - started
    model, best, least = owner.model, None, np.inf
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=1, gamma=0.5)
    steps, epoch_s, losses, errors = [], [], [], []
    step_cpu, epoch_cpu = [], []
    for _ in range(epochs):
        begun, begun_cpu = perf_counter(), process_time()
        model.train()
        found = []
        for batch in data.dataloader["train_loader"]:
            start, start_cpu = perf_counter(), process_time()
            optimiser.zero_grad()
            loss = loss_fct(
                model(batch), batch.y, batch.pert, ctrl=owner.ctrl_expression, dict_filter=owner.dict_filter,
                direction_lambda=owner.config["direction_lambda"],
            )  # fmt: skip
            loss.backward()
            torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)
            optimiser.step()
            found.append(loss.item())
            steps.append(perf_counter() - start)
            step_cpu.append(process_time() - start_cpu)
        schedule.step()
        compute_metrics(evaluate(data.dataloader["train_loader"], model, False, "cpu"))
        error = compute_metrics(evaluate(data.dataloader["val_loader"], model, False, "cpu"))[0]["mse_de"]
        epoch_s.append(perf_counter() - begun)
        epoch_cpu.append(process_time() - begun_cpu)
        losses.append(float(np.mean(found)))
        errors.append(float(error))
        if error < least:
            least, best = error, deepcopy(model)
    owner.best_model = best
    test = compute_metrics(evaluate(data.dataloader["test_loader"], best, False, "cpu"))[0]
    means, asked_s = {}, []
    controls = data.adata[data.adata.obs["condition"] == "ctrl"].X.toarray().astype(np.float64)
    for name in data.set2conditions["test"]:
        genes = [gene for gene in name.split("+") if gene != "ctrl"]
        state = np.random.get_state()  # noqa: NPY002
        drawn = controls[np.random.randint(0, len(controls), 300)]  # noqa: NPY002  (what predict is about to draw)
        np.random.set_state(state)  # noqa: NPY002
        start = perf_counter()
        answer = owner.predict([genes])
        asked_s.append(perf_counter() - start)
        means[name] = (answer["_".join(genes)] - drawn.mean(axis=0) + controls.mean(axis=0)).tolist()
        if ask and len(asked_s) >= ask:
            break
    return {
        "prepare_s": prepared_s,
        "build_s": built_s,
        "step_s": steps,
        "epoch_s": epoch_s,
        "step_cpu_s": step_cpu,
        "epoch_cpu_s": epoch_cpu,
        "predict_s": asked_s,
        "train_loss": losses,
        "validation_mse_de": errors,
        "test": {name: float(value) for name, value in test.items()},
        "means": means,
    }


def main() -> None:
    """Read the arguments, work in a folder of its own, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ask", type=int, default=0, help="test conditions predicted; 0: all")
    options = parser.parse_args()
    folder, out = options.input.resolve(), options.output.resolve()
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        result = run(folder, Path(scratch), options.seed, options.epochs, options.ask)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # it sums losses in the order of a set of names
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    main()
