"""``hyped bench score``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hyped_bench.plain_options import plain_options

if TYPE_CHECKING:
    from hyped_bench.runner import Job, Result


@click.command("score")
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--params", "reference", metavar="REF", help="The expression task's section of a parameter file.")
@click.option(
    "--truth", type=click.Path(path_type=Path), metavar="FILE.h5ad",
    help="Instead: measured cells, perturbed and control, counts or logs (scPerturb or GEARS style).",
)  # fmt: skip
@click.option(
    "--split", "kind", help="With --truth: what was held out, e.g. unseen_condition. Default: what is predicted."
)
@plain_options("--truth")
@click.option("--source", help="Which source the file predicts (default: the only primary one).")
@click.option("--name", help="Name of the model in metrics and record (default: the file's name).")
@click.option("--metrics", type=click.Path(path_type=Path), help="Write the file's metrics to this JSON, alone.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the file's record to this folder, alone.")
@click.option("--out", type=click.Path(path_type=Path), help="Write metrics/ and records/ here, the controls' too.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The file's metrics as JSON on stdout.")
def score(
    predictions: Path,
    reference: str | None,
    truth: Path | None,
    perturbation: str | None,
    kind: str | None,
    max_cells: int | None,
    kept: tuple[str, ...],
    source: str | None,
    name: str | None,
    metrics: Path | None,
    record: Path | None,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score PREDICTIONS, an .h5ad of predicted cells, on the task `expression`.

    obs.perturbation names what each cell predicts; X is ln(1 + counts per 10,000) for exactly the benchmark's
    genes. Control cells in the file are ignored: the benchmark takes its own.

    Controls and references are scored beside it, with verdicts in words, unless only --metrics, --record or --json
    are asked for. Where a control fails, all is written and shown, and the exit code is 4 (5 where it lacks a
    dependency, hardware or memory): the file's score then says little.
    """
    from hyped_bench.records import write_metrics, write_record
    from hyped_bench.runner import prepare, score_file
    from hyped_core.errors import UsageError
    from hyped_core.params import read_section

    if (reference is None) == (truth is None):
        raise UsageError("what is it scored against?", mend="--params REF, or --truth FILE.h5ad")
    if truth is None and (perturbation or kind or kept or max_cells is not None):
        raise UsageError(
            "--perturbation, --split, --where and --max-cells are for --truth", mend="the section of --params says them"
        )
    if truth is None:
        job = prepare("expression", read_section(str(reference)), seed=seed)
    else:
        from hyped_bench.tasks.expression import plain_section
        from hyped_bench.tasks.expression.plain import split_of, where_of

        split = split_of(kind) if kind else None
        section = plain_section(
            predictions, truth, perturbation=perturbation, split=split, max_cells=max_cells, where=where_of(kept)
        )
        job = prepare("expression", section, seed=seed)
        source = source or next(iter(job.task.data))  # type: ignore[attr-defined]
    called = name or predictions.stem
    if called in (*job.controls(), *job.references()):
        raise UsageError(f"{called} is the name of a control or reference", mend="give the file another: --name NAME")
    result = score_file(job, predictions, source=source, name=called)
    if metrics is not None:
        write_metrics(metrics, result)
    if record is not None:
        write_record(record, job, result)
    broken: list[Result] = []
    held = _held_out(job, source, of_file=truth is not None and kind is None)
    if out is not None or not (as_json or metrics or record):
        with tempfile.TemporaryDirectory(prefix="hyped-bench-") as scratch:
            page, broken = _beside(job, result, source, Path(scratch) if out is None else out)
        if not as_json:
            click.echo(f"{held}\n{page}")
    if as_json:
        click.echo(json.dumps(result.metrics, indent=2, sort_keys=True))
    if as_json or metrics or record:
        click.echo(held, err=True)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    for one in broken:
        click.echo(f"{one.model}: {one.status}: {one.reason}", err=True)
    _end([one for one in broken if one.kind == "control"])


def _held_out(job: Job, source: str | None, *, of_file: bool) -> str:
    """How many perturbations are scored, and who said which."""
    from hyped_bench.runner import of_source
    from hyped_core.design.model import CONTROL

    [data] = of_source(job, source).task.data.values()  # type: ignore[attr-defined]
    scored = {name for fold in data.folds for name in fold.test}
    known = set(data.perturbations) - {CONTROL}
    by = "what the file predicts" if of_file else data.source.held_out.kind
    by = "every condition, by the recipe" if data.relabelled else by
    rest = f"; the other {len(known - scored)} were there to learn from" if of_file else ""
    return f"held out: {by}, {len(scored)} of {len(known)} perturbations{rest}"


def _end(failed: list[Result]) -> None:
    """End the command where controls failed: the file is held against less than it should be."""
    if not failed:
        return
    from hyped_core.errors import MissingDependencyError, PluginError

    kind = PluginError if any(one.status == "failed" for one in failed) else MissingDependencyError
    raise kind(
        f"controls without a score: {', '.join(one.model for one in failed)}",
        mend="the reasons are above; without controls a score says nothing",
    )


def _beside(job: Job, result: Result, source: str | None, out: Path) -> tuple[str, list[Result]]:
    """The table of the file and of all that it is held against, and verdicts; and which of those have no score."""
    from hyped_bench.cli_run import page_of
    from hyped_bench.records import write_metrics, write_record
    from hyped_bench.runner import of_source
    from hyped_bench.runs.many import run_many

    own = of_source(job, source)
    write_record(out / "records" / "expression" / result.model, own, result)
    write_metrics(out / "metrics" / "expression" / f"{result.model}.json", result)
    names = [*own.controls(), *own.references()]
    done = [d.result for d in run_many(own, names, out, seeds=(own.task.context.seed,))]
    return page_of([*done, result], out, "expression"), [one for one in done if one.status != "ok"]
