"""`hyped seq geneformer embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("embed")
@click.argument("cells", type=click.Path(path_type=Path), metavar="CELLS")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.h5ad")
@click.option("--weights", required=True, help="Folder with config.json and model.safetensors, or a hub id.")
@click.option(
    "--dictionary", default="", help="Folder or file of the dictionaries (default: the folder of the weights)."
)
@click.option(
    "--perturb",
    multiple=True,
    metavar="GENE:DIRECTION",
    help="activation or suppression of a gene (symbol or id) before cells are embedded; as often as needed.",
)
@click.option(
    "--mode",
    type=click.Choice(["expression", "token"]),
    default="expression",
    show_default=True,
    help="Perturb counts before they are encoded (the paper), or encoded cells (Geneformer's own way).",
)
@click.option(
    "--add-absent", is_flag=True, help="A gene to be activated that CELLS lack counts as not expressed."
)
@click.option(
    "--level",
    type=click.Choice(["max", "above"]),
    help="Count of an activated gene in mode expression: the cell's maximum (default), or as much above it as ranks it "
    "first.",
)
@click.option(
    "--layer",
    type=click.Choice(["-1", "0"]),
    default="-1",
    show_default=True,
    help="State before the last layer, or after it.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls"]),
    default="mean",
    show_default=True,
    help="Mean over genes, or the state of <cls> (series V2).",
)
@click.option("--max-tokens", type=click.IntRange(1), help="Longest sequence (default: the series' own).")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens in a batch (default: by the memory there is).")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: fp32 on a CPU, bf16 on a GPU.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that keeps embeddings by content for later runs.",
)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only cells with this value in obs; as often as needed.",
)
@click.option("--dry-run", is_flag=True, help="Embed a few cells, print time and disk as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what the file says of itself as JSON.")
def embed(
    cells: Path,
    out: Path,
    weights: str,
    dictionary: str,
    perturb: tuple[str, ...],
    mode: str,
    add_absent: bool,
    level: str | None,
    layer: str,
    pooling: str,
    max_tokens: int | None,
    batch_tokens: int | None,
    precision: str,
    device: str,
    threads: int,
    cache: Path | None,
    conditions: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Embed the cells of CELLS (.h5ad or .hyped with raw counts) by a Geneformer encoder into OUT.h5ad.

    X of OUT.h5ad is one row a cell, obs is copied, uns["geneformer_json"] says which weights, layer and pooling, how
    many genes the dictionary knows, and of each perturbed gene the rank it reached and in how many cells it lies beyond
    the end of the sequence. Cells in which no gene of the dictionary has a count are left out and counted. A run that
    was killed goes on where it was.

    \b
    Example: hyped seq geneformer embed rna.h5ad myod1.h5ad --weights V2-104M --dictionary dictionaries/V2
             --where condition=control --perturb MYOD1:activation
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_core.params import build
    from hyped_seq.geneformer.embed_run import embed_file, estimate_embed
    from hyped_seq.geneformer.model import GeneformerConfig
    from hyped_seq.perturb_option import perturbation_of

    if level is not None and mode == "token":
        raise UsageError(
            "is of counts, and mode token moves tokens", where="--level", mend="leave it out, or --mode expression"
        )
    config = build(
        GeneformerConfig,
        {
            "weights": weights,
            "dictionaries": dictionary,
            "mode": mode,
            "level": level or "max",
            "add_absent": add_absent,
            "layer": int(layer),
            "pooling": pooling,
            "max_tokens": max_tokens,
            "batch_tokens": batch_tokens,
            "precision": precision,
            "cache": str(cache or ""),
        },
    )
    perturbation = perturbation_of(perturb)
    context = RunContext(device=device, threads=threads, progress=default_progress())
    if dry_run:
        found = estimate_embed(cells, out, config, perturbation, where=conditions, context=context)
        click.echo(json.dumps(found, sort_keys=True))
        return
    facts = embed_file(cells, out, config, perturbation, where=conditions, context=context)
    if as_json:
        click.echo(json.dumps(facts, sort_keys=True))
    for line in messages(facts):
        click.echo(line, err=True)


def messages(facts: dict[str, Any]) -> list[str]:
    """What a user should know of a run, a line each."""
    from hyped_seq.geneformer.id_hints import few_known

    cells, genes = facts["cells"], facts["genes"]
    lines = [
        f"{cells['embedded']} cells embedded, {cells['without_known_gene']} without a known gene left out; "
        f"{genes['known']} of {genes['columns']} genes are in the dictionary"
    ]
    if warning := few_known(genes):
        lines.append(warning)
    if cells["cut"]:
        lines.append(
            f"{cells['cut']} cells have more known genes than a sequence of {facts['max_tokens']} tokens holds"
        )
    for gene in (facts["perturbed"] or {}).get("genes", []):
        had = f"{100 * gene['share_in_sequence']:.1f} % of cells had it in their sequence"
        if gene["direction"] == "activation":
            had += (
                f"; rank reached {gene['rank_median']:g} (median; {gene['rank_min']} to {gene['rank_max']})"
                f", beyond the end in {100 * gene['share_cut']:.1f} %"
                if gene["rank_median"] is not None
                else "; no cell has counts"
            )
        lines.append(f"{gene['gene']} {gene['direction']}, mode {facts['mode']}: {had}")
    for name in facts.get("damaged_shards", []):
        lines.append(f"cache: {name} was damaged and is gone; what it held was computed again")
    return lines
