"""Hashtag reads made up with known truth, and the rules of counting them written plainly, for the tests to compare."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import edlib
import numpy as np

from hyped_core.design import Hashtag

READ1 = "CTACACGACGCTCTTCCGATCT"
READ1N = "CGTCAGATGTGTATAAGAGACAG"
HANDLE = "TGGAATTCTCGGGTGCCAAGG"
READ2_BACK = "AGATCGGAAGAGCACACGTCTGAACTCCAGTCAC"
SEQUENCES = ("GTCAACTCTTTAGCG", "TGATGGCCTATTGGG", "TTCCGCCTCTCTTTG", "AGTAAGTTCAGCGTA", "AAGTATCGTTTCGCA")
PLACES = {"TotalSeq-A": (30, 12), "TotalSeq-B": (31, 6), "TotalSeq-C": (22, 6)}


def back(sequence: str) -> str:
    """The other strand."""
    return sequence[::-1].translate(str.maketrans("ACGTN", "TGCAN"))


def hashtags(chemistry: str = "TotalSeq-B", n: int = 5) -> list[Hashtag]:
    """The first ``n`` human hashtags."""
    return [
        Hashtag(pool="p", tag=f"H{i + 1}", barcode=sequence, chemistry=chemistry, condition="c")
        for i, sequence in enumerate(SEQUENCES[:n])
    ]


def random_bases(rng: np.random.Generator, n: int) -> str:
    """``n`` random bases."""
    return "".join(rng.choice(list("ACGT"), n))


def barcodes(rng: np.random.Generator, n: int, length: int = 16) -> list[str]:
    """``n`` different barcodes."""
    made: dict[str, None] = {}
    while len(made) < n:
        made[random_bases(rng, length)] = None
    return list(made)


def noisy(sequence: str, rate: float, rng: np.random.Generator) -> str:
    """With substitutions, insertions and deletions, a third of ``rate`` each."""
    letters = []
    for base, draw, other in zip(sequence, rng.random(len(sequence)), rng.integers(0, 4, len(sequence)), strict=True):
        new = "ACGT"[other]
        letters.append(
            new if draw < rate / 3 else base + new if draw < 2 * rate / 3 else "" if draw < rate else base
        )
    return "".join(letters)


def molecule(cell: str, umi: str, hashtag: Hashtag, rng: np.random.Generator, adapter: str = READ1) -> str:
    """A read without errors as its chemistry makes it."""
    tag = back(hashtag.barcode)
    if hashtag.chemistry == "TotalSeq-A":
        tail = "T" * 30 + tag + HANDLE
    else:
        site = "TTTCTTATATGGG" if hashtag.chemistry == "TotalSeq-C" else "TTGCTAGGACCGGCCTTAAAGC"
        tail = site + random_bases(rng, 9) + tag + random_bases(rng, 10) + READ2_BACK
    return adapter + cell + umi + tail


@dataclass(frozen=True)
class Library:
    """Reads and what each was made of; cell -1 for a read that is no hashtag."""

    reads: list[str]
    cells: np.ndarray
    tags: np.ndarray
    umis: list[str]
    whitelist: list[str]
    hashtags: list[Hashtag]


def library(
    n: int, n_cells: int, seed: int, chemistry: str = "TotalSeq-B", rate: float = 0.038, adapter: str = READ1
) -> Library:
    """``n`` reads, one in ten of a molecule that was read before, one in twenty random, one in fifty with an N."""
    rng = np.random.default_rng(seed)
    whitelist, tags = barcodes(rng, n_cells), hashtags(chemistry)
    reads, cells, kinds, umis = [], [], [], []
    for i in range(n):
        if i > 10 and rng.random() < 0.1:
            earlier = int(rng.integers(0, i))
            cell, tag, umi = cells[earlier], kinds[earlier], umis[earlier]
        else:
            cell, tag, umi = int(rng.integers(0, n_cells)), int(rng.integers(0, len(tags))), random_bases(rng, 12)
        if cell < 0 or rng.random() < 0.05:
            cell, tag = -1, -1
            read = random_bases(rng, int(rng.integers(0, 220)))
        else:
            read = molecule(whitelist[cell], umi, tags[tag], rng, adapter)
            read = random_bases(rng, int(rng.integers(0, 40))) + read + random_bases(rng, int(rng.integers(0, 12)))
        read = noisy(read, rate, rng)
        if len(read) > 60 and rng.random() < 0.02:
            at = int(rng.integers(0, len(read)))
            read = read[:at] + "N" + read[at + 1 :]
        if rng.random() < 0.03:
            read = read[: int(rng.integers(0, len(read) + 1))]
        reads.append(back(read) if rng.random() < 0.5 else read)
        cells.append(cell)
        kinds.append(tag)
        umis.append(umi)
    return Library(reads, np.array(cells), np.array(kinds), umis, whitelist, tags)


def write_fastq(path: Path, reads: list[str]) -> None:
    """Four lines a read; gzip where the name says so."""
    text = "".join(f"@r{i}\n{read}\n+\n{'I' * len(read)}\n" for i, read in enumerate(reads))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), 1))
    else:
        path.write_text(text)


def infix(pattern: str, text: str) -> int:
    """Edit distance to the nearest part of ``text``."""
    return edlib.align(pattern, text, mode="HW")["editDistance"] if text else len(pattern)


def prefix_distance(pattern: str, text: str) -> dict[int, int]:
    """Length of each prefix of ``text`` -> its edit distance to ``pattern``."""
    row = list(range(len(text) + 1))
    for i, base in enumerate(pattern, 1):
        above, row = row, [i]
        for j, letter in enumerate(text, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (base != letter)))
    return dict(enumerate(row))


def nearest_barcode(text: str, starts: list[int], whitelist: list[str], most: int) -> tuple[int, int, int]:
    """(place in the whitelist, end, distance) of the nearest barcode; place -1 or -2 where none or several are."""
    found: dict[int, tuple[int, int, int]] = {}
    length = len(whitelist[0])
    for order, start in enumerate(starts):
        window = text[start : start + length + most]
        for cell, barcode in enumerate(whitelist):
            if window and edlib.align(barcode, window, mode="SHW", k=most)["editDistance"] < 0:
                continue
            edits, used = min(
                ((edits, used) for used, edits in prefix_distance(barcode, window).items()),
                key=lambda item: (item[0], abs(item[1] - length), -item[1]),
            )
            if edits <= most:
                key = (edits, abs(used - length), order)
                found[cell] = min(found.get(cell, (99, 99, 99, 0)), (*key, start + used))
    if not found:
        return -1, 0, 0
    best = min(item[0] for item in found.values())
    cells = [cell for cell, item in found.items() if item[0] == best]
    return (cells[0], found[cells[0]][3], best) if len(cells) == 1 else (-2, 0, best)


def nearest_tag(text: str, umi_end: int, tags: list[Hashtag], in_place: int, stray: int) -> tuple[int, int]:
    """(tag, distance); tag -1 or -2 where none or several are nearest."""
    distances = []
    for tag in tags:
        place, slack = PLACES[tag.chemistry]
        first = max(umi_end + place - slack, umi_end - 2)
        distances.append(infix(back(tag.barcode), text[first : umi_end + place + slack + len(tag.barcode)]))
    if min(distances) > in_place:
        rest = text[umi_end - 2 : umi_end + 200]
        distances = [min(infix(back(tag.barcode), rest), infix(tag.barcode, rest)) for tag in tags]
        if min(distances) > stray:
            return -1, 0
    best = min(distances)
    return (distances.index(best), best) if distances.count(best) == 1 else (-2, best)


def take_apart(
    read: str, whitelist: list[str], tags: list[Hashtag], adapters: tuple[str, ...] = (READ1, READ1N)
) -> tuple[str, tuple[int, int, str] | None]:
    """(outcome, (cell, tag, UMI)) of one read by the documented rules, at their default distances."""
    near: list[list[tuple[int, int]]] = [[], []]
    for order, adapter in enumerate(adapters):
        for strand, form in enumerate((adapter, back(adapter))):
            distance = infix(form, read)
            if distance <= min(5, len(adapter) // 4):
                near[strand].append((distance, order))
    best = [min(item, default=(99, 0)) for item in near]
    if best[0][0] == best[1][0]:
        return ("no_adapter" if best[0][0] == 99 else "both_strands"), None
    strand = int(best[1][0] < best[0][0])
    text = back(read) if strand else read
    found = edlib.align(adapters[best[strand][1]], text, mode="HW", task="locations")["locations"]
    ends = sorted({end + 1 for _, end in found})
    cell, umi, _ = nearest_barcode(text, [end for end in ends if end - ends[0] < 3], whitelist, 2)
    if cell < 0:
        return ("ambiguous_barcode" if cell == -2 else "no_barcode"), None
    letters = text[umi : umi + 12]
    if len(letters) < 12:
        return "too_short", None
    if "N" in letters:
        return "n_in_umi", None
    tag, _ = nearest_tag(text, umi + 12, tags, 3, 1)
    if tag < 0:
        return ("ambiguous_tag" if tag == -2 else "no_tag"), None
    return "used", (cell, tag, letters)


def umi_distance(one: str, other: str) -> int:
    """Edit distance with the end of either free."""
    return min(edlib.align(a, b, mode="SHW")["editDistance"] for a, b in ((one, other), (other, one)))


def count_umis(reads_of: dict[str, int], distance: int) -> int:
    """UMIs that are no copy of one read more often, or as often and earlier in the alphabet."""
    return sum(
        not any(
            (-reads_of[other], other) < (-reads_of[umi], umi) and umi_distance(umi, other) <= distance
            for other in reads_of
        )
        for umi in reads_of
    )
