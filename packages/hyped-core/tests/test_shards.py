"""A frame as a shard: plain zarr reads what we write, we read what zarr writes, damage is found."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec

from hyped_core.container.movies import Movie, write_movie
from hyped_core.container.shards import ShardLayout, encode, is_whole, layout_of, read

DTYPES = ["uint8", "uint16", "int32", "float32"]
sizes = st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30))


def noise(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def zarr_array(path, shape, dtype, chunk):
    """An array as zarr itself makes and writes it, one frame of ``shape`` a shard."""
    whole = [-(-n // chunk) * chunk for n in shape[1:]]
    return zarr.create_array(
        str(path), shape=(1, *shape), dtype=dtype, chunks=(1, 1, chunk, chunk), shards=(1, shape[0], *whole),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()], fill_value=0,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(shape=sizes, dtype=st.sampled_from(DTYPES), chunk=st.integers(1, 12))
def test_zarr_reads_our_shards_and_we_read_its(tmp_path_factory, shape, dtype, chunk):
    folder = tmp_path_factory.mktemp("s")
    values = noise(shape, dtype)
    array = zarr_array(folder / "z", shape, dtype, chunk)
    layout = layout_of(array)
    assert layout is not None and layout.shape == shape
    array[0] = values
    shard = folder / "z" / "c" / "0" / "0" / "0" / "0"
    if values.any():  # zarr leaves out a shard of zeros
        assert np.array_equal(read(shard, layout), values)
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(b"".join(encode(values, layout)))
    assert is_whole(shard, layout)
    assert np.array_equal(zarr.open_array(str(folder / "z"))[0], values)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=sizes, chunk=st.integers(1, 12))
def test_a_region_is_that_part_of_the_frame(tmp_path_factory, data, shape, chunk):
    values = noise(shape)
    layout = ShardLayout(shape, "<u2", (chunk, chunk))
    path = tmp_path_factory.mktemp("s") / "shard"
    path.write_bytes(b"".join(encode(values, layout)))
    region = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        region.append(data.draw(st.just(start) | st.integers(start + 1, n).map(lambda stop, a=start: slice(a, stop))))
    region[1:] = [r if isinstance(r, slice) else slice(r, r + 1) for r in region[1:]]
    assert np.array_equal(read(path, layout, tuple(region)), values[tuple(region)])


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    values = noise((2, 20, 20))
    layout = ShardLayout((2, 20, 20), "<u2", (16, 16))
    whole = b"".join(encode(values, layout))
    path = tmp_path / "shard"
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(ValueError):
            read(path, layout)
        path.write_bytes(whole[:at])
        assert not is_whole(path, layout)
        with pytest.raises(ValueError):
            read(path, layout)


def test_bytes_do_not_depend_on_the_thread(tmp_path):
    """In the main thread blosc would use several threads of its own, and order its blocks as they come."""
    from concurrent.futures import ThreadPoolExecutor

    values = noise((2, 600, 700))
    layout = ShardLayout(values.shape, "<u2", (512, 512))
    here = encode(values, layout)
    with ThreadPoolExecutor(4) as pool:
        assert all(other == here for other in pool.map(lambda _: encode(values, layout), range(8)))


def test_pixels_of_two_bytes_are_packed_as_such():
    """Ten bits of noise in sixteen: what zarr 3.1 writes with the same codec is not smaller than the raw bytes."""
    values = np.random.default_rng(1).integers(0, 1024, (1, 512, 512)).astype(np.uint16)
    packed = sum(map(len, encode(values, ShardLayout(values.shape, "<u2", (256, 256)))))
    assert packed < 0.7 * values.nbytes


def test_arrays_of_other_makers_have_no_layout(tmp_path):
    plain = zarr.create_array(str(tmp_path / "a"), shape=(2, 8, 8), dtype="u2", chunks=(1, 8, 8))
    assert layout_of(plain) is None
    many = zarr.create_array(str(tmp_path / "b"), shape=(2, 16, 8), dtype="u2", chunks=(1, 4, 4), shards=(1, 8, 8))
    assert layout_of(many) is None
    zstd = zarr.create_array(str(tmp_path / "c"), shape=(2, 8, 8), dtype="u2", chunks=(1, 4, 4), shards=(1, 8, 8))
    assert layout_of(zstd) is None


def test_a_window_over_time_is_that_part_of_the_movie(tmp_path):
    values = noise((5, 2, 60, 80))
    path = write_movie(
        tmp_path / "S.zarr", values, channels="ab", pixel_size_um=1, time_h=range(5), chunk_yx=(16, 16)
    )
    movie = Movie.open(path)
    assert np.array_equal(movie.window(slice(10, 40), slice(30, 33)), values[:, :, 10:40, 30:33])
    assert np.array_equal(movie.window(slice(0, 5), slice(None), frames=[4, 1]), values[[4, 1], :, :5])
    assert np.array_equal(movie.window(slice(-5, None), slice(70, 500)), values[:, :, -5:, 70:])
