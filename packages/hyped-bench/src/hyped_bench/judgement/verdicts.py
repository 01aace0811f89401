"""Comparisons in words: better than, indistinguishable from, worse than, or why it cannot be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hyped_bench.judgement.calibration import Calibration
from hyped_bench.judgement.comparisons import CELLS, Compared, Inference
from hyped_bench.judgement.entries import plural

Word = Literal["better", "indistinguishable", "worse", "cannot tell"]
ALPHA = 0.05
RETURNS = {("expression", "no_change"): "returns the control cells"}
"""What a model does whose scores equal those of this control of a task in every unit, where it has a name."""
CONFOUNDED = "condition and pool cannot be told apart here, so what is scored as a change may be the pool's"
FREE = (
    "the measured change is that from the mean of the other perturbed conditions, which share the pool; "
    "what a model predicts may still hold the pool's effect"
)
SHARED = "mean_response"
"""The control that has the pool's effect too where a task has no keys against the other conditions."""
IDLE = {
    "no_change": "doing nothing",
    "train_mean": "the mean of the other perturbed conditions",
    "pool_effect": "the shared shift of the other perturbed conditions",
    "null": "changing random genes",
}
"""What an entry is held against where that is not doing nothing to the cells."""
FREE_ENDS = ("_train", "_conditions")
"""What keys end with that hold a change against the other perturbed conditions."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word and a sentence on one entry against one other, on one metric and source."""

    source: str
    metric: str
    model: str
    kind: str
    against: str
    role: str
    word: Word
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """One sentence on an entry: on one metric, or (``metric`` empty) on a source."""

    source: str
    metric: str
    model: str
    kind: str
    text: str


def word_of(row: Compared, can_tell: bool = True) -> Word:
    """The word that a comparison's interval and corrected p value carry."""
    if row.effect is None or row.lo is None or row.hi is None or row.p_holm is None or not can_tell:
        return "cannot tell"
    if row.p_holm >= ALPHA or row.lo <= 0 <= row.hi:
        return "indistinguishable"
    return "better" if row.effect > 0 else "worse"


def verdicts(
    rows: Sequence[Compared],
    calibrations: Mapping[tuple[str, str], Calibration],
    inferences: Mapping[str, Inference],
    confounded: Mapping[str, bool],
    unit_words: Mapping[str, str],
    *,
    task: str = "",
) -> list[Verdict]:
    """A verdict for each comparison, in their order."""
    copies = returning(rows)
    found: list[Verdict] = []
    for row in rows:
        calibration = calibrations.get((row.source, row.metric))
        can_tell = calibration is None or calibration.can_tell
        word = word_of(row, can_tell)
        tail = _tail(row, word, inferences[row.source], confounded.get(row.source, False))
        if (row.source, row.model) in copies and row.same:
            control = copies[row.source, row.model]
            does = _does(task, control)
            text = f"{row.model} {does}: its {row.metric} is that of {row.against} in every {unit_words[row.metric]}"
            found.append(_verdict(row, "indistinguishable" if can_tell else "cannot tell", text + tail))
            continue
        said = _sentence(row, word, calibration, unit_words[row.metric])
        found.append(_verdict(row, word, said + tail))
    return found


def returning(rows: Iterable[Compared]) -> dict[tuple[str, str], str]:
    """(source, entry) -> the do-nothing control whose scores it has in every unit of every metric it was held by."""
    rows = list(rows)
    idle = {row.against for row in rows if row.role == "nothing"}
    seen: dict[tuple[str, str], list[Compared]] = {}
    for row in rows:
        if row.role == "nothing" and row.effect is not None and row.model not in idle:
            seen.setdefault((row.source, row.model), []).append(row)
    found = {}
    for place, mine in seen.items():
        usual = mine[0].against
        own = [row for row in mine if row.against == usual]
        if all(row.same for row in own):
            found[place] = usual
    return found


def summaries(
    rows: Sequence[Compared],
    given: Sequence[Verdict],
    inferences: Mapping[str, Inference],
    confounded: Mapping[str, bool],
    *,
    task: str = "",
) -> list[Summary]:
    """One sentence a metric and entry (nothing, simple models, best control), and one a source and entry."""
    grouped: dict[tuple[str, str, str, str], list[tuple[Compared, Verdict]]] = {}
    for row, verdict in zip(rows, given, strict=True):
        grouped.setdefault((row.source, row.metric, row.model, row.kind), []).append((row, verdict))
    found = []
    for (source, metric, model, kind), pairs in grouped.items():
        told: dict[str, str] = {}
        for row, verdict in pairs:
            if row.against not in told and verdict.word != "cannot tell":
                told[row.against] = f"{_relation(row, verdict.word)} ({_numbers(row)})"
        parts = list(told.values())
        text = f"{model} on {metric}: {', '.join(parts)}" if parts else f"{model} on {metric}: cannot tell"
        found.append(Summary(source, metric, model, kind, text))
    copies = returning(rows)
    by_model: dict[tuple[str, str, str], list[tuple[Compared, Verdict]]] = {}
    for (source, _, model, kind), pairs in grouped.items():
        by_model.setdefault((source, model, kind), []).extend(pairs)
    for (source, model, kind), pairs in by_model.items():
        control = copies.get((source, model))
        text = f"{model} {_does(task, control)}." if control else _overall(model, pairs)
        if (source, model) not in copies and any(verdict.word != "cannot tell" for _, verdict in pairs):
            if inferences[source].kind == CELLS:
                said = inferences[source].said.partition("so ")[2]
                text += f" {said[:1].upper()}{said[1:]}."
            if confounded.get(source):
                text += f" {CONFOUNDED[:1].upper()}{CONFOUNDED[1:]}{_instead(pairs)}."
        found.append(Summary(source, "", model, kind, text))
    return found


def _does(task: str, control: str) -> str:
    """What a model does that scores as a control in every unit."""
    return RETURNS.get((task, control), f"answers as {control} does")


def _instead(pairs: Sequence[tuple[Compared, Verdict]]) -> str:
    """Where to look for what is not the pool's, if anywhere."""
    ends = [end for end in FREE_ENDS if any(row.metric.endswith(end) for row, _ in pairs)]
    if ends:
        return f": read the keys ending in {' and '.join(ends)}"
    if any(row.against == SHARED for row, _ in pairs):
        return f": read what is said against {SHARED}, which has it too"
    return ""


def _overall(model: str, pairs: Sequence[tuple[Compared, Verdict]]) -> str:
    """``gears: better than doing nothing (no_change) on a, b; worse than additive on a. Cannot tell: c.``"""
    parts = []
    words: tuple[Word, ...] = ("better", "worse", "indistinguishable")
    seen: dict[tuple[str, Word], list[str]] = {}
    named: dict[str, Compared] = {}
    dumb: list[str] = []
    for row, verdict in pairs:
        role = f"the best control ({row.against})" if row.role == "best_control" else row.against
        if row.role == "best_control" and any(
            other.metric == row.metric and other.against == row.against and other.role != row.role for other, _ in pairs
        ):
            continue
        if verdict.word == "cannot tell":
            dumb.append(row.metric)
        else:
            seen.setdefault((role, verdict.word), []).append(row.metric)
            named.setdefault(role, row)
    for role, row in named.items():
        for word in words:
            if metrics := seen.get((role, word)):
                other = role if role.startswith("the best control") else ""
                parts.append(f"{_relation(row, word, other)} on {', '.join(metrics)}")
    text = f"{model}: {'; '.join(parts)}." if parts else f"{model}:"
    blank = list(dict.fromkeys(dumb))
    return f"{text} Cannot tell: {', '.join(blank)}." if blank else text


def _relation(row: Compared, word: Word, name: str = "") -> str:
    other = name or _other(row)
    return f"{'indistinguishable from' if word == 'indistinguishable' else f'{word} than'} {other}"


def _other(row: Compared) -> str:
    """What an entry is held against, in words."""
    if row.role != "nothing" and row.against != "no_change":
        return row.against
    return f"{IDLE.get(row.against, 'doing nothing')} ({row.against})"


def _sentence(row: Compared, word: Word, calibration: Calibration | None, unit: str) -> str:
    if word != "cannot tell":
        relation = _relation(row, word)
        if row.role == "best_control":
            relation += ", the best control"
        if row.same:
            return f"{row.model} is {relation} on {row.metric}: equal in every one of {_units(row.n, unit)}"
        return f"{row.model} is {relation} on {row.metric} ({_numbers(row)}; {_units(row.n, unit)}{_after(row, word)})"
    if calibration is not None and not calibration.can_tell:
        why = f"the metric cannot tell here: {calibration.reason}"
    else:
        why = row.reason or "there is no interval"
    return f"{row.model} against {_other(row)} on {row.metric}: cannot tell; {why}"


def _tail(row: Compared, word: Word, inference: Inference, confounded: bool) -> str:
    """What a reader of the numbers has to know with them."""
    if word == "cannot tell":
        return ""
    said = ""
    if inference.kind == CELLS:
        said += f"; {inference.said.partition('so ')[2]}"
    elif inference.method == "student":
        said += f"; {inference.said}"
    if confounded:
        said += f"; {FREE if row.metric.endswith(FREE_ENDS) else CONFOUNDED}"
    return said


def _after(row: Compared, word: Word) -> str:
    """The p value, where the interval alone would say otherwise."""
    if word != "indistinguishable" or row.lo is None or row.hi is None or row.lo <= 0 <= row.hi:
        return ""
    if row.p is not None and row.p >= ALPHA:  # skewed differences: percentiles and studentised means part
        return f"; p {row.p:.2g}"
    return f"; p {row.p_holm:.2g} once corrected for the number of comparisons"


def _units(n: int, word: str) -> str:
    return f"{n} {word if n == 1 else plural(word)}"


def _numbers(row: Compared) -> str:
    """``+0.51, 0.42 to 0.61``, with digits enough that the interval's ends differ; ``+0.51`` where there is none."""
    assert row.effect is not None  # a word was given
    if row.lo is None or row.hi is None:  # one unit, on which both are the same
        return f"{row.effect:+.2f}"
    size = max(abs(row.effect), abs(row.lo), abs(row.hi))
    wide = row.hi - row.lo
    digits = 2
    while digits < 6 and (size < 10 ** (1 - digits) or 0 < wide < 5 * 10**-digits):
        digits += 1
    return f"{row.effect:+.{digits}f}, {row.lo:.{digits}f} to {row.hi:.{digits}f}"


def _verdict(row: Compared, word: Word, text: str) -> Verdict:
    return Verdict(row.source, row.metric, row.model, row.kind, row.against, row.role, word, text)
