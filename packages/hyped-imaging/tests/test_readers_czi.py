"""CZI files: what is read is what was written, both libraries agree, damage is refused before they see it."""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.errors import (
    CorruptFileError,
    HypedError,
    InvalidDataError,
    MissingFileError,
    UnsupportedDataError,
    UsageError,
)
from hyped_imaging.readers import open_czi
from hyped_imaging.simulate.czi import CziSink

READERS = ("aicspylibczi", "pylibczirw", "direct")
CORNERS = {0: [(-7, 40), (33, 40), (-7, 76)], 1: [(900, -20)]}
SECONDS = [0.0, 1200.0, 6000.0]


def public_files() -> list[Path]:
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", "/nowhere")) / "czi"
    return sorted(folder.glob("*.czi"))


def tile(scene: int, frame: int, channel: int, index: int) -> np.ndarray:
    rng = np.random.default_rng([scene, frame, channel, index])
    return rng.integers(0, 16000, (44, 48), dtype=np.uint16)


def write(path: Path, skip: tuple = ()) -> Path:
    """Two scenes (3 overlapping tiles, 3 frames; 1 tile, 2 frames), 2 channels, a gap, negative origin."""
    sink = CziSink(
        path,
        channels=["Cy5", "mKate"],
        scenes=["well A", "well B"],
        pixel_size_um=0.65,
        name="t",
        first_frame="2025-01-01T00:00:00Z",
        seed=1,
    )
    start = np.datetime64("2025-01-01T00:00:00", "us")
    with sink:
        for scene, frames in ((0, 3), (1, 2)):
            for frame in range(frames):
                time = start + np.timedelta64(int(SECONDS[frame] * 1e6) + 500_000 * scene, "us")
                for channel in range(2):
                    for index, position in enumerate(CORNERS[scene]):
                        if (scene, frame, channel, index) not in skip:
                            sink.write_tile(
                                tile(scene, frame, channel, index),
                                scene=scene,
                                frame=frame,
                                channel=channel,
                                tile=index,
                                position_px=position,
                                time=time,
                            )
    return path


@pytest.fixture(scope="module")
def small_czi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("czi") / "small.czi")


@pytest.mark.parametrize("reader", READERS)
def test_what_was_written_is_read(small_czi: Path, reader: str) -> None:
    if reader == "aicspylibczi":
        pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    with open_czi(small_czi, reader=reader) as czi:
        assert czi.reader == reader
        assert [(s.name, s.n_frames, s.n_tiles) for s in czi.scenes] == [("well A", 3, 3), ("well B", 2, 1)]
        assert czi.channels == ("Cy5", "mKate")
        assert czi.dtype == np.uint16
        assert czi.pixel_size_um == pytest.approx((0.65, 0.65))
        for scene, frames in ((0, 3), (1, 2)):
            rectangles = czi.tiles(scene)
            assert rectangles[["x", "y"]].to_numpy().tolist() == [list(p) for p in CORNERS[scene]]
            assert set(rectangles["w"]) == {48} and set(rectangles["h"]) == {44}
            for frame in range(frames):
                for index, data in enumerate(czi.read_tiles(scene, frame)):
                    for channel in range(2):
                        np.testing.assert_array_equal(data[channel, 0], tile(scene, frame, channel, index))
        np.testing.assert_array_equal(czi.read_tile("well A", 2, 1, 0), tile(0, 2, 1, 0))


def test_times_keep_gaps_and_the_offset_between_scenes(small_czi: Path) -> None:
    with open_czi(small_czi) as czi:
        hours, source = czi.time_h("well A")
        assert source == "subblock"
        np.testing.assert_allclose(hours * 3600, SECONDS, atol=1e-6)
        np.testing.assert_allclose(czi.time_h(1)[0] * 3600, [0.5, 1200.5], atol=1e-6)


def test_scene_by_name_index_or_number(small_czi: Path) -> None:
    with open_czi(small_czi) as czi:
        assert {czi.scene(key).index for key in ("well B", "S1", "1", 1)} == {1}
        with pytest.raises(InvalidDataError, match="well A"):
            czi.scene("S9")


def test_a_missing_tile_is_none_and_the_others_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "gap.czi", skip=((0, 2, 1, 1),))
    for reader in READERS:
        if reader == "aicspylibczi":
            pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
        with open_czi(path, reader=reader) as czi:
            first, lost, last = czi.read_tiles(0, 2)
            assert lost is None
            np.testing.assert_array_equal(first[1, 0], tile(0, 2, 1, 0))
            np.testing.assert_array_equal(last[0, 0], tile(0, 2, 0, 2))
            assert len(czi.tiles(0, 2)) == 3
            with pytest.raises(InvalidDataError, match="lacks tile"):
                czi.read_tile(0, 2, 1, 1)


def test_without_names_scaling_or_times(tmp_path: Path) -> None:
    from pylibCZIrw import czi as pyczi

    path = tmp_path / "plain.czi"
    with pyczi.create_czi(str(path)) as document:
        for frame in range(2):
            document.write(np.full((20, 30, 1), 7 + frame, np.uint8), plane={"T": frame, "C": 0, "Z": 0})
    with open_czi(path) as czi:
        assert czi.channels == ("C0",) and czi.pixel_size_um is None and czi.dtype == np.uint8
        assert czi.time_h(0) == (None, "none")
        hours, source = czi.time_h(0, interval_min=30)
        assert source == "parameter" and hours.tolist() == [0.0, 0.5]
        assert czi.read_tile(0, 1, 0, 0).tolist() == np.full((20, 30), 8).tolist()


@pytest.mark.parametrize("pixels", [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 1), np.float32)])
def test_colour_and_float_pixels_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    from pylibCZIrw import czi as pyczi

    path = tmp_path / "colour.czi"
    with pyczi.create_czi(str(path)) as document:
        document.write(pixels)
    with pytest.raises(UnsupportedDataError, match=r"Bgr24|Float") as caught:
        open_czi(path)
    assert caught.value.where == str(path) and caught.value.mend


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        open_czi(tmp_path / "none.czi")
    for name, content in (("empty.czi", b""), ("tiff.czi", b"II*\0" + bytes(2000))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFileError, match="CZI"):
            open_czi(tmp_path / name)
    with pytest.raises(UsageError, match="no CZI reader"):
        open_czi(tmp_path / "none.czi", reader="bioformats")


@pytest.mark.parametrize("share", [0.0005, 0.005, 0.1, 0.5, 0.9, 0.999, -1])
def test_truncated_files_are_refused(small_czi: Path, tmp_path: Path, share: float) -> None:
    content = small_czi.read_bytes()
    keep = len(content) - 1 if share < 0 else int(share * len(content))
    (tmp_path / "cut.czi").write_bytes(content[:keep])
    with pytest.raises(CorruptFileError) as caught:
        open_czi(tmp_path / "cut.czi")
    assert "cut.czi" in str(caught.value) and caught.value.mend


def test_a_file_that_was_not_closed_is_refused(small_czi: Path, tmp_path: Path) -> None:
    content = bytearray(small_czi.read_bytes())
    content[32 + 52 : 32 + 60] = struct.pack("<q", 0)
    (tmp_path / "open.czi").write_bytes(content)
    with pytest.raises(CorruptFileError, match="not closed"):
        open_czi(tmp_path / "open.czi")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bytes_in_the_skeleton_open_or_raise_typed(
    small_czi: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(small_czi.read_bytes())
    header = struct.unpack("<q", content[32 + 52 : 32 + 60])[0]
    region = data.draw(st.sampled_from([(0, 544), (header, header + 600), (0, len(content))]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(region[0], min(region[1], len(content)) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.czi"
    path.write_bytes(content)
    try:
        open_czi(path).close()
    except HypedError as error:
        assert error.where == str(path)


@pytest.mark.public
@pytest.mark.skipif(not public_files(), reason="HYPED_PUBLIC_DATA names no folder with czi/")
@pytest.mark.parametrize("path", public_files(), ids=lambda path: path.stem)
def test_all_readers_agree_on_real_files(path: Path) -> None:
    pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    with ExitStack() as stack:
        files = [stack.enter_context(open_czi(path, reader)) for reader in READERS]
        for info in files[0].scenes:
            for frame in range(info.n_frames):
                for tiles in zip(*(file.read_tiles(info.index, frame) for file in files), strict=True):
                    for other in tiles:
                        assert other is not None and other.dtype == files[0].dtype
                        np.testing.assert_array_equal(other, tiles[0])


@pytest.mark.public
@pytest.mark.skipif(not public_files(), reason="HYPED_PUBLIC_DATA names no folder with czi/")
@pytest.mark.parametrize("path", public_files(), ids=lambda path: path.stem)
def test_tiles_pasted_in_order_are_what_zeiss_composes(path: Path) -> None:
    """Independent: libCZI's own compositor, which lets the highest mosaic index win."""
    from pylibCZIrw import czi as pyczi

    with open_czi(path) as czi, pyczi.open_czi(str(path)) as zeiss:
        for info in czi.scenes:
            tiles = czi.tiles(info.index)
            corners, sizes = tiles[["y", "x"]].to_numpy(), tiles[["h", "w"]].to_numpy()
            low, high = corners.min(axis=0), (corners + sizes).max(axis=0)
            pasted = np.zeros((len(info.channels), *(high - low)), czi.dtype)
            for stack, (y, x) in zip(czi.read_tiles(info.index, 0), corners - low, strict=True):
                assert stack is not None
                pasted[:, y : y + stack.shape[2], x : x + stack.shape[3]] = stack[:, 0]
            roi = (int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
            for channel in range(len(czi.channels)):
                scene = info.index if "S" in czi.dims else None
                composed = zeiss.read(roi=roi, plane={"C": channel, "T": 0, "Z": 0}, scene=scene)
                np.testing.assert_array_equal(pasted[channel], composed[..., 0])


@pytest.mark.public
@pytest.mark.skipif(not public_files(), reason="HYPED_PUBLIC_DATA names no folder with czi/")
@pytest.mark.parametrize("share", [0.01, 0.2, 0.6, 0.98])
def test_truncated_real_files_are_refused(tmp_path: Path, share: float) -> None:
    for path in public_files():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(CorruptFileError):
            open_czi(tmp_path / path.name)


def test_ragged_real_scenes() -> None:
    named = [path for path in public_files() if path.name.startswith("S3_1Pos_2Mosaic_T2")]
    if not named:
        pytest.skip("HYPED_PUBLIC_DATA names no folder with czi/")
    with open_czi(named[0]) as czi:
        assert [(s.name, s.n_tiles, s.n_frames, s.n_z) for s in czi.scenes] == [
            ("TR1", 10, 2, 3),
            ("P1", 1, 2, 3),
            ("TR2", 17, 2, 3),
        ]
        assert czi.dims == "HSTCZMYX"
