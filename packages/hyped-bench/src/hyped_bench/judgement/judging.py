"""The judgement of a task: calibration, comparisons, verdicts and rankings of what was scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hyped_bench.judgement.calibration import Calibration, calibrate
from hyped_bench.judgement.comparisons import Compared, Inference, compare_panel, inference_of
from hyped_bench.judgement.entries import Entry, read_entries
from hyped_bench.judgement.files import Judgement
from hyped_bench.judgement.panels import Panel, panels
from hyped_bench.judgement.rankings import planted
from hyped_bench.judgement.spread import seed_spread, strata_rows
from hyped_bench.judgement.verdicts import ALPHA, FREE_ENDS, summaries, verdicts
from hyped_bench.tasks.base import Judged

FREE_NOTHING = {"_train": "train_mean", "_conditions": "pool_effect"}
"""What does nothing for a change against the other perturbed conditions, by the end of the metric's key. The control
that does nothing to the cells is held against beside it: of the pool only the measured change is free, so a model can
be better than one of the two for what it says of the pool."""


IDLE_CELLS = ("no_change",)
"""Controls that leave cells as they are."""


FREE_NOTE = (
    f"in keys ending in {' or '.join(FREE_ENDS)} the measured change is free of the pool's effect, "
    "what a model predicts need not be"
)


def judge(folder: str | Path, task: str, *, judged: Sequence[Judged] | None = None, seed: int = 0) -> Judgement:
    """Judge the records of a task.

    Parameters
    ----------
    folder
        ``records/<dataset>``, its folder of this task, or what `hyped bench run --out` wrote.
    judged
        What is judged; the task's own declaration where None.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, UnknownNameError
    """
    root = Path(folder)
    root = root / "records" if (root / "records").is_dir() else root
    inner = root / task
    return judge_entries(
        read_entries(inner if inner.is_dir() else root), task, declared(task) if judged is None else judged, seed=seed
    )


def declared(task: str) -> tuple[Judged, ...]:
    """What the task says is judged.

    Raises
    ------
    UnknownNameError
        There is no such task.
    """
    from hyped_core.plugins.registry import tasks
    from hyped_core.spec import import_target

    return tuple(getattr(import_target(tasks().get(task).target), "judged", ()))


def judge_entries(entries: Sequence[Entry], task: str, judged: Sequence[Judged], *, seed: int = 0) -> Judgement:
    """Judge scored entries: pure, and the same for the same tables."""
    made = Judgement(task)
    made.failed = [{"model": e.model, "status": e.status, "reason": e.reason} for e in entries if e.status != "ok"]
    made.notes += [f"{e['model']} {e['status']}: {e['reason']}" for e in made.failed]
    if not judged:
        made.notes.append(f"task {task} declares no metric that verdicts are given on")
        return made
    found = panels(entries, _with_free(entries, judged))
    if not found:
        made.notes.append("no entry has a value of a judged metric")
    for panel in found:
        _for_source(panel)
        made.confounded[panel.source] = panel.confounded or made.confounded.get(panel.source, False)
        made.inference.setdefault(panel.source, inference_of(panel))
        calibration = calibrate(panel, seed=seed)
        made.calibration += [calibration] if calibration is not None else []
        made.comparisons += compare_panel(panel, seed=seed)
        made.rankings.append(_ranking(panel, calibration))
        order = planted(panel, calibration, seed=seed)
        made.planted += [order] if order is not None else []
        made.missing_controls += _missing(panel)
    made.missing_controls = list(dict.fromkeys(made.missing_controls))
    known = {(c.source, c.metric): c for c in made.calibration}
    words = {panel.metric: panel.judged.unit_word for panel in found}
    made.verdicts = verdicts(made.comparisons, known, made.inference, made.confounded, words, task=task)
    made.summaries = summaries(made.comparisons, made.verdicts, made.inference, made.confounded, task=task)
    made.strata = strata_rows(entries, [panel.judged for panel in found], made.inference, seed=seed)
    made.seeds = seed_spread(entries, found)
    made.notes += _absent(entries, found) + _notes(found, made.comparisons, known.values(), made.inference)
    return made


def _with_free(entries: Sequence[Entry], judged: Sequence[Judged]) -> list[Judged]:
    """The declared metrics, and after each its key against the other perturbed conditions where units have one."""
    columns = {str(name) for entry in entries if entry.units is not None for name in entry.units.columns}
    named = {item.metric for item in judged}
    found = []
    for item in judged:
        found.append(item)
        for end in FREE_ENDS:
            key = f"{item.metric}{end}"
            if key in columns and key not in named:
                found.append(replace(item, metric=key, nothing=FREE_NOTHING[end] if item.nothing else ""))
    return found


def _for_source(panel: Panel) -> None:
    """Metrics against the other perturbed conditions: what does nothing by them, where scored, and what does at all."""
    item = panel.judged
    end = next((end for end in FREE_ENDS if item.metric.endswith(end)), None)
    if end is None or not item.nothing or item.nothing in panel.own:
        return
    other = next((name for name in (FREE_NOTHING[end], "train_mean") if panel.has(name)), item.nothing)
    panel.judged = replace(item, nothing=other)
    names = dict.fromkeys((*IDLE_CELLS, item.nothing))
    panel.idle = tuple(n for n in names if n != other and n not in item.simple and panel.has(n))


def _ranking(panel: Panel, calibration: Calibration | None) -> dict[str, object]:
    scores = panel.scores
    order = sorted(
        (i for i in range(len(scores)) if np.isfinite(scores[i])),
        key=lambda i: (-panel.sign * scores[i], panel.entries[i].model),
    )
    return {
        "source": panel.source,
        "metric": panel.metric,
        "better": panel.judged.better,
        "order": [panel.entries[i].model for i in order],
        "scores": [float(scores[i]) for i in order],
        "kinds": [panel.entries[i].kind for i in order],
        "can_tell": calibration is None or calibration.can_tell,
    }


def _missing(panel: Panel) -> list[str]:
    item = panel.judged
    wanted = [name for name in (item.nothing, *item.simple, item.ceiling) if name]
    return [f"{panel.source}: {name}" for name in wanted if not panel.has(name)]


def _absent(entries: Sequence[Entry], found: Sequence[Panel]) -> list[str]:
    """Models and controls that ran, but not on a source that others were scored on."""
    ran = [entry.model for entry in entries if entry.units is not None and entry.kind != "reference"]
    said = []
    for panel in found:
        there = {entry.model for entry in panel.entries}
        said += [f"{panel.source}: {name} was not scored" for name in ran if name not in there]
    return list(dict.fromkeys(said))


def _notes(
    found: Sequence[Panel],
    rows: Sequence[Compared],
    calibrations: Iterable[Calibration],
    inferences: dict[str, Inference],
) -> list[str]:
    said = [f"{source}: {inference.said}" for source, inference in inferences.items()]
    unable: dict[str, list[str]] = {}
    for item in calibrations:
        if not item.can_tell:
            unable.setdefault(item.source, []).append(f"{item.metric} ({item.reason})")
    said += [f"{source}: unable to tell: {'; '.join(metrics)}" for source, metrics in unable.items()]
    said += _too_many(rows, inferences)
    undefined = [f"{r.source}: {r.metric} of {r.model} or {r.against} is {r.reason}" for r in rows if r.effect is None]
    said += list(dict.fromkeys(undefined))
    free = {panel.source for panel in found if panel.metric.endswith(FREE_ENDS)}
    for panel in found:
        if panel.confounded and not panel.metric.endswith(FREE_ENDS):
            said.append(
                f"{panel.source}: condition and pool cannot be told apart"
                + (f"; {FREE_NOTE}" if panel.source in free else "")
            )
    return list(dict.fromkeys(said))


def _too_many(rows: Sequence[Compared], inferences: dict[str, Inference]) -> list[str]:
    """Sources with so many entries for so few units that the correction leaves none of them a word."""
    families: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row.p is not None and inferences[row.source].method == "bootstrap":
            family = (row.source, row.kind, row.metric, row.against, row.role)
            families[family] = families.get(family, 0) + 1
    most: dict[tuple[str, str, int], int] = {}
    for (source, kind, metric, against, role), count in families.items():
        n = next(r.n for r in rows if (r.source, r.metric, r.against, r.role) == (source, metric, against, role))
        if count * 2.0 ** (1 - n) >= ALPHA:
            most[source, kind, n] = max(count, most.get((source, kind, n), 0))
    return [
        f"{source}: no p over {n} units is below {2.0 ** (1 - n):.2g}, so among {count} {kind}s at once nothing can be "
        "called better or worse: name fewer"
        for (source, kind, n), count in most.items()
    ]
