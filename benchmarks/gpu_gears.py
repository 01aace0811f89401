"""How fast GEARS trains on a GPU at the size of Norman et al. 2019, on generated cells, beside the published time.

    python benchmarks/gpu_gears.py [--out gpu.json]
    python benchmarks/gpu_gears.py --device cpu --tiny      # the same code on few cells, without a GPU

An epoch is a pass through the training cells in batches of 32 and the evaluation of all cells after it; the first one,
which warms up, is not counted. The cells are random numbers: the time does not depend on what they say, but on how
many cells, genes and perturbations there are and on how many values are not zero. The published time is that of the
original on an H100 PCIe and real cells, so that the two differ in more than the program.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData

from hyped_core.context import RunContext
from hyped_seq.gears.params import GearsParams
from hyped_seq.gears.terms import terms_of
from hyped_seq.gears.train import fit

CELLS, GENES, PERTURBATIONS = 91_000, 5_045, 236
"""Norman et al. 2019 as GEARS trains on it."""
TINY = (600, 60, 12)
PUBLISHED_SECONDS = 90.0
"""An epoch of the original on an H100 at this size."""
DENSITY = 0.1
"""Share of values that are not zero."""


class Clock:
    """Progress that notes when each epoch's batches begin and end."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begins: list[float] = []
        self.ends: list[float] = []

    def track(self, items: Iterable, description: str, total: int | None = None) -> Iterator:
        """The items, timed as a whole."""
        self.begins.append(self._now())
        yield from items
        self.ends.append(self._now())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()


def generated(cells: int, genes: int, perturbations: int) -> AnnData:
    """Cells of ``perturbations`` conditions, a third of them pairs of genes, and a twelfth of all cells control."""
    rng = np.random.default_rng(0)
    each = rng.binomial(genes, DENSITY, cells)
    offsets = np.concatenate([[0], np.cumsum(each)])
    columns = np.concatenate([rng.choice(genes, n, replace=False) for n in each]).astype(np.int32)
    values = rng.gamma(4.0, 0.4, len(columns)).clip(0.05, 8.0).astype(np.float32)
    x = sp.csr_matrix((values, columns, offsets), shape=(cells, genes))
    x.sort_indices()
    singles = perturbations - perturbations // 3
    names = [f"G{i}" for i in range(singles)]
    names += [f"G{i}+G{(i + 1) % singles}" for i in range(perturbations - singles)]
    labels = np.resize(np.asarray(names, dtype=object), cells)
    labels[: cells // 12] = "control"
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(cells)])
    return AnnData(X=x, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(genes)]))


def measure(cells: AnnData, params: GearsParams, device: torch.device, threads: int) -> dict[str, float | int]:
    """Seconds of preparation and of an epoch with and without its evaluation, and the memory taken at most."""
    rng = np.random.default_rng(1)
    terms = terms_of({name: [f"t{t}" for t in rng.integers(0, cells.n_vars // 8 + 1, 6)] for name in cells.var_names},
                     "generated")  # fmt: skip
    clock = Clock(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = perf_counter()
    fit(cells, params, terms=terms, context=RunContext(device=str(device), threads=threads, progress=clock))
    ends = [*clock.begins[1:], perf_counter()]
    whole = [end - begin for begin, end in zip(clock.begins, ends, strict=True)]
    batches = [end - begin for begin, end in zip(clock.begins, clock.ends, strict=True)]
    return {
        "preparation_s": clock.begins[0] - start,
        "epoch_s": median(whole[1:]),
        "epoch_without_evaluation_s": median(batches[1:]),
        "gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0,
    }


def main() -> None:
    """Measure, print JSON, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few cells and genes")
    parser.add_argument("--cells", type=int)
    parser.add_argument("--genes", type=int)
    parser.add_argument("--perturbations", type=int)
    parser.add_argument("--epochs", type=int, default=3, help="2 at least; the first is not counted")
    parser.add_argument("--mode", choices=["fixed", "reference"], default="fixed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU here; to try the script: --device cpu --tiny")
    if options.epochs < 2:
        sys.exit("--epochs: 2 at least")
    default = TINY if options.tiny else (CELLS, GENES, PERTURBATIONS)
    asked = (options.cells, options.genes, options.perturbations)
    size = tuple(there if here is None else here for here, there in zip(asked, default, strict=True))
    params = GearsParams(epochs=options.epochs, mode=options.mode)
    found = measure(generated(*size), params, device, options.threads)
    full = size == (CELLS, GENES, PERTURBATIONS)
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "mode": options.mode,
        "cells": size[0],
        "genes": size[1],
        "perturbations": size[2],
        **found,
        "published_epoch_s_on_h100": PUBLISHED_SECONDS,
        "times_faster_than_published": PUBLISHED_SECONDS / found["epoch_s"] if full else None,
    }
    text = json.dumps(facts, indent=2) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
