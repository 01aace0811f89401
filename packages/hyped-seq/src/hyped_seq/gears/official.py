"""Checkpoints that cell-gears saved (``config.pkl`` and ``model.pt``), read without running what they say.

They name neither genes nor perturbations: both come from the data they were trained on. Importing this module imports
torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_core.io.hashing import sha256_file
from hyped_core.io.unpickle import safe_load
from hyped_seq.gears.checkpoint import Checkpoint
from hyped_seq.gears.graphs import Graph
from hyped_seq.gears.network import Architecture, GearsNetwork
from hyped_seq.gears.params import GearsParams

CONFIG, STATE = "config.pkl", "model.pt"
_PARALLEL = "module."
_MEND = "give the folder that cell-gears' save_model wrote, both files of one model"
_RANGES = {"neighbours": "1 at least", "coexpression_threshold": "from 0 to below 1"}
_GRAPHS = {"G_coexpress": "co-expression", "G_go": "perturbation"}


def load_official(
    folder: str | Path,
    *,
    genes: Sequence[str],
    perturbations: Sequence[str],
    control_mean: np.ndarray | None = None,
) -> Checkpoint:
    """A model of cell-gears 0.1 in mode ``reference``.

    Parameters
    ----------
    folder
        Holds ``config.pkl`` and ``model.pt``.
    genes
        Names of the panel in the order of the training data (``var["gene_name"]``).
    perturbations
        Genes of the perturbation graph in its order: sorted names that have terms (``PertData.pert_names``).
    control_mean
        (genes,) mean of its training control cells; zeros where not given (it matters to transfer and metrics, not to
        predictions).

    Raises
    ------
    MissingFileError
        A file is not there.
    InvalidDataError
        A file mentions what is no data; names are doubled, or not as many as the model has.
    CorruptFileError
        Cut short, of something else, or the two do not fit each other.
    UnsupportedDataError
        A model that was told to predict no perturbation.
    """
    folder = Path(folder)
    for name in (CONFIG, STATE):
        if not (folder / name).is_file():
            raise MissingFileError("there is no such file", where=folder / name, mend=_MEND)
    config = safe_load(folder / CONFIG, allow="torch-tensors")
    state = _state(folder / STATE)
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        raise CorruptFileError("is no table of settings", where=folder / CONFIG, mend=_MEND)
    if config.get("no_perturb"):
        raise UnsupportedDataError(
            "was made with no_perturb: it answers every question with the control cell", where=folder / CONFIG
        )
    sizes = {name: _whole(config, name, folder) for name in ("num_genes", "num_perts")}
    for where, names, size in (
        ("genes", genes, sizes["num_genes"]),
        ("perturbations", perturbations, sizes["num_perts"]),
    ):
        _check_names(where, names, size, folder)
    architecture = Architecture(
        genes=sizes["num_genes"],
        perturbations=sizes["num_perts"],
        hidden=_whole(config, "hidden_size", folder),
        gene_layers=_whole(config, "num_gene_gnn_layers", folder),
        perturbation_layers=_whole(config, "num_go_gnn_layers", folder),
        uncertainty=bool(config.get("uncertainty", False)),
        mode="reference",
    )
    if control_mean is not None and np.shape(control_mean) != (architecture.genes,):
        raise InvalidDataError(f"shape {np.shape(control_mean)}, not ({architecture.genes},)", where="control_mean")
    graphs = [
        _graph(config, name, nodes, folder)
        for name, nodes in (("G_coexpress", architecture.genes), ("G_go", architecture.perturbations))
    ]
    _check_shapes(state, architecture, folder / STATE)
    network = GearsNetwork(architecture, *graphs, generator=None)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptFileError(
            f"does not hold the weights that {CONFIG} describes: {' '.join(str(error).split())[:400]}",
            where=folder / STATE,
            mend=_MEND,
        ) from error
    params = GearsParams(
        mode="reference",
        hidden=architecture.hidden,
        gene_layers=architecture.gene_layers,
        perturbation_layers=architecture.perturbation_layers,
        uncertainty=architecture.uncertainty,
        state_dims=0,
        pairs="random",
        **_settings(config, folder / CONFIG),
    )
    return Checkpoint(
        network=network.eval().requires_grad_(False),
        architecture=architecture,
        gene_graph=graphs[0],
        perturbation_graph=graphs[1],
        genes=tuple(map(str, genes)),
        perturbations=tuple(map(str, perturbations)),
        params=params,
        control_mean=np.zeros(architecture.genes, np.float32) if control_mean is None else np.float32(control_mean),
        facts={
            "source": "official checkpoint of cell-gears",
            "files_sha256": {name: sha256_file(folder / name) for name in (CONFIG, STATE)},
            "control_mean": "not known" if control_mean is None else "given",
        },
    )


def _state(path: Path) -> dict[str, torch.Tensor]:
    """The weights by name, without the prefix of data-parallel training."""
    state = safe_load(path, allow="torch-state")
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CorruptFileError("is no table of weights", where=path, mend=_MEND)
    plain = {str(key).removeprefix(_PARALLEL): value for key, value in state.items()}
    for key, value in plain.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CorruptFileError(f"{key} holds numbers that are not finite", where=path, mend=_MEND)
    return plain


def _whole(config: Mapping[str, Any], name: str, folder: Path) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise CorruptFileError(
            f"{name} is {'missing' if value is None else repr(value)[:80]}", where=folder / CONFIG, mend=_MEND
        )
    return int(value)


def _check_names(where: str, names: Sequence[str], size: int, folder: Path) -> None:
    if isinstance(names, str) or len(names) != size:
        raise InvalidDataError(
            f"{len(names)} names for a model of {size} {where}",
            where=f"{folder} ({where})",
            mend=f"give the {where} of the data it was trained on, in their order",
        )
    if len(set(map(str, names))) < size:
        doubled = next(name for i, name in enumerate(names) if name in list(names)[:i])
        raise InvalidDataError(f"{doubled!r} is named twice", where=f"{folder} ({where})", mend="give each name once")


def _check_shapes(state: Mapping[str, torch.Tensor], architecture: Architecture, path: Path) -> None:
    """Sizes are taken from the settings: refuse before a network of another size is made."""
    wanted = {
        "gene_emb.weight": (architecture.genes, architecture.hidden),
        "pert_emb.weight": (architecture.perturbations, architecture.hidden),
    }
    for name, shape in wanted.items():
        found = tuple(state[name].shape) if name in state else None
        if found != shape:
            raise CorruptFileError(
                f"{name} is {'missing' if found is None else found}, {CONFIG} says {shape}", where=path, mend=_MEND
            )


def _graph(config: Mapping[str, Any], name: str, nodes: int, folder: Path) -> Graph:
    index, weight = config.get(name), config.get(f"{name}_weight")
    where = f"{folder / CONFIG} ({name})"
    if not isinstance(index, torch.Tensor) or not isinstance(weight, torch.Tensor):
        raise CorruptFileError(f"the {_GRAPHS[name]} graph is missing", where=where, mend=_MEND)
    empty = index.numel() == 0 and weight.numel() == 0
    if not empty and (index.ndim != 2 or index.shape != (2, weight.numel()) or index.is_floating_point()):
        raise CorruptFileError(
            f"edges of shape {tuple(index.shape)} with {weight.numel()} weights", where=where, mend=_MEND
        )
    sources, targets = index.reshape(2, -1).numpy().astype(np.int64)
    try:
        return Graph(sources, targets, weight.reshape(-1).numpy().astype(np.float32), nodes)
    except InvalidDataError as error:
        raise CorruptFileError(error.message, where=where, mend=_MEND) from error


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the config says of training, by our names; what it leaves out keeps the default.

    Raises
    ------
    CorruptFileError
        A value is out of its range.
    """
    names = {
        "num_similar_genes_go_graph": "neighbours",
        "coexpress_threshold": "coexpression_threshold",
        "uncertainty_reg": "uncertainty_weight",
        "direction_lambda": "direction_weight",
    }
    found: dict[str, Any] = {}
    for theirs, ours in names.items():
        value = config.get(theirs)
        if not isinstance(value, int | float | np.number) or isinstance(value, bool):
            continue
        try:
            if not np.isfinite(value):
                raise ValueError("not finite")
            found |= {ours: int(value) if ours == "neighbours" else float(value)}
            GearsParams(**{ours: found[ours]})
        except ValueError as error:  # pydantic's are of this kind too
            limits = _RANGES.get(ours, "from 0")
            raise CorruptFileError(f"{theirs} is {value}, it must be {limits}", where=path, mend=_MEND) from error
    return found
