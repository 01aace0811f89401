"""The demonstration: a tiny container, every registered control scored on it, a page of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyped_bench.demo_data import write_demo
from hyped_bench.records import write_metrics, write_record
from hyped_bench.runner import Result, prepare, run_model
from hyped_core.context import Progress, SilentProgress
from hyped_core.io.atomic import atomic_path
from hyped_core.plugins.registry import models


def run_demo(out: Path, *, seed: int = 0, progress: Progress | None = None) -> dict[str, list[Result]]:
    """Write ``out`` (container, truth, metrics, records, README.md) whole or not at all; opens no network.

    Only controls run: they need no package beyond hyped-core and hyped-bench.
    """
    reporter = progress or SilentProgress()
    found: dict[str, list[Result]] = {}
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        sections = write_demo(folder, seed)
        for task in reporter.track(sections, "demo", total=len(sections)):
            job = prepare(task, sections[task], seed=seed)
            own = [i.spec for i in models().items() if i.plugin.own]
            controls = [spec.name for spec in own if spec.task == task and spec.role == "control"]
            found[task] = [run_model(job, name) for name in sorted(set(controls))]
            if task == "expression":
                found[task].append(run_model(job, "duplicate"))
            for result in found[task]:
                write_metrics(folder / "metrics" / task / f"{result.model}.json", result)
                write_record(folder / "records" / task / result.model, job, result, root=folder)
        (folder / "README.md").write_text(page(found), encoding="utf-8")
    return found


def page(found: dict[str, list[Result]]) -> str:
    """The tables as Markdown."""
    lines = [
        "# HYPED demo",
        "",
        "A simulated movie and cells in `demo.hyped`, their truth in `truth/`, and what the controls score.",
        "A model has to beat the controls; `duplicate` sees the truth: what a technical repeat reaches.",
    ]
    for task, results in found.items():
        head, rows = task_rows(task, results)
        lines += ["", f"## {task}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "`metrics/` holds these numbers as JSON, `records/` how each came about.", ""]
    return "\n".join(lines)


def task_rows(task: str, results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a task's leading metrics."""
    from hyped_core.plugins.registry import tasks

    keys = list(tasks().get(task).metrics)[:5]
    rows = []
    for result in results:
        values = [result.metrics.get(key) for key in keys]
        rows.append([result.model, result.kind, *("-" if v is None else f"{v:.4g}" for v in values)])
    return ["model", "kind", *keys], rows
