"""``hyped bench``: run models, score a file of predictions, see what is left, compare two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyped_core.errors import InvalidDataError, ParamsError, RegressionError, UsageError

if TYPE_CHECKING:
    from hyped_bench.runner import Job, Result

_PARAMS = "FILE.yaml#SECTION with the task's `sources` and, beside them, `models`."


@click.command("run")
@click.option(
    "--task", required=True, help="Task to score (hyped bench status lists those of a parameter file)."
)
@click.option(
    "--model", "names", multiple=True, help="Model, control or reference; repeat for several. Default: all."
)
@click.option("--params", "reference", required=True, metavar="REF", help=_PARAMS)
@click.option("--metrics", type=click.Path(path_type=Path), help="Write one model's metrics to this JSON.")
@click.option("--record", type=click.Path(path_type=Path), help="Write one model's record to this folder.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write metrics/ and records/ of all models here."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option(
    "--keep-going", is_flag=True, help="A failing model gets nulls and its reason; the exit code is 0."
)
@click.option("--timing", is_flag=True, help="Also write timing.json (differs between equal runs).")
@click.option("--json", "as_json", is_flag=True, help="Metrics of all models as JSON on stdout.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, on how much data and roughly how long.")
def run(
    task: str,
    names: tuple[str, ...],
    reference: str,
    metrics: Path | None,
    record: Path | None,
    out: Path | None,
    seed: int,
    device: str,
    keep_going: bool,
    timing: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Run models on a task and score them.

    With one --model: --metrics FILE and --record DIR, exit code 4 where the model fails (5 where it lacks a
    dependency). With several, or none for all: --out DIR and a table on stdout; one that fails is shown
    as failed and harms no other.
    """
    from hyped_bench.records import write_metrics, write_record
    from hyped_bench.runner import prepare, raise_for, run_model
    from hyped_core.context import default_progress
    from hyped_core.params import read_section

    if (metrics or record) and (len(names) != 1 or out):
        raise UsageError(
            "--metrics and --record are for exactly one --model", mend="use --out DIR for several"
        )
    job = prepare(
        task, read_section(reference), seed=seed, device=device, progress=default_progress(), load=not dry_run
    )
    chosen = list(names) or job.models()
    if dry_run:
        click.echo(_plan(job, chosen))
        return
    results: list[Result] = []
    places: tuple[Path | None, Path | None] = (metrics, record)
    for name in chosen:
        if len(chosen) > 1:
            click.echo(f"{task}: {name}", err=True)
        result = run_model(job, name)
        results.append(result)
        at = name.replace(":", "_")
        places = (
            (metrics, record)
            if out is None
            else (out / "metrics" / task / f"{at}.json", out / "records" / task / at)
        )
        if places[0] is not None and (result.status == "ok" or keep_going or out is not None):
            write_metrics(places[0], result)
        if places[1] is not None:
            write_record(places[1], job, result, timing=timing)
    if as_json:
        click.echo(json.dumps({r.model: r.metrics for r in results}, indent=2, sort_keys=True))
    elif len(results) > 1 or (metrics is None and record is None):
        click.echo(table_of(results))
    if len(results) == 1 and not keep_going:
        raise_for(results[0], places[1])
    for result in results:
        if result.status != "ok":
            click.echo(f"{result.model}: {result.status}: {result.reason}", err=True)


def table_of(results: list[Result]) -> str:
    """Aligned table of the task's leading metrics, one line a model."""
    from hyped_core.cli.tables import aligned
    from hyped_core.plugins.registry import tasks

    keys = list(tasks().get(results[0].task).metrics)
    rows = []
    for result in results:
        values = [result.metrics.get(key) for key in keys]
        rows.append(
            [result.model, result.kind, result.status, *("-" if v is None else f"{v:.4g}" for v in values)]
        )
    return aligned(["model", "kind", "status", *keys], rows)


def _plan(job: Job, names: list[str]) -> str:
    from hyped_bench.estimate import estimate
    from hyped_core.cli.tables import size_text

    found = estimate(job)
    counted = " and ".join(f"{n} {kind}" for kind, n in found.units.items()) or "an unknown number of rows"
    return (
        f"would run {', '.join(names)} on {job.name} with {counted}, {size_text(found.size)} of input; "
        f"very roughly {found.seconds * len(names):.0f} s ({found.rate} a model on one core; a model can be "
        "ten times faster or slower); metrics take a few kB, a record up to a few MB a model; "
        "nothing was written"
    )


@click.command("score")
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--params", "reference", required=True, metavar="REF", help="The expression task's section.")
@click.option("--source", help="Which source the file predicts (default: the only primary one).")
@click.option("--name", help="Name of the model in metrics and record (default: the file's name).")
@click.option("--metrics", type=click.Path(path_type=Path), help="Write the metrics to this JSON.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the record to this folder.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Metrics as JSON on stdout.")
def score(
    predictions: Path,
    reference: str,
    source: str | None,
    name: str | None,
    metrics: Path | None,
    record: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score PREDICTIONS, an .h5ad of predicted cells, on the task `expression`.

    obs.perturbation names what each cell predicts; X is ln(1 + counts per 10,000) for exactly the benchmark's
    genes. Control cells in the file are ignored: the benchmark takes its own.
    """
    from hyped_bench.records import write_metrics, write_record
    from hyped_bench.runner import prepare, score_file
    from hyped_core.params import read_section

    job = prepare("expression", read_section(reference), seed=seed)
    result = score_file(job, predictions, source=source, name=name)
    if metrics is not None:
        write_metrics(metrics, result)
    if record is not None:
        write_record(record, job, result)
    if as_json:
        click.echo(json.dumps(result.metrics, indent=2, sort_keys=True))
    else:
        click.echo(table_of([result]))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


@click.command("status")
@click.option(
    "--params", "reference", required=True, metavar="REF", help="FILE.yaml#SECTION that holds tasks."
)
@click.option("--metrics", "folder", type=click.Path(path_type=Path), help="Default: metrics/<dataset>.")
@click.option("--records", type=click.Path(path_type=Path), help="Default: records/<dataset>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def status(reference: str, folder: Path | None, records: Path | None, as_json: bool) -> None:
    """What has been scored and what is left, for every task and model of a parameter file.

    The dataset is the word before `bench` in the section's name (params.yaml#datasets.mini.bench).
    """
    from hyped_bench.records import RECORD, read_record
    from hyped_core.cli.tables import aligned
    from hyped_core.params import read_section

    words = reference.partition("#")[2].split(".")
    dataset = words[words.index("bench") - 1] if "bench" in words[1:] else ""
    if not dataset and (folder is None or records is None):
        raise UsageError(
            "cannot tell the dataset", mend="name the section ...<dataset>.bench, or --metrics and --records"
        )
    folder, records = folder or Path("metrics") / dataset, records or Path("records") / dataset
    rows: list[dict[str, Any]] = []
    for task, section in read_section(reference).items():
        for model in _models_of(task, section):
            at = records / task / model
            state, reason = "to do", ""
            if (at / RECORD).is_file():
                found = read_record(at)
                state, reason = str(found.get("status", "ok")), str(found.get("reason", ""))
            elif (folder / task / f"{model}.json").is_file():
                state = "ok"
                reason = "no record beside the metrics"
            rows.append({"task": task, "model": model, "state": state, "reason": reason})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(aligned(["task", "model", "state", "reason"], [list(map(str, r.values())) for r in rows]))
    left = sum(r["state"] == "to do" for r in rows)
    click.echo(f"{len(rows) - left} of {len(rows)} done", err=True)


def _models_of(task: str, section: Any) -> list[str]:
    from hyped_bench.runner import PIPELINE
    from hyped_core.plugins.registry import models, tasks
    from hyped_core.spec import import_target

    if not isinstance(section, dict):
        raise ParamsError("must be a mapping of the task's parameters", where=task)
    if not import_target(tasks().get(task).target).needs_model:
        return [PIPELINE]
    listed = section.get("models")
    return list(listed) if listed else [i.spec.name for i in models().items() if i.spec.task == task]


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "--tolerance", type=float, default=1e-6, show_default=True, help="Relative, of the larger value."
)
@click.option("--absolute", type=float, default=1e-6, show_default=True, help="Allowed beside it.")
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on stdout.")
def compare(first: Path, second: Path, tolerance: float, absolute: float, as_json: bool) -> None:
    """Compare two runs A and B: records, metrics files, or folders of them.

    Exit code 6 where a metric differs by more than --absolute + --tolerance * larger value, or one lacks it.
    """
    from hyped_bench.comparison import compare_runs

    found = compare_runs(first, second, absolute=absolute, relative=tolerance)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, sort_keys=True))
    else:
        for line in found.differences:
            mark = "PAST" if line.past else "within"
            click.echo(f"{mark}  {line.record}  {line.metric}: {line.first} against {line.second}")
        for side, names in (("A", found.only_first), ("B", found.only_second)):
            for name in names:
                click.echo(f"only in {side}: {name}")
        for place, (a, b) in found.environment.items():
            click.echo(f"made with other {place}: {a} against {b}")
    if found.n_metrics == 0 and not (found.only_first or found.only_second):
        raise InvalidDataError("there is nothing to compare", where=first)
    if not found.agrees:
        missing = len(found.only_first) + len(found.only_second)
        raise RegressionError(
            f"{len(found.past)} of {found.n_metrics} metrics differ past tolerance, {missing} in one run",
            where=f"{first} against {second}",
            mend="the differences of environment above say what to look at"
            if found.environment and not as_json
            else None,
        )
    click.echo(f"{found.n_metrics} metrics agree", err=True)
