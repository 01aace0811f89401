"""`hyped seq annotate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("annotate")
@click.argument("ingest_dir", type=click.Path(path_type=Path))
@click.argument("calls", type=click.Path(path_type=Path), metavar="DEMUX.csv")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option(
    "--params", "params_ref", metavar="FILE#SECTION", help="Parameters (quality, phase, tsne, umap, ...)."
)
@click.option(
    "--genes",
    type=click.Path(path_type=Path),
    help="Cell-cycle genes: gene and S or G2M a line, or 43 S then G2/M genes (default: Tirosh et al. 2016).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of folds and embeddings.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def annotate(
    ingest_dir: Path,
    calls: Path,
    out_dir: Path,
    design_file: Path | None,
    params_ref: str | None,
    genes: Path | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Annotate the cells of INGEST_DIR with the calls in DEMUX.csv into OUT_DIR/{rna,isoform,hto}.h5ad.

    Cells below the quality bounds leave (removed.csv says which and why); doublets and negatives stay,
    marked.
    X is ln(1 + counts per 10,000), layers["counts"] the raw counts. obs has pool, hashtag_call, hashtag_kind,
    assigned_condition, condition, assigned_phase, phase and the evidence beside them; de.csv every contrast
    with its warning. Conditions captured in different pools cannot be told from the pools, and p-values take
    cells as units: the tables say so.
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_seq.annotate.cycle_genes import read_cycle_genes
    from hyped_seq.annotate.params import AnnotateParams
    from hyped_seq.annotate.run import annotate as run
    from hyped_seq.annotate.run import estimate_annotate, read_ingested, write_annotated
    from hyped_seq.demultiplex.run import read_calls

    design = read_design(design_file)
    params = load_params(params_ref, AnnotateParams)
    cycle_genes = read_cycle_genes(genes)
    table = read_calls(calls)
    if dry_run:
        click.echo(json.dumps(estimate_annotate(ingest_dir, params), sort_keys=True))
        return
    context = RunContext(seed=seed, progress=default_progress())
    result = run(
        read_ingested(ingest_dir), table, design, params, cycle_genes, context=context, calls_from=calls
    )
    write_annotated(result, out_dir)
    if as_json:
        click.echo(json.dumps(result.record, sort_keys=True))
    record = result.record
    click.echo(f"{record['cells']} cells kept, {record['removed']} removed (removed.csv)", err=True)
    phase = record["phase"]
    click.echo(f"phases: {phase['method']}", err=True)
    if "held_out_accuracy" in phase:
        click.echo(
            f"on held-out sorted cells: classifier {phase['held_out_accuracy']:.3f}, "
            f"gene score {phase['score_accuracy']:.3f}",
            err=True,
        )
    confounded = sorted(set(result.contrasts.loc[result.contrasts["warning"] != "", "contrast"]))
    if confounded:
        click.echo(f"read with care (column warning of de.csv): {', '.join(confounded)}", err=True)
