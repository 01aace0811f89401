"""The start of a design, from what a file says of itself: scenes, channels, times. What they mean is for the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ROLES: tuple[tuple[str, str], ...] = (
    (r"cy5|sir|dapi|hoechst|h2b|draq|nuc", "role: nuclei"),
    (r"mkate|cdt1|mcherry|mko|rfp|red", "role: reporter, reports: G1"),
    (r"gfp|geminin|mag|venus|clover|green", "role: reporter, reports: S_G2M"),
    (r"obliq|bright|phase|dic|trans|tl", "role: brightfield"),
)
"""Names of dyes and probes -> what they usually show (Cdt1 probes are red and bright in G1, Geminin probes green)."""


def guess_role(channel: str) -> str:
    """What a channel of this name usually shows, as YAML; ``role: other`` where the name says nothing."""
    return next((role for pattern, role in _ROLES if re.search(pattern, channel.lower())), "role: other")


def starter_design(path: str | Path, reader: str = "auto") -> str:
    """YAML of a design with the file's scenes and channels, and comments on what to fill in.

    Raises
    ------
    HypedError
        The file is absent, damaged or of an unknown kind.
    """
    path = Path(path)
    scenes, channels, first, last = _facts(path, reader)
    used: set[str] = set()
    lines = [
        f"name: {re.sub(r'[^A-Za-z0-9_.-]+', '-', path.stem)}",
        "conditions:                    # name what was done to the cells; docs/design.md says how",
        "  - {name: control}",
        "timeline:",
        f"  imaging_start_h: {first:g}           # hours since the experiment's zero at the first frame",
        f"  imaging_end_h: {max(last, first + 0.001):g}",
        "channels:                      # guessed from their names: check what each shows, and which phase it reports",
    ]
    for name in channels:
        role = guess_role(name)
        reported = role.rpartition("reports: ")[2] if "reports" in role else ""
        if reported and reported in used:
            role = "role: other"
        used.add(reported)
        lines.append(f"  - {{name: {_quoted(name)}, {role}}}")
    lines.append("scenes:                        # say which condition each shows; replicates of one count 1, 2, ...")
    lines += [
        f"  - {{name: {_quoted(name)}, condition: control, replicate: {k}}}" for k, name in enumerate(scenes, start=1)
    ]
    return "\n".join(lines) + "\n"


def _facts(path: Path, reader: str) -> tuple[Sequence[str], Sequence[str], float, float]:
    """Scenes, channels, first and last hour."""
    if path.suffix.lower() == ".czi":
        from hyped_imaging.readers.czi import open_czi

        with open_czi(path, reader=reader) as czi:
            hours = [czi.time_h(scene.index)[0] for scene in czi.scenes]
            ends = [float(h[-1]) for h in hours if h is not None and len(h)]
            return [s.name for s in czi.scenes], czi.channels, 0.0, max(ends, default=0.0)
    from hyped_imaging.movies.importing import open_source
    from hyped_imaging.movies.params import ImportParams

    source = open_source([path], ImportParams())
    channels = source.channels or tuple(f"C{k}" for k in range(source.shape[1]))
    hours = source.hours
    ends = (float(hours[0]), float(hours[-1])) if hours is not None else (0.0, 0.0)
    return [path.stem], channels, ends[0], ends[1]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name) else f'"{name}"'
