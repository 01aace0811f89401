"""The step ``denoise``: a movie in, the same movie with less noise out, frame by frame where the model offers it, else
a window of consecutive frames at a time."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser
from hyped_core.errors import InvalidDataError, UsageError
from hyped_imaging.denoise.plan import DenoiseOptions, Plan, Planes, check_weights, make_plan, models_for
from hyped_imaging.denoise.streams import denoise_streams, spool_beside, streams
from hyped_imaging.denoise.windows import (
    Change,
    checked_plane,
    denoise_windows,
    meta_of,
    run_model,
    spread_frames,
    to_dtype,
)
from hyped_imaging.modelstep import ModelStep, place_model

if TYPE_CHECKING:
    from hyped_core.container.labels import Labels
    from hyped_core.container.movies import Movie, MovieWriter
    from hyped_core.design import Design
    from hyped_core.remote.placing import Placed

ESTIMATE_PX = 512
"""Edge of the part of the frames that `estimate` times models on that go frame by frame."""

_OWN_CODE = tuple(f"hyped_imaging.denoise.{name}" for name in ("windows", "streams", "plan"))
_OWN_ATTRS = ("schema_version", "kind", "channels", "pixel_size_um", "time_h", "data_range", "missing_frames")
"""Attributes the writer states itself."""


def denoise_movie(
    movie: Movie,
    out: str | Path,
    model: ModelStep | Denoiser,
    *,
    design: Design,
    context: RunContext,
    options: DenoiseOptions | None = None,
    labels: Labels | None = None,
) -> dict[str, Any]:
    """Write the movie ``out``: the frames of ``movie`` with less noise, and everything else as it was (times,
    pixel size, names of channels, data range, notes, missing frames).

    A model that goes frame by frame (`hyped_imaging.denoise.streams.streams`) does so through one channel after
    another, and no pixel depends on ``memory_gb`` or on where a run was ended. Any other is given windows, with the
    neighbours it looks at at both ends. The result appears whole. With a `ModelStep` a run that was ended goes on at
    the frame or the window where it was, with the same bytes, as long as movie, model, its parameters, its code and
    the libraries stay the same.

    Parameters
    ----------
    labels : of the movie's nuclei: the record then has the signal-to-noise ratio before and after.

    Returns
    -------
    JSON-able record: model, config, frames, what was done to each channel, seconds.

    Raises
    ------
    DesignError, UsageError
        There is no such channel; weights for a model that has none; numbers in [0, 1] as integers.
    InvalidDataError, CorruptFileError
        A frame holds NaN or cannot be read; the labels do not fit.
    PluginError
        The model gave something that is no image of the frame's shape.
    StorageError
        The disk is full; frames done by then are kept.
    """
    from hyped_core.container.movies import MovieWriter

    started = time.perf_counter()
    options = options or DenoiseOptions()
    if Path(out).resolve() == movie.path.resolve():
        raise UsageError("the result would replace the movie", where=out, mend="give another name")
    made, placed = ready_model(model, design)
    planes = Planes.of_movie(movie)
    plan = make_plan(planes, made, design, options)
    check_weights(planes, made, plan, options)
    _check_labels(labels, movie)
    note = noted(made, placed, planes, plan)
    attrs = {key: value for key, value in movie.attrs.items() if key not in _OWN_ATTRS}
    attrs |= {"scene": attrs.get("scene", movie.name), "denoise": note}
    if len(plan.frames) < movie.n_frames:
        attrs["frames"] = list(plan.frames)
    key = None if placed is None else _resume_key(movie, placed, plan, options, context)
    writer = MovieWriter(
        out,
        shape=(len(plan.frames), *movie.shape[1:]),
        dtype=plan.dtype,
        channels=movie.channels,
        pixel_size_um=movie.pixel_size_um,
        time_h=movie.time_h[list(plan.frames)],
        data_range=movie.data_range if "data_range" in movie.attrs or movie.dtype.kind != "f" else None,
        attrs=attrs,
        resume=key,
    )
    at = {frame: i for i, frame in enumerate(plan.frames)}
    with writer, spool_beside(Path(out), key) as spool:
        for frame, reason in plan.missing.items():
            writer.write_missing(at[frame], reason)
        done = {plan.frames[i] for i in writer.written() if writer.note(i) is not None}
        frames_left = [frame for frame in plan.chosen if frame not in done]
        left = [window for window in plan.windows if not done.issuperset(window.kept)]
        total = sum(len(window.kept) for window in left) if plan.length else len(frames_left)
        kept = len(plan.chosen) - total
        models = models_for(planes, made, plan, options, context) if total or options.save_weights else {}
        learnt = time.perf_counter()
        given = (planes.read, models, planes.meta)
        common: dict[str, Any] = {"shape": movie.shape, "dtype": plan.dtype, "where": movie.path, "context": context}
        if plan.length:
            run = denoise_windows(left, *given, **common)
        else:
            run = denoise_streams(plan.present, frames_left, *given, **common, spool=spool)
        steps = len(left or frames_left) * len(plan.channels)
        said = f"denoise {movie.name}" + (f", {kept} frames done before" if kept else "")
        for ready in context.progress.track(run if total else [], said, steps if total else 0):
            for frame, pixels, changes in ready:
                facts = {k: [c.pixels, c.shift, c.squares, c.clipped] for k, c in changes.items()}
                writer.write_frame(at[frame], pixels, json.dumps(facts).encode())
        worked = time.perf_counter()
        changed = _changes(writer, plan)
    record: dict[str, Any] = {
        "movie": str(movie.path),
        "out": str(out),
        **note,
        "frames": len(plan.chosen),
        "frames_missing": len(plan.missing),
        "frames_done_before": kept,
        "dtype": str(plan.dtype),
        "window_frames": plan.length,
        "neighbours": plan.neighbours,
        "noise": noise_record(planes, plan),
        "changes": {movie.channels[k]: change.record() for k, change in changed.items()},
    }
    if labels is not None:
        record["snr"] = snr_change(movie, Path(out), labels, plan)
    count = total * len(plan.channels)
    record["seconds"] = {
        "learn": round(learnt - started, 3),
        "a_plane": round((worked - learnt) / count, 4) if count else None,
        "all": round(time.perf_counter() - started, 3),
    }
    return record


def ready_model(
    model: ModelStep | Denoiser, design: Design
) -> tuple[Denoiser, Placed | None]:
    """The model; what is known of it where it is made from a step's section."""
    if not isinstance(model, ModelStep):
        return model, None
    placed = place_model("denoise", model, design)
    return placed.create(), placed


def noted(
    model: Denoiser, placed: Placed | None, planes: Planes, plan: Plan
) -> dict[str, Any]:
    """What the result says about how it came about."""
    names = [planes.channels[k] for k in plan.channels]
    name = type(model).__name__ if placed is None else placed.spec.name
    values = {} if placed is None else placed.values
    return {"model": name, "config": json.loads(json.dumps(values)), "channels": names}


def noise_record(planes: Planes, plan: Plan) -> dict[str, dict[str, Any]]:
    """Channel -> the noise there was, estimated from frames spread over the movie: ``gain`` and ``offset`` (variance
    is gain times mean plus offset), whether it is correlated between pixels, and its root mean square.

    Where much more than ``rms`` was taken away, signal was too.
    """
    from hyped_imaging.denoise.physics import estimate_noise

    found = {}
    for k in plan.channels:
        stack = np.stack([planes.read(index, k) for index in spread_frames(plan.present)]).astype(np.float32)
        noise = estimate_noise(stack)
        rms = float(np.sqrt(np.mean(noise.variance(stack[:, ::2, ::2]), dtype=np.float64)))
        found[planes.channels[k]] = {
            "gain": float(f"{noise.gain:.6g}"),
            "offset": float(f"{noise.offset:.6g}"),
            "correlated": bool(noise.correlated),
            "rms": round(rms, 4),
        }
    return found


def _check_labels(labels: Labels | None, movie: Movie) -> None:
    total, _, height, width = movie.shape
    if labels is not None and labels.shape != (total, height, width):
        raise InvalidDataError(
            f"labels {labels.shape} do not fit the movie's {(total, height, width)}",
            where=labels.path,
            mend="give the labels of this movie",
        )


def _changes(writer: MovieWriter, plan: Plan) -> dict[int, Change]:
    """Channel -> what was done to it, summed over frames in their order."""
    found = {k: Change() for k in plan.channels}
    for i, frame in enumerate(plan.frames):
        note = writer.note(i)
        if frame in plan.missing or note is None:
            continue
        for k, values in json.loads(note).items():
            found[int(k)] += Change(*values)
    return found


def _resume_key(
    movie: Movie,
    placed: Placed,
    plan: Plan,
    options: DenoiseOptions,
    context: RunContext,
) -> str:
    """Stands for all that decides the pixels: the movie's files by size and time of change, the model with its
    parameters, weights and code, the libraries, channels, frames and windows, the device and the seed."""
    from hyped_core.io.hashing import digest, files_below
    from hyped_core.plugins.sources import model_modules, source_hash
    from hyped_core.provenance import LIBRARIES, versions

    files = [(file.relative_to(movie.path).as_posix(), file.stat()) for file in files_below(movie.path)]
    spec = placed.spec
    facts = {
        "movie": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files],
        "model": [spec.key, spec.target, placed.config],
        "weights": None if options.weights is None else digest(options.weights).sha256,
        "code": source_hash([*_OWN_CODE, *model_modules(spec)]),
        "libraries": versions(["hyped-core", "hyped-imaging", *LIBRARIES]),
        "plan": [plan.channels, plan.frames, plan.length, plan.neighbours, str(plan.dtype)],
        "device": context.device.partition(":")[0],
        "seed": context.seed,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def snr_change(movie: Movie, result: Path, labels: Labels, plan: Plan) -> dict[str, dict[str, Any]]:
    """Channel -> median over frames of the signal-to-noise ratio of nuclei before and after, in dB: HYPED's own
    and the paper's (`hyped_imaging.snr`)."""
    from hyped_core.container.movies import Movie
    from hyped_imaging.snr import decibel, paper_snr, snr

    after = Movie.open(result)
    found: dict[str, dict[str, Any]] = {}
    lost = {*plan.missing, *labels.missing_frames}
    pairs = [(frame, i) for i, frame in enumerate(plan.frames) if frame not in lost]
    for k in plan.channels:
        name = movie.channels[k]
        rows = []
        for frame, i in pairs:
            nuclei = labels.frame(frame)
            both = (movie.plane(frame, name), after.plane(i, name))
            rows.append([snr(p, nuclei).db for p in both] + [decibel(paper_snr(p, nuclei)) for p in both])
        table = np.array(rows, dtype=np.float64).reshape(-1, 4)
        keys = ("snr_db_before", "snr_db_after", "paper_snr_db_before", "paper_snr_db_after")
        known = [column[np.isfinite(column)] for column in table.T]
        found[name] = {
            key: round(float(np.median(column)), 4) if column.size else None
            for key, column in zip(keys, known, strict=True)
        }
        found[name]["frames"] = int(min((column.size for column in known), default=0))
    return found


def estimate(
    planes: Planes, model: Denoiser, design: Design, options: DenoiseOptions, context: RunContext
) -> dict[str, Any]:
    """Time, disk and memory of a run, from one frame in the middle (with its neighbours); writes nothing.

    ``scratch_megabytes`` is what waits on the disk beside the result for the last channel, where the model goes frame
    by frame; ``memory_gb`` is None there, as it is the model's own affair.
    """
    from hyped_core.container.pyramid import level_shapes
    from hyped_core.container.shards import ShardLayout, encode
    from hyped_core.container.writer import CHUNK_YX

    plan = make_plan(planes, model, design, options)
    one = DenoiseOptions((planes.channels[plan.channels[0]],), None, options.dtype, options.weights, None)
    start = time.perf_counter()
    own = models_for(planes, model, make_plan(planes, model, design, one), one, context)[plan.channels[0]]
    learn_s = time.perf_counter() - start
    k, middle = plan.channels[0], plan.present.index(plan.chosen[len(plan.chosen) // 2])
    given = plan.present[max(0, middle - plan.neighbours) : middle + plan.neighbours + 1]
    stack = np.stack([checked_plane(planes.read(index, k), index, planes.where) for index in given])
    told = meta_of(planes.meta(k), given)
    area = 1.0
    if streams(own):  # as quick a pixel in a part of the frames, and few of those are held when all is worked on
        top, left = (max(0, (n - ESTIMATE_PX) // 2) for n in stack.shape[1:])
        part = np.ascontiguousarray(stack[:, top : top + ESTIMATE_PX, left : left + ESTIMATE_PX])
        area, stack = stack.size / part.size, part
    small = np.ascontiguousarray(stack[:, :64, :64])
    run_model(own, small, told, context=context, where=str(planes.where))  # compiles what is compiled when first run
    start = time.perf_counter()
    result = run_model(own, stack, told, context=context, where=str(planes.where))
    plane_s = area * (time.perf_counter() - start) / len(given)
    pixels = to_dtype(result[given.index(plan.present[middle])], plan.dtype)[0]
    chunk = tuple(min(a, b) for a, b in zip(CHUNK_YX, pixels.shape, strict=True))
    sizes = []
    other = next((i for i in range(planes.shape[1]) if i not in plan.channels), k)
    for plane, share in ((pixels, area), (to_dtype(planes.read(plan.present[middle], other), plan.dtype)[0], 1.0)):
        layout = ShardLayout((1, *plane.shape), plan.dtype.newbyteorder("<").str, chunk, "lz4", 5)  # type: ignore[arg-type]
        sizes.append(share * sum(len(part) for part in encode(plane[None], layout)))
    copied = planes.shape[1] - len(plan.channels)
    worked = (sum(len(window.given) for window in plan.windows) or len(plan.chosen)) * len(plan.channels)
    waiting = 0 if plan.length else (len(plan.channels) - 1) * math.prod(planes.shape[2:]) * plan.dtype.itemsize
    levels = [math.prod(shape[1:]) for shape in level_shapes(planes.shape)]
    size = len(plan.chosen) * (sizes[0] * len(plan.channels) + sizes[1] * copied) * sum(levels) / levels[0]
    return {
        "frames": len(plan.chosen),
        "channels": [planes.channels[k] for k in plan.channels],
        "window_frames": plan.length,
        "neighbours": plan.neighbours,
        "seconds": round(learn_s * len(plan.channels) + plane_s * worked, 1),
        "megabytes": round(size / 1e6, 3),
        "scratch_megabytes": round(len(plan.chosen) * waiting / 1e6, 3),
        "memory_gb": options.memory_gb if plan.length else None,
    }
