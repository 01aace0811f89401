"""oneDNN's matrix products in single precision on a CPU, where this PyTorch has them.

PyTorch gives float32 products to MKL, which reaches half of the speed on processors that are not Intel's; oneDNN, which
comes with PyTorch too, does not mind.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this PyTorch has oneDNN's linear operator, and it computes what is expected of it."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, w, b = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        with torch.inference_mode():
            found = fused_product(x, w, b, add=torch.ones(2, 4))
            rectified = fused_product(-x, w, b, activation="relu")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, F.linear(x, w, b) + 1) and torch.equal(rectified, F.linear(-x, w, b).relu())


def fused_product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, add: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """``activation(x weight' + bias)``, or ``x weight' + bias + add``."""
    operator = torch.ops.mkldnn._linear_pointwise
    if add is not None:
        return operator.binary(x, add, weight, bias, "add")
    return operator(x, weight, bias, activation, [], "none" if activation == "gelu" else "")
