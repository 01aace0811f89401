"""The numbers of the summary: pools, tags, calls, quality, phases, contrasts; all JSON-able."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.design import Design
from hyped_seq.annotate.phase_report import wilson
from hyped_seq.process.held import FIGURES, Held

PHASES = ("G1", "S", "G2M")
KINDS = ("singlet", "doublet", "negative")


def separation(called: npt.NDArray[Any], others: npt.NDArray[Any]) -> float | None:
    """Probability that a cell called for a tag has more of it than another cell (ties count half); None for no cells.

    Mann and Whitney's U over the number of pairs: 0.5 says nothing, 1 parts them entirely.
    """
    if not len(called) or not len(others):
        return None
    ordered = np.sort(np.asarray(others))
    below = np.searchsorted(ordered, called, "left") + np.searchsorted(ordered, called, "right")
    return round(float(below.mean() / (2 * len(ordered))), 4)


def pool_facts(held: Held) -> dict[str, dict[str, Any]]:
    """Cells, medians and what was kept, by pool."""
    found = {}
    figures = held.figures()
    for pool, rows in held.captured.groupby(held.captured["pool"].astype(str), sort=False):
        kept = int((held.cells["pool"].astype(str) == pool).sum())
        facts: dict[str, Any] = {"cells": len(rows), "kept": kept, "removed": len(rows) - kept}
        for name in FIGURES:
            known = figures.loc[rows.index, name].dropna() if name in figures else []
            if len(known):
                facts[f"median_{name}"] = _number(np.median(known))
        found[str(pool)] = facts
    return found


def call_facts(held: Held) -> dict[str, dict[str, Any]]:
    """Singlets, doublets, negatives (of them kept by quality) and mean probability, by pool.

    Cells of a pool without hashtags are singlets of its condition, and their probability is not known.
    """
    found = {}
    stayed = held.calls.index.isin(held.cells.index)
    for pool, rows in held.calls.groupby(held.calls["pool"].astype(str), sort=False):
        kinds = rows["kind"].value_counts()
        kept = held.calls[stayed & (held.calls["pool"].astype(str) == pool).to_numpy()]["kind"].value_counts()
        found[str(pool)] = {
            "cells": len(rows),
            **{kind: int(kinds.get(kind, 0)) for kind in KINDS},
            **{f"kept_{kind}": int(kept.get(kind, 0)) for kind in KINDS},
            "mean_probability": _number(rows["probability"].mean()) if (rows["call"] != "").any() else None,
        }
    return found


def tag_facts(held: Held, design: Design) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each pool's tags: what they stand for, singlets, counts in them and in other cells, and their separation."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    if held.tags is None:
        return found
    for tag in design.hashtags:
        member = (held.calls["pool"].astype(str) == tag.pool).to_numpy()
        if not member.any() or tag.tag not in held.tags:
            continue
        called, others = tag_counts(held, tag.pool, tag.tag)
        mine = held.calls[member & (held.calls["call"] == tag.tag).to_numpy()]
        found.setdefault(tag.pool, {})[tag.tag] = {
            "condition": tag.condition,
            "phase": tag.phase or "",
            "singlets": len(called),
            "kept": int(mine.index.isin(held.cells.index).sum()),
            "median_called": _number(np.median(called)) if len(called) else None,
            "median_others": _number(np.median(others)) if len(others) else None,
            "separation": separation(called, others),
            "mean_probability": _number(mine["probability"].mean()) if len(mine) else None,
        }
    return found


def tag_counts(held: Held, pool: str, tag: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Counts of a tag in the pool's singlets of it, and in its singlets of other tags and negatives."""
    assert held.tags is not None
    member = (held.calls["pool"].astype(str) == pool).to_numpy()
    kind, call = held.calls["kind"].to_numpy(), held.calls["call"].to_numpy()
    values = held.tags[tag].to_numpy()
    mine = call == tag
    return values[member & mine], values[member & ~mine & (kind != "doublet")]


def quality_facts(held: Held) -> dict[str, Any]:
    """Bounds by pool, and cells removed by the kind of reason (a cell may have several)."""
    reasons: dict[str, int] = {}
    if len(held.removed):
        for text in held.removed["reason"].astype(str):
            for reason in text.split("; "):
                kind = _reason_kind(reason)
                reasons[kind] = reasons.get(kind, 0) + 1
    return {
        "kept": len(held.cells),
        "removed": len(held.captured) - len(held.cells),
        "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "bounds": held.annotate.get("thresholds", {}),
    }


def _reason_kind(reason: str) -> str:
    """A reason without its numbers: ``n_counts below``."""
    return " ".join(word for word in reason.split() if not _is_number(word))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def phase_facts(held: Held, design: Design) -> dict[str, Any]:
    """Shares of phases by condition with intervals (singlets; cells as units), and how well phases are told."""
    record = dict(held.annotate.get("phase", {}))
    fractions: dict[str, dict[str, Any]] = {}
    cells = held.cells
    if "phase" in cells and "condition" in cells:
        single = cells["hashtag_kind"].astype(str) == "singlet"
        table = cells[single & cells["phase"].astype(str).isin(PHASES) & (cells["condition"].astype(str) != "")]
        counts = pd.crosstab(table["condition"].astype(str), table["phase"].astype(str))
        sorted_names = set(design.sorted_conditions())
        for condition in (item.name for item in design.conditions if item.name in counts.index):
            row = counts.loc[condition].reindex(list(PHASES), fill_value=0)
            n = int(row.sum())
            shares = {phase: [round(int(k) / n, 4), *(round(end, 4) for end in wilson(int(k), n))]
                      for phase, k in row.items()}  # fmt: skip
            fractions[condition] = {"cells": n, "sorted": condition in sorted_names, "shares": shares}
    return {**record, "fractions": fractions}


def contrast_facts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The first rows of each contrast over all phases together, as records."""
    if table.empty:
        return []
    found = []
    whole = table[table["phase"].astype(str).isin(("all", ""))]
    columns = [c for c in table.columns if c not in _SAID_ONCE]
    for name, rows in whole.groupby("contrast", sort=False):
        first = rows.iloc[0]
        said = {key: _plain(first[key]) for key in _SAID_ONCE if key in rows}
        top = [{column: _plain(value) for column, value in row.items()}
               for row in rows.sort_values("rank")[columns].to_dict("records")]  # fmt: skip
        found.append({"contrast": str(name), **said, "top": top})
    return found


_SAID_ONCE = ("contrast", "group", "reference", "phase", "n_group", "n_reference", "warning", "inference",
              "significant")  # fmt: skip


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _number(value: Any) -> float | None:
    value = float(value)
    return round(value, 4) if math.isfinite(value) else None


def dose_facts(table: pd.DataFrame, design: Design) -> list[dict[str, Any]]:
    """By perturbed condition, gene and reference: cells, share that responds, Spearman's correlation of level and
    response."""
    if table.empty or "condition" not in table:
        return []
    found = []
    for item in design.conditions:
        rows = table[table["condition"].astype(str) == item.name]
        for reference in ("control", "rest"):
            response = rows.get(f"response_{reference}")
            if response is None or not response.notna().any():
                continue
            responders = rows[f"responder_{reference}"].map(_TRUTH).mean()
            for gene in (change.gene for change in item.perturbation):
                if f"level_{gene}" not in rows:
                    continue
                both = pd.DataFrame({"level": rows[f"level_{gene}"], "response": response}).dropna().rank()
                rho = both.corr().iloc[0, 1] if len(both) > 2 and (both.nunique() > 1).all() else float("nan")
                found.append({"condition": item.name, "gene": gene, "reference": reference, "cells": len(rows),
                              "responders": _number(responders), "spearman": _number(rho)})  # fmt: skip
    return found


_TRUTH = {True: 1.0, False: 0.0, "True": 1.0, "False": 0.0}


def doublet_facts(held: Held) -> dict[str, dict[str, Any]]:
    """By pool: singlets by their tags that look like two cells, and the share of ambient molecules with its bounds."""
    found: dict[str, dict[str, Any]] = {}
    doublets, ambient = held.annotate.get("doublets", {}), held.annotate.get("ambient", {})
    for pool in dict.fromkeys(held.captured["pool"].astype(str)):
        one, soup = doublets.get(pool, {}), ambient.get(pool, {})
        if one or soup:
            found[pool] = {
                "predicted_singlets": one.get("predicted_singlets"),
                "doublet_share": one.get("share"),
                **{f"ambient_{key}": soup.get(key) for key in ("share", "low", "high", "reason")},
            }
    return found
