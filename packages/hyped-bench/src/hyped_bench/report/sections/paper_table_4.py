"""Table 4 (denoising) in the paper's layout, and the two views it lacks: against clean images, and what is found in
the denoised movies. Three kinds of reference, three tables, never mixed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hyped_bench.metrics.image import PAPER_OFFSET_DB
from hyped_bench.report.boards import with_interval
from hyped_bench.report.context import Cell, ReportContext, Table, number_text
from hyped_bench.report.inputs import Entry
from hyped_bench.report.printed import PAPER_DATASET, TABLE_4
from hyped_bench.report.scoreboard import models_first
from hyped_bench.report.sections.paper_layout import NOT_COMPUTED

SELF = {
    "self_mse": "MSE",
    "self_psnr": "PSNR (dB)",
    "self_ssim": "SSIM",
    "snr_before": "SNR before",
    "snr_after": "SNR after",
    "psnr_paper_convention": "psnr_paper_convention (dB)",
    "snr_before_db": "SNR before (dB)",
    "snr_after_db": "SNR after (dB)",
}
"""Keys of the paper's protocol and the paper's names for them, in its order; the last three are ours."""
CLEAN = {"psnr": "psnr", "ssim": "ssim", "mse": "mse"}
DOWNSTREAM = {
    "downstream_f1_iou50": "nuclei f1_iou50",
    "downstream_seg": "nuclei seg",
    "downstream_tra": "tracks tra",
    "downstream_lnk": "links lnk",
    "downstream_det": "detections det",
    "downstream_division_f1": "divisions f1",
}


def table_4(context: ReportContext) -> list[str]:
    """The paper's layout, then quality, then what denoising is for."""
    entries = models_first(context.results.get("denoise", []))
    parts: list[str] = [context.heading("Table 4: denoising, in the paper's layout", listed="Table 4")]
    parts += fidelity(context, entries)
    parts += quality(context, entries)
    parts += downstream(context, entries)
    return parts


def fidelity(context: ReportContext, entries: list[Entry]) -> list[str]:
    """The paper's protocol: the noisy image is the reference."""
    title = "Against the noisy image itself (the paper's protocol): fidelity, not quality"
    parts: list[str] = [context.heading(title, 4)]
    mine = [e for e in entries if any(e.metrics.get(key) is not None for key in SELF)]
    extra: dict[str, tuple[str, tuple[float | None, ...] | None]] = {}
    if not any(is_fm2s(e) for e in mine):
        extra["FM2S"] = ("paper's model", None)
    if context.dataset == PAPER_DATASET:
        extra["FM2S (printed)"] = ("paper", TABLE_4)
    caption = "Table 4 of the paper: the denoised against the noisy image, both scaled to [0, 1]"
    parts.append(placed(context, "table_4", caption, mine, SELF, "n_self_fields", extra=extra))
    if not mine:
        parts.append(context.absent("Table 4 has no scores: no denoiser was scored by the paper's protocol."))
    if not any(is_fm2s(e) for e in mine):
        parts.append(context.absent(f"Not computed for Table 4: FM2S ({why_no_fm2s(context)})."))
    parts.append(
        context.note(
            f"psnr_paper_convention is the PSNR plus 20 log10(255) = {PAPER_OFFSET_DB:.2f} dB: the paper's 86.48 dB at "
            "an MSE of 0.000146 on images in [0, 1] took the peak as 255, where it is 1 (38.36 dB). The reference here "
            "is the noisy image itself, so these numbers say how little was changed, not how good the result is: "
            "the identity has no error at all, and its PSNR is infinite (shown as undefined). The paper states "
            "neither formula nor unit of its SNR, so the ratio and its decibels are both shown."
        )
    )
    return parts


def quality(context: ReportContext, entries: list[Entry]) -> list[str]:
    """Clean images are the reference."""
    mine = [e for e in entries if e.metrics.get("mse") is not None]
    parts: list[str] = [context.heading("Against clean images: quality", 4)]
    if not mine:
        return [*parts, context.absent("There is no clean image to hold denoised ones against.")]
    caption = "Table 4, honest version: the denoised against a clean image (MSE in the camera's units)"
    return [*parts, placed(context, "table_4_clean", caption, mine, CLEAN, "n_fields", lead="psnr")]


def downstream(context: ReportContext, entries: list[Entry]) -> list[str]:
    """Nuclei and tracks found in denoised movies; a table a share of light where frames were dimmed."""
    mine = [e for e in entries if any(e.metrics.get(key) is not None for key in DOWNSTREAM)]
    if not mine:
        return []
    parts: list[str] = [
        context.heading("After segmentation and tracking: what is denoised for", 4),
        context.text(
            "Each denoised movie was segmented and tracked by the same models with the same parameters, and nuclei, "
            "links and divisions were held against the truth. A denoiser that does not beat the identity here helps "
            "the eye only."
        ),
    ]
    lights = sorted({float(light) for e in mine for light in lights_of(e)}, reverse=True)
    if not lights:
        name, count = "table_4_downstream", "n_downstream_fields"
        caption = "Table 4, downstream: nuclei and tracks found in the denoised movies"
        return [*parts, placed(context, name, caption, mine, DOWNSTREAM, count, lead="downstream_seg")]
    for light in lights:
        level = f"{light:g}"
        keys = {f"{key}_light_{level}": name for key, name in DOWNSTREAM.items()}
        said = "the movies as they are" if light == 100 else f"frames redrawn with {level} % of the light"
        caption = f"Table 4, downstream, {said}: nuclei and tracks found in the denoised movies"
        name = f"table_4_downstream_{level}"
        parts.append(placed(context, name, caption, mine, keys, "", lead=f"downstream_seg_light_{level}"))
    return parts


def lights_of(entry: Entry) -> list[str]:
    """Shares of light in percent that the entry was scored at, where there are several."""
    found = [re.fullmatch(r"downstream_seg_light_([0-9.]+)", key) for key in entry.metrics]
    return [match[1] for match in found if match]


def placed(
    context: ReportContext,
    name: str,
    caption: str,
    entries: Sequence[Entry],
    keys: dict[str, str],
    count: str,
    *,
    lead: str | None = None,
    extra: dict[str, tuple[str, tuple[float | None, ...] | None]] | None = None,
) -> str:
    """A row a model with intervals in brackets, best first by ``lead`` (else models before controls); the CSV has the
    ends of intervals in columns. ``extra`` rows are not ours: printed numbers, or None for what was not computed."""
    if lead is not None:
        entries = sorted(entries, key=lambda e: (e.metrics.get(lead) is None, -(e.metrics.get(lead) or 0.0), e.model))
    times = {e.model: seconds(e) for e in entries}
    timed = any(value is not None for value in times.values())
    heads = ["model", "role", *keys.values(), *([count] if count else ()), *(["s a megapixel"] if timed else ())]
    columns = heads + [f"{name} {end}" for name in keys.values() for end in ("lo", "hi")]
    raw: list[list[Any]] = []
    shown: list[list[Any]] = []
    marks = []
    for entry in entries:
        rest: list[Any] = [entry.metrics.get(count)] if count else []
        rest += [times[entry.model]] if timed else []
        ends = [entry.metrics.get(f"{key}_{end}") for key in keys for end in ("lo", "hi")]
        raw.append([entry.model, entry.kind, *(entry.metrics.get(key) for key in keys), *rest, *ends])
        shown.append([entry.model, entry.kind, *(Cell(with_interval(entry, key), True) for key in keys), *rest])
        marks.append("control" if entry.kind == "control" else "")
    for model, (role, numbers) in (extra or {}).items():
        blank = [None] * (len(heads) - 2 - len(keys))
        values = [*(numbers or ()), *[None] * len(keys)][: len(keys)]
        raw.append([model, role, *values, *[None] * (len(columns) - 2 - len(keys))])
        shown.append([model, role, *([NOT_COMPUTED] * len(keys) if numbers is None else values), *blank])
        marks.append("printed" if numbers is not None else "")
    return context.table(name, Table(caption, columns, raw, (heads, shown), marks))


def seconds(entry: Entry) -> float | None:
    """Seconds the model took for a megapixel, from ``timing.json`` beside the record, where it was kept."""
    path = None if entry.folder is None else entry.folder / "timing.json"
    if path is None or not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("seconds_per_megapixel")
    except (ValueError, AttributeError):
        return None
    return float(number_text(float(value))) if isinstance(value, int | float) else None


def is_fm2s(entry: Entry) -> bool:
    """FM2S in any of its modes."""
    return entry.model.partition("-")[0] == "fm2s"


def why_no_fm2s(context: ReportContext) -> str:
    """What became of FM2S."""
    tried = [e for e in context.results.get("denoise", []) if is_fm2s(e)]
    if not tried:
        return "no such model was scored"
    if tried[0].status != "ok":
        return f"{tried[0].model}: {tried[0].status}: {tried[0].reason}"
    return f"{tried[0].model} was not scored by the paper's protocol"
