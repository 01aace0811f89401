"""The one-page summary of a processed experiment: the page (needs nothing but a browser) and ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hyped_core.io.atomic import write_json, write_text
from hyped_seq.process import sections
from hyped_seq.process.facts import (
    call_facts,
    contrast_facts,
    dose_facts,
    doublet_facts,
    phase_facts,
    pool_facts,
    quality_facts,
    tag_facts,
)
from hyped_seq.process.held import read_held
from hyped_seq.process.look import alerts, limits

if TYPE_CHECKING:
    from hyped_core.process.journal import Journal
    from hyped_seq.process.run import Job

TOP_GENES = 10
"""Genes of a contrast on the page: the paper's Figure 2 d."""


def write_summary(job: Job, journal: Journal, look: Sequence[str] = ()) -> dict[str, Any]:
    """Write page and JSON; returns what the JSON holds."""
    held = read_held(job.layout, job.design, TOP_GENES)
    summary: dict[str, Any] = {
        "design": job.design.name,
        "version": version("hyped-seq"),
        "out": job.layout.out.name,
        "model": job.params.demultiplex.model,
        "pools": pool_facts(held),
        "features": held.ingest.get("features", {}),
        "unmapped_genes": held.ingest.get("unmapped_genes", 0),
        "hashtag_reads": {
            pool: report["hashtag_reads"] for pool, report in held.ingest.get("pools", {}).items()
            if report.get("hashtag_reads")
        },
        "calls": call_facts(held),
        "tags": tag_facts(held, job.design),
        "quality": quality_facts(held),
        "doublets": doublet_facts(held),
        "conditions": held.annotate.get("conditions", {}),
        "phases": phase_facts(held, job.design),
        "contrasts": contrast_facts(held.top),
        "isoforms": contrast_facts(held.isoforms),
        "dose": dose_facts(held.dose, job.design),
        "limits": limits(held, job.design),
    }  # fmt: skip
    summary["alerts"] = [*look, *alerts(summary, held, job.design), *_by_hand(job, journal)]
    write_json(job.layout.summary, summary)
    write_text(job.layout.page, sections.render(summary, held, job.design))
    return summary


def _by_hand(job: Job, journal: Journal) -> list[str]:
    """Files of the steps that a hand changed."""
    changed = [path for step in sorted(journal.steps) for path in journal.edited(step)]
    return [
        f"{path.name} was changed by hand and kept"
        + ("" if path.resolve() == job.layout.out.resolve() else "; what follows was made from it")
        for path in changed
    ]
