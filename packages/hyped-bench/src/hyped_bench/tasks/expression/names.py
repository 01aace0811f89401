"""Names of perturbations as other projects write them, brought to one spelling."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_bench.splits import genes_of
from hyped_core.design.model import CONTROL

CONTROL_WORDS = frozenset(
    (CONTROL, "ctrl", "non-targeting", "nontargeting", "non_targeting", "non targeting", "nt", "unperturbed")
)
"""What files of screens call control, in any case of letters."""


def canonical_names(names: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """Each name as HYPED writes it: ``control``, ``GENE`` or ``GENE1+GENE2``.

    Understood: GEARS' (``ctrl``, ``A+ctrl``), words for control such as ``non-targeting``, and scPerturb's ``A_B``
    where ``A`` and ``B`` alone are names too. Genes in another order are the same perturbation: all its spellings get
    that of ``known`` (the truth's names), or the first by the alphabet where it has none.

    >>> found = canonical_names(["ctrl", "A+ctrl", "B", "A_B", "B+A", "HLA_C"])
    >>> found["A_B"], found["B+A"], found["HLA_C"]
    ('A+B', 'A+B', 'HLA_C')
    >>> canonical_names(["A+B"], known=["B+A"])["A+B"]
    'B+A'
    """
    first = sorted(set(known))
    given = [*first, *sorted(set(names) - set(first))]
    plain = {n: CONTROL if n.strip().casefold() in CONTROL_WORDS else "+".join(genes_of(n)) or CONTROL for n in given}
    single = set(plain.values())
    found: dict[str, str] = {}
    spelling: dict[tuple[str, ...], str] = {}
    for name in given:
        parts = plain[name].split("_")
        pair = len(parts) > 1 and "+" not in plain[name] and all(part in single for part in parts)
        genes = [part for part in parts if part != CONTROL] if pair else list(genes_of(plain[name]))
        found[name] = spelling.setdefault(tuple(sorted(genes)), "+".join(genes) or CONTROL)
    return found
