"""What the option ``--perturb GENE:DIRECTION`` means, in all commands that have it."""

from __future__ import annotations

from collections.abc import Sequence

from hyped_core.design.model import GeneChange, Perturbation
from hyped_core.errors import UsageError
from hyped_core.params import build


def perturbation_of(texts: Sequence[str]) -> Perturbation:
    """``GENE:activation`` and ``GENE:suppression`` as one perturbation, named ``GENE+GENE``; none of them: the control.

    >>> perturbation_of(["PRRX1:suppression", "MYOD1:activation"]).name
    'PRRX1+MYOD1'
    """
    changes = []
    for text in texts:
        gene, _, direction = text.rpartition(":")
        if not gene or direction not in ("activation", "suppression"):
            raise UsageError(
                "is not GENE:activation or GENE:suppression",
                where=f"--perturb {text}",
                mend="--perturb MYOD1:activation",
            )
        changes.append(build(GeneChange, {"gene": gene, "direction": direction}))
    return Perturbation(name="+".join(change.gene for change in changes) or "control", changes=tuple(changes))
