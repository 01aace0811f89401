"""What the XML of a CZI says: channel names, pixel size, scene names, bit depth, time positions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CziMetadata:
    """The few facts HYPED takes from the XML; what is absent is empty or None.

    Attributes
    ----------
    channels : names in channel order, "" where unnamed.
    pixel_size_um : (y, x) edge of a pixel in micrometres.
    scenes : scene index -> name.
    bits : bits a pixel that the camera gives.
    offsets_s : time of each T position in seconds, where listed.
    interval_s : increment between T positions in seconds, where given.
    """

    channels: tuple[str, ...] = ()
    pixel_size_um: tuple[float, float] | None = None
    scenes: dict[int, str] = field(default_factory=dict)
    bits: int | None = None
    offsets_s: tuple[float, ...] = ()
    interval_s: float | None = None


def parse_metadata(xml: str) -> CziMetadata:
    """Read the XML; text that is not XML gives empty metadata (a CZI is readable without)."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError:
        return CziMetadata()
    image = root.find(".//Information/Image")
    dimensions = None if image is None else image.find("Dimensions")
    channels, scenes, offsets, interval = _dimensions(dimensions)
    bits = None if image is None else _number(image.findtext("ComponentBitCount"))
    return CziMetadata(channels, _pixel_size(root), scenes, int(bits) if bits else None, offsets, interval)


def _dimensions(
    node: ET.Element | None,
) -> tuple[tuple[str, ...], dict[int, str], tuple[float, ...], float | None]:
    if node is None:
        return (), {}, (), None
    channels = tuple((item.get("Name") or "").strip() for item in node.findall("Channels/Channel"))
    scenes = {}
    for position, item in enumerate(node.findall("S/Scenes/Scene")):
        index = item.get("Index") or ""
        if item.get("Name"):
            scenes[int(index) if index.isdigit() else position] = str(item.get("Name"))
    listed = [_number(word) for word in (node.findtext("T/Positions/List/Offsets") or "").split()]
    offsets = tuple(value for value in listed if value is not None)
    interval = _number(node.findtext("T/Positions/Interval/Increment"))
    return channels, scenes, offsets, interval if interval and interval > 0 else None


def _pixel_size(root: ET.Element) -> tuple[float, float] | None:
    """Metres in the file; micrometres here."""
    found = {}
    for item in root.findall(".//Scaling/Items/Distance"):
        value = _number(item.findtext("Value"))
        if value and value > 0:
            found[item.get("Id")] = value * 1e6
    x, y = found.get("X"), found.get("Y")
    if x is None and y is None:
        return None
    return (y if y is not None else x, x if x is not None else y)  # type: ignore[return-value]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
