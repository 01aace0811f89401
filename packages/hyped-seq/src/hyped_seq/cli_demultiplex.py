"""`hyped seq demultiplex`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demultiplex")
@click.argument("hto", type=click.Path(path_type=Path), metavar="COUNTS")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.csv")
@click.option("--pool", help="Pool of a count table (default: the design's only one, else the file's name).")
@click.option("--model", default=None, help="Demultiplexer (default: the parameters' `model`, else hashed).")
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option("--params", "params_ref", metavar="FILE#SECTION", help="Section with `model` and `config`.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed given to the model.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the number of calls as JSON.")
def demultiplex(
    hto: Path,
    out: Path,
    pool: str | None,
    model: str | None,
    design_file: Path | None,
    params_ref: str | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Call the hashtag of every cell of COUNTS, pool by pool, into OUT.csv.

    COUNTS is the hto.h5ad of `hyped seq ingest`, or the hashtag counts of one pool as they are: CSV or TSV (tags in
    rows or columns), a folder with matrix.mtx, a 10x h5 or an h5ad. Tags of a table are matched to the design's
    names; barcodes lose a -1 that all of them have.

    Columns: cell, pool, call (tag, Doublet or Negative), kind, probability, tags, and from the design by
    (pool, tag): condition, phase (where cells were sorted). Doublets and negatives stay, marked. Behind them what the
    model gives of forced_call (best tag without doublets or abstaining), doublet_probability, margin.
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.errors import DesignError
    from hyped_core.params import load_params
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_core.remote.placing import place
    from hyped_seq.demultiplex.params import DemultiplexParams
    from hyped_seq.demultiplex.run import demultiplex as run
    from hyped_seq.demultiplex.run import write_calls
    from hyped_seq.demultiplex.tables import read_hto

    design = read_design(design_file)
    params = load_params(params_ref, DemultiplexParams)
    name = model or params.model
    if name != params.model and params.config:
        click.echo(
            f"the parameters' config is for {params.model!r}: {name!r} runs with its defaults", err=True
        )
    with stdout_to_stderr():
        demultiplexer = place("demultiplex", name, params.config if name == params.model else {}, design).create()
    if dry_run:
        from hyped_seq.ingest.estimate import Rate, Shape, h5ad_shape, plan

        rate = Rate(0.0, 100.0, 1.5, 5000.0, 1e6)
        if hto.suffix == ".h5ad":
            shape = h5ad_shape(hto)
        else:
            table, _ = read_hto(hto, pool, design, given=design_file is not None)
            shape = Shape(table.n_obs, table.n_vars, table.X.nnz, 0)
        click.echo(json.dumps(plan({"hto": shape}, [out.name], rate), sort_keys=True))
        return
    context = RunContext(seed=seed, progress=default_progress())
    cells, notes = read_hto(hto, pool, design, given=design_file is not None)
    for note in notes:
        click.echo(note, err=True)
    strangers = sorted(set(cells.obs["pool"].astype(str)) - {pool.name for pool in design.pools})
    if strangers and design_file is not None:
        raise DesignError(
            f"there is no pool {strangers[0]!r}",
            where=design_file,
            mend=f"name it in the design; pools there: {', '.join(pool.name for pool in design.pools) or 'none'}",
        )
    with stdout_to_stderr():
        calls = run(cells, demultiplexer, design, context=context)
    if strangers:
        click.echo(f"no --design knows pool {', '.join(strangers)}: tags are called, conditions stay empty", err=True)
    write_calls(calls, out)
    counts = calls.groupby(["pool", "kind"]).size()
    if as_json:
        record = {pool: counts[pool].to_dict() for pool in counts.index.unique(0)}
        click.echo(json.dumps(record, sort_keys=True, default=int))
    for pool in counts.index.unique(0):
        click.echo(f"{pool}: " + ", ".join(f"{n} {kind}s" for kind, n in counts[pool].items()), err=True)
