"""Frames of a movie as sheets: many frames of one channel in one compressed grey image, as a data URI."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_bench.report.movie_frames import Layer, smaller

BRIGHTFIELD_SHRINK = 2
"""Bright field is all texture and would take most of the budget: its frames are this many times smaller."""
SHEET_PIXELS = 4_000_000
"""Pixels of one sheet: every browser decodes that, phones too."""


def encode(tiles: npt.NDArray[np.uint8], layer_list: Sequence[Layer], quality: int) -> list[list[str]]:
    """Per channel the sheets of its frames as data URIs: frames of (t, c, y, x) left to right, top to bottom."""
    found = []
    for k, layer in enumerate(layer_list):
        own = tiles[:, k]
        if layer.brightfield:
            height, width = (n // BRIGHTFIELD_SHRINK * BRIGHTFIELD_SHRINK for n in own.shape[1:])
            own = np.rint(smaller(own[:, : height, :width], BRIGHTFIELD_SHRINK))
            own = own.astype(np.uint8)
        count, height, width = own.shape
        columns, rows = sheet_layout(*tiles.shape[2:])
        sheets = []
        for start in range(0, count, columns * rows):
            part = own[start : start + columns * rows]
            used = -(-len(part) // columns)
            sheet = np.zeros((used * height, min(columns, len(part)) * width), np.uint8)
            for n, tile in enumerate(part):
                y, x = n // columns * height, n % columns * width
                sheet[y : y + height, x : x + width] = tile
            sheets.append(_webp(sheet, quality))
        found.append(sheets)
    return found


def sheet_layout(height: int, width: int) -> tuple[int, int]:
    """Columns and rows of frames in one sheet: near a square, at most `SHEET_PIXELS`."""
    edge = math.isqrt(SHEET_PIXELS)
    return max(1, edge // width), max(1, edge // height)


def _webp(pixels: npt.NDArray[np.uint8], quality: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
