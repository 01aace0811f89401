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


def settle_roles(channels: Sequence[str]) -> list[str]:
    """Guessed roles that make a design to work with: one channel a reporter, both reporters or none, and something to
    find nuclei in (the first channel that is no brightfield, where no name says it)."""
    roles = [guess_role(name) for name in channels]
    for k, role in enumerate(roles):
        if role != "role: other" and role in roles[:k]:
            roles[k] = "role: other"
    reporters = [k for k, role in enumerate(roles) if "reports" in role]
    if len(reporters) == 1:
        roles[reporters[0]] = "role: other"
    if "role: nuclei" not in roles and len(reporters) < 2 and roles:
        others = [k for k, role in enumerate(roles) if role == "role: other"]
        roles[others[0] if others else 0] = "role: nuclei"
    return roles


def starter_design(path: str | Path, reader: str = "auto") -> str:
    """YAML of a design with the file's scenes and channels, and comments on what to fill in.

    Raises
    ------
    HypedError
        The file is absent, damaged or of an unknown kind.
    """
    path = Path(path)
    scenes, channels, first, last = _facts(path, reader)
    roles = settle_roles(channels)
    lines = [
        f"name: {re.sub(r'[^A-Za-z0-9_.-]+', '-', path.stem)}",
        "conditions:                    # name what was done to the cells; docs/design.md says how",
        "  - {name: control}",
        "timeline:",
        f"  imaging_start_h: {first:g}           # hours since the experiment's zero at the first frame",
        f"  imaging_end_h: {max(last, first + 0.001):g}",
        "channels:                      # guessed from their names: check what each shows, and which phase it reports",
    ]
    lines += [f"  - {{name: {_quoted(name)}, {role}}}" for name, role in zip(channels, roles, strict=True)]
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
