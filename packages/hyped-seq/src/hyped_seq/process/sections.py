"""The summary page: its frame, and the sections in order."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from hyped_core.design import Design
from hyped_core.process import page as shell
from hyped_seq.process import captured, shown
from hyped_seq.process.held import Held

_STYLE = """
table{margin:.6rem 0} svg text{font-family:system-ui,sans-serif}
figure img{border:1px solid #e3e7eb} svg{margin:.3rem .6rem .3rem 0;vertical-align:top;max-width:100%;height:auto}
.key{margin-right:.9rem;white-space:nowrap} .key i{display:inline-block;width:.75rem;height:.75rem;margin-right:.25rem;
vertical-align:-1px;border:1px solid #9aa4af} ul.limits{background:#eaf1f8;padding:.5rem 1rem .5rem 2rem;margin:.5rem 0}
.warn{color:#8a5a00;font-size:.85rem;margin:.1rem 0}
.contrast{display:inline-block;vertical-align:top;max-width:345px;padding-right:12px}
.contrast.wide{max-width:530px}
"""


def render(summary: Mapping[str, Any], held: Held, design: Design) -> str:
    """The whole page."""
    cells = sum(facts["cells"] for facts in summary["pools"].values())
    intro = (
        f"<p>Design <b>{html.escape(summary['design'])}</b>: {cells} cells in {len(summary['pools'])} pool(s), "
        f"{summary['quality']['kept']} kept; hashtags called by <code>{html.escape(summary['model'])}</code>. "
        f"hyped-seq {summary['version']}. Research use only.</p>"
    )
    said = "".join(f"<li>{html.escape(text)}</li>" for text in summary["limits"])
    parts = [intro]
    if said:
        parts.append(f'<h2 id="limits">What this experiment cannot say</h2><ul class="limits">{said}</ul>')
    parts += [shell.alert(text) for text in summary["alerts"]]
    for name, title, draw in _SECTIONS:
        body = draw(summary, held, design)
        if body:
            parts.append(f'<section id="{name}"><h2>{title}</h2>{body}</section>')
    return shell.page(summary["out"], parts, _STYLE)


_SECTIONS = (
    ("knee", "Cells by pool", captured.knee),
    ("tags", "Tag separation", captured.tags),
    ("calls", "Hashtag calls", captured.calls),
    ("reads", "Where hashtag reads went", captured.reads),
    ("quality", "Quality", captured.quality),
    ("phases", "Cell-cycle phases", shown.phases),
    ("embedding", "Embedding", shown.embedding),
    ("genes", "Top genes by contrast", shown.genes),
    ("isoforms", "Isoform usage", shown.isoforms),
    ("dose", "Dose and response", shown.dose),
)
