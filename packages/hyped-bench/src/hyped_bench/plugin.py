"""hyped-bench's contributions to the registry: records with import strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import CommandSpec, MetricSpec, ModelSpec, ReportSectionSpec, TaskSpec

_LICENCE = "BSD-3-Clause"
_LINEAR = "Ahlmann-Eltze, Huber and Anders, Nature Methods 2025"
_CONTROLS = (
    ("identity", "denoise", "denoise:Identity", None, "Returns the noisy stack", ""),
    (
        "gaussian", "denoise", "denoise:Gaussian", "denoise:GaussianConfig",
        "Gaussian blur of each plane, of the width with the least estimated error", "Stein 1981",
    ),
    ("median", "denoise", "denoise:Median", "denoise:MedianConfig", "Median filter of each plane", ""),
    (
        "tv", "denoise", "denoise_tv:TotalVariation", "denoise_tv:TotalVariationConfig",
        "Total variation, weight from the noise", "Chambolle 2004, doi:10.1023/B:JMIV.0000011325.36760.1e",
    ),
    (
        "nlm", "denoise", "denoise_nlm:NonLocalMeans", "denoise_nlm:NonLocalMeansConfig",
        "Non-local means after a variance-stabilising map", "Buades et al. 2005; Foi 2009",
    ),
    (
        "otsu",
        "segment",
        "segment:Otsu",
        "segment:OtsuConfig",
        "Otsu's threshold and connected components",
        "",
    ),
    (
        "nearest",
        "track",
        "track:NearestTracker",
        "track:NearestConfig",
        "Mutual nearest neighbours, no divisions",
        "",
    ),
    (
        "top_tag",
        "demultiplex",
        "demultiplex:TopTag",
        None,
        "The tag that stands out most, never a doublet",
        "",
    ),
    ("no_change", "expression", "expression:NoChange", None, "The control cells, unchanged", ""),
    (
        "train_mean",
        "expression",
        "expression:TrainMean",
        None,
        "Mean shift of all training perturbations",
        "",
    ),
    (
        "matching_mean",
        "expression",
        "expression:MatchingMean",
        None,
        "Mean shift of training perturbations that share a gene",
        "Vinas Torne et al. (Systema), Nature Biotechnology 2025",
    ),
    (
        "additive",
        "expression",
        "expression:Additive",
        None,
        "Sum of the single perturbations' shifts",
        _LINEAR,
    ),
    (
        "bilinear",
        "expression",
        "bilinear:Bilinear",
        "bilinear:BilinearConfig",
        "Ridge regression between principal components of genes",
        _LINEAR,
    ),
    (
        "nearest",
        "expression",
        "expression:Nearest",
        None,
        "Shift of the most similar training perturbation",
        "",
    ),
    (
        "pool_effect",
        "expression",
        "expression:PoolEffect",
        None,
        "What all other conditions share, where condition and pool are confounded",
        "",
    ),
    (
        "pca", "embedding", "embedding:Pca", "embedding:PcaConfig",
        "Principal components of log counts, learned from control cells", "",
    ),
)
_NOISE = ("hyped_bench.controls.denoise_noise",)
_SHARED = {
    "bilinear": ("hyped_bench.controls.expression",),
    "embedding": ("hyped_bench.tasks.embedding.genes", "hyped_bench.metrics.expression"),
    **dict.fromkeys(("denoise", "denoise_tv", "denoise_nlm"), _NOISE),
}
"""Module of a control -> modules whose code is part of it."""


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """Controls of every task."""
    for name, task, target, config, summary, citation in _CONTROLS:
        yield ModelSpec(
            name=name,
            task=task,
            target=f"hyped_bench.controls.{target}",
            config=None if config is None else f"hyped_bench.controls.{config}",
            summary=summary,
            role="control",
            licence=_LICENCE,
            citation=citation,
            sources=_SHARED.get(target.partition(":")[0], ()),
        )


@hookimpl
def hyped_tasks() -> Iterable[TaskSpec]:
    """Every task with the metrics its JSON leads with."""
    tasks = "hyped_bench.tasks"
    yield TaskSpec("denoise", f"{tasks}.denoise:DenoiseTask", "Remove camera noise", ("psnr", "ssim", "mse"))
    yield TaskSpec(
        "segment", f"{tasks}.segment:SegmentTask", "Find nuclei", ("f1_iou50", "seg", "foreground_recall")
    )
    yield TaskSpec(
        "track",
        f"{tasks}.track:TrackTask",
        "Link nuclei over time",
        ("tra", "lnk", "det", "division_f1", "n_unassigned"),
    )
    yield TaskSpec(
        "demultiplex",
        f"{tasks}.demultiplex:DemultiplexTask",
        "Assign cells to hashtags",
        ("accuracy", "f_singlet", "forced_accuracy", "doublet_recall", "doublet_precision", "ece"),
    )
    yield TaskSpec(
        "expression",
        f"{tasks}.expression:ExpressionTask",
        "Predict expression under unseen perturbations",
        (
            "pearson_delta",
            "mse_relative",
            "wmse",
            "pds_l1",
            "energy_distance",
            "cosine",
            "pearson",
            "mse",
            "mae",
        ),
    )
    yield TaskSpec(
        "embedding",
        f"{tasks}.embedding:EmbeddingTask",
        "Embed cells perturbed in silico as the perturbed ones are",
        (
            "cosine_shift", "null_p", "cosine_shift_half", "cosine_shift_conditions", "cosine_gain", "cosine",
            "cosine_no_change", "mse", "mae", "pearson",
        ),
    )
    yield TaskSpec("stitch", f"{tasks}.pipeline:StitchTask", "Place tiles", ("residual_px", "seam_error"))
    yield TaskSpec(
        "phases_imaging",
        f"{tasks}.pipeline:PhasesImagingTask",
        "Phases from reporters",
        (
            "phase_accuracy", "commonest_accuracy", "fraction_error", "cycle_position_error",
            "cycle_position_constant_error",
        ),
    )
    yield TaskSpec(
        "phases_rna",
        f"{tasks}.sequencing:PhasesRnaTask",
        "Phases from expression",
        (
            "phase_accuracy", "commonest_accuracy", "score_accuracy", "fraction_error", "held_out_accuracy",
            "held_out_score_accuracy",
        ),
    )
    yield TaskSpec(
        "hashtag_counts",
        f"{tasks}.sequencing:HashtagCountsTask",
        "Count hashtag molecules in reads",
        ("count_pearson", "count_ratio", "count_error", "top_tag_agreement"),
    )
    yield TaskSpec(
        "changes",
        f"{tasks}.sequencing:ChangesTask",
        "Genes and isoforms that change between conditions",
        ("de_recall", "de_false_share", "fold_change_pearson", "isoform_recall", "isoform_false_share"),
    )


@hookimpl
def hyped_metrics() -> Iterable[MetricSpec]:
    """Metrics with the direction that is better, their perfect value and the tolerance of a rerun."""
    rows = (
        ("denoise", "image", "mse psnr ssim", "lower higher higher", (0.0, None, 1.0)),
        (
            "segment",
            "segmentation",
            "f1_from_counts seg_values foreground_counts",
            "higher higher higher",
            (1.0, 1.0, 1.0),
        ),
        (
            "demultiplex",
            "demultiplex",
            "accuracy f_singlet forced_accuracy called_accuracy expected_calibration_error brier",
            "higher higher higher higher lower lower",
            (1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
        ),
        (
            "expression",
            "expression",
            "cosine pearson mse mae pearson_delta cosine_delta mse_delta mse_relative wmse energy_distance",
            "higher higher lower lower higher higher lower lower lower lower",
            (1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        ),
    )
    names = {"f1_from_counts": "f1_iou50", "seg_values": "seg", "foreground_counts": "foreground_recall"}
    names["expected_calibration_error"] = "ece"
    for task, module, functions, better, perfect in rows:
        for function, direction, best in zip(functions.split(), better.split(), perfect, strict=True):
            yield _metric(names.get(function, function), task, module, function, direction, best)
    for name in ("tra", "lnk", "det", "division_f1"):
        yield _metric(name, "track", "tracking", "tracking_scores", "higher", 1.0)
        yield _metric(f"downstream_{name}", "denoise", "tracking", "tracking_scores", "higher", 1.0)
    for name, function in (("f1_iou50", "f1_from_counts"), ("seg", "seg_values")):
        yield _metric(f"downstream_{name}", "denoise", "segmentation", function, "higher", 1.0)
    for name, function in (
        ("self_mse", "mse"), ("self_psnr", "psnr"), ("self_ssim", "ssim"), ("psnr_paper_convention", "psnr"),
        ("snr_before", "signal_to_noise"), ("snr_after", "signal_to_noise"),
        ("snr_before_db", "decibel"), ("snr_after_db", "decibel"),
    ):  # fmt: skip
        yield _metric(name, "denoise", "image", function, "none", None)
    for name in ("pds_l1", "pds_l2", "pds_cosine"):
        yield _metric(name, "expression", "expression", "discrimination", "higher", 1.0)
    for name, better, best in (
        ("cosine", "higher", 1.0), ("pearson", "higher", 1.0), ("mse", "lower", 0.0), ("mae", "lower", 0.0),
        ("cosine_no_change", "none", None), ("pearson_no_change", "none", None), ("mse_no_change", "none", None),
        ("mae_no_change", "none", None), ("mse_relative", "lower", 0.0), ("cosine_half", "none", None),
        ("cosine_other", "none", None), ("cosine_matched", "none", None), ("cosine_no_change_matched", "none", None),
    ):  # fmt: skip
        function = name.split("_")[0] if name != "mse_relative" else name
        yield _metric(name, "embedding", "expression", function, better, best)
    for name, better, best in (
        ("cosine_gain", "higher", None), ("cosine_shift", "higher", 1.0), ("cosine_shift_indirect", "higher", 1.0),
        ("cosine_shift_conditions", "higher", 1.0), ("cosine_shift_half", "none", None),
        ("cosine_shift_other", "none", None), ("cosine_shift_null", "none", None),
        ("cosine_shift_conditions_half", "none", None), ("cosine_shift_conditions_null", "none", None),
    ):  # fmt: skip
        yield _metric(name, "embedding", "embedding", "cosine_rows", better, best)
    for name in ("null_p", "null_p_indirect", "null_p_conditions"):
        yield _metric(name, "embedding", "embedding", "empirical_p", "lower", None)
    for task in ("phases_imaging", "phases_rna"):
        yield _metric("phase_accuracy", task, "phases", "phase_accuracy", "higher", 1.0)
        yield _metric("commonest_accuracy", task, "phases", "commonest_accuracy", "none", None)
        yield _metric("fraction_error", task, "phases", "fraction_error", "lower", 0.0)
    for name in ("score_accuracy", "held_out_accuracy", "held_out_score_accuracy"):
        yield _metric(name, "phases_rna", "phases", "phase_accuracy", "higher", 1.0)
    yield _metric("cycle_position_error", "phases_imaging", "phases", "circular_error", "lower", 0.0)
    yield _metric("cycle_position_constant_error", "phases_imaging", "phases", "circular_error", "none", None)
    for name in ("de_recall", "isoform_recall"):
        yield _metric(name, "changes", "changes", "recall", "higher", 1.0)
    for name in ("de_false_share", "isoform_false_share"):
        yield _metric(name, "changes", "changes", "false_share", "lower", 0.0)
    yield _metric("fold_change_pearson", "changes", "changes", "size_correlation", "higher", 1.0)
    for name, better, best in (
        ("count_pearson", "higher", 1.0),
        ("count_ratio", "none", 1.0),
        ("count_error", "lower", 0.0),
        ("top_tag_agreement", "higher", 1.0),
    ):
        yield _metric(name, "hashtag_counts", "changes", "count_scores", better, best)
    for name in ("residual_px", "seam_error"):
        yield MetricSpec(name, "stitch", "hyped_bench.tasks.pipeline:StitchTask", better="lower", perfect=0.0)


def _metric(
    name: str, task: str, module: str, function: str, better: str, perfect: float | None
) -> MetricSpec:
    return MetricSpec(name, task, f"hyped_bench.metrics.{module}:{function}", better=better, perfect=perfect)  # type: ignore[arg-type]


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """Commands of the benchmark."""
    cli = "hyped_bench.cli"
    yield CommandSpec(("bench", "run"), f"{cli}:run", "Run models on a task and score them.")
    yield CommandSpec(("bench", "score"), f"{cli}:score", "Score a file of predicted expression.")
    yield CommandSpec(("bench", "status"), f"{cli}:status", "What has been scored and what is left.")
    yield CommandSpec(("bench", "compare"), f"{cli}:compare", "Compare two runs within tolerance.")
    yield CommandSpec(
        ("bench", "table4"), "hyped_bench.cli_table4:table4", "The paper's Table 4 (denoising) on your own movies."
    )
    yield CommandSpec(
        ("bench", "report"), "hyped_bench.report.cli:report", "Write the report of a dataset: one page."
    )
    yield CommandSpec(("demo",), "hyped_bench.cli_demo:demo", "A tiny container, scored in a minute.")


@hookimpl
def hyped_report_sections() -> Iterable[ReportSectionSpec]:
    """Sections of the report, in the order of the page."""
    rows = (
        ("experiment", "What was measured"),
        ("containers", "What the containers hold"),
        ("leaderboards", "Leaderboards"),
        ("paper_tables", "The paper's tables"),
        ("phases", "Figure 2a: cell-cycle phases"),
        ("cells", "Figure 2b to d: cells and genes"),
        ("changes", "What changes between conditions"),
        ("quality", "Quality"),
        ("movies", "Frames"),
        ("provenance", "How every number came about"),
    )
    for i, (name, title) in enumerate(rows):
        yield ReportSectionSpec(name, title, f"hyped_bench.report.sections.{name}:section", order=10 * (i + 1))
