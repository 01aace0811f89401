"""Running a library that writes to the terminal, to the working folder and to the global random generators."""

import contextlib
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyped_core import RunContext


@contextlib.contextmanager
def apart(context: RunContext, folder: Path, threads: int) -> Iterator[None]:
    """Seeded, with so many threads, in ``folder``, what is said in a file there; afterwards all is as before."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002  gears draws from it
    before = Path.cwd()
    devices = [context.device] if context.device.startswith("cuda") else []
    with (
        torch.random.fork_rng(devices),
        (folder / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        import gears  # noqa: F401  it seeds torch when it is imported: before this does, not after

        seed = int(context.rng("cell-gears").integers(2**31))
        try:
            os.chdir(folder)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            yield
        finally:
            os.chdir(before)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_num_threads(states[2])


def cells_without_download(folder: Path, perturbed: list[str]) -> Any:
    """The library's data object with ``perturbed`` as the genes of its graph.

    Its own constructor downloads the terms of all genes, as a pickle, to find out which can be in the graph.
    """
    from gears import PertData

    class Cells(PertData):
        def __init__(self) -> None:
            self.data_path, self.default_pert_graph, self.gene_set_path = str(folder), False, None
            self.subgroup = None

        def set_pert_genes(self) -> None:
            self.pert_names = np.array(perturbed)
            self.node_map_pert = {gene: i for i, gene in enumerate(perturbed)}

    return Cells()


class Told:
    """Batches of a loader, each reported to the context's progress whenever the library goes through them."""

    def __init__(self, loader: Iterable[Any], context: RunContext, name: str) -> None:
        self.loader, self.context, self.name = loader, context, name

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.context.progress.track(self.loader, f"cell-gears {self.name}", len(self)))
