"""What `hyped bench run` says at the end of a task: table, verdicts, a trial's place, and who failed and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hyped_core.errors import HypedError

if TYPE_CHECKING:
    from hyped_bench.runner import Result


def raise_with_removal(result: Result, record: Path | None, *, smoke: bool = False) -> None:
    """Raise the error a single failed model ends with; a stranger's with what corrects or removes it."""
    from hyped_bench.runner import raise_for
    from hyped_bench.runs.strangers import own_place, ways_out

    try:
        raise_for(result, record)
    except HypedError as error:
        error.message += own_place(result)
        error.mend = ways_out(result.task, result.model, error.mend or "", smoke=smoke) or None
        raise


def page_of(results: list[Result], out: Path, task: str, *, titled: bool = False, smoke: bool = False) -> str:
    """The table of a task and the verdicts below it, on these results alone, whatever else lies in ``out``."""
    from hyped_bench.runs.verdicts import verdict_lines

    parts = [task] if titled else []
    parts.append(table_of(results))
    parts += [f"{r.model}: mean of {len(r.seeds)} seeds ({_listed(r.seeds)})" for r in results if len(r.seeds) > 1]
    lines, notes = verdict_lines(out / "records", task, [r.model for r in results], short=smoke)
    for note in notes:
        click.echo(f"{task}: {note}", err=True)
    if lines:
        parts += ["", *lines]
    if smoke:
        from hyped_bench.smoke import place_lines

        parts += ["", *place_lines(results)]
    return "\n".join(parts) + ("\n" if titled else "")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def end_run(
    results: dict[str, list[Result]],
    names: Sequence[str],
    out: Path | None,
    keep_going: bool,
    *,
    every: bool = False,
    smoke: bool = False,
) -> None:
    """Say which models failed; the only one named ends the command, with ``every`` each one that was named does."""
    from hyped_bench.runs.strangers import complaint

    ending: list[tuple[Result, Path | None]] = []
    for task, found in results.items():
        for result in found:
            if result.status == "ok":
                continue
            single = [result.model] == list(names) and len(results) == 1
            if (single or every and result.model in names) and not keep_going:
                place = None if out is None else out / "records" / task / result.model.replace(":", "_")
                ending.append((result, place))
            else:
                click.echo(complaint(result, smoke=smoke), err=True)
    for result, _ in ending[1:]:
        click.echo(complaint(result, smoke=smoke), err=True)
    if ending:
        raise_with_removal(*ending[0], smoke=smoke)


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
