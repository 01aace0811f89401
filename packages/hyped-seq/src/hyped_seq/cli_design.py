"""``hyped seq design``: the start of a design for a user's own pools."""

from __future__ import annotations

import click


@click.command("design")
@click.argument("pools", nargs=-1, required=True, metavar="POOL_DIR...")
@click.option("--hashtags", multiple=True, metavar="[POOL=]PATH", help="Hashing library of a pool: count table "
              "(CSV, TSV), MEX folder or FASTQ(.gz). Default: hashtags/ inside the pool's folder.")  # fmt: skip
@click.option("--params", "params_ref", metavar="FILE[#SECTION]", help="As for `hyped seq process`.")
@click.option("--name", default="my-experiment", show_default=True, help="Name of the experiment.")
def design_command(pools: tuple[str, ...], hashtags: tuple[str, ...], params_ref: str | None, name: str) -> None:
    """Print the start of a design for POOL_DIR...: pools and the hashtags found in them, for you to say what they are.

    Tags are read from a count table, or, in reads, found by the sequences of the human TotalSeq hashtags. Put your
    conditions where it says FILL-IN; until then the design is refused.

    \b
    Example: hyped seq design pool1/ pool2/ > design.yaml
    """
    from hyped_core.params import load_params
    from hyped_seq.process.check import check_pools
    from hyped_seq.process.params import ProcessParams
    from hyped_seq.process.source import find_source
    from hyped_seq.process.starter import starter_design

    params = load_params(params_ref, ProcessParams)
    source = find_source(pools, hashtags, params.ingest)
    check_pools(source)
    click.echo(starter_design(source, name), nl=False)
