"""The shell of one-page summaries: text is escaped, pictures are what they were."""

from __future__ import annotations

import struct
import zlib
from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyped_core.process.page import alert, data_uri, figure, indexed_png, note, page, table


def decode(png: bytes) -> tuple[np.ndarray, list[str]]:
    """Indices and palette of a PNG as the specification lays it out; checks every chunk's sum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        size = struct.unpack(">I", png[at : at + 4])[0]
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + data)
        chunks[name] = data
        at += 12 + size
    width, height, depth, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, kind) == (8, 3) and list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 0).all()
    colours = [f"#{chunks[b'PLTE'][k : k + 3].hex()}" for k in range(0, len(chunks[b"PLTE"]), 3)]
    return rows[:, 1:], colours


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 256), st.integers(0, 10**6))
def test_a_picture_is_read_back_as_it_was(height: int, width: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, n, (height, width)).astype(np.uint8)
    palette = [f"#{rng.integers(0, 1 << 24):06x}" for _ in range(n)]
    found, colours = decode(indexed_png(pixels, palette))
    assert np.array_equal(found, pixels) and colours == palette


def test_words_are_escaped_and_tags_are_closed():
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []
            self.words: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.seen.append(tag)

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    text = page("a <b> & c", [alert("x < y"), table(["n"], [[1], [2]]), note("small"),
                              figure(data_uri(b"abc", "image/png"), '"quoted"')])  # fmt: skip
    reader = Reader()
    reader.feed(text)
    assert "a <b> & c" in reader.words and "x < y" in reader.words
    assert "b" not in reader.seen and reader.seen.count("td") == 2 and reader.seen.count("img") == 1
    assert "data:image/png;base64,YWJj" in text and text.endswith("</html>\n")
