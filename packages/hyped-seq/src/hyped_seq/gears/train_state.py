"""Training that was interrupted goes on where an epoch ended: all its state in one file, written whole or not at all.

Importing this module imports torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_core.io.atomic import atomic_path

if TYPE_CHECKING:
    from hyped_seq.gears.checkpoint import Checkpoint
    from hyped_seq.gears.data import TrainingCells
    from hyped_seq.gears.params import GearsParams

STATE = "training.safetensors"
_FREE = ("epochs", "patience", "pretrained", "terms")
"""Parameters that may differ when training goes on: they do not change what an epoch does, or (the path ``terms``)
what they change is compared itself."""


@dataclass
class TrainState:
    """Where training stands after an epoch.

    Attributes
    ----------
    epoch : epochs done.
    best_epoch : the one whose weights are kept (from 1; 0: none yet).
    best : its validation error; NaN without validation.
    weights : its tensors.
    history : a row an epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: float = float("nan")
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def fingerprint(data: TrainingCells, params: GearsParams, seed: int, checkpoint: Checkpoint) -> str:
    """sha256 over all that decides what training does: cells, pairs, parameters, seed, graphs and first weights.

    ``checkpoint`` is the model before its first epoch here. Its graphs are no part of its weights.
    """
    digest = hashlib.sha256()
    words = params.model_dump(mode="json", exclude=set(_FREE))
    words |= {"seed": seed, "genes": data.genes, "names": data.names, "nodes": checkpoint.perturbations}
    words["changes"] = [p.model_dump(mode="json") for p in data.perturbations]
    digest.update(json.dumps(words, sort_keys=True).encode())
    for part in (data.x.indptr, data.x.indices, data.x.data, data.condition, data.train, data.validation, data.pairs):
        digest.update(np.ascontiguousarray(part).tobytes())
    for graph in (checkpoint.gene_graph, checkpoint.perturbation_graph):
        for part in (graph.sources, graph.targets, graph.weights):
            digest.update(str(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    for key, value in sorted(checkpoint.network.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_state(
    folder: Path, mark: str, network: torch.nn.Module, optimiser: torch.optim.Optimizer, state: TrainState
) -> None:
    """Write ``training.safetensors`` into ``folder``."""
    from safetensors.torch import save_file

    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in state.weights.items()}
    names = [name for name, _ in network.named_parameters()]
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{names[number]}/{key}": value for key, value in values.items()}
    plain = {key: value.detach().cpu().clone().contiguous() for key, value in sorted(tensors.items())}
    text = {"epoch": state.epoch, "best_epoch": state.best_epoch, "best": state.best, "history": state.history}
    with atomic_path(folder / STATE) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", "fingerprint": mark, "state": json.dumps(text)})


def read_state(folder: Path, mark: str, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> TrainState:
    """Fill ``network`` and ``optimiser`` from ``folder``; a fresh state where nothing is there.

    Raises
    ------
    CorruptFileError
        The file is cut short or of something else.
    InvalidDataError
        It is of training on other cells or graphs, or with other parameters.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STATE
    if not path.is_file():
        return TrainState()
    try:
        with safe_open(path, framework="pt") as handle:
            head = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}
        text = json.loads(head["state"])
        found = head["fingerprint"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptFileError(
            f"is no state of training: {error}", where=path, mend="remove it; training then starts anew"
        ) from error
    if found != mark:
        raise InvalidDataError(
            "is the state of training on other cells or graphs, or with other parameters", where=path,
            mend="give another folder, or remove the file to start anew",
        )
    parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "best": {}, "adam": {}}
    for key, value in tensors.items():
        kind, _, name = key.partition(".")
        parts[kind][name] = value
    network.load_state_dict(parts["network"])
    numbers = {name: i for i, (name, _) in enumerate(network.named_parameters())}
    adam: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in parts["adam"].items():
        name, _, what = key.rpartition("/")
        adam.setdefault(numbers[name], {})[what] = value
    optimiser.load_state_dict({"state": adam, "param_groups": optimiser.state_dict()["param_groups"]})
    return TrainState(text["epoch"], text["best_epoch"], text["best"], parts["best"], text["history"])
