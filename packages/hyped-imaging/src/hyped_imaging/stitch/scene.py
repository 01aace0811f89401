"""One scene of a CZI from tiles to a movie on disk, frame by frame, and the record of how well they fit."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import CorruptFileError
from hyped_core.io.atomic import remove, write_json
from hyped_imaging.parallel import Workers, run_frames
from hyped_imaging.readers.czi import CziFile
from hyped_imaging.stitch.calibrate import Calibration, calibrate
from hyped_imaging.stitch.drift import DriftMeter, bin_factor, drift_record
from hyped_imaging.stitch.job import FrameNote, StitchJob
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.record import level_record, offset_note
from hyped_imaging.stitch.source import TileSource

if TYPE_CHECKING:
    from hyped_core.container.movies import MovieWriter

_LOST_AT_START = 3
"""So many frames lost before any was read: the file is at fault, not a frame."""
_HEAD_BYTES = 512


def stitch_scene(
    czi: CziFile,
    plan: ScenePlan,
    out: str | Path,
    params: StitchParams,
    *,
    workers: Workers | None = None,
    qc: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the scene's movie to ``out`` and return its record (written to ``qc`` too where that is given).

    Memory is that of a few frames, whatever their number. The movie appears whole or not at all; a run that
    was ended goes on where it was when the same is asked for again, and gives the same bytes. A frame that
    cannot be read is recorded as missing in the movie and in the record; one of which less than half the tiles
    are damaged lacks these alone (``missing_tiles``).

    Raises
    ------
    CorruptFileError
        More than ``max_lost_frames`` of the frames (or of the tiles) cannot be read, or none of the first ones.
    """
    from hyped_core.container.movies import MovieWriter

    out = Path(out)
    workers, progress = workers or Workers(), progress or SilentProgress()
    key = resume_key(czi, plan, params)
    kept = _calibration_file(out, key)
    calibration = _calibrate(czi, plan, params, kept)
    job = StitchJob(str(czi.path.absolute()), czi.reader, czi.select, plan, params, calibration, None, {})
    shifts, drift = _look_for_drift(job, workers, progress) if params.correct_drift else ({}, None)
    fuser = calibration.fuser(plan, params)
    notes: dict[str, Any] = {
        "scene": plan.scene.name, "source": czi.path.name, "time_source": plan.time_source,
        **offset_note(calibration, params),
    }  # fmt: skip
    with MovieWriter(
        out, shape=(plan.shape[0], fuser.n_channels, *fuser.canvas), dtype=np.uint16, channels=plan.channels,
        pixel_size_um=plan.pixel_size_um, time_h=plan.time_h, data_range=(0, calibration.top), attrs=notes,
        resume=key,
    ) as writer:  # fmt: skip
        lost = _write(replace(job, handle=writer.handle(), shifts=shifts), writer, workers, progress)
        frames = _read_notes(writer, plan, fuser.canvas, params, lost)
        _check_tiles(czi, plan, params, frames["missing_tiles"])
        drift = drift or frames["drift"]
        writer.update_attrs({"drift_corrected": drift["corrected"]})
    kept.unlink(missing_ok=True)
    record = {
        "scene": plan.scene.name,
        "source": czi.path.name,
        "reader": czi.reader,
        "n_frames": plan.shape[0],
        "n_tiles": len(plan.corners),
        "shape": [plan.shape[0], len(plan.channels), *fuser.canvas],
        "channels": list(plan.channels),
        "pixel_size_um": plan.pixel_size_um,
        "pixel_size_source": plan.pixel_size_source,
        "time_source": plan.time_source,
        "time_first_h": round(float(plan.time_h[0]), 6),
        "time_last_h": round(float(plan.time_h[-1]), 6),
        **calibration.record,
        "missing_tiles": frames["missing_tiles"],
        "missing_frames": {str(frame): reason for frame, reason in sorted(lost.items())},
        "levels": frames["levels"],
        "drift": drift,
    }
    if qc is not None:
        write_json(qc, record)
    return record


def resume_key(czi: CziFile, plan: ScenePlan, params: StitchParams) -> str:
    """What decides the pixels, as a hash: the file (its header with its GUID, its directory, its metadata, its
    time of change; not its path), scene, channels, times, parameters, reader and version."""
    digest = hashlib.sha256()
    with czi.path.open("rb") as file:
        digest.update(file.read(_HEAD_BYTES))
    table = czi.structure.table
    digest.update(np.ascontiguousarray(table.select_dtypes("number").to_numpy(np.int64)).tobytes())
    digest.update(czi.structure.xml.encode())
    stat = czi.path.stat()
    told = [
        stat.st_size, stat.st_mtime_ns, plan.scene.index, plan.scene.name, plan.channels, plan.time_h.tolist(),
        plan.time_source, plan.pixel_size_um, czi.path.name, czi.reader, params.model_dump(mode="json"),
        version("hyped-imaging"),
    ]  # fmt: skip
    digest.update(json.dumps(told).encode())
    return digest.hexdigest()


def _calibration_file(out: Path, key: str) -> Path:
    """Where the calibration waits for the run to be finished; those of other keys are removed."""
    kept = out.with_name(f".{out.name}.{key[:12]}.calibration")
    for other in out.parent.glob(f".{out.name}.*.calibration"):
        if other != kept:
            remove(other)
    return kept


def _calibrate(czi: CziFile, plan: ScenePlan, params: StitchParams, kept: Path) -> Calibration:
    """The calibration an ended run left, or a new one."""
    if kept.is_file():
        try:
            return Calibration.load(kept)
        except CorruptFileError:
            kept.unlink()
    calibration = calibrate(TileSource(czi, plan, params), params)
    calibration.save(kept)
    return calibration


def _look_for_drift(
    job: StitchJob, workers: Workers, progress: Progress
) -> tuple[dict[int, tuple[int, int]], dict[str, Any]]:
    """Shift that takes each frame's drift back, in whole pixels, and the drift's record."""
    plan, canvas = job.plan, job.calibration.fuser(job.plan, job.params).canvas
    meter = DriftMeter(bin_factor(canvas), job.params.max_drift_px)
    run = run_frames(job, range(plan.shape[0]), workers, progress=progress, description=f"drift {plan.scene.name}")
    with closing(run):
        for frame, picture in run:
            if not isinstance(picture, str):
                meter.add(frame, picture)
    drift = meter.solve()
    shifts = {
        frame: (-int(y), -int(x))
        for frame, (y, x) in zip(drift.frames, np.rint(drift.path), strict=True)
        if drift.believed and (y or x)
    }
    return shifts, drift_record(drift, plan.shape[0], drift.believed)


def _write(job: StitchJob, writer: MovieWriter, workers: Workers, progress: Progress) -> dict[int, str]:
    """Write the frames that are not there yet; gives those that cannot be read, with the reason."""
    total = job.plan.shape[0]
    written = set(writer.written())
    todo = [frame for frame in range(total) if frame not in written]
    lost: dict[int, str] = {}
    done = len(written)
    run = run_frames(job, todo, workers, progress=progress, description=f"stitch {job.plan.scene.name}")
    with closing(run):
        for frame, reason in run:
            if reason is None:
                done += 1
                continue
            lost[frame] = reason
            if len(lost) > job.params.max_lost_frames * total or (not done and len(lost) >= _LOST_AT_START):
                shown = ", ".join(map(str, lost))
                raise CorruptFileError(
                    f"{len(lost)} of {total} frames cannot be read ({shown}): {reason}",
                    where=job.path,
                    mend="fetch the file again; or, to go on without them, raise the parameter `max_lost_frames`",
                )
            writer.write_missing(frame, reason)
    return lost


def _check_tiles(czi: CziFile, plan: ScenePlan, params: StitchParams, missing: list[list[int]]) -> None:
    """Refuse a scene of whose tiles too many are damaged; those the directory lacks were never taken."""
    scene = plan.scene
    tiles = czi.axes(scene.index)[2]
    planes = len(scene.channels) * scene.n_z
    damaged = [
        (frame, index) for frame, index in missing
        if int((czi.frame_rows(scene.index, frame)["m"] == tiles[index]).sum()) >= planes
    ]  # fmt: skip
    total = plan.shape[0] * len(plan.corners)
    if len(damaged) > params.max_lost_frames * total:
        raise CorruptFileError(
            f"{len(damaged)} of {total} tiles cannot be read, the first one tile {damaged[0][1]} of frame "
            f"{damaged[0][0]}",
            where=czi.path,
            mend="fetch the file again; or, to go on without them, raise the parameter `max_lost_frames`",
        )


def _read_notes(
    writer: MovieWriter, plan: ScenePlan, canvas: tuple[int, int], params: StitchParams, lost: dict[int, str]
) -> dict[str, Any]:
    """What the notes of all frames say together: missing tiles, levels, drift."""
    meter = DriftMeter(bin_factor(canvas), params.max_drift_px)
    missing: list[list[int]] = []
    levels: dict[int, tuple[list[list[int]], int]] = {}
    for frame in range(plan.shape[0]):
        stored = None if frame in lost else writer.note(frame)
        if stored is None:
            continue
        note = FrameNote.from_bytes(stored)
        missing += [[frame, index] for index in note.missing]
        levels[frame] = note.levels, note.pixels
        if not params.correct_drift:
            meter.add(frame, note.picture)
    return {
        "missing_tiles": missing,
        "levels": level_record(plan, levels),
        "drift": drift_record(meter.solve(), plan.shape[0], False),
    }
