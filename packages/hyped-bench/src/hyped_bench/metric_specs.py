"""The registered metrics: function, direction, perfect value, and the tolerance of a rerun. Nothing heavy is imported.

A tolerance is what no reader would call a difference: of expression about a hundredth of what lies between doing
nothing and a technical duplicate on simulated data, of other tasks by judgement. A rerun on one machine gives the same
bytes; tolerances are for other machines and GPUs. Formulas, sources and what doing nothing scores: docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hyped_core.spec import MetricSpec

_UP, _DOWN, _READ = ("higher", 1.0), ("lower", 0.0), ("none", None)
_OPEN = ("higher", None)
"""Higher is better, without a bound."""

Row = tuple[str, str, tuple[str, float | None], float]
"""Keys, ``module:function`` under `hyped_bench.metrics`, (better, perfect), tolerance."""

_DENOISE: tuple[Row, ...] = (
    ("mse", "image:mse", _DOWN, 1e-3),
    ("psnr", "image:psnr", _OPEN, 0.01),
    ("ssim", "image:ssim", _UP, 1e-3),
    ("downstream_tra downstream_lnk downstream_det", "tracking:tracking_scores", _UP, 0.005),
    ("downstream_division_f1", "tracking:tracking_scores", _UP, 0.02),
    ("downstream_f1_iou50", "segmentation:f1_from_counts", _UP, 0.005),
    ("downstream_seg", "segmentation:seg_values", _UP, 0.005),
    ("self_mse", "image:mse", _READ, 1e-3),
    ("self_psnr psnr_paper_convention", "image:psnr", _READ, 0.01),
    ("self_ssim", "image:ssim", _READ, 1e-3),
    ("snr_before snr_after", "image:signal_to_noise", _READ, 0.01),
    ("snr_before_db snr_after_db", "image:decibel", _READ, 0.01),
)
_SEGMENT: tuple[Row, ...] = (
    ("f1_iou50", "segmentation:f1_from_counts", _UP, 0.005),
    ("seg", "segmentation:seg_values", _UP, 0.005),
    ("foreground_recall", "segmentation:foreground_counts", _UP, 0.005),
)
_TRACK: tuple[Row, ...] = (
    ("tra lnk det", "tracking:tracking_scores", _UP, 0.002),
    ("division_f1", "tracking:tracking_scores", _UP, 0.02),
)
_DEMULTIPLEX: tuple[Row, ...] = (
    ("accuracy", "demultiplex:accuracy", _UP, 0.002),
    ("f_singlet", "demultiplex:f_singlet", _UP, 0.002),
    ("forced_accuracy", "demultiplex:forced_accuracy", _UP, 0.002),
    ("called_accuracy", "demultiplex:called_accuracy", _UP, 0.002),
    ("doublet_recall doublet_precision", "demultiplex:recall_precision", _UP, 0.01),
    ("ece", "demultiplex:expected_calibration_error", _DOWN, 0.005),
    ("brier", "demultiplex:brier", _DOWN, 0.001),
)
_EXPRESSION: tuple[Row, ...] = (
    ("cosine", "expression:cosine", _UP, 2e-5),
    ("pearson", "expression:pearson", _UP, 1e-4),
    ("mse", "expression:mse", _DOWN, 2e-4),
    ("mae", "expression:mae", _DOWN, 2e-4),
    ("pearson_delta pearson_delta_train", "expression:pearson_delta", _UP, 0.005),
    ("cosine_delta cosine_delta_train", "expression:cosine_delta", _UP, 0.005),
    ("mse_delta mse_delta_train", "expression:mse_delta", _DOWN, 2e-4),
    ("mae_delta", "expression:mae_delta", _DOWN, 2e-4),
    ("mse_relative", "expression:mse_relative", _DOWN, 0.005),
    ("r2_delta", "expression:r2_delta", _UP, 0.005),
    ("weighted_r2_delta", "expression:weighted_r2_delta", _UP, 0.02),
    ("wmse", "expression:wmse", _DOWN, 0.01),
    # one rank of one perturbation among eight is 0.016
    ("pds_l1 pds_l2 pds_cosine", "discrimination:discrimination", _UP, 0.02),
    ("rank_l1 rank_l2 rank_cosine", "discrimination:transposed_rank", _UP, 0.02),
    ("centroid_accuracy", "discrimination:centroid_accuracy", _UP, 0.02),
    ("de_overlap_50", "de_sets:overlap_at_k", _UP, 0.01),
    ("de_precision_50", "de_sets:precision_at_k", _UP, 0.01),
    ("de_direction", "de_sets:direction_match", _UP, 0.01),
    ("de_spearman", "de_sets:fold_change_spearman", _UP, 0.01),
    ("de_recall", "de_sets:recall", _UP, 0.01),
    ("de_auprc", "de_sets:auprc", _UP, 0.01),
    ("de_auroc", "de_sets:auroc", _UP, 0.005),
    ("energy_distance", "distributions:energy_distance", _DOWN, 0.02),
    ("energy_distance_v", "distributions:energy_distance_v", _DOWN, 0.02),
    ("mmd", "distributions:mmd", _DOWN, 0.001),
    ("sliced_wasserstein", "distributions:sliced_wasserstein", _DOWN, 0.005),
)
_EMBEDDING: tuple[Row, ...] = (
    ("cosine", "expression:cosine", _UP, 1e-4),
    ("pearson", "expression:pearson", _UP, 1e-4),
    ("mse", "expression:mse", _DOWN, 1e-3),
    ("mae", "expression:mae", _DOWN, 1e-3),
    ("mse_relative", "expression:mse_relative", _DOWN, 0.005),
    (
        "cosine_no_change cosine_half cosine_other cosine_matched cosine_no_change_matched",
        "expression:cosine", _READ, 1e-4,
    ),
    ("pearson_no_change", "expression:pearson", _READ, 1e-4),
    ("mse_no_change", "expression:mse", _READ, 1e-3),
    ("mae_no_change", "expression:mae", _READ, 1e-3),
    ("cosine_gain", "embedding:cosine_rows", _OPEN, 1e-4),
    ("cosine_shift cosine_shift_indirect cosine_shift_conditions", "embedding:cosine_rows", _UP, 0.005),
    (
        "cosine_shift_half cosine_shift_other cosine_shift_null cosine_shift_conditions_half "
        "cosine_shift_conditions_null",
        "embedding:cosine_rows", _READ, 0.005,
    ),
    ("null_p null_p_indirect null_p_conditions", "embedding:empirical_p", ("lower", None), 0.02),
)  # fmt: skip
_PHASES: tuple[Row, ...] = (
    ("phase_accuracy", "phases:phase_accuracy", _UP, 0.005),
    ("commonest_accuracy", "phases:commonest_accuracy", _READ, 0.005),
    ("fraction_error", "phases:fraction_error", _DOWN, 0.002),
)
_PHASES_IMAGING: tuple[Row, ...] = (
    *_PHASES,
    ("cycle_position_error", "phases:circular_error", _DOWN, 0.002),
    ("cycle_position_constant_error", "phases:circular_error", _READ, 0.002),
)
_PHASES_RNA: tuple[Row, ...] = (
    *_PHASES,
    ("score_accuracy held_out_accuracy held_out_score_accuracy", "phases:phase_accuracy", _UP, 0.005),
)
_CHANGES: tuple[Row, ...] = (
    ("de_recall isoform_recall", "changes:recall", _UP, 0.01),
    ("de_false_share isoform_false_share", "changes:false_share", _DOWN, 0.01),
    ("fold_change_pearson", "changes:size_correlation", _UP, 0.005),
)
_HASHTAG_COUNTS: tuple[Row, ...] = (
    ("count_pearson", "changes:count_scores", _UP, 0.001),
    ("count_ratio", "changes:count_scores", ("none", 1.0), 0.001),
    ("count_error", "changes:count_scores", _DOWN, 0.001),
    ("top_tag_agreement", "changes:count_scores", _UP, 0.002),
)
_STITCH: tuple[Row, ...] = (
    ("residual_px", "hyped_bench.tasks.pipeline:StitchTask", _DOWN, 0.01),
    ("seam_error", "hyped_bench.tasks.pipeline:StitchTask", _DOWN, 1e-4),
)
_COMPOSITION: tuple[Row, ...] = (
    ("fraction_error", "crossmodal:fraction_gap", _DOWN, 0.002),
    ("bias", "crossmodal:fraction_gap", ("none", 0.0), 0.002),
    ("order_agreement", "crossmodal:order_agreement", _UP, 0.01),
)
_COURSES = ("rmse_dividing rmse_growth rmse_speed rmse_area", "crossmodal:rmse", _DOWN, 0.01)
_FORECAST: tuple[Row, ...] = (("mase", "crossmodal:mase", _DOWN, 0.01), _COURSES)
_RESPONSE: tuple[Row, ...] = (
    ("z_rmse", "crossmodal:z_rmse", _DOWN, 0.01),
    ("pearson", "crossmodal:pearson_rows", _UP, 0.005),
    _COURSES,
    ("rmse_expression", "crossmodal:rmse", _DOWN, 0.001),
)
TABLES: dict[str, tuple[Row, ...]] = {
    "denoise": _DENOISE,
    "segment": _SEGMENT,
    "track": _TRACK,
    "demultiplex": _DEMULTIPLEX,
    "expression": _EXPRESSION,
    "embedding": _EMBEDDING,
    "composition": _COMPOSITION,
    "forecast": _FORECAST,
    "response": _RESPONSE,
    "phases_imaging": _PHASES_IMAGING,
    "phases_rna": _PHASES_RNA,
    "changes": _CHANGES,
    "hashtag_counts": _HASHTAG_COUNTS,
    "stitch": _STITCH,
}
"""Task -> rows."""


def metric_specs(tables: dict[str, tuple[Row, ...]] = TABLES) -> Iterator[MetricSpec]:
    """A record for each key of each task."""
    for task, rows in tables.items():
        yield from _of_task(task, rows)


def _of_task(task: str, rows: Iterable[Row]) -> Iterator[MetricSpec]:
    for keys, function, (better, perfect), tolerance in rows:
        target = function if function.startswith("hyped_bench") else f"hyped_bench.metrics.{function}"
        for key in keys.split():
            yield MetricSpec(key, task, target, better=better, perfect=perfect, tolerance=tolerance)  # type: ignore[arg-type]
