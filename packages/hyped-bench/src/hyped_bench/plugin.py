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
    ("even_split", "composition", "crossmodal:EvenSplit", None, "Half of the cells", ""),
    (
        "sorted_design", "composition", "crossmodal:SortedDesign", None,
        "What the sorter set in the sorted conditions", "",
    ),
    (
        "start_composition", "composition", "crossmodal:StartComposition", None,
        "What the condition's movies showed at their start", "",
    ),
    (
        "mean_composition", "composition", "crossmodal:MeanComposition", None,
        "Mean of the other conditions' movies at harvest", "",
    ),
    (
        "control_composition", "composition", "crossmodal:ControlComposition", None,
        "What the control's movies show at harvest", "",
    ),
    ("persistence", "forecast", "crossmodal:Persistence", None, "The last two hours, for ever", ""),
    ("mean_trajectory", "forecast", "crossmodal:MeanTrajectory", None, "Mean of the condition's other scenes", ""),
    ("no_response", "response", "crossmodal:NoResponse", None, "No change from control", ""),
    ("mean_response", "response", "crossmodal:MeanResponse", None, "Mean change of the other conditions", ""),
    (
        "additive_response", "response", "crossmodal:AdditiveResponse", None,
        "Sum of the changes of the conditions that change one gene each", "",
    ),
)
_SIMPLE = (
    (
        "called_phases", "composition", "crossmodal:CalledPhases", "crossmodal:CalledPhasesConfig",
        "Share of the cells that the pipeline calls S or G2M", "",
    ),
    (
        "adjusted_count", "composition", "crossmodal:AdjustedCount", None,
        "Called shares corrected for the classifier's errors on sorted cells",
        "Forman 2008, doi:10.1007/s10618-008-0097-y",
    ),
    (
        "damped_trend", "forecast", "crossmodal:DampedTrend", "crossmodal:DampedTrendConfig",
        "A line through the last hours whose slope fades",
        "Gardner and McKenzie 1985, doi:10.1287/mnsc.31.10.1237",
    ),
    (
        "two_state", "forecast", "crossmodal:TwoState", None,
        "G1 and S_G2M with constant rates fitted to what is seen", "",
    ),
    (
        "linear_response", "response", "crossmodal:LinearResponse", "crossmodal:LinearResponseConfig",
        "Ridge regression between the modalities' changes", "",
    ),
)
"""Simple models of the tasks that have no other."""
_NOISE = ("hyped_bench.controls.denoise_noise",)
_SHARED = {
    "bilinear": ("hyped_bench.controls.expression",),
    "crossmodal": ("hyped_bench.tasks.crossmodal.contracts",),
    "embedding": (
        "hyped_bench.tasks.embedding.genes", "hyped_bench.metrics.expression", "hyped_bench.metrics.undefined",
    ),  # fmt: skip
    **dict.fromkeys(("denoise", "denoise_tv", "denoise_nlm"), _NOISE),
}
"""Module of a control -> modules whose code is part of it."""


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """Controls of every task, and simple models of the cross-modal ones."""
    for role, rows in (("control", _CONTROLS), ("model", _SIMPLE)):
        for name, task, target, config, summary, citation in rows:
            yield ModelSpec(
                name=name,
                task=task,
                target=f"hyped_bench.controls.{target}",
                config=None if config is None else f"hyped_bench.controls.{config}",
                summary=summary,
                role=role,  # type: ignore[arg-type]
                seeded=name == "pca",  # its axes start from random vectors
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
            "pearson_delta_train",
            "mse_relative",
            "wmse",
            "pds_l1",
            "rank_l1",
            "energy_distance",
            "de_overlap_50",
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
    crossmodal, exercises = f"{tasks}.crossmodal", "hyped_bench.exercises"
    yield TaskSpec(
        "composition", f"{crossmodal}:CompositionTask", "Phase fractions at harvest, from cells against nuclei",
        ("fraction_error", "bias", "order_agreement"), f"{exercises}:COMPOSITION",
    )  # fmt: skip
    yield TaskSpec(
        "forecast", f"{crossmodal}:ForecastTask", "Continue movies from their start",
        ("mase", "rmse_dividing", "rmse_growth", "rmse_speed", "rmse_area"), f"{exercises}:FORECAST",
    )  # fmt: skip
    yield TaskSpec(
        "response", f"{crossmodal}:ResponseTask", "One modality's change from the other's",
        ("z_rmse", "pearson", "rmse_dividing", "rmse_growth", "rmse_speed", "rmse_area", "rmse_expression"),
        f"{exercises}:RESPONSE",
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
    from hyped_bench.metric_specs import metric_specs

    yield from metric_specs()


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """Commands of the benchmark."""
    cli = "hyped_bench.cli"
    yield CommandSpec(("bench", "run"), "hyped_bench.cli_run:run", "Run models on a task and score them.")
    yield CommandSpec(("bench", "score"), "hyped_bench.cli_score:score", "Score a file of predicted expression.")
    yield CommandSpec(("bench", "status"), f"{cli}:status", "What has been scored and what is left.")
    yield CommandSpec(("bench", "compare"), "hyped_bench.cli_compare:compare", "Compare two runs within tolerance.")
    yield CommandSpec(("bench", "split"), "hyped_bench.cli_split:split_command", "Splits as files with hashes.")
    yield CommandSpec(("bench", "judge"), "hyped_bench.cli_judge:judge", "Verdicts in words, with what they rest on.")
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
        ("movies", "The movies"),
        ("phases", "Figure 2a: cell-cycle phases"),
        ("cells", "Figure 2b to d: cells and genes"),
        ("changes", "What changes between conditions"),
        ("leaderboards", "Leaderboards"),
        ("paper_tables", "The paper's tables"),
        ("quality", "Quality"),
        ("containers", "The data"),
        ("provenance", "How every number came about"),
    )
    for i, (name, title) in enumerate(rows):
        yield ReportSectionSpec(name, title, f"hyped_bench.report.sections.{name}:section", order=10 * (i + 1))
