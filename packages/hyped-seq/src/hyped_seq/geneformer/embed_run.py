"""Embeddings of a file's cells to a file: what `hyped seq geneformer embed` does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.design.model import Perturbation
from hyped_core.errors import HypedError, InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path, remove
from hyped_core.io.outputs import check_output
from hyped_seq.geneformer.cell_chunks import open_cells
from hyped_seq.geneformer.model import Geneformer, GeneformerConfig
from hyped_seq.geneformer.perturb_cells import perturb_cells
from hyped_seq.geneformer.tokens import TokenSets
from hyped_seq.readers.cells import read_cells, select_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_seq.geneformer.tokenizer import Tokenizer

SAMPLE_SECONDS = 5.0
"""About how long a dry run embeds to learn how fast it goes."""
SAMPLE_CELLS = 32


def embed_file(
    cells: str | Path,
    out: str | Path,
    config: GeneformerConfig,
    perturbation: Perturbation,
    *,
    where: Sequence[str] = (),
    context: RunContext,
) -> dict[str, Any]:
    """Embed the cells of a file into an h5ad; returns what it says of itself (``uns["geneformer_json"]``).

    ``X`` is (cells, d) float32, ``obs`` that of the cells. Cells without a known gene are left out and counted. Where
    the config names no cache, embeddings are kept in a hidden folder beside ``out`` until ``out`` is there, so that a
    run that was killed goes on where it was.

    Raises
    ------
    UsageError
        ``out`` is no name of an .h5ad file, is read, or is a folder.
    InvalidDataError
        There is no cell, or none is left; and whatever `Geneformer` raises.
    """
    import pandas as pd
    from anndata import AnnData

    from hyped_seq.readers.h5ad import write_h5ad

    out = Path(out)
    _check_out(out, cells, config)
    source = _cells(cells, where)
    resume = None if config.cache else out.with_name(f".{out.name}.resume")
    model = Geneformer(config if resume is None else config.model_copy(update={"cache": str(resume)}))
    try:
        with _calling(cells):
            genes = _genes(source, model.ready(context)[1])
            rows = model.embed_perturbed(source, perturbation, context=context)
    finally:
        if resume is not None:
            with suppress(OSError):  # it holds embeddings, or was never made
                resume.rmdir()
    kept = np.isfinite(rows[:, 0])
    if not kept.any():
        raise InvalidDataError(f"no gene of the dictionary has a count in any of {len(rows)} cells", where=cells)
    facts = model.facts | {
        "genes": genes,
        "perturbation": perturbation.model_dump(mode="json"),
        "where": list(where),
        "cells": {"given": len(rows), "embedded": int(kept.sum()), "without_known_gene": int((~kept).sum())}
        | {"cut": sum(counted["cut"] for counted in model.facts["cells"].values())},
    }
    record = next(iter(facts.pop("perturbations").values()), None)
    facts["perturbed"] = record
    facts.pop("sequences", None)  # how many came from a cache is no property of the result
    damaged = facts.pop("damaged_shards", [])
    names = [f"e{i}" for i in range(rows.shape[1])]
    result = AnnData(rows[kept], obs=source.obs[kept].copy(), var=pd.DataFrame(index=names))
    result.uns["geneformer_json"] = json.dumps(facts, sort_keys=True)
    with atomic_path(out) as temporary:
        write_h5ad(result, temporary)
    if resume is not None:
        remove(resume)
    return facts | ({"damaged_shards": damaged} if damaged else {})


def estimate_embed(
    cells: str | Path,
    out: str | Path,
    config: GeneformerConfig,
    perturbation: Perturbation,
    *,
    where: Sequence[str] = (),
    context: RunContext,
) -> dict[str, Any]:
    """Time and disk that `embed_file` needs: cells are encoded, and some embedded to see how long they take.

    Time of the rest follows by floating point operations. What a cache already holds is not taken off.
    """
    from hyped_seq.geneformer.embedding import embed_tokens

    _check_out(Path(out), cells, config)
    source = _cells(cells, where)
    model = Geneformer(config)
    weights, tokenizer = model.ready(context)
    started = time.perf_counter()
    with _calling(cells):
        genes = _genes(source, tokenizer)
        found = perturb_cells(
            source, perturbation, tokenizer, mode=config.mode, level=config.level, add_absent=config.add_absent,
            context=context,
        )  # fmt: skip
    encoding = time.perf_counter() - started
    tokens, architecture = found.tokens, weights.architecture
    depth = architecture.depth(config.layer)
    work = np.array([architecture.flops(int(n), layers=depth) for n in tokens.lengths], dtype=np.float64)
    spent, done, at = 0.0, 0.0, 0
    order = np.random.default_rng(0).permutation(len(tokens))
    size = 1
    while at < len(order) and at < SAMPLE_CELLS and spent < SAMPLE_SECONDS:
        rows = np.sort(order[at : at + size])
        began = time.perf_counter()
        embed_tokens(
            weights, _take(tokens, rows), series=tokenizer.dictionaries.series, layer=config.layer,
            pooling=config.pooling, batch_tokens=config.batch_tokens, precision=config.precision, context=context,
        )  # fmt: skip
        if at:  # the first one sets up
            spent += time.perf_counter() - began
            done += work[rows].sum()
        at += size
        size = min(2 * size, 16)
    seconds = spent * work.sum() / done if done else 0.0
    return {
        "cells": source.n_obs,
        "sequences": len(tokens),
        "tokens": len(tokens.tokens),
        "without_known_gene": tokens.n_dropped,
        "genes": genes["columns"],
        "known_genes": genes["known"],
        "width": architecture.hidden,
        "seconds": round(encoding + seconds, 1),
        "disk_mib": round(len(tokens) * architecture.hidden * 4 / 2**20 + 0.1, 1),
        "device": context.device,
        "threads": context.threads,
    }


def _cells(path: str | Path, where: Sequence[str]) -> AnnData:
    """The cells of a file that fulfil the conditions."""
    cells = read_cells(path)
    if not cells.n_obs:
        raise InvalidDataError("holds no cells", where=path, mend="give a file with cells")
    return select_cells(cells, where, path)


def _genes(cells: AnnData, tokenizer: Tokenizer) -> dict[str, int]:
    """How many genes the cells have, and how many of them the dictionary knows, as a token folder's record has it."""
    with open_cells(cells) as source:
        columns = tokenizer.columns(source.gene_ids, source.where, source.held)
        return {"columns": source.shape[1], "known": columns.n_known, "shared": columns.n_groups}


@contextmanager
def _calling(path: str | Path) -> Iterator[None]:
    """Errors of what was read from ``path`` and is called "cells" in memory name the file."""
    try:
        yield
    except HypedError as error:
        name = str(error.where)
        if name == "cells" or name.startswith("cells/"):
            error.where = f"{path}{name.removeprefix('cells')}"
        raise


def _take(tokens: TokenSets, rows: np.ndarray) -> TokenSets:
    """Some of the sequences."""
    offsets = np.concatenate([[0], np.cumsum(tokens.lengths[rows])]).astype(np.int64)
    content = np.concatenate([tokens[int(i)] for i in rows])
    return TokenSets(content, offsets, tokens.rows[rows], tokens.n_cells, tokens.n_genes[rows])


def _check_out(out: Path, cells: str | Path, config: GeneformerConfig) -> None:
    read = [Path(path).expanduser() for path in (cells, config.weights, config.dictionaries) if path]
    check_output(out, kind="file", inputs=read)
    if out.suffix != ".h5ad":
        raise UsageError("is no name of an .h5ad file", where=out, mend="give OUT.h5ad")
