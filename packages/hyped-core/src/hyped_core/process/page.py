"""The shell of a one-page summary: style, tables, alerts, figures and pictures, all inside one HTML file."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LINES = ("#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9", "#d55e00")
"""Colours that colour-blind readers tell apart (Okabe and Ito 2008)."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c2430}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #d7dce2}
table{border-collapse:collapse;font-size:.9rem} td,th{padding:.2rem .7rem .2rem 0;text-align:right}
td:first-child,th:first-child{text-align:left} .alert{background:#fff3cd;padding:.4rem .8rem;margin:.3rem 0}
figure{display:inline-block;margin:.4rem .6rem .4rem 0;vertical-align:top} figcaption{font-size:.8rem;color:#5a6572}
img{max-width:100%;border-radius:3px} code{background:#eef1f4;padding:0 .25rem}
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole HTML page of ``parts`` under ``title`` (plain text); it needs nothing but a browser."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    return "\n".join([f"{head}<style>{STYLE}{style}</style>", f"<h1>{html.escape(title)}</h1>", *parts]) + "\n</html>\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; cells are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def alert(text: str) -> str:
    """Something to look at, as a coloured line."""
    return f"<p class=alert>{html.escape(text)}</p>"


def note(text: str) -> str:
    """Small print; ``text`` is HTML already."""
    return f"<p><small>{text}</small></p>"


def figure(source: str, caption: str, width: int = 340) -> str:
    """A picture (a data URI) with its caption, at most ``width`` pixels wide."""
    return (
        f'<figure style="max-width:{width}px"><img src="{source}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a picture of MIME type ``kind`` as a data URI."""
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")


def indexed_png(indices: npt.NDArray[np.uint8], palette: Sequence[str]) -> bytes:
    """A picture (height, width) of indices into ``palette`` (at most 256 colours ``#rrggbb``) as a PNG file.

    Colour type 3 of the PNG specification (W3C, third edition), rows unfiltered; equal pixels give equal bytes.
    """
    height, width = indices.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = indices
    colours = bytes.fromhex("".join(colour.removeprefix("#") for colour in palette))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
