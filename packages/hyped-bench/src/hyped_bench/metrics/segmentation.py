"""Scores of label images against label images: matching by overlap, all from one table of overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError


@dataclass(frozen=True, slots=True)
class Overlaps:
    """How two label images overlap.

    Attributes
    ----------
    truth, predicted : labels of each pair that shares a pixel (int64), background left out.
    shared : pixels shared by each pair.
    truth_labels, truth_area, predicted_labels, predicted_area : all labels and their areas in pixels.
    """

    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    truth_labels: npt.NDArray[np.int64]
    truth_area: npt.NDArray[np.int64]
    predicted_labels: npt.NDArray[np.int64]
    predicted_area: npt.NDArray[np.int64]

    @property
    def areas(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Areas of the truth's and of the predicted object of each pair."""
        return (
            self.truth_area[np.searchsorted(self.truth_labels, self.truth)],
            self.predicted_area[np.searchsorted(self.predicted_labels, self.predicted)],
        )

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each pair."""
        truth, predicted = self.areas
        return self.shared / (truth + predicted - self.shared)


def overlaps(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> Overlaps:
    """Count shared pixels of all pairs of labels; both images (y, x), integers, 0 is background."""
    first, second = np.asarray(predicted), np.asarray(truth)
    if first.shape != second.shape:
        raise InvalidDataError(
            f"predicted labels have shape {first.shape}, the truth {second.shape}",
            mend="a segmenter returns labels of the frame's shape",
        )
    first, second = first.ravel().astype(np.int64), second.ravel().astype(np.int64)
    if (first < 0).any() or (second < 0).any():
        raise InvalidDataError("labels must not be negative")
    base = int(first.max(initial=0)) + 1
    pairs, counts = np.unique(second * base + first, return_counts=True)
    left, right = pairs // base, pairs % base
    truth_labels, truth_area = _totals(left, counts)
    predicted_labels, predicted_area = _totals(right, counts)
    both = (left > 0) & (right > 0)
    return Overlaps(
        left[both], right[both], counts[both], truth_labels, truth_area, predicted_labels, predicted_area
    )


def _totals(labels: npt.NDArray, counts: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    names, where = np.unique(labels, return_inverse=True)
    area = np.bincount(where, weights=counts).astype(np.int64)
    return names[names > 0], area[names > 0]


def match_counts(predicted: npt.ArrayLike, truth: npt.ArrayLike, iou: float = 0.5) -> tuple[int, int, int]:
    """(true positives, false positives, false negatives) of objects with IoU above ``iou`` (at least 0.5).

    Above one half a pair is unique on both sides, so no assignment is needed (Kirillov et al. 2019; the counts of
    StarDist's ``matching``). Finding nothing counts (0, 0, true objects).
    """
    if iou < 0.5:
        raise InvalidDataError("matching is unique only for IoU of at least 0.5")
    table = overlaps(predicted, truth)
    hits = int((table.iou > iou).sum())
    return hits, len(table.predicted_labels) - hits, len(table.truth_labels) - hits


def f1_from_counts(hits: int, extra: int, missed: int) -> float | None:
    """2 TP / (2 TP + FP + FN) of `match_counts`; None where there is nothing to find and nothing was found.

    F1 at IoU 0.5 of Caicedo et al. 2019 (Data Science Bowl 2018). An empty segmentation scores 0; one object over the
    whole frame scores 0 as soon as no nucleus fills more than half of it.

    >>> f1_from_counts(3, 1, 1)
    0.75
    """
    total = 2 * hits + extra + missed
    return None if total == 0 else 2 * hits / total


def seg_values(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Jaccard index of each true object with the object covering more than half of it, else 0 (CTC's SEG).

    |R and S| / |R or S| where |R and S| > |R| / 2 (Cell Tracking Challenge, Maska et al. 2014); SEG is the mean over
    all true objects of all frames. An empty segmentation scores 0, extra objects cost nothing: read it beside
    `f1_from_counts`. No values where the truth has no object.
    """
    table = overlaps(predicted, truth)
    values = np.zeros(len(table.truth_labels))
    covering = 2 * table.shared > table.areas[0]
    values[np.searchsorted(table.truth_labels, table.truth[covering])] = table.iou[covering]
    return values


def foreground_counts(
    predicted: npt.ArrayLike, annotation: npt.ArrayLike, value: int | None = None
) -> tuple[int, int]:
    """(annotated foreground pixels that were labelled, annotated foreground pixels).

    ``value`` is the annotation's number for foreground (sparse annotations: 2 with 1 for background and 0
    for pixels nobody looked at); None takes everything above 0. The quotient is the foreground recall:
    labelling nothing scores 0, labelling everything 1, so it says nothing without a second number. The quotient has no
    value where nothing is annotated as foreground.
    """
    labelled, marks = np.asarray(predicted) > 0, np.asarray(annotation)
    if labelled.shape != marks.shape:
        raise InvalidDataError(f"labels {labelled.shape} and annotation {marks.shape} differ in shape")
    marked = marks > 0 if value is None else marks == value
    return int((labelled & marked).sum()), int(marked.sum())
