"""Movies on disk: writing a frame, reading it back, and a window over time, beside plain zarr.

A frame is 4 channels x 2826 x 3245 of uint16 (73 MB) with Poisson noise. ``hyped`` writes it with its pyramid
(four levels); ``zarr`` is zarr's own sharding with the same codec (lz4 after bitshuffle, 512 x 512 chunks, no
pyramid), ``zarr-default`` what ``zarr.create_array`` does when only shape and chunk are given (zstd, a frame a
chunk).
"""

from __future__ import annotations

import numpy as np
import pytest

from hyped_core.container.movies import Movie, MovieWriter

SHAPE = (4, 2826, 3245)
FRAMES = 4
WAYS = ("hyped", "zarr", "zarr-default")


@pytest.fixture(scope="module")
def frame():
    """Bright blocks on a dim ground, counted photon by photon."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.random((48, 52)) > 0.88, np.ones((60, 64)))[: SHAPE[1], : SHAPE[2]] * 800 + 150
    return np.stack([rng.poisson(ground * (c + 1) / 2) for c in range(SHAPE[0])]).astype(np.uint16)


def write_hyped(path, frame, rounds):
    """The frame ``rounds`` times over; gives each round to the caller."""
    with MovieWriter(
        path, shape=(rounds, *SHAPE), dtype="uint16", channels="abcd", pixel_size_um=0.65, time_h=range(rounds)
    ) as out:
        for index in range(rounds):
            yield lambda index=index: out.write_frame(index, frame)


def write_zarr(path, frame, rounds, default):
    """The same into an array of zarr's own."""
    import zarr
    from zarr.codecs import BloscCodec

    more = {"chunks": (1, *SHAPE)}
    if not default:
        whole = tuple(-(-n // 512) * 512 for n in SHAPE[1:])
        blosc = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
        more = {"chunks": (1, 1, 512, 512), "shards": (1, SHAPE[0], *whole), "compressors": [blosc]}
    array = zarr.create_array(str(path), shape=(rounds, *SHAPE), dtype="uint16", **more)
    for index in range(rounds):
        yield lambda index=index: array.__setitem__(index, frame)


def writes(way, path, frame, rounds):
    """One callable a frame."""
    return write_hyped(path, frame, rounds) if way == "hyped" else write_zarr(path, frame, rounds, way != "zarr")


@pytest.fixture(scope="module")
def written(frame, tmp_path_factory):
    """A movie of each kind."""
    folder = tmp_path_factory.mktemp("movies")
    for way in WAYS:
        for write in writes(way, folder / f"{way}.zarr", frame, FRAMES):
            write()
    return folder


def opened(way, written):
    """A reader of one frame, and of a window of 64 x 64 pixels over time."""
    import zarr

    path = written / f"{way}.zarr"
    window = slice(1000, 1064)
    if way == "hyped":
        movie = Movie.open(path)
        return movie.frame, lambda: movie.window(window, window)
    array = zarr.open_array(str(path), mode="r")
    return lambda index: array[index], lambda: array[:, :, window, window]


@pytest.mark.benchmark(group="write a frame of 73 MB")
@pytest.mark.parametrize("way", WAYS)
def test_write(benchmark, frame, tmp_path, way):
    """A frame, pyramid included where there is one."""
    rounds = 5
    turns = writes(way, tmp_path / "S.zarr", frame, rounds + 1)
    benchmark.pedantic(lambda write: write(), setup=lambda: ((next(turns),), {}), rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["megabytes"] = round(
        sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) / 1e6 / (rounds + 1), 1
    )
    for _ in turns:
        pass


@pytest.mark.benchmark(group="read a frame of 73 MB")
@pytest.mark.parametrize("way", WAYS)
def test_read(benchmark, frame, written, way):
    """All four channels of a frame."""
    read, _ = opened(way, written)
    assert np.array_equal(benchmark.pedantic(read, (1,), rounds=7, warmup_rounds=1), frame)


@pytest.mark.benchmark(group=f"64 x 64 pixels x 4 channels over {FRAMES} frames")
@pytest.mark.parametrize("way", WAYS)
def test_window(benchmark, frame, written, way):
    """What a nucleus' trace needs."""
    _, window = opened(way, written)
    found = benchmark.pedantic(window, rounds=7, warmup_rounds=1)
    assert np.array_equal(found[2], frame[:, 1000:1064, 1000:1064])
