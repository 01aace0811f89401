"""What was judged, as the report reads it: verdicts in words, what each metric can tell, the unit of inference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WORDS = {
    "better": "better than",
    "indistinguishable": "indistinguishable from",
    "worse": "worse than",
    "cannot tell": "cannot be told from",
}
"""Word of a verdict -> how a sentence goes on."""
ROLES = ("nothing", "simple", "best_control")
RETURNS = "returns the control cells"
"""What is said of a model whose predictions are the control's."""


@dataclass(frozen=True)
class Judged:
    """A ``judgement.json`` (schema 1: ``calibration``, ``comparisons``, ``verdicts``, ``inference``, ...)."""

    values: dict[str, Any]

    @property
    def sources(self) -> list[str]:
        """Sources in the order they were judged."""
        return list(dict.fromkeys(str(row["source"]) for row in self.values["calibration"] + self.values["verdicts"]))

    def metrics(self, source: str) -> list[str]:
        """Metrics of a source in the order they were judged: the leading one first."""
        rows = [r for r in self.values["calibration"] + self.values["verdicts"] if r["source"] == source]
        return list(dict.fromkeys(str(row["metric"]) for row in rows))

    def calibration(self, source: str, metric: str) -> dict[str, Any]:
        """Whether a metric can tell on a source, and why not; empty where it was not judged."""
        rows = self.values["calibration"]
        return next((r for r in rows if r["source"] == source and r["metric"] == metric), {})

    def blind(self, source: str) -> list[dict[str, Any]]:
        """Calibrations of the metrics that cannot tell."""
        rows = [self.calibration(source, metric) for metric in self.metrics(source)]
        return [row for row in rows if row and not row["can_tell"]]

    def blind_lines(self, source: str) -> list[str]:
        """The metrics that cannot tell, by reason."""
        found: dict[str, list[str]] = {}
        for row in self.blind(source):
            found.setdefault(str(row.get("reason") or "no reason given"), []).append(str(row["metric"]))
        return [f"{', '.join(metrics)}: {reason}" for reason, metrics in found.items()]

    def lead(self, source: str) -> str:
        """The first metric that can tell; the first one where none can."""
        names = self.metrics(source)
        return next((m for m in names if self.calibration(source, m).get("can_tell", True)), names[0] if names else "")

    def models(self, source: str, *, controls: bool = False) -> list[str]:
        """Models with a verdict; ``controls`` adds the controls, which have verdicts too."""
        rows = [r for r in self.values["verdicts"] if r["source"] == source]
        kinds = ("control", "reference")
        return list(dict.fromkeys(str(r["model"]) for r in rows if controls or r.get("kind") not in kinds))

    def verdicts(self, source: str, metric: str, model: str) -> list[dict[str, Any]]:
        """A model's verdicts on a metric: against doing nothing, simple models and the best control."""
        rows = [
            row
            for row in self.values["verdicts"]
            if (row["source"], row["metric"], row["model"]) == (source, metric, model)
        ]
        return sorted(rows, key=lambda r: ROLES.index(r["role"]) if r["role"] in ROLES else len(ROLES))

    def decided(self, source: str, model: str) -> bool:
        """True where a verdict on a model says more than that it cannot be told."""
        rows = self.values["verdicts"]
        return any(r["word"] != "cannot tell" for r in rows if r["source"] == source and r["model"] == model)

    def comparison(self, source: str, metric: str, model: str, role: str) -> dict[str, Any]:
        """Effect, interval and p of a model against what a role stands for; empty where there is none."""
        wanted = (source, metric, model, role)
        rows = self.values.get("comparisons") or []
        return next((r for r in rows if (r["source"], r["metric"], r["model"], r["role"]) == wanted), {})

    def leading(self, source: str, metric: str, model: str) -> dict[str, Any]:
        """The comparison with doing nothing; where the task has no such control, with the best control."""
        rows = (self.comparison(source, metric, model, role) for role in ("nothing", "best_control"))
        return next((row for row in rows if row), {})

    def inference(self, source: str) -> str:
        """What the intervals of a source are over."""
        found = (self.values.get("inference") or {}).get(source) or {}
        return str(found.get("said") or (f"{found['n']} {found['kind']}" if found else ""))

    def confounded(self, source: str) -> bool:
        """True where condition and pool cannot be told apart."""
        return bool((self.values.get("confounded") or {}).get(source))

    def tally(self, source: str, model: str, role: str = "nothing") -> dict[str, int]:
        """Word -> number of metrics that can tell on which the model has it."""
        found: dict[str, int] = {}
        for metric in self.metrics(source):
            if self.calibration(source, metric).get("can_tell", True):
                for row in self.verdicts(source, metric, model):
                    if row["role"] == role:
                        found[row["word"]] = found.get(row["word"], 0) + 1
        return found


def said(rows: Iterable[dict[str, Any]]) -> str:
    """Verdicts of one model on one metric as a line.

    >>> rows = [{"word": "better", "against": "no_change", "role": "nothing", "text": ""}]
    >>> said([*rows, {"word": "worse", "against": "additive", "role": "simple", "text": ""}])
    'better than doing nothing (no_change); worse than additive'
    """
    rows = list(rows)
    texts = [str(row.get("text") or "") for row in rows]
    if any(RETURNS in text for text in texts):
        return RETURNS
    if alike := next((text for text in texts if " answers as " in text), None):
        return f"answers as {alike.partition(' answers as ')[2].partition(' ')[0].rstrip('.;,')} does"
    named: dict[str, list[str]] = {}
    seen: set[str] = set()
    for row in rows:
        against = str(row["against"])
        if against in seen:
            continue
        seen.add(against)
        also_best = any(r["against"] == against and r["role"] == "best_control" for r in rows)
        name = f"doing nothing ({against})" if row["role"] == "nothing" else against
        named.setdefault(row["word"], []).append(f"{name}, the best control" if also_best else name)
    return "; ".join(f"{WORDS.get(word, word)} {' and '.join(names)}" for word, names in named.items())


def counted(tally: dict[str, int]) -> str:
    """A tally in words.

    >>> counted({"better": 3, "worse": 1})
    'better on 3, worse on 1 of 4'
    """
    total = sum(tally.values())
    told = [f"{word} on {tally[word]}" for word in WORDS if tally.get(word)]
    return f"{', '.join(told)} of {total}" if told else ""
