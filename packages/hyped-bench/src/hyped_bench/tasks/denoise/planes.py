"""Scores of single planes: against a clean reference, and by the paper's protocol against the noisy image itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics import image as measure
from hyped_bench.tasks.denoise.fields import Stack

CLEAN_KEYS = ("mse", "psnr", "ssim", "snr_reference_before_db", "snr_reference_after_db")
LABEL_KEYS = ("snr_labels_before_db", "snr_labels_after_db", "snr_labels_reference_db")
"""Scored for clean references with labels beside them."""
FIELD_KEYS = ("mse", "psnr", "ssim")
"""Keys that every field of view, source, channel and condition has of its own."""
SELF_KEYS = (
    "self_mse",
    "self_psnr",
    "self_ssim",
    "psnr_paper_convention",
    "snr_before",
    "snr_after",
    "snr_before_db",
    "snr_after_db",
)
SELF_HEADLINE = ("self_mse", "self_psnr", "self_ssim", "psnr_paper_convention", "snr_before_db", "snr_after_db")
"""Keys that every source, channel and condition has of its own."""


def peak(stack: Stack) -> float:
    """The range that PSNR and SSIM of a stack are taken over, camera units."""
    rule = stack.source.data_range or ("clean" if stack.movie else "camera")
    if rule == "camera":
        return float(stack.meta.data_range[1] - stack.meta.data_range[0])
    if rule == "clean":
        assert stack.clean is not None
        return float(stack.clean.max()) - float(stack.clean.min())
    return float(rule)


def clean_rows(stack: Stack, result: npt.NDArray, data_range: float) -> list[dict[str, Any]]:
    """One row a plane: errors against the clean plane, and how far signal stands above them."""
    assert stack.clean is not None
    rows = []
    for i, (name, before, after, truth) in enumerate(zip(stack.names, stack.noisy, result, stack.clean, strict=True)):
        row = {
            **_place(stack, name),
            "mse": measure.mse(after, truth),
            "psnr": measure.psnr(after, truth, data_range),
            "ssim": measure.ssim(after, truth, data_range),
            "snr_reference_before_db": measure.signal_to_error(before, truth),
            "snr_reference_after_db": measure.signal_to_error(after, truth),
        }
        if stack.foreground is not None:
            floor = float(truth.min())
            for key, plane in zip(LABEL_KEYS, (before, after, truth), strict=True):
                row[key] = _ratio(plane - floor, stack.foreground[i], stack)[1]
        rows.append(row)
    return rows


def self_rows(stack: Stack, result: npt.NDArray) -> list[dict[str, Any]]:
    """One row a plane by the paper's protocol: unit range, the reference is the noisy plane itself."""
    given, _ = stack.given()
    rows = []
    for i, (before, after) in enumerate(zip(given, np.clip(result, 0.0, 1.0), strict=True)):
        mask = None if stack.foreground is None else stack.foreground[i]
        first, second = _ratio(before, mask, stack), _ratio(after, mask, stack)
        own = measure.psnr(after, before, 1.0)
        rows.append(
            {
                **_place(stack, stack.names[i]),
                "self_mse": measure.mse(after, before),
                "self_psnr": own,
                "self_ssim": measure.ssim(after, before, 1.0),
                "psnr_paper_convention": None if own is None else own + measure.PAPER_OFFSET_DB,
                "snr_before": first[0],
                "snr_after": second[0],
                "snr_before_db": first[1],
                "snr_after_db": second[1],
            }
        )
    return rows


def _place(stack: Stack, plane: str) -> dict[str, Any]:
    return {
        "source": stack.source.name,
        "unit": stack.unit,
        "field": stack.field,
        "channel": stack.channel,
        "condition": stack.condition,
        "plane": plane,
    }


def _ratio(plane: npt.NDArray, mask: npt.NDArray | None, stack: Stack) -> tuple[float | None, float | None]:
    """Foreground over background, as a ratio and in dB."""
    if mask is None:
        return None, None
    ratio = measure.signal_to_noise(plane, mask, stack.source.snr)
    return ratio, measure.decibel(ratio, stack.source.snr)
