"""Making a whole simulated imaging dataset: one CZI file, and the truth beside it.

Truth:

* ``tiles.csv``: nominal and true tile positions in pixels of the stitched frame, which starts with tile 0;
* ``illumination.npy``: uneven light (c, y, x) over a tile, mean 1;
* ``frames/<scene>.zarr``: what an ideal camera would read under even light, without noise, the camera's
  offset and the bleed between channels included (uint16);
* ``labels/<scene>.zarr`` (label = track id), ``tracks.parquet`` (a row a nucleus and frame) and
  ``fractions.csv`` (shares of the phases among the nuclei in the field).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.context import RunContext
from hyped_core.errors import HypedError
from hyped_core.io.atomic import atomic_path, remove
from hyped_imaging.simulate.camera import expected, expose
from hyped_imaging.simulate.czi import CziSink
from hyped_imaging.simulate.optics import clean_frame
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.plan import Plan, plan
from hyped_imaging.simulate.scene import PAD_PX, crop, draw, frame_times, live
from hyped_imaging.simulate.truth import TruthTable, phase_fractions

if TYPE_CHECKING:
    from hyped_core.design import Design


def scene_frames(made: Plan, scene: str, truth: Path) -> Iterator[npt.NDArray[np.uint16]]:
    """Simulate one scene: yields the tiles (c, m, y, x) of each frame and writes its truth under ``truth``.

    The table of its nuclei is ``truth/tracks/<scene>.parquet`` once the last frame was taken.
    """
    from hyped_core.container.labels import LabelsWriter
    from hyped_core.container.movies import MovieWriter

    params, optics, mosaic = made.params, made.params.optics, made.params.mosaic
    times, layout, light = made.times_h(scene), made.layout(scene), made.light()
    number = [item.name for item in made.design.scenes].index(scene)
    life = live(made.design, scene, times, params, made.seed)
    table = TruthTable(life, params)
    with ExitStack() as stack:
        movie = stack.enter_context(
            MovieWriter(
                truth / "frames" / f"{scene}.zarr",
                shape=(times.size, len(made.channels), *mosaic.canvas),
                dtype=np.uint16,
                channels=made.channels,
                pixel_size_um=mosaic.pixel_size_um,
                time_h=times,
                data_range=(0, 2**optics.bits - 1),
                attrs={"offset": optics.offset, "gain": optics.gain, "content": "noise-free, evenly lit"},
            )
        )
        labels = stack.enter_context(
            LabelsWriter(
                truth / "labels" / f"{scene}.zarr",
                shape=(times.size, *mosaic.canvas),
                pixel_size_um=mosaic.pixel_size_um,
                time_h=times,
                source=f"../../frames/{scene}.zarr",
            )
        )
        for frame, time_h in enumerate(times):
            planes, drawn = draw(life, frame, params)
            clean = clean_frame(planes, made.design, optics)
            movie.write_frame(frame, np.clip(np.rint(crop(clean)), 0, 2**optics.bits - 1).astype(np.uint16))
            labels.write_frame(frame, table.add(frame, time_h, drawn))
            rng = np.random.default_rng([made.seed, 4, number, frame])
            channels = zip(cut(clean, layout, made), light, strict=True)
            yield np.stack([expose(expected(tiles, field, optics), optics, rng) for tiles, field in channels])
    (truth / "tracks").mkdir(parents=True, exist_ok=True)
    table.table().to_parquet(truth / "tracks" / f"{scene}.parquet", index=False)


def cut(clean: npt.NDArray[np.float32], layout: npt.NDArray[np.int64], made: Plan) -> npt.NDArray[np.float32]:
    """Tiles (c, m, y, x) at their true positions out of a frame (c, y, x) with its rim."""
    high, wide = made.params.mosaic.tile_height_px, made.params.mosaic.tile_width_px
    corners = [(y + PAD_PX, x + PAD_PX) for *_, x, y in layout]
    return np.stack([clean[:, y : y + high, x : x + wide] for y, x in corners], axis=1)


def _to_file(made: Plan, scene: str, truth: Path, tiles: Path) -> Path:
    """In a worker: simulate a scene, its tiles into an array file (t, c, m, y, x)."""
    mosaic = made.params.mosaic
    shape = (len(made.channels), made.n_tiles, mosaic.tile_height_px, mosaic.tile_width_px)
    target = np.lib.format.open_memmap(
        tiles, mode="w+", dtype=np.uint16, shape=(made.times_h(scene).size, *shape)
    )
    for frame, array in enumerate(scene_frames(made, scene, truth)):
        target[frame] = array
    target.flush()
    return tiles


def _all_frames(made: Plan, truth: Path) -> Iterator[tuple[int, int, npt.NDArray[np.uint16]]]:
    """(scene index, frame, tiles) of the whole dataset, scene after scene.

    At ``scale: full``, and with one worker, tiles go straight into the file; otherwise scenes are simulated
    side by side and their tiles wait on disk.
    """
    if made.streams:
        for index, scene in enumerate(made.scenes):
            for frame, tiles in enumerate(scene_frames(made, scene, truth)):
                yield index, frame, tiles
        return
    waiting = truth / "tiles"
    waiting.mkdir(parents=True)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        made.params.workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        jobs = [pool.submit(_to_file, made, scene, truth, waiting / f"{scene}.npy") for scene in made.scenes]
        for index, job in enumerate(jobs):
            path = job.result()
            stored = np.load(path, mmap_mode="r")
            for frame in range(stored.shape[0]):
                yield index, frame, np.asarray(stored[frame])
            del stored
            remove(path)
    except BrokenProcessPool as error:
        raise HypedError(
            "a process that simulated a scene was ended from outside", mend="try --workers 1"
        ) from error
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        remove(waiting)


def simulate(
    out_raw: str | Path, out_truth: str | Path, design: Design, params: SimulateParams, context: RunContext
) -> dict[str, int | str]:
    """Make the dataset; returns what was made (file, scenes, frames, nuclei, tracks, divisions).

    ``out_raw`` gets ``<name>.czi``; the folder ``out_truth`` is replaced as a whole. Both appear whole or not
    at all, and are the same bytes for the same design, parameters and seed, whatever the number of workers.
    With more than one worker, a script that calls this needs the usual ``if __name__ == "__main__":``.
    """
    import pandas as pd

    made = plan(design, params, context.seed)
    target = Path(out_raw) / f"{made.params.name}.czi"
    total = len(made.scenes) * frame_times(design, made.params).size
    with atomic_path(out_truth) as truth, atomic_path(target) as czi:
        truth.mkdir(parents=True)
        with _sink(made, czi) as sink:
            frames = context.progress.track(_all_frames(made, truth), "simulating frames", total=total)
            for index, frame, tiles in frames:
                _write(made, sink, index, frame, tiles)
        tables = [pd.read_parquet(truth / "tracks" / f"{scene}.parquet") for scene in made.scenes]
        remove(truth / "tracks")
        tracks = pd.concat(tables, ignore_index=True)
        tracks.to_parquet(truth / "tracks.parquet", index=False)
        made.layouts().to_csv(truth / "tiles.csv", index=False, lineterminator="\n")
        np.save(truth / "illumination.npy", made.light())
        phase_fractions(tracks).to_csv(
            truth / "fractions.csv", index=False, lineterminator="\n", float_format="%.6f"
        )
    born = tracks[tracks.parent_id > 0].drop_duplicates(["scene", "track_id"])
    daughters = born.groupby(["scene", "parent_id"]).size()
    return {
        "file": str(target),
        "scenes": len(made.scenes),
        "frames": total,
        "nuclei": len(tracks),
        "tracks": int(tracks.groupby("scene").track_id.nunique().sum()),
        "divisions": int((daughters == 2).sum()),
    }


def _sink(made: Plan, path: Path) -> CziSink:
    return CziSink(
        path,
        channels=made.channels,
        scenes=made.scenes,
        pixel_size_um=made.params.mosaic.pixel_size_um,
        name=made.params.name,
        first_frame=made.params.timing.first_frame,
        bits=made.params.optics.bits,
        seed=made.seed,
    )


def _write(made: Plan, sink: CziSink, index: int, frame: int, tiles: npt.NDArray[np.uint16]) -> None:
    """Write the tiles (c, m, y, x) of one frame of the scene ``index`` with their times and places."""
    params, scene = made.params, made.scenes[index]
    first = np.datetime64(params.timing.first_frame.rstrip("Z"), "us")
    hours = made.times_h(scene)[frame] - frame_times(made.design, params)[0]
    pitch = max(params.mosaic.canvas) + 1000
    origin = (index % 4 * pitch, index // 4 * pitch)
    timing, layout = params.timing, made.layout(scene)
    tile_s = timing.tile_s + len(made.channels) * timing.channel_s
    for channel in range(tiles.shape[0]):
        for tile in range(tiles.shape[1]):
            seconds = hours * 3600 + tile * tile_s + channel * timing.channel_s
            sink.write_tile(
                tiles[channel, tile],
                scene=index,
                frame=frame,
                channel=channel,
                tile=tile,
                position_px=(int(layout[tile, 2]) + origin[0], int(layout[tile, 3]) + origin[1]),
                time=first + np.timedelta64(int(round(seconds * 1e6)), "us"),
            )
