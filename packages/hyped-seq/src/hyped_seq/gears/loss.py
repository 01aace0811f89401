"""The loss of GEARS over all perturbations of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hyped_core.errors import InvalidDataError


@dataclass(frozen=True)
class Loss:
    """A batch's loss: ``total`` to differentiate, and its two parts (no gradient), total = error + direction."""

    total: Tensor
    error: Tensor
    direction: Tensor


def autofocus_loss(
    change: Tensor,
    log_variance: Tensor | None,
    x: Tensor,
    y: Tensor,
    of_cell: Tensor,
    kept: Tensor,
    control_mean: Tensor,
    *,
    direction_weight: float = 0.1,
    uncertainty_weight: float = 1.0,
) -> Loss:
    """Mean over the batch's perturbations of the mean over cells and kept genes of the fourth power of the error.

    With d = x + change - y, c the control mean and s the log variance, an entry counts
    ``d^4 (1 + uncertainty_weight exp(-s)) + direction_weight (sign(y - c) - sign(x + change - c))^2``;
    without s the bracket is 1. The second term is constant almost everywhere and has no gradient.

    Parameters
    ----------
    change, x, y
        (cells, genes): predicted change, control expression, expression observed.
    log_variance
        (cells, genes) or None.
    of_cell
        (cells,) int64, the perturbation of each cell.
    kept
        (perturbations, genes) bool: genes that count for each (all for control).
    control_mean
        (genes,).

    Raises
    ------
    InvalidDataError
        Shapes that do not fit, or a perturbation of the batch that keeps no gene.
    """
    cells, genes = change.shape
    for name, array in (("x", x), ("y", y), ("log_variance", log_variance)):
        if array is not None and array.shape != change.shape:
            raise InvalidDataError(f"shape {tuple(array.shape)}, not {(cells, genes)}", where=name)
    if of_cell.shape != (cells,) or kept.shape[1:] != (genes,) or control_mean.shape != (genes,):
        raise InvalidDataError(
            f"of_cell {tuple(of_cell.shape)}, kept {tuple(kept.shape)}, control_mean {tuple(control_mean.shape)}, not "
            f"{(cells,)}, (perturbations, {genes}), {(genes,)}",
            where="loss",
        )
    counts = torch.bincount(of_cell, minlength=len(kept)).to(change.dtype)
    entries = counts * kept.sum(1)
    present = counts > 0
    if bool((present & (entries == 0)).any()):
        raise InvalidDataError(
            "a perturbation of the batch keeps no gene: all of its genes are zero",
            where="kept",
            mend="leave conditions without expression out",
        )
    share = torch.where(present, 1 / entries.clamp(min=1), torch.zeros_like(entries)) / present.sum()
    weights = kept[of_cell] * share[of_cell, None]
    predicted = x + change
    fourth = (predicted - y).square().square()
    if log_variance is not None:
        fourth = fourth * (1 + uncertainty_weight * torch.exp(-log_variance))
    error = (weights * fourth).sum()
    with torch.no_grad():
        sides = torch.sign(y - control_mean) - torch.sign(predicted - control_mean)
        direction = direction_weight * (weights * sides.square()).sum()
    return Loss(error + direction, error.detach(), direction)
