"""The one-page summary of a processed file: ``summary.html`` (needs nothing but a browser) and ``summary.json``."""

from __future__ import annotations

import html
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.io.atomic import write_json, write_text
from hyped_core.process import page as shell
from hyped_core.process.page import LINES
from hyped_imaging.process.facts import alerts, scene_facts
from hyped_imaging.process.pictures import Window, data_uri, draw

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.process.journal import Journal
    from hyped_imaging.process.run import Job

_FEW_REPLICATES = 2
"""With so few replicates an interval over them says nothing: those of each are drawn."""


def write_summary(job: Job, journal: Journal) -> dict[str, Any]:
    """Write both files into the output folder; returns what ``summary.json`` holds."""
    from hyped_imaging.track.step import read_table

    layout = job.layout
    scenes: dict[str, Any] = {}
    warned: list[str] = []
    pages: list[str] = []
    for scene in job.found.scenes:
        record = json.loads(layout.qc(scene).read_text(encoding="utf-8"))
        nuclei = read_table(layout.table("phases", scene))
        movie, labels = _open(layout.movie(scene), layout.labels(scene))
        facts = scene_facts(record, nuclei, movie.missing_frames)
        place = job.design.scene(scene)
        scenes[scene] = {"condition": place.condition, "replicate": place.replicate, **facts}
        warned += alerts(scene, facts, record)
        pages.append(_scene_page(scene, scenes[scene], movie, labels, nuclei, job))
    warned += notices(job, journal)
    summary = {
        "source": [path.name for path in job.found.paths],
        "design": job.design.name,
        "version": version("hyped-imaging"),
        "reporters": {phase: job.design.reporter(phase) for phase in ("G1", "S_G2M")},
        "models": {step: job.params.section(step).model for step in ("segment", "track")},  # type: ignore[attr-defined]
        "scenes": scenes,
        "alerts": warned,
    }
    write_json(layout.out / "summary.json", summary)
    fractions = read_table(layout.out / "phase_fractions.csv")
    durations = read_table(layout.out / "durations.csv")
    write_text(layout.out / "summary.html", _page(summary, fractions, durations, pages))
    return summary


def notices(job: Job, journal: Journal) -> list[str]:
    """What the reader of the whole should know: scenes left out, of earlier runs, tables changed by hand."""
    found = [f"scene {name} of the file is not in the design and was left out" for name in job.found.left_out]
    if job.found.absent:
        found.append(f"the file has no scene {', '.join(job.found.absent)}, which the design names")
    earlier = sorted({step.partition("/")[2] for step in journal.steps} - {"", *job.found.scenes})
    found += [f"what lies here of scene {name} is of an earlier run and no part of this page" for name in earlier]
    for step in sorted(journal.steps):
        for path in journal.edited(step):
            name = path.relative_to(job.layout.out).as_posix()
            read_back = f"hyped imaging import-tracks {name} {Path(name).with_suffix('.parquet').as_posix()}"
            found.append(
                f"{name} was changed by hand and is not read back: {read_back}" if path.suffix == ".geff" else
                f"{name} was changed by hand and kept; what follows was made from it"
            )  # fmt: skip
    return found


def _open(movie: Path, labels: Path) -> tuple[Any, Any]:
    from hyped_core.container.movies import Labels, Movie

    return Movie.open(movie), Labels.open(labels)


def _page(summary: dict[str, Any], fractions: pd.DataFrame, durations: pd.DataFrame, pages: list[str]) -> str:
    parts = [
        f"<p>Design <b>{html.escape(summary['design'])}</b>; nuclei by <code>{summary['models']['segment']}</code>, "
        f"tracks by <code>{summary['models']['track']}</code>. {_reporters(summary['reporters'])} "
        f"hyped-imaging {summary['version']}. Research use only.</p>",
        *map(shell.alert, summary["alerts"]),
        "<h2>Scenes</h2>", _scene_table(summary["scenes"]),
        "<h2>Share of nuclei in S, G2 or M</h2>", _chart(fractions),
        "<h2>Durations</h2>", _durations(durations), *pages,
    ]  # fmt: skip
    return shell.page(", ".join(summary["source"]), parts)


def _reporters(named: dict[str, str | None]) -> str:
    if named["G1"] is None:
        return "No reporters, so no phases."
    return (
        f"<b style='color:#c0392b'>{html.escape(str(named['G1']))}</b> is bright in G1, "
        f"<b style='color:#1e8449'>{html.escape(str(named['S_G2M']))}</b> in S, G2 and M."
    )


def _scene_table(scenes: dict[str, Any]) -> str:
    heads = ["scene", "condition", "replicate", "frames", "hours", "nuclei a frame", "tracks", "median track (h)",
             "divisions", "unassigned", "seam error", "residual (px)"]  # fmt: skip
    rows = []
    for name, facts in scenes.items():
        seams = "-"
        if facts["seam_error"] is not None and facts["pairs_measured"][1]:
            seams = f"{facts['seam_error_before']:.4f} &rarr; {facts['seam_error']:.4f}"
        rows.append([
            name, facts["condition"], facts["replicate"], facts["frames"],
            f"{facts['first_h']:.4g} to {facts['last_h']:.4g}",
            " / ".join(f"{v:g}" for v in facts["nuclei_per_frame"]), facts["tracks"],
            f"{facts['track_hours'][1]:.1f}" if facts["track_hours"] else "-", facts["divisions"],
            facts["unassigned"], seams,
            f"{facts['residual_px']:.2f}" if facts["pairs_measured"][0] else "-",
        ])  # fmt: skip
    return shell.table(heads, rows) + shell.note(
        "Nuclei a frame: lowest / median / highest. Seam error: mean difference in the overlaps as a share of the "
        "intensity scale, by the stage and as placed."
    )


def _durations(table: pd.DataFrame) -> str:
    """Medians over all replicates of a condition; the whole table is in durations.csv."""
    shown = table[(table["replicate"].astype(str) == "all") & table["system"].isin(["cycle", "coarse"])]
    if shown.empty:
        return "<p>There are none: no reporters, or no track shows when a phase began.</p>"
    rows = []
    for row in shown.itertuples(index=False):
        known = row.median_h == row.median_h
        interval = f"{row.median_h:.3g} ({_hours(row.median_lo)} to {_hours(row.median_hi)})" if known else "-"
        names = html.escape(str(row.condition)), html.escape(str(row.phase))
        rows.append([*names, row.n_complete, row.n_censored, row.n_unknown_begin, interval])
    heads = ["condition", "phase", "seen whole", "end not seen", "begin not seen", "median in hours (95 %)"]
    return shell.table(heads, rows) + shell.note(
        "Medians take account of phases whose end was not seen (Kaplan and Meier); a dash: too few were seen to their "
        "end. More in durations.csv."
    )


def _hours(value: float) -> str:
    return "?" if value != value else f"{value:.3g}"


def _chart(fractions: pd.DataFrame) -> str:
    """Lines of the coarse share over time by condition and replicate, with their interval, as inline SVG."""
    shown = fractions[(fractions["system"] == "coarse") & (fractions["phase"] == "S_G2M")]
    if shown.empty:
        return "<p>The design names no reporters: there are no phases.</p>"
    width, height, left, bottom = 900, 280, 46, 34
    low, high = float(shown["time_h"].min()), float(shown["time_h"].max())
    span = max(high - low, 1e-9)

    def x(time: float) -> float:
        return left + (time - low) / span * (width - left - 150)

    def y(share: float) -> float:
        return 10 + (1 - share) * (height - bottom - 10)

    parts = [f'<svg viewBox="0 0 {width} {height}" role=img aria-label="share over time">']
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{left} {y(share):.1f}H{width - 150}" stroke="#e3e7eb"/>')
        parts.append(f'<text x={left - 8} y={y(share) + 4:.1f} text-anchor=end font-size=12>{share:g}</text>')
    for time in (low, (low + high) / 2, high):
        parts.append(f'<text x={x(time):.1f} y={height - 12} text-anchor=middle font-size=12>{time:.3g} h</text>')
    conditions = sorted(shown["condition"].astype(str).unique())
    for (condition, replicate), rows in shown.groupby(["condition", "replicate"], sort=True):
        colour = LINES[conditions.index(str(condition)) % len(LINES)]
        rows = rows.sort_values("time_h")
        over_all = str(replicate) == "all"
        few = shown[shown["condition"] == condition]["replicate"].nunique() <= _FEW_REPLICATES + 1  # and "all"
        band = rows.dropna(subset=["fraction_lo", "fraction_hi"]) if over_all != few else rows[:0]
        ahead = [f"{x(t):.1f},{y(v):.1f}" for t, v in zip(band["time_h"], band["fraction_hi"], strict=True)]
        back = [f"{x(t):.1f},{y(v):.1f}" for t, v in zip(band["time_h"], band["fraction_lo"], strict=True)][::-1]
        if ahead:
            parts.append(f'<polygon points="{" ".join(ahead + back)}" fill="{colour}" fill-opacity=".14" />')
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(rows["time_h"], rows["fraction"], strict=True))
        width_px, opacity = (2.2, 1) if over_all else (1, 0.45)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width_px}" '
                     f'stroke-opacity="{opacity}" />')  # fmt: skip
    for k, name in enumerate(conditions):
        parts.append(f'<text x={width - 140} y={24 + 18 * k} fill="{LINES[k % len(LINES)]}" font-size=13>'
                     f"{html.escape(name)}</text>")  # fmt: skip
    return "".join(parts) + "</svg>" + shell.note(
        "Thin: replicates; thick: their mean. Bands are 95 % intervals: over replicates where there are three or more, "
        "else over the lineages of each."
    )


def _scene_page(scene: str, facts: dict[str, Any], movie: Any, labels: Any, nuclei: pd.DataFrame, job: Job) -> str:
    usable = [k for k in range(movie.n_frames) if k not in movie.missing_frames]
    chosen = sorted({usable[0], usable[len(usable) // 2], usable[-1]}) if usable else []
    parts = [f"<h2>{html.escape(scene)}: {html.escape(facts['condition'])}, replicate {facts['replicate']}</h2>"]
    shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in facts["phases"].items())
    parts.append(f"<p>{shares or 'no phases'}</p>")
    for frame in chosen:
        window = Window.centre(movie.shape[2:])
        picture = draw(movie, labels, nuclei, frame, job.design, window)
        caption = f"frame {frame}, {movie.time_h[frame]:.2f} h: the middle, {_outlined(facts)}"
        parts.append(shell.figure(data_uri(picture), caption))
    if chosen and max(movie.shape[2:]) > 1.5 * (window.rows.stop - window.rows.start):
        picture = draw(movie, labels, nuclei, chosen[-1], job.design, Window.whole(movie.shape[2:]))
        parts.append(shell.figure(data_uri(picture), f"frame {chosen[-1]}: the whole frame", 1000))
    return "\n".join(parts)


def _outlined(facts: dict[str, Any]) -> str:
    return "outlines by phase (orange G1, yellow G1S, green S_G2M, pink M)" if facts["phases"] else "nuclei outlined"
