"""`hyped seq geneformer dictionary`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hyped_seq.geneformer.dictionaries import Dictionaries

REASONS = {
    "unseen": "no counts, so no token (--keep GENE gives one a token, --keep-unseen all)",
    "not_asked_for": "not in the gene set",
    "not_in_data": "of the gene set, not in the data",
    "without_id": "columns without gene id",
    "not_in_mapping": "ids that the mapping lacks",
    "ambiguous_symbol": "names of several genes, to be called by id",
    "token_without_median": "a token but no median, so not encoded; their tokens stay reserved",
    "median_without_token": "a median but no token",
    "mapping_without_token": "entries of the mapping that lead to a gene without token",
}
"""What to say of genes that were left out, by reason."""


@click.command("dictionary")
@click.argument("cells", type=click.Path(path_type=Path), nargs=-1, metavar="[CELLS]...")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--series", type=click.Choice(["v1", "v2"]), help="Series of Geneformer (default: v2; with --from what is there)."
)
@click.option("--keep", multiple=True, metavar="GENE", help="Give GENE (id or symbol) a token even without counts.")
@click.option("--keep-unseen", is_flag=True, help="Give every gene a token, with counts or without.")
@click.option("--genes", type=click.Path(path_type=Path), help="Only these genes: an id or symbol a line.")
@click.option("--layer", help="Layer with the raw counts (default: counts, else raw.X or X).")
@click.option(
    "--from",
    "official",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Convert the official dictionaries of FOLDER (.pkl) instead; no CELLS.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def dictionary(
    cells: tuple[Path, ...],
    out: Path,
    series: str | None,
    keep: tuple[str, ...],
    keep_unseen: bool,
    genes: Path | None,
    layer: str | None,
    official: Path | None,
    as_json: bool,
) -> None:
    """Write Geneformer's dictionaries for the genes of CELLS to OUT/dictionaries.json.

    CELLS are .h5ad files with raw counts (read in chunks) or .hyped containers. Each gene with counts gets a token, in
    the order of gene ids, and the exact median of its counts, of 10,000 a cell, over the cells that have any. A gene
    kept without counts gets the median of all medians: keep genes that are to be perturbed.
    OUT/left_out.csv says which genes got no token, and why.

    \b
      hyped seq geneformer dictionary cells.h5ad out --keep MYOD1 --keep PRRX1
      hyped seq geneformer dictionary --from Geneformer/geneformer out
    """
    import json

    from hyped_core.errors import UsageError
    from hyped_core.io.outputs import check_output
    from hyped_seq.geneformer.dictionaries import load_dictionaries
    from hyped_seq.geneformer.dictionary_files import FILE
    from hyped_seq.geneformer.id_hints import strip_versions, versioned

    check_output(out, kind="folder", inputs=[*cells, *filter(None, (genes, official))], marks=[FILE])
    _refuse_weights(out)
    if official is not None:
        if cells or keep or keep_unseen or genes or layer:
            raise UsageError(
                "--from takes neither CELLS nor --keep, --keep-unseen, --genes or --layer",
                mend="hyped seq geneformer dictionary --from FOLDER OUT",
            )
        made, typical = load_dictionaries(official, series=series), []
        lost = {"token_without_median": sorted(made.reserved)}
    else:
        from hyped_core.context import default_progress
        from hyped_seq.geneformer.dictionary_build import build

        if not cells:
            raise UsageError("no cells were given", mend="hyped seq geneformer dictionary CELLS... OUT")
        built = build(
            cells,
            series=series or "v2",
            keep=keep,
            keep_unseen=keep_unseen,
            only=None if genes is None else read_genes(genes),
            layer=layer,
            progress=default_progress(),
        )
        made, lost, typical = built.dictionaries, built.left_out, built.typical
    path = made.save(out)
    _write_left_out(out / "left_out.csv", lost, made)
    record = {**made.facts, "kept_without_counts": typical}
    if as_json:
        click.echo(json.dumps(record, sort_keys=True))
    click.echo(f"{path}: {record['genes']} genes, vocabulary {record['vocabulary']}, sha256 {made.sha256}", err=True)
    for line in messages(record, lost):
        click.echo(line, err=True)
    with_version = versioned(made.genes)
    if with_version:
        click.echo(
            f"ids with a version suffix: {len(with_version)} ({with_version[0]}, ...): published models and data of "
            f"other versions do not know them; to {strip_versions()}",
            err=True,
        )


def _refuse_weights(out: Path) -> None:
    """Other dictionaries in a folder of weights would no longer fit them."""
    from hyped_core.errors import UsageError
    from hyped_seq.geneformer.hub import INDEX, PICKLED, TENSORS
    from hyped_seq.geneformer.weights import CARD

    held = [name for name in (TENSORS, INDEX, PICKLED, CARD) if (out / name).exists()]
    if held:
        raise UsageError(f"holds weights ({held[0]}), which dictionaries must fit", where=out, mend="give a new name")


def read_genes(path: Path) -> list[str]:
    """Ids or symbols of a file: the first column of each line that is not empty nor begins with ``#``."""
    import re

    from hyped_seq.readers.matrix import read_lines

    first = (re.split(r"[\t,]", line, maxsplit=1)[0].strip().strip('"') for line in read_lines(path))
    return [name for name in first if name and not name.startswith("#")]


def _write_left_out(path: Path, lost: Mapping[str, list[str]], made: Dictionaries) -> None:
    """Write a line for each gene without token: id (or name, where it has no id), symbol, reason."""
    import csv
    import io

    from hyped_core.io.atomic import write_text

    names = {gene: name for name, gene in sorted(made.symbols.items(), reverse=True)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["gene", "symbol", "reason"])
    writer.writerows([gene, names.get(gene, ""), reason] for reason, found in lost.items() for gene in found)
    write_text(path, text.getvalue())


def messages(record: Mapping[str, Any], lost: Mapping[str, list[str]]) -> Iterator[str]:
    """What a user should know of the genes, a line each."""
    for reason, count in record["left_out"].items():
        some = ", ".join(lost.get(reason, [])[:3])
        yield f"{REASONS[reason]}: {count}" + (f" ({some}{', ...' if count > 3 else ''})" if some else "")
    typical = record["kept_without_counts"]
    if typical:
        some = ", ".join(typical[:3]) + (", ..." if len(typical) > 3 else "")
        yield f"kept without counts, with the median of all medians: {len(typical)} ({some})"
