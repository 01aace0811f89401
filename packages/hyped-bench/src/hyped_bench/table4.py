"""Table 4 of the paper on any movie: denoisers and controls by the paper's protocol, in its columns, with what its
numbers leave out said beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyped_bench.metrics.image import PAPER_OFFSET_DB, SnrFormula
from hyped_bench.metrics.undefined import rounded
from hyped_bench.report.printed import TABLE_4
from hyped_bench.runner import Result, prepare, run_model
from hyped_bench.runs.strangers import Limits, place_models
from hyped_core.context import Progress, RunContext, SilentProgress
from hyped_core.errors import InvalidDataError, PluginError, UsageError

MODELS = ("fm2s-series", "photon")
"""Models shown where none is named: the paper's, as it is for movies, and HYPED's own."""

COLUMNS = {
    "self_mse": "MSE",
    "self_psnr": "PSNR (dB)",
    "self_ssim": "SSIM",
    "snr_before": "SNR before",
    "snr_after": "SNR after",
    "snr_before_db": "SNR before (dB)",
    "snr_after_db": "SNR after (dB)",
    "psnr_paper_convention": "psnr_paper_convention (dB)",
}
"""Keys of the task `denoise` and the headings they have in the table."""

MEMORY_GB = 8.0
"""The frames of all movies are held together; more than this is refused."""

PSNR_SENTENCE = (
    f"psnr_paper_convention is the PSNR plus 20 log10(255) = {PAPER_OFFSET_DB:.2f} dB, because the paper took the peak "
    "as 255 on images in [0, 1], where it is 1: its 86.48 dB at an MSE of 0.000146 are 38.36 dB."
)
FIDELITY_SENTENCE = (
    "MSE, PSNR and SSIM compare the denoised with the noisy image: they are fidelity, not quality, and an identity is "
    "perfect by them (no error, a PSNR without bound)."
)
SNR_SENTENCE = {
    "mean_over_std": "SNR is the mean of the nuclei over the standard deviation of all other pixels; dB are 20 log10.",
    "power": "SNR is the mean square of the nuclei over the mean square of all other pixels; dB are 10 log10.",
}
SNR_UNIT = "The paper states neither formula nor unit, so ratio and dB are both given."
NO_LABELS = "SNR is undefined: nothing says which pixels are nuclei (give --labels, or --segment fast)."


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the paper's protocol is read where it leaves a choice.

    Attributes
    ----------
    clip_rule : "intensities above 98 %": of the pixels (``percentile``) or of the maximum (``share``).
    snr : formula of the ratio.
    """

    clip: float = 98.0
    clip_rule: Literal["percentile", "share"] = "percentile"
    snr: SnrFormula = "mean_over_std"


@dataclass(frozen=True, slots=True)
class Row:
    """A model's averages over a group of planes.

    Attributes
    ----------
    role : ``model`` or ``control``; ``paper`` for what it prints.
    group, level : what is averaged over: ``all``, or one ``channel``, ``condition`` or ``source``.
    values : key of `COLUMNS` -> mean, lowest and highest of its interval; None where undefined.
    fields : fields of view.
    """

    model: str
    role: str
    group: str
    level: str
    values: dict[str, tuple[float | None, float | None, float | None]]
    fields: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Table4:
    """Rows in the order they are shown, and what has to be said about them."""

    rows: list[Row]
    sentences: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def overall(self) -> list[Row]:
        """A row a model."""
        return [row for row in self.rows if row.group == "all"]

    def groups(self) -> list[str]:
        """What else is averaged over: ``channel``, ``condition``, ``source``."""
        return [name for name in dict.fromkeys(row.group for row in self.rows) if name != "all"]


def sources_of(
    movies: Sequence[Path],
    labels: Sequence[Path],
    protocol: Protocol,
    *,
    channels: Sequence[str] = (),
    frames: Sequence[int] | None = None,
    crop: int | None = None,
    design: Path | None = None,
) -> list[dict[str, Any]]:
    """Sources of the task `denoise`, one a movie.

    Raises
    ------
    UsageError
        Another number of labels than of movies; more pixels than fit into `MEMORY_GB`.
    """
    from hyped_core.container.movies import Movie

    if labels and len(labels) != len(movies):
        raise UsageError(
            f"{len(movies)} movies and {len(labels)} labels",
            mend="give one --labels a movie, in the same order, or none",
        )
    found: list[dict[str, Any]] = []
    largest = total = planes = 0
    for i, path in enumerate(movies):
        movie = Movie.open(path)
        for name in channels:
            movie.channel_index(name)
        there = [index for index in range(movie.n_frames) if index not in movie.missing_frames]
        wanted = set(there if frames is None else frames)
        picked = [index for index in there if index in wanted]
        if not picked:
            raise InvalidDataError("has none of these frames", where=path, mend="correct --frames")
        height, width = (min(side, crop or side) for side in movie.shape[2:])
        size = len(picked) * height * width
        largest, total = max(largest, size), total + size * len(channels or movie.channels)
        planes = max(planes, len(picked))
        scene = str(movie.attrs.get("scene", movie.name))
        name = scene if all(s["name"] != scene for s in found) else f"{scene}_{i}"
        found.append(
            {
                "name": name, "scene": scene, "reference": "self", "noisy": str(path),
                "labels": str(labels[i]) if labels else None, "design": None if design is None else str(design),
                "channels": list(channels) or list(movie.channels), "frames": picked, "crop": crop,
                "clip": protocol.clip, "clip_rule": protocol.clip_rule, "snr": protocol.snr,
            }
        )  # fmt: skip
    memory = (6 * total + 20 * largest) / 1e9
    if memory > MEMORY_GB:
        step = -int(-memory // MEMORY_GB)
        raise UsageError(
            f"{planes} frames a movie would take {memory:.0f} GB",
            where=movies[0],
            mend=f"every {step}. frame says as much of fidelity: --frames ::{step}; or --crop 512",
        )
    return found


def table4(
    sources: Sequence[dict[str, Any]],
    models: Sequence[str] = (),
    *,
    protocol: Protocol | None = None,
    configs: dict[str, dict[str, Any]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    bootstrap: int = 1000,
    progress: Progress | None = None,
    host: Any = None,
) -> Table4:
    """Run ``models`` (`MODELS` where none is named) and every control on ``sources`` and average by the protocol.

    The task `denoise` of the benchmark does all the work: planes are clipped and scaled to [0, 1], denoised, and held
    against the noisy planes; a field of view counts once, however many channels and frames of it there are.

    Raises
    ------
    UnknownNameError
        There is no such model.
    PluginError
        No model gave a result.
    """
    protocol = protocol or Protocol()
    progress = progress or SilentProgress()
    section = {
        "sources": list(sources), "bootstrap": bootstrap, "models": configs or {},
        "design": next((s["design"] for s in sources if s.get("design")), None),
    }  # fmt: skip
    names = with_controls(models, host)
    job = prepare("denoise", section, seed=seed, device=device, progress=progress, host=host)
    place_models(job, names, Limits(), host)
    results = [run_model(job, name, host=host) for name in names]
    done = [result for result in results if result.status == "ok"]
    if not done:
        raise PluginError("no model gave a result", mend="; ".join(f"{r.model}: {r.reason}" for r in results))
    rows = in_order([row for result in done for row in rows_of(result)])
    warnings = list(dict.fromkeys(text for r in done for text in r.warnings if not _said_otherwise(text)))
    labelled = all(s.get("labels") for s in sources)
    said = [PSNR_SENTENCE, FIDELITY_SENTENCE, f"{SNR_SENTENCE[protocol.snr]} {SNR_UNIT}" if labelled else NO_LABELS]
    said.append(_averages(sources, done[0]))
    return Table4([*rows, printed()], said, {r.model: r.reason for r in results if r.status != "ok"}, warnings)


def with_controls(models: Sequence[str], host: Any = None) -> list[str]:
    """The models named (else those of `MODELS` that are registered, else all), then every control there is."""
    from hyped_core.plugins.registry import models as registered

    there = [item.spec for item in registered(host).items() if item.spec.task == "denoise"]
    own = list(models) or [spec.name for spec in there if spec.name in MODELS]
    own = own or [spec.name for spec in there if spec.role != "control"]
    return list(dict.fromkeys([*own, *(spec.name for spec in there if spec.role == "control")]))


def rows_of(result: Result) -> Iterator[Row]:
    """The groups of a result: all planes, and each channel, condition and source where there are several."""
    assert result.scores is not None
    table = result.scores.tables["summary"]
    table = table[table["reference"] == "self"]
    sources = table.loc[table["group"] == "source", "level"].nunique()
    seconds = result.timing.get("seconds_per_plane")
    for (group, level), part in table.groupby(["group", "level"], sort=False, dropna=False):
        if group == "source" and sources < 2:
            continue
        found = {line["metric"]: line for line in part.to_dict("records")}
        values = {
            key: tuple(rounded(found[key][end]) for end in ("mean", "lo", "hi")) if key in found else (None,) * 3
            for key in COLUMNS
        }
        count = int(part["n_fields"].iloc[0])
        named = "" if group == "all" else str(level)
        yield Row(result.model, result.kind, str(group), named, values, count, seconds if group == "all" else None)  # type: ignore[arg-type]


def printed() -> Row:
    """What the paper prints."""
    mse, psnr, ssim, before, after, convention = TABLE_4
    numbers = {
        "self_mse": mse, "self_psnr": psnr, "self_ssim": ssim, "snr_before": before, "snr_after": after,
        "psnr_paper_convention": convention,
    }  # fmt: skip
    return Row("FM2S (printed)", "paper", "all", "", {key: (numbers.get(key), None, None) for key in COLUMNS})


def in_order(rows: Sequence[Row]) -> list[Row]:
    """All planes first, then group by group and level by level, models as they were within each."""
    places = list(dict.fromkeys((row.group, row.level) for row in rows))
    groups = list(dict.fromkeys(["all", *(group for group, _ in places)]))
    return sorted(rows, key=lambda row: (groups.index(row.group), places.index((row.group, row.level))))


def _said_otherwise(warning: str) -> bool:
    """Warnings of a run that the table's own sentences and cells say."""
    own = ("fidelity, not quality", "without a value", "psnr is undefined", "psnr_paper_convention is undefined")
    return any(text in warning for text in own)


def _averages(sources: Sequence[dict[str, Any]], result: Result) -> str:
    fields, planes = result.metrics.get("n_self_fields"), result.metrics.get("n_self_planes")
    channels = list(dict.fromkeys(name for s in sources for name in s["channels"]))
    text = f"Averages over {fields} field(s) of view ({planes} planes, {', '.join(channels)}), each counted once; "
    few = int(fields or 0) < 3
    held = "no intervals: they need three fields of view." if few else "in brackets 95 % bootstrap intervals over them."
    return f"{text}{held} The row of the paper is as printed, from other images."


def segmented(
    movies: Sequence[Path],
    name: str,
    folder: Path,
    *,
    frames: Sequence[int] | None = None,
    design: Path | None = None,
    context: RunContext | None = None,
) -> list[Path]:
    """Labels of the chosen frames of each movie by a registered segmenter, below ``folder``; other frames are blank."""
    from dataclasses import replace

    from hyped_core.container.movies import LabelsWriter, Movie
    from hyped_core.design import read_design
    from hyped_core.remote.placing import place

    context = context or RunContext()
    plan = read_design(design)
    model = place("segment", name, {}, plan).create()
    aliases = {alias: c.name for c in plan.channels for alias in (c.name, *c.aliases)}
    written = []
    for i, path in enumerate(movies):
        movie = Movie.open(path)
        wanted = set(range(movie.n_frames) if frames is None else frames) - movie.missing_frames.keys()
        out = folder / f"{i}.zarr"
        names = tuple(aliases.get(channel, channel) for channel in movie.channels)
        meta = replace(movie.meta(), channel="+".join(names), channels=names)
        shape = (movie.n_frames, *movie.shape[2:])
        with LabelsWriter(out, shape=shape, pixel_size_um=movie.pixel_size_um, time_h=movie.time_h) as writer:
            for index in context.progress.track(range(movie.n_frames), f"segment {movie.name}"):
                found = np.zeros(shape[1:], np.int32)
                if index in wanted:
                    found = np.asarray(model.segment(movie.frame(index), meta, context=context))
                writer.write_frame(index, found)
        written.append(out)
    return written


def as_records(table: Table4) -> list[dict[str, Any]]:
    """Flat rows: ``key``, ``key_lo`` and ``key_hi`` for every key of `COLUMNS`."""
    found = []
    for row in table.rows:
        record: dict[str, Any] = {
            "model": row.model, "role": row.role, "group": row.group, "level": row.level, "n_fields": row.fields,
        }  # fmt: skip
        for key, values in row.values.items():
            record.update(dict(zip((key, f"{key}_lo", f"{key}_hi"), values, strict=True)))
        record["seconds_per_plane"] = rounded(row.seconds)
        found.append(record)
    return found


def as_csv(table: Table4) -> str:
    """`as_records` as comma separated values, undefined ones empty."""
    records = as_records(table)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: "" if value is None else value for key, value in record.items()} for record in records])
    return buffer.getvalue()


def as_markdown(table: Table4) -> str:
    """The table as the paper prints it, then its parts, then the sentences."""
    lines = ["# Table 4: denoising by the paper's protocol", "", *_block(table.overall(), timed=True)]
    for group in (name for name in table.groups() if name != "source"):
        lines += ["", f"## By {group}", "", *_block([row for row in table.rows if row.group == group])]
    lines += ["", *(f"- {text}" for text in table.sentences)]
    lines += [f"- {model}: {' '.join(reason.split())}" for model, reason in table.failed.items()]
    lines += [f"- {' '.join(text.split())}" for text in table.warnings]
    return "\n".join(lines) + "\n"


def _block(rows: Sequence[Row], timed: bool = False) -> list[str]:
    level = rows[0].group != "all"
    timed = timed and any(row.seconds is not None for row in rows)
    heads = [*((rows[0].group,) if level else ()), "model", "role", *COLUMNS.values()]
    heads += ["s a plane"] if timed else []
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = [*((row.level,) if level else ()), row.model, row.role]
        cells += [cell(row, key) for key in COLUMNS]
        cells += [_number(row.seconds)] if timed else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell(row: Row, key: str) -> str:
    """A value with its interval; a PSNR without error has no bound."""
    value, low, high = row.values[key]
    if value is None:
        perfect = row.values["self_mse"][0] == 0 and key in ("self_psnr", "psnr_paper_convention")
        return "no bound" if perfect else "-"
    text = _number(value)
    return text if low is None or high is None else f"{text} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
