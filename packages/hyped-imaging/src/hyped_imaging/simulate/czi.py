"""Writing a mosaic time series as a real CZI file, the same bytes for the same content.

Dimensions are H S T C Z M Y X with H = Z = 0. Where things are in the file, as in files from a microscope:

* acquisition time (ISO 8601, UTC, seven decimals) and stage position (micrometres) of every tile: the
  sub-block's own metadata, ``METADATA/Tags/{AcquisitionTime,StageXPosition,StageYPosition}``;
* nominal tile positions in pixels: the sub-block directory (X and Y start), each scene at its own place on
  the plate, far from the others;
* channel names, scaling (metres), scene names, bits of the camera and the clock time of the first frame: the
  XML metadata.

pylibCZIrw writes the pixels. It has no argument for tags, but puts the text it is given as retiling id
unescaped between ``<RetilingId>`` tags, which is how the others get in. The two GUIDs of the file header,
random otherwise, are set from the seed at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

COMPRESSION = "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack"
_HEADER_GUIDS = 48
"""Where the header's two GUIDs (16 bytes each) begin."""


class CziSink:
    """Takes tiles in any order of planes and writes them to one CZI file.

    Parameters
    ----------
    path : a new file.
    channels, scenes : names, by index.
    pixel_size_um : edge of a pixel.
    name : the document's title.
    first_frame : ISO 8601 time for the image's ``AcquisitionDateAndTime``.
    bits : bits a pixel that the camera gives, at most 16.
    seed : makes the file's GUIDs.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        channels: Sequence[str],
        scenes: Sequence[str],
        pixel_size_um: float,
        name: str,
        first_frame: str,
        bits: int = 16,
        seed: int,
    ) -> None:
        self.path = Path(path)
        self.channels = list(channels)
        self.scenes = list(scenes)
        self.pixel_size_um = pixel_size_um
        self.name = name
        self.first_frame = first_frame
        self.bits = bits
        self.seed = seed
        self._open: Any = None
        self._writer: Any = None
        self._tiles = 0

    def __enter__(self) -> Self:
        from pylibCZIrw import czi

        self._open = czi.create_czi(str(self.path), compression_options=COMPRESSION)
        self._writer = self._open.__enter__()
        return self

    def write_tile(
        self,
        pixels: npt.NDArray[np.uint16],
        *,
        scene: int,
        frame: int,
        channel: int,
        tile: int,
        position_px: tuple[int, int],
        time: np.datetime64,
    ) -> None:
        """Write one tile (y, x); ``position_px`` = (x, y) of its top left pixel, ``time`` in UTC."""
        x, y = position_px
        tags = (
            f"{self._tiles:08d}</RetilingId>"
            f"<AcquisitionTime>{np.datetime_as_string(time.astype('datetime64[us]'))}0Z</AcquisitionTime>"
            f"<StageXPosition>{x * self.pixel_size_um:.3f}</StageXPosition>"
            f"<StageYPosition>{y * self.pixel_size_um:.3f}</StageYPosition>"
            "<RetilingId>"
        )
        self._tiles += 1
        writer = self._writer
        plane = f"H0 T{frame} Z0 C{channel} S{scene}"
        image = writer._format_data(np.ascontiguousarray(pixels, dtype=np.uint16))
        if not writer._czi_writer.AddTileEx(plane, image, x, y, tile, COMPRESSION, tags):
            raise OSError(f"{self.path}: tile {tile} of {plane} could not be written")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            metres = self.pixel_size_um * 1e-6
            self._writer.write_metadata(
                document_name=self.name,
                channel_names=dict(enumerate(self.channels)),
                scale_x=metres,
                scale_y=metres,
            )
        self._open.__exit__(kind, error, trace)
        if kind is None:
            self._complete_xml()
            self._set_guids()

    def _complete_xml(self) -> None:
        """Put scene names, the clock time and the camera's bits into the XML, which the writer cannot."""
        from xml.sax.saxutils import escape, quoteattr

        from pylibCZIrw import czi

        scenes = "".join(
            f'<Scene Index="{i}" Name={quoteattr(name)}></Scene>' for i, name in enumerate(self.scenes)
        )
        with czi.edit_czi(str(self.path)) as editor:
            xml = editor.read_metadata_xml()
            xml = xml.replace("<Dimensions>", f"<Dimensions><S><Scenes>{scenes}</Scenes></S>", 1)
            clock = f"<AcquisitionDateAndTime>{escape(self.first_frame)}</AcquisitionDateAndTime>"
            xml = xml.replace("<Dimensions>", f"{clock}<Dimensions>", 1)
            kind = "<PixelType>Gray16</PixelType>"
            xml = xml.replace(kind, f"{kind}<ComponentBitCount>{self.bits}</ComponentBitCount>")
            with editor.edit_session() as builder:
                builder.set_xml(xml)

    def _set_guids(self) -> None:
        words = np.random.default_rng([self.seed, 0xC21]).bytes(16)
        guid = uuid.UUID(bytes=words, version=4).bytes_le
        with open(self.path, "r+b") as file:
            file.seek(_HEADER_GUIDS)
            file.write(guid * 2)
