"""`hyped seq annotate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command("annotate")
@click.argument("ingest_dir", type=click.Path(path_type=Path))
@click.argument("calls", type=click.Path(path_type=Path), metavar="DEMUX.csv")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option(
    "--params",
    "params_ref",
    metavar="FILE#SECTION",
    help="Parameters (quality, doublets, ambient, phase, tsne, umap, changes, ...).",
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
    marked. DEMUX.csv is - where there are no hashtags: cells of a pool with one condition are then of it.
    X is ln(1 + counts per 10,000), layers["counts"] the raw counts. obs has pool, hashtag_call, hashtag_kind,
    assigned_condition, condition, assigned_phase, phase, doublet_score, ambient_share and the evidence beside them;
    de.csv, isoform_usage.csv and dose.csv what changes, each contrast with its warning. Conditions captured in
    different pools cannot be told from the pools, and p-values take cells as units: the tables say so.
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
    table = None if str(calls) == "-" else read_calls(calls)
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
    for line in messages(result.record):
        click.echo(line, err=True)
    de = result.changes.de
    confounded = dict.fromkeys(de.loc[de["warning"].astype(str) != "", "contrast"].astype(str))
    if confounded:
        click.echo(f"read with care (column warning of de.csv): {', '.join(confounded)}", err=True)


def messages(record: dict[str, Any]) -> Iterator[str]:
    """What a user should know of the record of a run, a line each."""
    yield f"{record['cells']} cells kept, {record['removed']} removed (removed.csv)"
    yield from record.get("quality_notes", [])
    for pool, found in record.get("doublets", {}).items():
        if isinstance(found, dict) and "share" in found:
            within = found.get("expected_within_tag")
            unseen = "" if within is None else f", {within:.0f} of them expected within a tag, unseen by hashtags"
            yield f"doublets of {pool}: about {100 * found['share']:.1f} %{unseen}; {found['predicted']} predicted"
    for pool, found in record.get("ambient", {}).items():
        if isinstance(found, dict):
            if found["share"] is None:
                yield f"soup in {pool}: not known, {found['reason']}"
                continue
            share, low, high = (100 * found[name] for name in ("share", "low", "high"))
            yield f"soup in {pool}: {share:.1f} % ({low:.1f} to {high:.1f})"
    phase = record["phase"]
    if "note" not in phase:  # where there is, it is among the notes above
        yield f"phases: {phase['method']}"
    if "held_out_accuracy" in phase:
        yield (
            f"on held-out sorted cells: classifier {phase['held_out_accuracy']:.3f}, "
            f"gene score {phase['score_accuracy']:.3f}"
        )
    if "label_error" in phase:
        yield (
            f"about {100 * phase['label_error']:.0f} % of sorted cells seem to be in another phase than sorted for; "
            f"calibration error {phase['calibration_error']:.3f}"
        )
    yield from record["changes"].get("notes", [])
