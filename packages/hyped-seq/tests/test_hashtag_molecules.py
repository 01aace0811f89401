"""Molecules: merging keys in bounded memory, and collapsing UMIs by the plain rule."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hashtag_oracle import count_umis, infix

from hyped_core.errors import InvalidDataError
from hyped_seq.hashtags.alignment import encode, infix_distance, pack, pattern
from hyped_seq.hashtags.molecules import MoleculeTable, count_molecules


def molecules_of(reads_of, distance):
    """`count_molecules` of UMI -> reads."""
    umis = sorted(reads_of)
    packed = pack(np.array([encode(umi) for umi in umis]))
    return count_molecules(packed, np.array([reads_of[umi] for umi in umis], np.uint32), len(umis[0]), distance)


@settings(max_examples=150, deadline=None)
@given(st.text("ACGTN", max_size=60), st.text("ACGT", min_size=1, max_size=30))
def test_infix_distance_is_the_edit_distance_to_the_nearest_part(text, sequence):
    found, _ = infix_distance(pattern(sequence), len(sequence), encode(text), 0, len(text))
    assert found == infix(sequence, text)


@pytest.mark.parametrize("distance", [0, 1, 2])
@pytest.mark.parametrize("length", [6, 9])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_few_umis_are_collapsed_by_the_plain_rule(length, distance, data):
    umis = st.text("ACG", min_size=length, max_size=length)
    reads_of = data.draw(st.dictionaries(umis, st.integers(1, 4), min_size=1, max_size=30))
    assert molecules_of(reads_of, distance) == (count_umis(reads_of, distance) if distance else len(reads_of))


@pytest.mark.parametrize("distance", [1, 2])
@pytest.mark.parametrize(("length", "n"), [(6, 400), (8, 500), (12, 300)])
def test_many_umis_are_collapsed_by_the_plain_rule(length, n, distance):
    rng = np.random.default_rng(length)
    reads_of: Counter[str] = Counter()
    for _ in range(n):
        umi = "".join(rng.choice(list("ACGT"), length))
        reads_of[umi] += int(rng.integers(1, 4))
        kind, at = rng.integers(0, 4), int(rng.integers(0, length))
        near = {1: umi[:at] + "G" + umi[at + 1 :], 2: umi[:at] + umi[at + 1 :] + "A", 3: umi[:at] + "C" + umi[at:-1]}
        reads_of[near.get(int(kind), umi)] += 1
    assert len(reads_of) > 200
    assert molecules_of(dict(reads_of), distance) == count_umis(dict(reads_of), distance)


def test_a_hundred_thousand_umis_of_one_cell_and_tag():
    rng = np.random.default_rng(0)
    umis = np.unique(rng.integers(0, 4**12, 100_000, dtype=np.uint64))
    reads = rng.integers(1, 5, len(umis)).astype(np.uint32)
    molecules = count_molecules(umis, reads, 12, 1)
    chosen = np.flatnonzero(np.isin(umis ^ np.uint64(1), umis))
    assert 0.5 * len(umis) < molecules < len(umis) - len(chosen) // 2 + 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 255)), max_size=20), max_size=8),
    st.integers(1, 30),
    st.randoms(),
)
def test_keys_are_counted_whatever_the_order_and_the_buffer(batches, buffer, random):
    plain = Counter(key for batch in batches for key in batch)
    tables = []
    for turn in range(2):
        table = MoleculeTable(5, 3, 4, buffer=buffer if turn == 0 else 1 << 20)
        for batch in batches:
            if turn:
                random.shuffle(batch)
            table.add(np.array([(cell << 2 | tag) << 8 | umi for cell, tag, umi in batch], np.uint64))
        table.compact()
        tables.append(table)
    expected = sorted(((cell << 2 | tag) << 8 | umi, count) for (cell, tag, umi), count in plain.items())
    for table in tables:
        assert list(zip(table.keys.tolist(), table.counts.tolist())) == expected
        cells, tags, molecules = table.collapsed(0)
        found = dict(zip(zip(cells.tolist(), tags.tolist()), molecules.tolist()))
        assert found == Counter((cell, tag) for cell, tag, _ in plain)


def test_more_than_a_key_can_hold():
    with pytest.raises(InvalidDataError, match="more than can be told apart"):
        MoleculeTable(1 << 24, 1 << 10, 16)
