"""``hyped bench run``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyped_bench.plain_options import SeedCount, plain_options, process_options, trial_options
from hyped_bench.runs.said import end_run, page_of, raise_with_removal, table_of
from hyped_core.errors import ParamsError, UsageError

if TYPE_CHECKING:
    from hyped_bench.runner import Job, Result

__all__ = ["page_of", "run", "table_of"]

SMOKE_SECONDS = 300.0
"""How long a model of others may take on tiny data where --time-limit does not say."""
_PARAMS = (
    "FILE.yaml#SECTION: a task's section (its `sources` and, beside them, `models`, `design`, `runners`), "
    "or the section that holds tasks by name."
)


@click.command("run")
@click.option("--task", "tasks", multiple=True, help="Task to score; repeat for several. Default: all of the section.")
@click.option(
    "--model", "names", multiple=True,
    help="Model, control or reference; repeat for several. Default: all that the section lists, else all there are.",
)  # fmt: skip
@click.option("--params", "reference", metavar="REF", help=_PARAMS)
@click.option(
    "--cells", type=click.Path(path_type=Path), metavar="FILE.h5ad",
    help="Instead, for expression: perturbed and control cells, counts or logs (scPerturb or GEARS style).",
)  # fmt: skip
@click.option("--split", "kind", help="With --cells: what is held out, e.g. unseen_perturbation or unseen_condition.")
@plain_options("--cells")
@trial_options
@click.option("--metrics", type=click.Path(path_type=Path), help="Write one model's metrics to this JSON, alone.")
@click.option("--record", type=click.Path(path_type=Path), help="Write one model's record to this folder, alone.")
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="Write metrics/ and records/ here, and take up there what was finished before.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the data's draws and of the first run.")
@click.option(
    "--seeds", type=SeedCount(), default=1, show_default=True,
    help="Run models that differ between seeds with so many: --seed, --seed + 1, ...",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option("--deterministic", is_flag=True, help="Hold torch to operations that repeat themselves, without TF32.")
@click.option("--keep-going", is_flag=True, help="A failing model gets nulls and its reason; the exit code is 0.")
@process_options
@click.option("--timing", is_flag=True, help="Also write timing.json into records (differs between equal runs).")
@click.option("--json", "as_json", is_flag=True, help="Metrics as JSON on stdout: by model; by task, then model.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, on how much data and roughly how long.")
def run(
    tasks: tuple[str, ...],
    names: tuple[str, ...],
    reference: str | None,
    cells: Path | None,
    kind: str | None,
    perturbation: str | None,
    max_cells: int | None,
    kept: tuple[str, ...],
    plugin: Path | None,
    smoke: bool,
    metrics: Path | None,
    record: Path | None,
    out: Path | None,
    seed: int,
    seeds: int,
    device: str,
    deterministic: bool,
    time_limit: float | None,
    memory_limit: float | None,
    here: bool,
    keep_going: bool,
    timing: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Run models on tasks and score them, always beside the controls.

    A table of all, and verdicts in words, on stdout. One model that fails is shown as failed and harms no other;
    where it is the only one named the exit code is 4 (5 where it lacks a declared dependency, hardware or memory).
    A model that could see cells it is scored on ends the run with exit code 3. With --out a run that is stopped goes on
    where it was, and what did not change is not run again.

    Models of packages other than HYPED's run in processes of their own, within limits of time and memory; so do those
    that ask for an environment of their own.

    With --metrics FILE and --record DIR, for one --model of one task, that model is run alone and nothing is said
    of others: what a stage of the pipeline does.
    """
    from hyped_bench.runs.chosen import check_names, chosen_names
    from hyped_bench.runs.strangers import Limits, place_models
    from hyped_bench.smoke import use_quick
    from hyped_core.plugins.host import default_host

    tasks = tasks or (("expression",) if cells is not None else ())
    alone = bool(metrics or record)
    if plugin is not None:
        tasks, names = _of_plugin(plugin, tasks, names, reference, smoke=smoke, cells=cells)
    if alone and (len(names) != 1 or len(tasks) != 1 or out):
        raise UsageError(
            "--metrics and --record are for exactly one --model of one --task", mend="use --out DIR for several"
        )
    if deterministic:
        from hyped_core.remote.determinism import make_deterministic

        make_deterministic()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hyped-bench-"))
        place = Path(folder) / "out" if out is None else out
        if smoke:
            _check_smoke(reference, cells, kind, perturbation, max_cells, kept)
            section = _smoke_section(place if out is not None and not dry_run else Path(folder), tasks, seed)
        else:
            section = _section(reference, cells, kind, perturbation, max_cells, kept)
        jobs = _jobs(section, tasks, seed=seed, device=device)
        chosen = {job.name: chosen_names(job, names, alone=alone, smoke=smoke) for job in jobs}
        check_names(jobs, names, chosen, keep_going=keep_going)
        for broken in default_host().broken:
            click.echo(f"note: the plugin {broken.name} ({broken.distribution} {broken.version}) is broken: "
                       f"{broken.reason}\n  to mend: {broken.mend}", err=True)  # fmt: skip
        for job in jobs:
            seconds = time_limit or (SMOKE_SECONDS if smoke else None)
            place_models(job, chosen[job.name], Limits(seconds, memory_limit, here))
            if smoke:
                use_quick(job, chosen[job.name])
        if dry_run:
            for job in jobs:
                click.echo(_plan(job, chosen[job.name], seeds))
            return
        if alone:
            _run_alone(jobs[0], names[0], metrics, record, _seeds(seed, seeds), keep_going=keep_going, timing=timing)
            return
        results = {}
        for job in jobs:
            if not chosen[job.name]:
                continue
            results[job.name] = _run_task(job, chosen[job.name], place, _seeds(seed, seeds), timing=timing)
            if not as_json:
                click.echo(page_of(results[job.name], place, job.name, titled=len(jobs) > 1, smoke=smoke))
        if as_json:
            said = {task: {r.model: r.metrics for r in found} for task, found in results.items()}
            click.echo(json.dumps(said if len(jobs) > 1 else next(iter(said.values())), indent=2, sort_keys=True))
        if smoke and not as_json and plugin is not None and plugin.is_dir():
            click.echo(f"hyped plugins check {plugin} holds the model to its contract.")
        end_run(results, names, out, keep_going, every=plugin is not None, smoke=smoke)


def _of_plugin(
    plugin: Path, tasks: Sequence[str], names: Sequence[str], reference: str | None, *, smoke: bool, cells: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks and models of a plugin in a folder, as far as they were not named."""
    from hyped_bench.smoke import chosen_of, use_plugin

    if reference is None and cells is None and not smoke:
        raise UsageError("what is it run on?", mend="--smoke for a first trial, else --params REF or --cells FILE.h5ad")
    found = use_plugin(plugin)
    wanted, theirs = chosen_of(found, tasks, plugin)
    return tuple(wanted), tuple(names) or tuple(theirs)


def _check_smoke(*others: object) -> None:
    if any(other not in (None, ()) for other in others):
        raise UsageError("--smoke has data of its own", mend="leave --params, --cells and what goes with it out")


def _smoke_section(folder: Path, tasks: Sequence[str], seed: int) -> dict[str, Any]:
    """Tiny data of the tasks named, or of all, in a new folder of their own."""
    from hyped_bench.smoke import new_data_folder, smoke_sections
    from hyped_core.spec import TASKS

    return smoke_sections(new_data_folder(folder), tuple(dict.fromkeys(tasks)) or TASKS, seed)


def _seeds(first: int, count: int) -> range:
    return range(first, first + count)


def _section(
    reference: str | None,
    cells: Path | None,
    kind: str | None,
    perturbation: str | None,
    max_cells: int | None,
    kept: Sequence[str],
) -> Any:
    """The parameters: those of a file, or those of a plain file of cells."""
    from hyped_core.params import read_section

    if (reference is None) == (cells is None) or (cells is None) != (kind is None):
        raise UsageError("what is it run on?", mend="--params REF, or --cells FILE.h5ad with --split KIND")
    if cells is None:
        if kept or perturbation is not None or max_cells is not None:
            mend = "with --params a source has `perturbation`, `where` and `max_cells`"
            raise UsageError("--perturbation, --where and --max-cells are for --cells", mend=mend)
        return read_section(str(reference))
    from hyped_bench.tasks.expression import plain_section
    from hyped_bench.tasks.expression.plain import split_of, where_of

    found = plain_section(
        None, cells, perturbation=perturbation, split=split_of(str(kind)), max_cells=max_cells, where=where_of(kept)
    )
    return {"expression": found}


def _jobs(section: Any, names: Sequence[str], *, seed: int, device: str) -> list[Job]:
    """Jobs of the tasks named, or of all in the section; their data are read later."""
    from hyped_bench.runner import prepare
    from hyped_core.context import default_progress
    from hyped_core.plugins.registry import tasks

    if not isinstance(section, dict):
        raise ParamsError("must be a mapping", where="--params", mend="name a task's section, or one that holds tasks")
    known = tasks().names()
    held = [name for name in section if name in known and isinstance(section[name], dict)]
    if not names and not held:
        raise UsageError("which task?", mend="say --task NAME, or give a section that holds tasks by name")
    found = []
    for name in dict.fromkeys(names or held):
        if held and name not in held and name in known:
            raise UsageError(f"the section holds no task {name}", mend=f"it holds {', '.join(held)}")
        own = section[name] if name in held else section
        found.append(prepare(name, own, seed=seed, device=device, progress=default_progress(), load=False))
    if len(found) > 1 and not held:
        raise UsageError("several tasks need a section that holds them by name", mend="leave the task's name off REF")
    return found


def _run_task(job: Job, names: Sequence[str], out: Path, seeds: range, *, timing: bool) -> list[Result]:
    from hyped_bench.runs.many import run_many

    def say(text: str) -> None:
        click.echo(text, err=True)

    return [done.result for done in run_many(job, names, out, seeds=seeds, timing=timing, say=say)]


def _run_alone(
    job: Job,
    name: str,
    metrics: Path | None,
    record: Path | None,
    seeds: range,
    *,
    keep_going: bool,
    timing: bool,
) -> None:
    """One model, its files and nothing else."""
    from hyped_bench.records import write_metrics, write_record
    from hyped_bench.runner import run_model
    from hyped_bench.runs.seeds import differs_by_seed, merge_seeds
    from hyped_bench.runs.strangers import complaint, not_found
    from hyped_core.plugins.lost import lost_model
    from hyped_core.plugins.streams import listening, printed_note

    job.load()
    first = job.task.context.seed
    lost = not_found(job, name, first) if keep_going and lost_model(job.name, name) is not None else None
    with listening() as heard:
        if lost is not None:
            result = lost
        elif len(seeds) > 1 and differs_by_seed(job, name):
            result = merge_seeds([run_model(job, name, seed=None if seed == first else seed) for seed in seeds])
        else:
            result = run_model(job, name)
    if note := printed_note(f"{job.name}/{name}", heard.lines):
        click.echo(note, err=True)
    if metrics is not None and (result.status == "ok" or keep_going):
        write_metrics(metrics, result)
    if record is not None:
        write_record(record, job, result, timing=timing)
    if not keep_going:
        raise_with_removal(result, record)
    if result.status != "ok":
        click.echo(complaint(result), err=True)


def _plan(job: Job, names: list[str], seeds: int) -> str:
    from hyped_bench.estimate import estimate
    from hyped_bench.runs.seeds import differs_by_seed
    from hyped_core.cli.tables import size_text

    found = estimate(job)
    counted = " and ".join(f"{n} {kind}" for kind, n in found.units.items()) or "an unknown number of rows"
    runs = sum(seeds if seeds > 1 and differs_by_seed(job, name) else 1 for name in names)
    return (
        f"would run {', '.join(names)} on {job.name}{f' ({runs} runs)' if runs > len(names) else ''} with {counted}, "
        f"{size_text(found.size)} of input; "
        f"very roughly {found.seconds * runs:.0f} s ({found.rate} a model on one core; a model can be "
        "ten times faster or slower); metrics take a few kB, a record up to a few MB a model; "
        "nothing was written"
    )
