"""What the movie panel says: when a frame was taken, what is seen in it, what was left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_bench.report.movie_frames import Source, View, phase_word

MICRO = "\N{MICRO SIGN}m"


def times_text(time_h: npt.NDArray[np.float64] | None, frames: Sequence[int]) -> list[str]:
    """When frames were taken, by their acquisition times; finer in movies shorter than three hours.

    >>> times_text(np.array([20.0, 20.34, 21.7, 52.0]), [0, 2, 3])
    ['20.0 h', '21.7 h', '52.0 h']
    >>> times_text(np.array([0.0, 0.5]), [1]), times_text(None, [4])
    (['30 min'], ['frame 4'])
    """
    if time_h is None:
        return [f"frame {index}" for index in frames]
    if float(np.nanmax(time_h)) < 3:
        return [f"{time_h[index] * 60:.3g} min" for index in frames]
    digits = 2 if float(np.nanmax(time_h) - np.nanmin(time_h)) < 3 else 1
    return [f"{time_h[index]:.{digits}f} h" for index in frames]


def frame_text(when: str, position: int, total: int, counts: dict[str, int] | None, whole: bool) -> str:
    """What is seen in a frame, for those who cannot see it.

    >>> frame_text("24.3 h", 3, 94, {"G1": 20, "S_G2M": 1, "": 2}, True)
    '24.3 h, frame 3 of 94 shown: 23 nuclei, 20 in G1, 1 in S/G2/M, 2 without a phase.'
    >>> frame_text("0 min", 1, 1, None, True)
    '0 min, frame 1 of 1 shown: nuclei were not segmented.'
    """
    lead = f"{when}, frame {position} of {total} shown: "
    if counts is None:
        return lead + "nuclei were not segmented."
    number = sum(counts.values())
    parts = [f"{number} {'nucleus' if number == 1 else 'nuclei'}" + ("" if whole else " in view")]
    phased = any(name for name in counts)
    for name in counts:
        if name and counts[name]:
            parts.append(f"{counts[name]} {'dark' if name == 'dark' else 'in ' + phase_word(name)}")
    if phased and counts.get(""):
        parts.append(f"{counts['']} without a phase")
    return lead + ", ".join(parts) + "."


def facts(source: Source, view: View, step: int, quality: int, frames: Sequence[int], *, coarser: bool) -> str:
    """What is shown and what was left out, in sentences."""
    pixel = source.pixel_size_um
    height, width = view.y.stop - view.y.start, view.x.stop - view.x.start
    size = f"{width} x {height} pixels"
    if pixel > 0:
        size = f"{width * pixel:.0f} x {height * pixel:.0f} {MICRO}"
    if view.whole(source.shape):
        part = f"The whole frame ({size})"
    else:
        full = f"{source.shape[1]} x {source.shape[0]} pixels"
        if pixel > 0:
            full = f"{source.shape[1] * pixel:.0f} x {source.shape[0] * pixel:.0f} {MICRO}"
        part = f"The centre of the frame ({size} of {full})"
    reduced = "in full resolution" if view.factor == 1 else f"{view.factor} x {view.factor} pixels averaged into one"
    lost = source.n_frames - len(source.there)
    if step == 1 and not lost:
        which = f"all {len(frames)} frames" if len(frames) > 1 else "its only frame"
    elif step == 1:
        which = f"the {len(frames)} of {source.n_frames} frames that are there"
    else:
        which = f"{ordinal(step)} frame ({len(frames)} of {source.n_frames})"
        which += f"; {lost} are not there" if lost else ""
    reduced += "; bright field at half that resolution" if coarser else ""
    return (
        f"{part}, {reduced}; {which}. Contrast is set once over the movie; compressed for this page (WebP, quality "
        f"{quality}): for looking, not for measuring."
    )


def ordinal(step: int) -> str:
    """Which frames a step shows.

    >>> ordinal(2), ordinal(3), ordinal(5)
    ('every second', 'every third', 'every 5th')
    """
    return {2: "every second", 3: "every third"}.get(step, f"every {step}th")
