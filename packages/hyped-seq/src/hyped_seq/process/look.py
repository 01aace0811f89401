"""What the reader of the summary should know: what the experiment cannot say, and what deserves a second look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hyped_core.design import Design
from hyped_core.design.model import CONTROL
from hyped_seq.process.held import Held

FEW_CELLS = 20
POOR_SEPARATION = 0.9
MANY_NEGATIVE = 0.2
MANY_DOUBLETS = 0.3
FEW_USED = 0.5
MANY_UNMAPPED = 0.2
LOW_ACCURACY = 0.75
_NO_CONTROL = "no control cells: contrasts among the perturbed conditions only"
"""Said by `hyped_seq.process.check` already, with the mend."""


def limits(held: Held, design: Design) -> list[str]:
    """What no analysis of this experiment can tell, from the design and from which cells are in which pool."""
    found = []
    cells = held.cells
    conditions = cells["condition"].astype(str) if "condition" in cells else None
    if conditions is not None:
        pools = cells["pool"].astype(str)
        of = {name: set(pools[conditions == name]) for name in dict.fromkeys(conditions) if name}
        names = [item.name for item in design.conditions if item.name in of and item.name != CONTROL]
        apart = [name for name in names if CONTROL in of and not of[name] & of[CONTROL]]
        if apart:
            found.append(
                f"{_listed(apart)}: captured in other pools than {CONTROL}, so what differs from {CONTROL} may be the "
                "pool. Trust what conditions of one pool show against one another."
            )
        for first, second in design.flags.confounded:
            if {first, second} != {"condition", "pool"} or not apart:
                found.append(f"the design says that {first} and {second} cannot be told apart")
    sorted_names = [name for name in design.sorted_conditions() if conditions is None or name in set(conditions)]
    if sorted_names:
        found.append(
            f"the cells of {_listed(sorted_names)} were sorted by phase: their shares of phases are the sorter's and "
            "are no result."
        )
    if held.annotate.get("contrasts"):
        wells = "wells were pooled before barcoding, so there is no replicate to infer from" if (
            design.flags.pooled_wells) else "they say nothing about replicates"  # fmt: skip
        found.append(f"p-values count cells as units: {wells}. A small p-value of a small change is cell number.")
    if held.tags is None:
        found.append("without hashtags doublets are known from expression alone, and conditions from the pool.")
    return found


def alerts(summary: Mapping[str, Any], held: Held, design: Design) -> list[str]:
    """What a careful eye should look at, in words."""
    notes = [*held.annotate.get("quality_notes", ()),
             *(note for note in held.annotate.get("changes", {}).get("notes", ()) if note != _NO_CONTROL)]  # fmt: skip
    return [*_ingest_alerts(held.ingest), *_pool_alerts(summary), *_tag_alerts(summary),
            *_cell_alerts(summary, held, design), *map(str, notes)]  # fmt: skip


def _ingest_alerts(record: Mapping[str, Any]) -> Iterator[str]:
    """What the pools have that was not taken."""
    without = record.get("isoform_left_out") or ()
    if without:
        yield (
            f"{_listed([str(pool) for pool in without])} {'has' if len(without) == 1 else 'have'} no counts of "
            "transcripts, so they are left out of all pools: nothing is said about isoforms"
        )
    for pool, report in record.get("pools", {}).items():
        empty = report.get("empty_droplets_left_out")
        if empty:
            yield (
                f"{pool}: was not filtered; {empty} barcodes with fewer than {report['least_molecules_of_a_cell']} "
                "molecules were taken for empty droplets and left out"
            )


def _pool_alerts(summary: Mapping[str, Any]) -> Iterator[str]:
    for pool, reads in summary["hashtag_reads"].items():
        total, used = reads.get("reads", 0), reads.get("used", 0)
        if total and used < FEW_USED * total:
            yield f"{pool}: {100 * used / total:.0f} % of the hashtag reads could be used; right tags and whitelist?"
    genes = summary["features"].get("rna", 0)
    unmapped = summary.get("unmapped_genes", 0)
    if genes and unmapped > MANY_UNMAPPED * genes:
        yield f"{unmapped} of {genes} genes have no Ensembl id: give --gene-map (a GTF or a table)"


def _tag_alerts(summary: Mapping[str, Any]) -> Iterator[str]:
    for pool, facts in summary["calls"].items():
        if facts["negative"] > MANY_NEGATIVE * facts["cells"]:
            yield f"{pool}: {100 * facts['negative'] / facts['cells']:.0f} % of the cells carry no clear tag"
        if facts["doublet"] > MANY_DOUBLETS * facts["cells"]:
            yield f"{pool}: {100 * facts['doublet'] / facts['cells']:.0f} % of the cells are called doublets"
    for pool, tags in summary["tags"].items():
        for tag, facts in tags.items():
            if facts["singlets"] < FEW_CELLS:
                yield f"{pool}: {facts['singlets']} cells are called for tag {tag} ({facts['condition']})"
            elif facts["separation"] is not None and facts["separation"] < POOR_SEPARATION:
                yield f"{pool}: tag {tag} hardly parts its cells from others (separation {facts['separation']:.2f})"


def _cell_alerts(summary: Mapping[str, Any], held: Held, design: Design) -> Iterator[str]:
    here = {tag.condition for tag in design.hashtags if tag.pool in summary["pools"]}
    here |= {name for pool in design.pools if pool.name in summary["pools"] for name in pool.conditions}
    for name in sorted(here - set(summary["conditions"])):
        yield f"condition {name} has no cells"
    phases = summary["phases"]
    accuracy = phases.get("held_out_accuracy")
    if accuracy is not None and accuracy < LOW_ACCURACY:
        yield f"phases of held-out sorted cells are right in {100 * accuracy:.0f} %"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
