"""`hyped seq geneformer tokenize`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command("tokenize")
@click.argument("cells", type=click.Path(path_type=Path), metavar="CELLS")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--dictionary",
    "dictionary",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder or file of `hyped seq geneformer dictionary`, or a folder of official dictionaries.",
)
@click.option("--series", type=click.Choice(["v1", "v2"]), help="Refuse a dictionary of another series.")
@click.option("--max-tokens", type=int, help="Longest sequence, special tokens included (default: the series' own).")
@click.option("--layer", help="Layer with the raw counts (default: counts, else raw.X, else X).")
@click.option("--obs", multiple=True, metavar="COLUMN", help="Column of obs to keep beside cells' names; repeatable.")
@click.option("--chunk-cells", type=click.IntRange(min=1), help="Cells read at a time (default: 8192).")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads; bytes stay equal.")
@click.option(
    "--datasets", type=click.Path(path_type=Path), metavar="FOLDER", help="Also write a HuggingFace dataset there."
)
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk, memory and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def tokenize(
    cells: Path,
    out: Path,
    dictionary: Path,
    series: str | None,
    max_tokens: int | None,
    layer: str | None,
    obs: tuple[str, ...],
    chunk_cells: int | None,
    threads: int,
    datasets: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Tokenize the raw counts of CELLS (.h5ad or .hyped) for Geneformer into the folder OUT.

    A cell's genes are ordered by count / n_counts * 10,000 / median, the highest first, and replaced by their tokens;
    of equal values the smaller token comes first. n_counts is the column of obs, else the sum over all genes. Cells
    without a gene of the dictionary are left out and counted. Files larger than memory are read in chunks.

    OUT holds tokens.npy (int32, all sequences one after another), offsets.npy, rows.npy (row of CELLS of each
    sequence), n_genes.npy (genes before the cut), obs.parquet and tokens.json.

    \b
      hyped seq geneformer tokenize rna.h5ad tokens --dictionary dictionaries --obs condition --obs phase
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_core.io.outputs import check_output
    from hyped_seq.geneformer.cell_chunks import CHUNK_CELLS
    from hyped_seq.geneformer.dictionaries import load_dictionaries
    from hyped_seq.geneformer.export_datasets import STATE, export_dataset
    from hyped_seq.geneformer.token_store import FACTS, estimate_tokenize, tokenize_file
    from hyped_seq.geneformer.tokenizer import Tokenizer

    if datasets is not None and datasets.resolve() == out.resolve():
        raise UsageError("OUT and --datasets are one folder", mend="give them two")
    check_output(out, kind="folder", inputs=[cells, dictionary], marks=[FACTS])
    if datasets is not None:
        check_output(datasets, kind="folder", inputs=[cells, dictionary, out], marks=[STATE])
    tokenizer = Tokenizer(load_dictionaries(dictionary, series=series), max_tokens=max_tokens)
    if dry_run:
        click.echo(json.dumps(estimate_tokenize(cells, tokenizer, layer=layer), sort_keys=True))
        return
    record = tokenize_file(
        cells,
        tokenizer,
        out,
        chunk_cells=chunk_cells or CHUNK_CELLS,
        threads=threads,
        layer=layer,
        obs=obs,
        context=RunContext(threads=threads, progress=default_progress()),
    )
    if datasets is not None:
        export_dataset(out, datasets)
    if as_json:
        click.echo(json.dumps(record, sort_keys=True))
    for line in messages(record):
        click.echo(line, err=True)


def messages(record: dict[str, Any]) -> Iterator[str]:
    """What a user should know of a record, a line each."""
    from hyped_seq.geneformer.id_hints import few_known

    genes = record["genes"]
    yield (
        f"{record['n_sequences']} cells, {record['n_tokens']} tokens; "
        f"{genes['known']} of {genes['columns']} genes are in the dictionary"
    )
    if warning := few_known(genes):
        yield warning
    if genes["shared"]:
        yield f"{genes['shared']} genes have several columns, whose counts were summed"
    if record["n_dropped"]:
        yield f"{record['n_dropped']} of {record['n_cells']} cells have no gene of the dictionary and were left out"
    if record["n_cut"]:
        yield f"{record['n_cut']} cells have more genes than {record['max_tokens']} tokens hold and were cut"
    if record["n_counts"] == "summed":
        yield "obs has no n_counts: counts were summed over the genes that are there"
