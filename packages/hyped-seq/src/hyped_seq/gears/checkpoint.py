"""A trained GEARS with all names it needs: safetensors and JSON in a folder, checked against each other on load.

Importing this module imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hyped_core.design import Perturbation
from hyped_core.errors import CorruptFileError, MissingFileError, UnsupportedDataError
from hyped_core.io.atomic import atomic_path, write_json
from hyped_core.io.hashing import sha256_file
from hyped_seq.gears import checks
from hyped_seq.gears.graphs import Graph
from hyped_seq.gears.network import Architecture, GearsNetwork
from hyped_seq.gears.pairs import CellStates
from hyped_seq.gears.params import GearsParams

TENSORS, TEXT = "gears.safetensors", "gears.json"
FORMAT = 1


@dataclass(eq=False)
class Checkpoint:
    """A network and what its rows and columns stand for.

    Attributes
    ----------
    network : in ``eval`` mode.
    architecture : its sizes and mode.
    gene_graph, perturbation_graph : over ``genes`` and over ``perturbations``.
    genes : names of the panel's columns, in order (``var_names``).
    symbols : what perturbations name these genes by.
    perturbations : symbols of the nodes of the perturbation graph, in order.
    trained_genes : symbols among these that training cells had perturbed.
    params : what it was trained with.
    control_mean : (genes,) float32 mean of the training control cells.
    states : how a control cell's state is scored; None where changes do not depend on it.
    history : one row an epoch; see `hyped_seq.gears.train`.
    facts : what it is, JSON-able.
    """

    network: GearsNetwork
    architecture: Architecture
    gene_graph: Graph
    perturbation_graph: Graph
    genes: tuple[str, ...]
    perturbations: tuple[str, ...]
    params: GearsParams
    control_mean: np.ndarray
    symbols: tuple[str, ...] = ()
    trained_genes: tuple[str, ...] = ()
    states: CellStates | None = None
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.symbols = self.symbols or self.genes

    @property
    def positions(self) -> dict[str, int]:
        """Node of each symbol in the perturbation graph."""
        return {name: i for i, name in enumerate(self.perturbations)}

    def check_panel(self, genes: Sequence[str], *, where: object = "genes") -> None:
        """Refuse other genes than the model's: says which are missing or more, or that the order differs."""
        checks.check_panel(genes, self.genes, where=where)

    def encode(self, perturbation: Perturbation) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Nodes and signs of a perturbation; empty for the control.

        Raises
        ------
        UnknownPerturbation
            A gene has no node; near names are told.
        """
        positions = self.positions
        checks.check_known(perturbation.genes, positions, where=f"perturbation {perturbation.name!r}")
        nodes = tuple(positions[gene] for gene in perturbation.genes)
        return nodes, tuple(1.0 if c.direction == "activation" else -1.0 for c in perturbation.changes)

    def save(self, folder: str | Path) -> None:
        """Write ``gears.safetensors`` and ``gears.json`` into ``folder``; equal models give equal bytes."""
        from safetensors.torch import save_file

        folder = Path(folder)
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for name, graph in (("gene_graph", self.gene_graph), ("perturbation_graph", self.perturbation_graph)):
            for part in ("sources", "targets", "weights"):
                tensors[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(getattr(graph, part)))
        tensors["control_mean"] = torch.from_numpy(np.ascontiguousarray(self.control_mean, dtype=np.float32))
        if self.states is not None:
            tensors["states.loadings"] = torch.from_numpy(np.ascontiguousarray(self.states.loadings))
            tensors["states.offset"] = torch.from_numpy(np.ascontiguousarray(self.states.offset))
        plain = {key: value.detach().cpu().clone().contiguous() for key, value in sorted(tensors.items())}
        with atomic_path(folder / TENSORS) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(plain, temporary, metadata={"format": "pt"})
            temporary.chmod(mode)  # safetensors leaves a file that its owner alone can read
        write_json(
            folder / TEXT,
            {
                "format": FORMAT,
                "tensors_sha256": sha256_file(folder / TENSORS),
                "architecture": asdict(self.architecture),
                "params": self.params.model_dump(mode="json"),
                "genes": list(self.genes),
                "symbols": list(self.symbols),
                "perturbations": list(self.perturbations),
                "trained_genes": list(self.trained_genes),
                "history": {"columns": list(map(str, self.history)), "rows": _rows(self.history)},
                "facts": self.facts,
            },
        )


def load_checkpoint(folder: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read back what `Checkpoint.save` wrote.

    Raises
    ------
    MissingFileError
        One of the two files is absent.
    CorruptFileError
        A file is cut short or foreign, the two are not of one save, or shapes do not fit names and sizes.
    UnsupportedDataError
        Written by a later version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in (TENSORS, TEXT):
        if not (folder / name).is_file():
            raise MissingFileError("no such file", where=folder / name, mend="give the folder of a trained GEARS")
    text = _read_text(folder / TEXT)
    try:
        tensors = load_file(folder / TENSORS)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(
            f"is no whole safetensors file: {error}", where=folder / TENSORS, mend="copy or train it again"
        ) from error
    if sha256_file(folder / TENSORS) != text.get("tensors_sha256"):
        raise CorruptFileError(
            f"is not the file that {TEXT} describes", where=folder / TENSORS, mend="copy both files of one model"
        )
    try:
        return _build(text, tensors, device)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CorruptFileError(
            f"names, sizes and tensors do not fit one another: {error}", where=folder, mend="copy or train it again"
        ) from error


def _rows(table: pd.DataFrame) -> list[list[float | None]]:
    """Rows of numbers as JSON has them: a missing one is null, a whole number of an integer column stays whole."""
    return [[None if pd.isna(value) else value for value in row] for row in table.astype(object).to_numpy().tolist()]


def _read_text(path: Path) -> dict[str, Any]:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFileError(f"is no JSON: {error}", where=path, mend="copy or train it again") from error
    if not isinstance(text, dict) or "format" not in text or "architecture" not in text:
        raise CorruptFileError("is no saved GEARS", where=path, mend="give the folder of a trained GEARS")
    if text["format"] != FORMAT:
        raise UnsupportedDataError(
            f"has format {text['format']!r}, this version reads {FORMAT}", where=path, mend="update hyped-seq"
        )
    return text


def _build(text: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str | torch.device) -> Checkpoint:
    known = {f.name for f in fields(Architecture)}
    architecture = Architecture(**{key: value for key, value in text["architecture"].items() if key in known})
    genes, perturbations = tuple(text["genes"]), tuple(text["perturbations"])
    if (len(genes), len(perturbations)) != (architecture.genes, architecture.perturbations):
        raise ValueError(
            f"{len(genes)} genes and {len(perturbations)} perturbations are named, the architecture has "
            f"{architecture.genes} and {architecture.perturbations}"
        )
    graphs = [_graph(tensors, name, n) for name, n in
              (("gene_graph", len(genes)), ("perturbation_graph", len(perturbations)))]  # fmt: skip
    network = GearsNetwork(architecture, *graphs, generator=None)
    state = {key.removeprefix("network."): v for key, v in tensors.items() if key.startswith("network.")}
    network.load_state_dict(state)
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} holds numbers that are not finite")
    states = None
    if "states.loadings" in tensors:
        states = CellStates(tensors["states.loadings"].numpy(), tensors["states.offset"].numpy())
        if states.loadings.shape != (len(genes), len(states.offset)):
            raise ValueError(f"states.loadings is {states.loadings.shape}")
    if tensors["control_mean"].shape != (len(genes),):
        raise ValueError(f"control_mean is {tuple(tensors['control_mean'].shape)}")
    return Checkpoint(
        network=network.to(device).eval(),
        architecture=architecture,
        gene_graph=graphs[0],
        perturbation_graph=graphs[1],
        genes=genes,
        symbols=tuple(text["symbols"]),
        perturbations=perturbations,
        trained_genes=tuple(text["trained_genes"]),
        params=GearsParams.model_validate(text["params"]),
        control_mean=tensors["control_mean"].numpy(),
        states=states,
        history=pd.DataFrame(text["history"]["rows"], columns=text["history"]["columns"]),
        facts=dict(text["facts"]),
    )


def _graph(tensors: Mapping[str, torch.Tensor], name: str, nodes: int) -> Graph:
    sources, targets, weights = (tensors[f"{name}.{part}"].numpy() for part in ("sources", "targets", "weights"))
    if not len(sources) == len(targets) == len(weights):
        raise ValueError(f"{name} has {len(sources)} sources, {len(targets)} targets and {len(weights)} weights")
    if len(sources) and not (0 <= min(sources.min(), targets.min()) and max(sources.max(), targets.max()) < nodes):
        raise ValueError(f"{name} has edges outside of its {nodes} nodes")
    return Graph(sources, targets, weights, nodes)
