"""What a release of cells (one ``.h5ad``) holds, as plain data for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyped_core.container.cells_file import CellsFile, open_cells
from hyped_core.container.cells_schema import HASHTAG_COUNTS, ISOFORM_COUNTS


def describe_cells(path: str | Path) -> dict[str, Any]:
    """Cells by condition and phase and by kind, features, what is absent, the design's flags, versions.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, UnsupportedDataError
        As `open_cells`.
    """
    with open_cells(path) as cells:
        design = cells.design
        return {
            "kind": "cells",
            "name": cells.path.name,
            "schema_version": int(cells.record["schema_version"]),
            "n_bytes": cells.path.stat().st_size,
            "cells": len(cells.obs),
            "by_kind": _counts(cells, "hashtag_kind"),
            "by_pool": _counts(cells, "pool"),
            "by_condition": _by_condition(cells),
            "features": _features(cells),
            "layers": cells.keys("layers"),
            "obsm": cells.keys("obsm"),
            "absent": cells.absent,
            "design": {
                "name": design.name if design else None,
                "conditions": [item.name for item in design.conditions] if design else [],
                "sorted_conditions": list(design.sorted_conditions()) if design else [],
                "confounded": [list(pair) for pair in design.flags.confounded] if design else [],
                "pooled_wells": design.flags.pooled_wells if design else None,
            },
            "warnings": [str(line) for line in np.atleast_1d(cells.record.get("warnings", []))],
            "written_with": {str(k): str(v) for k, v in cells.record.get("written_with", {}).items()},
        }


def _counts(cells: CellsFile, column: str) -> dict[str, int]:
    """Value -> cells, the commonest first."""
    if column not in cells.obs:
        return {}
    found = cells.obs[column].astype(str).value_counts()
    return {str(value): int(n) for value, n in sorted(found.items(), key=lambda item: (-item[1], item[0])) if n}


def _by_condition(cells: CellsFile) -> dict[str, dict[str, int]]:
    """Condition -> phase -> cells; the empty name is what is not known."""
    if not {"condition", "phase"} <= set(cells.obs):
        return {}
    pairs = cells.obs[["condition", "phase"]].astype(str).value_counts()
    found: dict[str, dict[str, int]] = {}
    for (condition, phase), n in sorted(pairs.items()):
        if n:
            found.setdefault(str(condition), {})[str(phase)] = int(n)
    return found


def _features(cells: CellsFile) -> dict[str, int]:
    """Genes, transcripts and hashtags that are there."""
    found = {"genes": len(cells.var)} if len(cells.var) else {}
    matrix = cells.store.get(f"obsm/{ISOFORM_COUNTS}")
    if matrix is not None:
        found["transcripts"] = int(matrix.attrs["shape"][1] if "shape" in matrix.attrs else matrix.shape[1])
    tags = cells.store.get(f"obsm/{HASHTAG_COUNTS}")
    if tags is not None:
        found["hashtags"] = len(tags.attrs["column-order"])
    return found


def summary_lines(found: dict[str, Any]) -> list[str]:
    """`describe_cells` for a terminal."""
    conditions, design = found["by_condition"], found["design"]
    lines = [f"{found['name']}  release of cells, schema {found['schema_version']}  {found['n_bytes'] / 1e6:.1f} MB"]
    lines.append(f"design   {design['name']}: {', '.join(design['conditions']) or 'no conditions'}")
    lines += [f"  beware {line}" for line in found["warnings"]]
    lines.append(f"cells    {found['cells']}: {_listed(found['by_kind'])}")
    lines.append(f"pools    {_listed(found['by_pool'])}")
    lines.append("features " + (", ".join(f"{n} {kind}" for kind, n in found["features"].items()) or "none"))
    phases = sorted({phase for row in conditions.values() for phase in row}, key=_phase_order)
    if conditions:
        width = max(len(name or "not known") for name in conditions)
        lines.append(" " * (width + 11) + "".join(f"{phase or 'no phase':>10}" for phase in phases) + "     cells")
        for name, row in sorted(conditions.items(), key=lambda item: (not item[0], item[0])):
            numbers = "".join(f"{row.get(phase, 0):>10}" for phase in phases)
            lines.append(f"  {name or 'not known':<{width + 9}}{numbers}{sum(row.values()):>10}")
    lines.append(f"layers   {', '.join(found['layers']) or 'none'}; obsm {', '.join(found['obsm']) or 'none'}")
    lines += [f"absent   {part}: {why}" for part, why in found["absent"].items()]
    lines.append("written  with " + (", ".join(f"{k} {v}" for k, v in found["written_with"].items()) or "unknown"))
    return lines


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {value or 'not called'}" for value, n in counts.items()) or "not known"


def _phase_order(phase: str) -> tuple[int, str]:
    known = ("G1", "S", "G2M")
    return (known.index(phase) if phase in known else len(known) + (phase == ""), phase)
