"""Which metrics of a task are shown, which direction is better, and its entries in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hyped_bench.report.inputs import Entry

RAW_MEANS = "Raw means"
"""Title of the group of metrics that flatter every model."""

EXTRA: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "expression": (
        ("Change from control", ("pearson_delta", "cosine_delta", "mse_relative", "mae_delta", "r2_delta", "wmse")),
        (
            "Change from the mean of the other perturbations",
            ("pearson_delta_train", "cosine_delta_train", "mse_delta_train"),
        ),
        (
            "Which perturbation it is",
            ("pds_l1", "pds_l2", "pds_cosine", "rank_l1", "rank_l2", "rank_cosine", "centroid_accuracy"),
        ),
        (
            "Which genes change",
            (
                "de_overlap_50", "de_precision_50", "de_direction", "de_spearman", "de_auprc",
                "weighted_r2_delta",
            ),
        ),
        (
            "Whole distributions of cells",
            ("energy_distance", "energy_distance_v", "mmd", "sliced_wasserstein"),
        ),
        (RAW_MEANS, ("cosine", "pearson", "mse", "mae")),
    ),
    "embedding": (
        (
            "Change against the other conditions: free of the pool",
            (
                "cosine_shift_conditions", "null_p_conditions", "cosine_shift_conditions_null",
                "cosine_shift_conditions_half",
            ),
        ),
        (
            "Change from control",
            (
                "cosine_shift", "null_p", "cosine_shift_null", "cosine_shift_indirect", "null_p_indirect",
                "cosine_shift_other", "cosine_shift_half",
            ),
        ),
        (RAW_MEANS, ("cosine_gain", "cosine", "cosine_no_change", "pearson", "mse_relative")),
    ),
    "denoise": (
        ("Against clean images: quality", ("psnr", "ssim", "mse")),
        (
            "After segmentation and tracking: what is denoised for",
            ("downstream_seg", "downstream_f1_iou50", "downstream_tra", "downstream_division_f1"),
        ),
    ),
}
"""Groups of metrics shown as tables of their own, for tasks whose metrics answer different questions."""

DOWNSTREAM = "downstream"
"""Metrics of a denoiser whose keys begin so are the segmenter's and the tracker's."""
KINDS = (DOWNSTREAM, "self")
"""What keys of numbers (``n_downstream_planes``) begin with that belong to one kind of reference only."""

LOWER = (
    "mse",
    "mae",
    "mse_delta",
    "energy_distance",
    "mse_relative",
    "wmse",
    "fraction_error",
    "n_unassigned",
    "mse_delta_train",
    "mae_delta",
    "energy_distance_v",
    "mmd",
    "sliced_wasserstein",
)
"""Metrics of which less is better, where no plugin registers them."""
HIGHER = ("pearson_", "cosine_", "r2_", "weighted_r2_", "pds_", "rank_", "centroid_", "de_")
"""How metrics of the task `expression` begin of which more is better, where no plugin registers them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is shown. ``better`` is ``higher``, ``lower`` or ``none`` (unknown)."""

    key: str
    better: str

    @property
    def heading(self) -> str:
        """Name with an arrow to the better end."""
        return self.key + {"higher": " ↑", "lower": " ↓"}.get(self.better, "")


@lru_cache(maxsize=1)
def _directions() -> dict[str, str]:
    from hyped_core.plugins.registry import metrics

    return {f"{i.spec.task}/{i.spec.name}": i.spec.better for i in metrics().items()}


def metric(task: str, key: str) -> Metric:
    """A metric with the direction that is registered for it."""
    better = _directions().get(f"{task}/{key}") or ("lower" if key in LOWER else "none")
    if better == "none" and task == "expression" and key.startswith(HIGHER):
        better = "higher"
    return Metric(key, better)


def groups(task: str, entries: list[Entry]) -> list[tuple[str, list[Metric]]]:
    """Titled groups of the metrics the task's entries have; one untitled group for most tasks."""
    from hyped_core.plugins.registry import tasks

    there = {key for entry in entries for key in entry.metrics}
    if task in EXTRA:
        chosen: list[tuple[str, tuple[str, ...]]] = list(EXTRA[task])
    elif task in tasks().names():
        chosen = [("", tuple(tasks().get(task).metrics))]
    else:
        chosen = [("", tuple(sorted(key for key in there if not key.endswith(("_lo", "_hi")))[:6]))]
    found = [(title, [metric(task, key) for key in keys if key in there]) for title, keys in chosen]
    scored = {key for e in entries for key, value in e.metrics.items() if value is not None}
    told = [(title, keys) for title, keys in found if any(item.key in scored for item in keys)]
    return told or [(title, keys) for title, keys in found[:1] if keys]


def task_title(task: str) -> str:
    """What the task asks for."""
    from hyped_core.plugins.registry import tasks

    summary = tasks().get(task).summary if task in tasks().names() else ""
    return f"{task}: {summary[:1].lower()}{summary[1:]}" if summary else task


def ordered(entries: list[Entry], lead: Metric) -> list[Entry]:
    """Best first by the leading metric; undefined values, then failed models, come last."""

    def place(entry: Entry) -> tuple[bool, bool, float, str]:
        value = entry.metrics.get(lead.key)
        known = value is not None
        sign = 1.0 if lead.better == "lower" else -1.0
        return entry.status != "ok", not known, sign * float(value or 0) if known else 0.0, entry.model

    return sorted(entries, key=place)


def models_first(entries: list[Entry]) -> list[Entry]:
    """The entries that ran, controls after models."""
    return sorted((e for e in entries if e.status == "ok"), key=lambda e: (e.kind == "control", e.model))


def best_control(entries: list[Entry], chosen: Metric) -> Entry | None:
    """The control that does best by a metric; None where there is none with a value."""
    controls = [e for e in entries if e.kind == "control" and e.metrics.get(chosen.key) is not None]
    return ordered(controls, chosen)[0] if controls else None


def counts(entries: list[Entry], lead: Metric) -> list[str]:
    """Keys ``n_*`` over all sources, in the order of their names: those of the kind of reference of ``lead``."""
    keys = sorted({key for e in entries for key in e.metrics if key.startswith("n_")})
    own = f"n_{DOWNSTREAM}_" if lead.key.startswith(DOWNSTREAM) else ""
    others = tuple(f"n_{kind}_" for kind in KINDS)
    keys = [key for key in keys if key.startswith(own or others) == bool(own)]
    names = {str(s["name"]) for e in entries for s in e.sources if isinstance(s, dict) and "name" in s}
    return [key for key in keys if not any(key.endswith(f"_{name}") for name in names)]
