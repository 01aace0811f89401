"""`hyped seq ingest`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("ingest")
@click.argument("pools", nargs=-1, required=True, metavar="POOL...")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option(
    "--params", "params_ref", metavar="FILE#SECTION", help="Parameters (hashtags: counts or reads, ...)."
)
@click.option(
    "--gene-map",
    type=click.Path(path_type=Path),
    help="GTF, or a two-column table of symbols and Ensembl ids.",
)
@click.option(
    "--aliases",
    type=click.Path(path_type=Path),
    help="Retired symbols and aliases: HGNC's complete set, or a two-column table old,new.",
)
@click.option(
    "--hashtags",
    multiple=True,
    metavar="[POOL=]PATH",
    help="Hashing library of a pool: count table, MEX folder or FASTQ (default: inside the pool's folder).",
)
@click.option("--dry-run", is_flag=True, help="Say what would be read and how large it gets; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def ingest(
    pools: tuple[str, ...],
    out_dir: Path,
    design_file: Path | None,
    params_ref: str | None,
    gene_map: Path | None,
    aliases: Path | None,
    hashtags: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read POOL... (any number) into OUT_DIR/{rna,isoform,hto}.h5ad.

    A POOL is PATH or NAME=PATH; NAME (default: the folder's name) is the pool's name in the design. PATH is
    an output folder of EPI2ME wf-single-cell v3.1.0 with hashtags/{counts.csv,reads.fastq.gz} inside, a 10x
    MEX folder, a 10x .h5, an .h5ad with raw counts, or a .csv of hashtag counts alone (then only hto.h5ad
    is made).

    Raw counts only; barcodes lose their -1. Empty droplets of a matrix that was never filtered are left out
    (empty_droplets: keep keeps them), transcripts where a pool has none. Names that --aliases knows as retired or
    as an alias of one current symbol get that symbol; a name that is itself current never does, and one with
    several is left alone. Genes that then share a symbol are summed (duplicate_symbols: keep leaves them apart);
    genes without an Ensembl id are kept and listed with the reason in unmapped_genes.csv. X and layers["counts"]
    hold raw counts, obs names are <pool>_<barcode>. OUT_DIR/ingest.json says what was read, filled, dropped,
    renamed and summed.
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_seq.ingest.genes import read_gene_map
    from hyped_seq.ingest.params import IngestParams
    from hyped_seq.ingest.pool import parse_hashtag_arguments, parse_pool_argument
    from hyped_seq.ingest.run import ingest_pools, write_ingested

    design = read_design(design_file)
    params = load_params(params_ref, IngestParams)
    named = dict(parse_pool_argument(pool) for pool in pools)
    libraries = parse_hashtag_arguments(hashtags, list(named))
    if dry_run:
        from hyped_seq.ingest.estimate_pools import estimate_pools

        record = estimate_pools(named, params, libraries)
        click.echo(
            json.dumps(record, sort_keys=True)
            if as_json
            else "\n".join(f"{k}: {v}" for k, v in record.items())
        )
        return
    result = ingest_pools(
        pools,
        design,
        params,
        read_gene_map(gene_map, aliases),
        hashtags=libraries,
        context=RunContext(progress=default_progress()),
    )
    write_ingested(result, out_dir)
    if as_json:
        click.echo(json.dumps(result.record, sort_keys=True))
    cells = ", ".join(f"{name} {count}" for name, count in result.record["cells"].items())
    made = ", ".join(f"{name} ({count} features)" for name, count in result.record["features"].items())
    click.echo(f"cells: {cells}; wrote {made} to {out_dir}", err=True)
    for name, report in result.record["pools"].items():
        if "empty_droplets_left_out" in report:
            click.echo(
                f"look: {name}: {report['empty_droplets_left_out']} barcodes look like empty droplets (fewer than "
                f"{report['least_molecules_of_a_cell']} molecules) and were left out; empty_droplets: keep keeps them",
                err=True,
            )
    if "isoform_left_out" in result.record:
        without = ", ".join(result.record["isoform_left_out"])
        click.echo(f"look: no isoform.h5ad: no counts of transcripts in {without}", err=True)
    if len(result.unmapped):
        click.echo(f"{len(result.unmapped)} genes have no Ensembl id: see unmapped_genes.csv", err=True)
