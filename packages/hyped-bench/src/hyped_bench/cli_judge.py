"""``hyped bench judge``: verdicts in words on what was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hyped_bench.judgement import Judgement


@click.command("judge")
@click.argument("records", required=False, type=click.Path(path_type=Path))
@click.option("--task", required=True, help="Task whose records are judged.")
@click.option("--dataset", help="Name of the dataset: RECORDS is then records/DATASET where it is not given.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write judgement.json and CSV tables here.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws over units.")
@click.option("--all", "want_all", is_flag=True, help="Every verdict, not one line a model.")
@click.option("--json", "as_json", is_flag=True, help="The judgement as JSON on stdout.")
def judge(
    records: Path | None,
    task: str,
    dataset: str | None,
    out: Path | None,
    seed: int,
    want_all: bool,
    as_json: bool,
) -> None:
    """Judge what was scored: which metrics can tell, and whether a model is better than doing nothing.

    RECORDS is the folder that `hyped bench run` wrote to: its --out, records/DATASET, or the folder of the task
    in there. Each model is held against the control that does nothing, the simple models and the best control, with
    intervals over the units of the task, or over cells where there are fewer than 8 units.

    \b
    Example: hyped bench judge records/mini --task expression
    """
    from hyped_bench.judgement import judge as make
    from hyped_bench.judgement import write_judgement
    from hyped_core.errors import UsageError

    if records is None:
        if dataset is None:
            raise UsageError("there is nothing to judge", mend="give RECORDS or --dataset NAME")
        records = Path("records") / dataset
    made = make(records, task, seed=seed)
    if out is not None:
        write_judgement(out, made)
    if as_json:
        click.echo(json.dumps(made.as_dict(), indent=2, sort_keys=True))
        return
    for line in lines_of(made, want_all=want_all):
        click.echo(line)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    for missing in made.missing_controls:
        click.echo(f"not scored: {missing}", err=True)


def lines_of(made: Judgement, *, want_all: bool = False) -> list[str]:
    """The verdicts of a judgement as lines: one a model and source, or all."""
    if want_all:
        return [verdict.text for verdict in made.verdicts]
    return [f"{item.source}: {item.text}" for item in made.summaries if not item.metric]
