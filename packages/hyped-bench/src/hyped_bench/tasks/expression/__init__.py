"""The task `expression`: predict perturbed expression, with held-out cells or by the paper's recipe."""

from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.files import checked_prediction, held_out_line, predictions_from_cells
from hyped_bench.tasks.expression.params import ExpressionParams, ExpressionSource
from hyped_bench.tasks.expression.plain import plain_section, score_plain
from hyped_bench.tasks.expression.predicted import Predicted, Predictions
from hyped_bench.tasks.expression.task import ExpressionTask

__all__ = [
    "ExpressionData",
    "ExpressionParams",
    "ExpressionSource",
    "ExpressionTask",
    "Predicted",
    "Predictions",
    "checked_prediction",
    "held_out_line",
    "plain_section",
    "predictions_from_cells",
    "score_plain",
]
