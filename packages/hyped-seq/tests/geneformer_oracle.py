"""Rank value encoding a cell at a time, from the description of the official code: what `Tokenizer` is held against.

Nothing of `hyped_seq` is used. Dictionaries are plain ``dict`` objects, as the official files hold them.
"""

from __future__ import annotations

import numpy as np


def collapsed(counts, ids, mapping):
    """Counts and ids after upper-casing, mapping to current ids and summing what has one; the rest is dropped."""
    place, target = {}, []
    for name in ids:
        current = mapping.get(str(name).upper())
        target.append(-1 if current is None else place.setdefault(current, len(place)))
    summed = np.zeros((counts.shape[0], len(place)))
    for column, to in enumerate(target):
        if to >= 0:
            summed[:, to] += counts[:, column]
    return summed, list(place)


def official(counts, ids, n_counts, token_of, median_of, *, series="v1", mapping=None, max_tokens=None):
    """Tokens and values of each cell; ties are left in whatever order ``np.argsort`` gives.

    Parameters
    ----------
    counts : (cells, genes) dense.
    mapping : id -> current id, complete (series v2 only); None keeps all ids, in upper case.

    Returns
    -------
    A list of (tokens with specials, values of the kept genes); ``(None, None)`` for a cell without genes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    room = max_tokens or (2048 if series == "v1" else 4096)
    if series == "v2":
        room -= 2
        upper = {str(name).upper(): str(name).upper() for name in ids}
        counts, ids = collapsed(counts, ids, upper if mapping is None else mapping)
    known = np.array([name in token_of and name in median_of for name in ids], dtype=bool)
    tokens = np.array([token_of[name] for name, k in zip(ids, known, strict=True) if k], dtype=np.int64)
    medians = np.array([median_of[name] for name, k in zip(ids, known, strict=True) if k], dtype=np.float64)
    found = []
    for cell in range(counts.shape[0]):
        x = counts[cell, known]
        here = np.flatnonzero(x)
        if not len(here):
            found.append((None, None))
            continue
        values = x[here] / float(n_counts[cell]) * 10_000 / medians[here]
        order = np.argsort(-values)[:room]
        sequence = tokens[here][order]
        if series == "v2":
            sequence = np.concatenate([[token_of["<cls>"]], sequence, [token_of["<eos>"]]])
        found.append((sequence, values[order]))
    return found


def with_ties_by_token(sequence, values, *, series="v1"):
    """The same sequence with equal values in the order of their tokens (as far as the cut leaves them)."""
    inner = sequence[1:-1] if series == "v2" else sequence
    ordered = inner[np.lexsort((inner, -values))]
    return np.concatenate([sequence[:1], ordered, sequence[-1:]]) if series == "v2" else ordered


def has_tie_at_cut(sequence_values, all_values):
    """Whether the last value kept equals one that was cut off."""
    last = sequence_values[-1]
    return np.count_nonzero(all_values == last) > np.count_nonzero(sequence_values == last)
