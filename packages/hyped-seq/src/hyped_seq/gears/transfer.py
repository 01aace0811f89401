"""A trained network on another gene panel: what is carried over, what is interpolated and what starts fresh."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.gears.graphs import Graph

if TYPE_CHECKING:
    import torch

    from hyped_seq.gears.checkpoint import Checkpoint
    from hyped_seq.gears.network import Architecture, GearsNetwork
    from hyped_seq.gears.pairs import CellStates
    from hyped_seq.gears.params import GearsParams

MIN_SHARED = 0.1
"""Least share of the new panel's genes that the checkpoint has to know."""

GENE_ROWS = ("gene_emb.weight", "emb_pos.weight", "indv_w1", "indv_b1")
"""Tensors with a row a gene."""
GENE_COLUMNS = ("indv_w2", "indv_b2", "cross_gene_state.network.0.weight")
"""Tensors with a column (second axis) a gene."""
_VERSION = re.compile(r"(ENS[A-Z]*G\d+)\.\d+")


@dataclass(frozen=True, slots=True)
class Matched:
    """Which old name each new name stands for.

    Attributes
    ----------
    old : (new names,) int64 position among the old names, -1 where there is none.
    exact, by_case, by_alias : how many were found by the name itself, by the name in upper case, by another name of it.
    """

    old: npt.NDArray[np.int64]
    exact: int
    by_case: int
    by_alias: int

    @property
    def shared(self) -> npt.NDArray[np.int64]:
        """Positions of the new names that have an old one."""
        return np.flatnonzero(self.old >= 0)

    def counts(self, n_old: int) -> dict[str, int]:
        """Numbers of each kind, for records."""
        kept = len(self.shared)
        return {
            "shared": kept,
            "exact": self.exact,
            "by_case": self.by_case,
            "by_alias": self.by_alias,
            "new": len(self.old) - kept,
            "left_out": n_old - kept,
        }


def match_names(
    old: Sequence[str],
    new: Sequence[str],
    *,
    old_aliases: Sequence[Sequence[str]] = (),
    aliases: Sequence[Sequence[str]] = (),
) -> Matched:
    """Match names one to one: by themselves, then in upper case, then by other names (symbols, ids).

    ``aliases`` are columns of other names of ``new`` (``var["symbol"]``, ``var["gene_id"]``), each as long as ``new``;
    ``old_aliases`` of ``old`` likewise. Ensembl ids are compared without their version in the last step. A match by an
    earlier step is never undone by a later one, and of several that would take one old name the first in ``new`` does.

    >>> match_names(["MYOD1", "Prrx1"], ["PRRX1", "MYOD1", "TP53"]).old.tolist()
    [1, 0, -1]
    """
    found = np.full(len(new), -1, dtype=np.int64)
    taken: set[int] = set()
    counts = []
    olds = [list(map(str, old)), *[list(map(str, names)) for names in old_aliases]]
    news = [list(map(str, new)), *[list(map(str, names)) for names in aliases]]
    steps = (
        (olds[:1], news[:1], _as_is),
        (olds[:1], news[:1], str.upper),
        (olds, news, _bare),
    )
    for old_columns, new_columns, form in steps:
        places: dict[str, int] = {}
        for column in old_columns:
            for at, name in enumerate(column):
                if name:
                    places.setdefault(form(name), at)
        before = len(taken)
        for column in new_columns:
            for at, name in enumerate(column):
                place = places.get(form(name), -1) if name and found[at] < 0 else -1
                if place >= 0 and place not in taken:
                    found[at] = place
                    taken.add(place)
        counts.append(len(taken) - before)
    return Matched(found, *counts)


def _as_is(name: str) -> str:
    return name


def _bare(name: str) -> str:
    """Upper case, without the version of an Ensembl id."""
    upper = name.upper()
    versioned = _VERSION.fullmatch(upper)
    return versioned.group(1) if versioned else upper


RULE = (
    "shared genes and perturbations keep what they learned; genes new to the panel start from the weighted mean of "
    "their co-expression neighbours among the shared ones, or fresh where they have none; new perturbations start fresh"
)


def transfer(
    checkpoint: Checkpoint,
    genes: Sequence[str],
    perturbations: Sequence[str],
    *,
    gene_graph: Graph | None = None,
    perturbation_graph: Graph | None = None,
    symbols: Sequence[str] | None = None,
    aliases: Sequence[Sequence[str]] = (),
    params: GearsParams | None = None,
    control_mean: npt.NDArray[np.float32] | None = None,
    states: CellStates | None = None,
    seed: int = 0,
    where: object = "pretrained",
) -> Checkpoint:
    """Put a checkpoint on the panel ``genes`` and the perturbation vocabulary ``perturbations``.

    The rule, by part:

    - *shared genes* (`match_names`) keep their vectors (``gene_emb``, ``emb_pos``), both gene-specific decoders and
      their column of the first layer over all genes;
    - a *gene new to the panel* starts in each of these from the mean of its co-expression neighbours among the shared
      genes (edges into it in ``gene_graph``, weighted by them), and from seeded fresh values where it has none;
    - genes *left out* are dropped. What they added to the first layer over all genes, and what new ones add, is made
      up for in its bias, so that the layer's input for an unperturbed cell stays what it was: the batch normalisation
      behind it was learned for that input. (Scaling the other columns up instead would multiply what each gene says.)
    - a *perturbation* keeps its vector where its name is shared and gets a seeded fresh one where it is not; edges are
      those of ``perturbation_graph``, so that neighbours with learned vectors speak for it;
    - *shared layers* and the statistics of all batch normalisations stay as they are;
    - the map from a cell's state starts at zero where ``states`` are given, since components of other control cells
      are other axes; without them the old loadings of the shared genes, and the map, are kept;
    - what the new parameters ask for and the checkpoint has not (the log variance) starts fresh; what they do not ask
      for is dropped.

    Parameters
    ----------
    gene_graph, perturbation_graph
        Over ``genes`` and over ``perturbations``. None: edges of the checkpoint's between shared names.
    symbols
        What perturbations name the genes by; None: ``genes``.
    aliases
        Other names of ``genes``, column by column (``var["gene_id"]``).
    params
        Of the new checkpoint; None: the old ones.
    control_mean
        (genes,) of the new control cells; None: the old one, zero for new genes.

    Raises
    ------
    InvalidDataError
        Fewer than `MIN_SHARED` of ``genes`` are shared; widths or numbers of layers differ.
    """
    from hyped_seq.gears.checkpoint import Checkpoint
    from hyped_seq.gears.pairs import CellStates

    genes, perturbations = tuple(map(str, genes)), tuple(map(str, perturbations))
    params = params or checkpoint.params
    symbols = tuple(symbols) if symbols is not None else genes
    match = match_names(checkpoint.genes, genes, old_aliases=[checkpoint.symbols], aliases=[symbols, *aliases])
    _check_shared(checkpoint.genes, genes, match, where)
    nodes = match_names(checkpoint.perturbations, perturbations)
    gene_graph = gene_graph or carried(checkpoint.gene_graph, match)
    origin = checkpoint.facts.get("perturbation_graph", "not known") + ", carried over by name"
    if perturbation_graph is None:
        perturbation_graph = carried(checkpoint.perturbation_graph, nodes)
    else:
        origin = "terms"
    shared, old = match.shared, match.old[match.shared]
    keep_state = states is None and checkpoint.states is not None and params.mode == "fixed"
    if keep_state and checkpoint.states is not None:
        loadings = np.zeros((len(genes), checkpoint.states.dims), dtype=np.float32)
        loadings[shared] = checkpoint.states.loadings[old]
        states = CellStates(loadings, checkpoint.control_mean[old] @ loadings[shared])
    if control_mean is None:
        control_mean = np.zeros(len(genes), dtype=np.float32)
        control_mean[shared] = checkpoint.control_mean[old]
    scored = params.state_dims and states is not None and params.mode == "fixed"
    architecture = replace(
        checkpoint.architecture,
        genes=len(genes),
        perturbations=len(perturbations),
        hidden=params.hidden,
        gene_layers=params.gene_layers,
        perturbation_layers=params.perturbation_layers,
        uncertainty=params.uncertainty,
        mode=params.mode,
        state=states.dims if scored and states is not None else 0,
    )
    network, counts = transfer_network(
        checkpoint.network,
        architecture,
        genes=match,
        perturbations=nodes,
        gene_graph=gene_graph,
        perturbation_graph=perturbation_graph,
        keep_state=keep_state,
        seed=seed,
    )
    positions = {name: i for i, name in enumerate(checkpoint.perturbations)}
    trained = {positions[name] for name in checkpoint.trained_genes if name in positions}
    facts = {
        "rule": RULE,
        "seed": seed,
        **counts,
        "perturbations_trained": sum(int(i) in trained for i in nodes.old),
        "mode": {"from": checkpoint.architecture.mode, "to": params.mode},
        "cell_state": ("kept" if keep_state else "starts at zero") if architecture.state else "none",
    }
    return Checkpoint(
        network=network,
        architecture=architecture,
        gene_graph=gene_graph,
        perturbation_graph=perturbation_graph,
        genes=genes,
        symbols=symbols,
        perturbations=perturbations,
        trained_genes=tuple(name for name, i in zip(perturbations, nodes.old, strict=True) if int(i) in trained),
        params=params,
        control_mean=control_mean,
        states=states if scored else None,
        history=checkpoint.history.iloc[:0],
        facts={"perturbation_graph": origin, "transferred": facts, "from": checkpoint.facts},
    )


def transfer_network(
    network: GearsNetwork,
    architecture: Architecture,
    *,
    genes: Matched,
    perturbations: Matched,
    gene_graph: Graph,
    perturbation_graph: Graph,
    keep_state: bool = False,
    seed: int = 0,
) -> tuple[GearsNetwork, dict[str, Any]]:
    """The network of `transfer` in ``eval`` mode, and how many genes and perturbations were treated how."""
    import torch

    from hyped_seq.gears.network import GearsNetwork

    _check_widths(network.architecture, architecture)
    made = GearsNetwork(
        architecture, gene_graph, perturbation_graph, generator=torch.Generator().manual_seed(seed)
    ).eval()
    old = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    state = made.state_dict()
    means = _neighbour_means(genes, gene_graph)
    fresh = []
    for key, start in state.items():
        if key not in old or (key == "cell_state.weight" and not keep_state):
            fresh.append(key)
        elif key in GENE_ROWS:
            state[key] = _filled(old[key], start, genes, means)
        elif key in GENE_COLUMNS:
            moved = _filled(old[key].transpose(0, 1), start.transpose(0, 1), genes, means)
            state[key] = moved.transpose(0, 1).contiguous()
        elif key == "pert_emb.weight":
            state[key] = _filled(old[key], start, perturbations, None)
        else:
            state[key] = old[key].clone()
    made.load_state_dict(state)
    with torch.no_grad():
        layer = made.cross_gene_state.network[0]
        layer.bias += _control_input(network).to(layer.bias) - _control_input(made)
    counts = genes.counts(network.architecture.genes)
    counts["new_from_neighbours"] = len(means.rows)
    counts["new_fresh"] = counts["new"] - len(means.rows)
    return made, {
        "genes": counts,
        "perturbations": perturbations.counts(network.architecture.perturbations),
        "fresh_tensors": sorted(fresh),
    }


def carried(graph: Graph, match: Matched) -> Graph:
    """The edges of ``graph`` between nodes that the new names share; all other new nodes are isolated."""
    place = np.full(graph.nodes, -1, dtype=np.int64)
    place[match.old[match.shared]] = match.shared
    sources, targets = place[graph.sources], place[graph.targets]
    both = (sources >= 0) & (targets >= 0)
    return Graph(sources[both], targets[both], graph.weights[both], len(match.old))


def _control_input(network: GearsNetwork) -> torch.Tensor:
    """(hidden,) output of the first layer over all genes for an unperturbed cell."""
    found = []
    layer = network.cross_gene_state.network[0]
    handle = layer.register_forward_hook(lambda _module, _inputs, output: found.append(output.detach().clone()))
    try:
        network.changes([()])
    finally:
        handle.remove()
    return found[0][0]


@dataclass(frozen=True, slots=True)
class _Means:
    """Rows of new genes that have neighbours, and (rows, genes) weights over shared genes, rows summing to 1."""

    rows: npt.NDArray[np.int64]
    weights: Any


def _neighbour_means(match: Matched, graph: Graph) -> _Means:
    """Weights of the shared neighbours of each gene that is new."""
    new = match.old[graph.targets] < 0
    known = match.old[graph.sources] >= 0
    edges = new & known & (graph.weights > 0)
    shape = (len(match.old), len(match.old))
    weights = graph.weights[edges].astype(np.float64)
    table = sp.csr_matrix((weights, (graph.targets[edges], graph.sources[edges])), shape)
    total = np.asarray(table.sum(axis=1)).ravel()
    rows = np.flatnonzero(total > 0)
    return _Means(rows, sp.diags_array(1 / total[rows]) @ table[rows])


def _filled(old: torch.Tensor, start: torch.Tensor, match: Matched, means: _Means | None) -> torch.Tensor:
    """``start`` with the shared rows taken from ``old`` and, where ``means`` are given, rows of new genes as means."""
    import torch

    found = start.clone()
    shared = match.shared
    found[torch.from_numpy(shared)] = old[torch.from_numpy(match.old[shared])]
    if means is not None and len(means.rows):
        flat = found.reshape(len(found), -1).numpy().astype(np.float64)
        mean = torch.from_numpy(means.weights @ flat).to(start.dtype)
        found[torch.from_numpy(means.rows)] = mean.reshape(-1, *start.shape[1:])
    return found


def _check_widths(old: Architecture, new: Architecture) -> None:
    for field in ("hidden", "gene_layers", "perturbation_layers"):
        if getattr(old, field) != getattr(new, field):
            raise InvalidDataError(
                f"the checkpoint has {getattr(old, field)} and {getattr(new, field)} is asked for",
                where=f"pretrained/{field}",
                mend=f"set {field}: {getattr(old, field)}",
            )


def _check_shared(old: Sequence[str], new: Sequence[str], match: Matched, where: object) -> None:
    """Refuse a panel of which the checkpoint knows next to nothing, and show how either side names genes."""
    shared = len(match.shared)
    if shared >= max(1, MIN_SHARED * len(new)):
        return
    raise InvalidDataError(
        f"knows {shared} of the {len(new)} genes of the cells, fewer than {MIN_SHARED:.0%}: it names genes as "
        f"{', '.join(map(str, old[:3]))}, the cells as {', '.join(map(str, new[:3]))}",
        where=where,
        mend='name genes alike (symbols or ids), or give the other names as var["symbol"] or var["gene_id"]',
    )
