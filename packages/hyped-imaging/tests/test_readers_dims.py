"""CZI files of every shape: dimensions in any subset and order, ragged scenes, any origin and compression. The
files are put together byte by byte here, so what is in them does not depend on any library's writer."""

from __future__ import annotations

import itertools
import struct
import uuid
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, InvalidDataError, UnsupportedDataError, UsageError
from hyped_imaging.readers import open_czi

READERS = ("aicspylibczi", "pylibczirw", "direct")
PIXEL_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
Block = dict[str, Any]


def segment(name: bytes, body: bytes) -> bytes:
    body += b"\0" * (-len(body) % 32)
    return struct.pack("<16sqq", name, len(body), len(body)) + body


def entry(block: Block, position: int, order: str) -> bytes:
    height, width = block["pixels"].shape
    placed = {"X": (block["x"], width), "Y": (block["y"], height)}
    placed.update({name: (value, 1) for name, value in block["dims"].items()})
    names = [name for name in order if name in placed]
    kind = PIXEL_TYPES[str(block["pixels"].dtype)]
    head = struct.pack("<2siqiiB5xi", b"DV", kind, position, 0, block["compression"], 0, len(names))
    return head + b"".join(
        struct.pack("<4siifi", name.encode(), start, size, float(start), size)
        for name, (start, size) in ((name, placed[name]) for name in names)
    )


def write_czi(path: Path, blocks: list[Block], order: str = "XYCZTMSHVBIR", xml: str = "<ImageDocument/>") -> Path:
    """A CZI file (version 1.0) with these sub-blocks; ``order``: of the dimensions in its directory."""
    out = bytearray(segment(b"ZISRAWFILE", bytes(512)))
    entries = []
    for block in blocks:
        entries.append(entry(block, len(out), order))
        head = struct.pack("<iiq", 0, 0, len(block["data"])) + entries[-1]
        out += segment(b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + block["data"])
    metadata = len(out)
    out += segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml.encode())
    directory = len(out)
    out += segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    guid = uuid.UUID(int=7).bytes
    out[32:112] = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, guid, guid, 0, directory, metadata, 0, 0)
    path.write_bytes(out)
    return path


def block(x: int = 0, y: int = 0, *, pixels: np.ndarray | None = None, **dims: int) -> Block:
    if pixels is None:
        seed = [abs(x), abs(y), *dims.values()]
        pixels = np.random.default_rng(seed).integers(0, 65535, (12, 17), dtype=np.uint16)
    return {"dims": dims, "x": x, "y": y, "pixels": pixels, "compression": 0, "data": pixels.tobytes()}


def grid(tiles: int = 2, mosaic: bool = True, step: tuple[int, int] = (14, 3), **sizes: range) -> list[Block]:
    """A block for every combination of the dimensions and every tile."""
    found = []
    for values in itertools.product(*sizes.values()):
        for m in range(tiles):
            dims = {**dict(zip(sizes, values, strict=True)), **({"M": m} if mosaic else {})}
            found.append(block(m * step[0], m * step[1], **dims))
    return found


def check(path: Path, blocks: list[Block], select: dict[str, int] | None = None) -> None:
    """Every reader gives the pixels of every block at its place, and nothing else."""
    for reader in READERS:
        if reader == "aicspylibczi":
            pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
        with open_czi(path, reader, select) as czi:
            found = []
            for info in czi.scenes:
                channels, depths, _ = czi.axes(info.index)
                times = sorted({b["dims"].get("T", 0) for b in blocks if b["dims"].get("S", 0) == info.index})
                assert (info.n_frames, info.n_z) == (len(times), len(depths))
                for frame, time in enumerate(times):
                    corners = czi.tiles(info.index, frame)[["x", "y"]].to_numpy().tolist()
                    for corner, stack in zip(corners, czi.read_tiles(info.index, frame), strict=True):
                        assert stack is not None and stack.dtype == czi.dtype
                        for c, z in np.ndindex(*stack.shape[:2]):
                            place = (info.index, time, channels[c], depths[z], *corner)
                            found.append((*place, stack[c, z].tobytes()))
            wanted = [
                (*(b["dims"].get(name, 0) for name in "STCZ"), b["x"], b["y"], b["pixels"].tobytes())
                for b in blocks
            ]
            assert sorted(found) == sorted(wanted), reader


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_subset_and_order_of_dimensions(tmp_path: Path, data: st.DataObject) -> None:
    many = data.draw(st.sets(st.sampled_from("STCZ")))
    single = data.draw(st.sets(st.sampled_from("BVHIR")))
    sizes = {name: range(start := data.draw(st.integers(0, 3)), start + 2) for name in sorted(many)}
    sizes |= {name: range(start := data.draw(st.integers(0, 3)), start + 1) for name in sorted(single)}
    mosaic = data.draw(st.booleans())
    step = data.draw(st.sampled_from([(14, 3), (-30, 5), (0, 8), (10**8, -(10**8))]))
    blocks = grid(data.draw(st.integers(1, 3)), mosaic, step, **sizes)
    order = "".join(data.draw(st.permutations("BVHIRSTCZMYX")))
    path = write_czi(tmp_path / "any.czi", blocks, order)
    check(path, blocks)
    with open_czi(path) as czi:
        assert set(czi.dims) == many | single | set("YX") | ({"M"} if mosaic else set())


@pytest.mark.parametrize("origin", [(10**8, -(10**8)), (2_000_000_000, -2_000_000_000), (-50, -7)])
def test_origins_far_from_zero(tmp_path: Path, origin: tuple[int, int]) -> None:
    blocks = [block(origin[0] + 14 * m, origin[1] + m, T=t, M=m) for t in range(2) for m in range(2)]
    check(write_czi(tmp_path / "far.czi", blocks), blocks)


def test_scenes_that_differ_in_everything(tmp_path: Path) -> None:
    """Tiles, times, planes in Z, tile sizes, a mosaic in one scene only, and numbers that do not begin at 0."""
    small = np.arange(5 * 6, dtype=np.uint16).reshape(5, 6)
    blocks = grid(3, S=range(1), T=range(3), C=range(2), Z=range(1))
    blocks += [block(900, 5, S=1, T=0, C=c, Z=z) for c in range(2) for z in range(2)]
    blocks += [block(-4, -4, pixels=small + t + c, S=5, T=t + 4, C=c, Z=0, M=9) for t in range(2) for c in range(2)]
    path = write_czi(tmp_path / "ragged.czi", blocks)
    check(path, blocks)
    with open_czi(path) as czi:
        told = [(s.index, s.n_frames, s.n_z, s.n_tiles) for s in czi.scenes]
        assert told == [(0, 3, 1, 3), (1, 1, 2, 1), (5, 2, 1, 1)]


def test_a_scene_with_fewer_channels(tmp_path: Path) -> None:
    blocks = grid(2, S=range(1), C=range(3)) + [block(500, 0, S=1, C=2, M=0)]
    path = write_czi(tmp_path / "channels.czi", blocks)
    check(path, blocks)
    with open_czi(path) as czi:
        assert [info.channels for info in czi.scenes] == [("C0", "C1", "C2"), ("C2",)]


def test_tiles_that_share_an_index_or_have_none(tmp_path: Path) -> None:
    same = [block(14 * k, 0, T=t, M=0) for t in range(2) for k in range(2)]
    check(write_czi(tmp_path / "same.czi", same), same)
    without = [block(14 * k, 0, T=t) for t in range(3) for k in range(3) if (t, k) != (1, 1)]
    path = write_czi(tmp_path / "without.czi", without)
    for reader in READERS:
        with open_czi(path, reader) as czi:
            first, lost, last = czi.read_tiles(0, 1)  # told apart by their places, so the right one is missing
            assert lost is None
            np.testing.assert_array_equal(first[0, 0], without[3]["pixels"])
            np.testing.assert_array_equal(last[0, 0], without[4]["pixels"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", ["none", "zstd0", "zstd1", "zstd1-split", "jxr", "jxr-lossy", "jpeg"])
def test_compressions(tmp_path: Path, method: str, dtype: type) -> None:
    if (method, dtype) in (("jpeg", np.uint16), ("zstd1-split", np.uint8)):
        pytest.skip("JPEG has 8 bits, and splitting bytes needs 16")
    rng = np.random.default_rng(3)
    blocks = []
    for m in range(2):
        image = (np.add.outer(np.arange(19), np.arange(32)) * 4 + rng.integers(0, 40, (19, 32))).astype(dtype)
        raw = image.tobytes()
        code = {"none": 0, "zstd0": 5, "zstd1": 6, "zstd1-split": 6, "jxr": 4, "jxr-lossy": 4, "jpeg": 1}[method]
        if code >= 5:
            if method.endswith("split"):
                raw = image.view(np.uint8).reshape(-1, image.itemsize).T.tobytes()
            header = {"zstd0": b"", "zstd1": b"\1", "zstd1-split": b"\3\1\1"}[method]
            data = header + imagecodecs.zstd_encode(raw)
        elif code == 4:
            data = imagecodecs.jpegxr_encode(image, level=80 if method.endswith("lossy") else None)
            image = imagecodecs.jpegxr_decode(data)
        elif code == 1:
            data = imagecodecs.jpeg8_encode(image, level=90)
            image = imagecodecs.jpeg8_decode(data)
        else:
            data = raw
        blocks.append({**block(20 * m, 0, pixels=image, C=0, M=m), "compression": code, "data": data})
    check(write_czi(tmp_path / "packed.czi", blocks), blocks)


def test_a_value_of_a_further_dimension_is_selected(tmp_path: Path) -> None:
    blocks = grid(2, H=range(3), V=range(2), T=range(2))
    path = write_czi(tmp_path / "phases.czi", blocks)
    with pytest.raises(UnsupportedDataError, match="3 values in dimension H.*\n.*select"):
        open_czi(path, select={"V": 0})
    chosen = [b for b in blocks if b["dims"]["H"] == 2 and b["dims"]["V"] == 1]
    check(path, chosen, {"H": 2, "V": 1})
    with pytest.raises(InvalidDataError, match="values of H there: 0, 1, 2"):
        open_czi(path, select={"H": 7})
    with pytest.raises(UsageError, match="cannot be selected"):
        open_czi(path, select={"T": 0})


def test_what_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    lzw = {**block(M=0), "compression": 2}
    floats = block(pixels=np.zeros((4, 5), np.float32), M=0)
    mixed = [block(C=0, M=0), block(C=1, M=0, pixels=np.zeros((12, 17), np.uint8))]
    for name, blocks, said in (("lzw", [lzw], "LZW"), ("float", [floats], "Gray32Float"), ("mixed", mixed, "mixes")):
        with pytest.raises(UnsupportedDataError, match=said) as caught:
            open_czi(write_czi(tmp_path / f"{name}.czi", blocks))
        assert caught.value.where.endswith(f"{name}.czi") and caught.value.mend


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("method", ["zstd", "jxr", "size", "short", "head"])
def test_one_damaged_tile_costs_its_frame_only(tmp_path: Path, reader: str, method: str) -> None:
    if reader == "aicspylibczi":
        pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    blocks = grid(2, T=range(3))
    for b in blocks:
        if method == "zstd":
            b |= {"compression": 5, "data": imagecodecs.zstd_encode(b["data"])}
        elif method == "jxr":
            b |= {"compression": 4, "data": imagecodecs.jpegxr_encode(b["pixels"])}
    if method in ("zstd", "jxr"):
        blocks[2]["data"] = blocks[2]["data"][:5] + b"\xff" * (len(blocks[2]["data"]) - 5)
    if method == "short":
        blocks[2]["data"] = blocks[2]["data"][:-100]
    path = write_czi(tmp_path / "damaged.czi", blocks)
    if method == "head":
        raw = bytearray(path.read_bytes())
        third = [k for k in range(0, len(raw), 32) if raw[k : k + 14] == b"ZISRAWSUBBLOCK"][2]
        raw[third : third + 300] = b"\xa5" * 300
        path.write_bytes(raw)
    if method == "size":  # the block says it is wider than the directory says
        raw = bytearray(path.read_bytes())
        third = [k for k in range(0, len(raw), 32) if raw[k : k + 14] == b"ZISRAWSUBBLOCK"][2]
        raw[third + 32 + 16 + 32 + 8] += 40
        path.write_bytes(raw)
    with open_czi(path, reader) as czi:
        for frame in (0, 1, 2, 1, 0):
            if frame == 1:
                with pytest.raises(CorruptFileError) as caught:
                    czi.read_tiles(0, 1)
                assert caught.value.where == str(path) and caught.value.mend
            else:
                tiles = czi.read_tiles(0, frame)
                for stack, b in zip(tiles, blocks[2 * frame : 2 * frame + 2], strict=True):
                    np.testing.assert_array_equal(stack[0, 0], b["pixels"])


def test_entries_of_changing_length_are_read_in_time(tmp_path: Path) -> None:
    """Directories whose entries differ in length from one to the next (a scene without M among others)."""
    pixels = np.zeros((1, 2), np.uint16)
    blocks = [block(2 * k, 0, pixels=pixels + k % 7, T=k, **({"H": 0} if k % 2 else {})) for k in range(4000)]
    with open_czi(write_czi(tmp_path / "mixed.czi", blocks), "direct") as czi:
        assert czi.n_frames(0) == 4000
        assert [czi.read_tile(0, k, 0, 0)[0, 0] for k in (0, 1, 998, 3999)] == [k % 7 for k in (0, 1, 998, 3999)]


def test_a_scene_without_a_channel_of_the_design_is_named(tmp_path: Path) -> None:
    from hyped_core.design import default_design
    from hyped_imaging.stitch import StitchParams, plan_scene

    names = {f"C{k}": channel.name for k, channel in enumerate(default_design().channels)}
    blocks = grid(1, S=range(1), C=range(len(names))) + grid(1, S=range(1, 2), C=range(1, len(names)))
    params = StitchParams(channels=names, pixel_size_um=0.65, interval_min=20)
    with open_czi(write_czi(tmp_path / "lacks.czi", blocks)) as czi:
        whole = plan_scene(czi, "S0", params, default_design(), strict=True)
        assert whole.channels == tuple(names.values())
        with pytest.raises(InvalidDataError, match=f"lacks channel {names['C0']}") as caught:
            plan_scene(czi, "S1", params, default_design(), strict=True)
        assert caught.value.where == str(czi.path) and caught.value.mend
