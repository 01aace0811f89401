"""``hyped seq process``: pools and hashtags from end to end."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("process")
@click.argument("pools", nargs=-1, required=True, metavar="POOL_DIR...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="OUT.h5ad", help="The result.")
@click.option("--hashtags", multiple=True, metavar="[POOL=]PATH", help="Hashing library of a pool: count table "
              "(CSV, TSV), MEX folder or FASTQ(.gz). Default: hashtags/ inside the pool's folder.")  # fmt: skip
@click.option("--design", "design_file", type=click.Path(path_type=Path), help="The experiment's design; needed.")
@click.option("--gene-map", type=click.Path(path_type=Path),
              help="GTF, or a two-column table of symbols and Ensembl ids.")  # fmt: skip
@click.option("--aliases", type=click.Path(path_type=Path), help="Table of retired symbols and those used now.")
@click.option("--genes", "cycle_genes", type=click.Path(path_type=Path),
              help="Cell-cycle genes: gene and S or G2M a line (default: Tirosh et al. 2016).")  # fmt: skip
@click.option("--params", "params_ref", metavar="FILE[#SECTION]", help="A section for each step: ingest, demultiplex, "
              "annotate.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of models, folds and embeddings.")
@click.option("--dry-run", is_flag=True, help="Check everything, print disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def process(
    pools: tuple[str, ...],
    out: Path,
    hashtags: tuple[str, ...],
    design_file: Path | None,
    gene_map: Path | None,
    aliases: Path | None,
    cycle_genes: Path | None,
    params_ref: str | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Process POOL_DIR... from raw matrices and hashtags to annotated cells in OUT.h5ad.

    A POOL_DIR is PATH or NAME=PATH; NAME (default: the folder's name) is the pool's name in the design. PATH is an
    output folder of EPI2ME wf-single-cell v3.1.0, a 10x MEX folder or .h5, an .h5ad with raw counts, or a table of
    hashtag counts alone.

    Beside OUT.h5ad come OUT.html (one page: cells, tags, calls, quality, phases, embedding, top genes, and what the
    experiment cannot say) and the folder OUT.steps with what each step left. Run again after an interruption or with
    other parameters, it does what is left to do; a table of calls changed by hand is kept and followed.

    \b
    Example: hyped seq process pool1/ pool2/ --design design.yaml -o out.h5ad
    """
    import json
    import shlex

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_core.params import load_params
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_seq.process.check import read_filled_design
    from hyped_seq.process.estimate import estimate
    from hyped_seq.process.layout import Layout
    from hyped_seq.process.params import ProcessParams
    from hyped_seq.process.run import Job
    from hyped_seq.process.source import find_source

    layout = Layout(out)
    if design_file is None:
        given = [*pools, *(word for library in hashtags for word in ("--hashtags", library))]
        raise UsageError(
            "nobody said which hashtag stands for which condition", where=pools[0],
            mend=f"--design design.yaml; a start: hyped seq design {shlex.join(given)} > design.yaml",
        )  # fmt: skip
    if seed < 0:
        raise UsageError("a seed is 0 or larger", where=f"--seed {seed}", mend="give another seed")
    design = read_filled_design(design_file)
    params = load_params(params_ref, ProcessParams)
    job = Job(
        find_source(pools, hashtags, params.ingest), layout, design, params,
        RunContext(seed=seed, progress=default_progress()), gene_map, aliases, cycle_genes, design_file,
        lambda text: click.echo(text, err=True),
    )  # fmt: skip
    if dry_run:
        with stdout_to_stderr():
            record = estimate(job)
        click.echo(json.dumps(record, indent=2))
        if record["disk_mib"] > record["free_mib"]:
            click.echo(f"look: {record['disk_mib']} MiB wanted, {record['free_mib']} MiB are free", err=True)
        for text in record["look"]:
            click.echo(f"look: {text}", err=True)
        return
    with stdout_to_stderr():
        summary = job.run()
    if as_json:
        click.echo(json.dumps(summary, indent=2, sort_keys=True))
    for text in [*summary["limits"], *summary["alerts"]]:
        click.echo(f"look: {text}", err=True)
    n = {key: sum(facts[key] for facts in summary["calls"].values())
         for key in ("kept_singlet", "kept_doublet", "kept_negative")}  # fmt: skip
    click.echo(
        f"{sum(facts['cells'] for facts in summary['pools'].values())} cells, {summary['quality']['kept']} kept by "
        f"quality: {n['kept_singlet']} singlets, {n['kept_doublet']} doublets, {n['kept_negative']} negatives; "
        f"see {layout.page}", err=True,
    )  # fmt: skip
