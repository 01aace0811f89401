"""Applying the network to a plane of any size, in tiles whose seams do not show."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hyped_core.errors import MissingHardwareError, ParamsError
from hyped_imaging.denoise.fm2s.network import REACH_PX

TILE_PX = {"cpu": 128, "cuda": 2048}
"""Side of a tile: its 24 maps fit a core's cache; a GPU wants more work at once."""


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    MissingHardwareError
        There is no such device here.
    ParamsError
        No name of a device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ParamsError(f"no device is called {name!r}", where="device", mend="cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise MissingHardwareError(f"there is no {name} here", where="device", mend="use --device cpu")
    return device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def apply_network(
    network: nn.Module,
    plane: npt.NDArray[np.float32],
    channels: int,
    *,
    device: torch.device,
    tile_px: int | None = None,
    bf16: bool = False,
) -> npt.NDArray[np.float32]:
    """The mean of the network's channels for a plane repeated to ``channels``.

    Tiles overlap by the network's reach and end where the plane ends, so that the result is that of the whole plane
    at once, its zero padding included, up to rounding.

    Parameters
    ----------
    plane
        (y, x), intensities as the network learnt them.
    tile_px
        Side of a tile; what is in memory beside the plane grows with its square. Empty: `TILE_PX`.
    bf16
        Autocast to bfloat16; ``device`` is a GPU.
    """
    height, width = plane.shape
    tile = tile_px or TILE_PX.get(device.type, TILE_PX["cpu"])
    out = np.empty((height, width), np.float32)
    corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]

    def one(corner: tuple[int, int]) -> None:
        y, x = corner
        top, bottom = max(y - REACH_PX, 0), min(y + tile + REACH_PX, height)
        left, right = max(x - REACH_PX, 0), min(x + tile + REACH_PX, width)
        part = torch.from_numpy(np.ascontiguousarray(plane[top:bottom, left:right])).to(device)
        part = part.expand(1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            done = network(part).float().mean(1)[0].cpu().numpy()
        y1, x1 = min(y + tile, height), min(x + tile, width)
        out[y:y1, x:x1] = done[y - top : y1 - top, x - left : x1 - left]

    workers = min(torch.get_num_threads(), len(corners)) if device.type == "cpu" else 1
    if workers == 1:
        for corner in corners:
            one(corner)
        return out
    # tiles side by side, one thread each: quicker than threads inside a tile, and the same bytes for any number
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(one, corners))
    return out


def apply_mirrored(
    network: nn.Module, plane: npt.NDArray[np.float32], channels: int, *, device: torch.device,
    tile_px: int | None = None, bf16: bool = False,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """As `apply_network`, the plane mirrored at its edges so that padding with zeros reaches no pixel."""
    padded = np.pad(plane, REACH_PX, mode="symmetric")
    out = apply_network(network, padded, channels, device=device, tile_px=tile_px, bf16=bf16)
    return np.ascontiguousarray(out[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX])
