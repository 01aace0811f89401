"""Hashtags from nanopore reads: 150,000 gzipped reads beside a plain edlib and rapidfuzz loop; 1,000,000 alone.

The reads are the simulator's (TotalSeq-B, ten tags, 20,000 cells, 3.8 % errors a base), so what is in each is known:
no benchmark passes where counting is fast but wrong. Reads a second are those of one core, gunzip and parsing included.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from functools import cache
from itertools import islice
from pathlib import Path
from time import process_time

import edlib
import numpy as np
import pytest
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from hyped_core.design import Hashtag
from hyped_seq.hashtags.alignment import reverse_complement
from hyped_seq.hashtags.molecules import count_molecules
from hyped_seq.hashtags.params import READ1, ReadParams
from hyped_seq.hashtags.reads import count_hashtag_reads
from hyped_seq.hashtags.whitelist import unpack
from hyped_seq.simulate.hashtags import write_reads
from hyped_seq.simulate.params import HashtagParams

SEQUENCES = (
    "GTCAACTCTTTAGCG TGATGGCCTATTGGG TTCCGCCTCTCTTTG AGTAAGTTCAGCGTA AAGTATCGTTTCGCA "
    "GGTTGCCAGATGTCA TGTCTTTCCTGCCAG CTCCTCTGCAATTAC CAGTAGTCACGGTCA ATTGACCCGCGTTAG"
).split()
TAGS = [Hashtag(pool="p", tag=f"H{i}", barcode=item, condition="c") for i, item in enumerate(SEQUENCES, 1)]
CELLS = 20_000
PLAIN_READS = 1_500
LEAST_READS_S = 50_000
RATIO = 40.0
"""How many times as many reads a second as the plain loop."""
LIMIT_MB = 600.0
RATE: dict[str, float] = {}
"""Reads a second of one core."""


def whitelist_of(n, seed=0):
    """``n`` different barcodes of 16 bases."""
    rng = np.random.default_rng(seed)
    chosen = np.unique(rng.integers(0, 4**16, int(n * 1.01), dtype=np.uint64))[:n]
    return [unpack(code, 16) for code in chosen]


@cache
def library(folder, reads):
    """FASTQ of about ``reads`` reads in ``folder``, the whitelist and the true molecules (cells, tags)."""
    rng = np.random.default_rng(1)
    whitelist = whitelist_of(CELLS)
    counts = rng.poisson(reads / 1.2 / CELLS / len(TAGS) * rng.gamma(0.5, 2, (CELLS, len(TAGS))))
    path = Path(folder) / f"{reads}.fastq.gz"
    write_reads(path, counts, whitelist, TAGS, HashtagParams(max_reads=10 * reads), rng)
    return path, whitelist, counts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder of this module's files."""
    return str(tmp_path_factory.mktemp("hashtags"))


def check(counts, truth):
    """Counts have to be those of the molecules."""
    assert np.corrcoef(counts.ravel(), truth.ravel())[0, 1] > 0.98
    assert 0.95 < counts.sum() / truth.sum() < 1.05


def plain_count(path, whitelist, tags, reads):
    """The same by calling edlib and rapidfuzz on one read after the other; the first ``reads`` of the file."""
    rows = {barcode: row for row, barcode in enumerate(whitelist)}
    forms = [reverse_complement(tag.barcode) for tag in tags]
    back = reverse_complement(READ1)
    molecules: dict[tuple[int, int], dict[str, int]] = {}
    used = 0
    with gzip.open(path, "rt") as handle:
        for line in islice(handle, 1, 4 * reads, 4):
            read = line.strip()
            ahead = edlib.align(READ1, read, mode="HW", task="locations", k=5)
            other = edlib.align(back, read, mode="HW", k=5)
            if ahead["editDistance"] < 0 and other["editDistance"] < 0:
                continue
            if ahead["editDistance"] < 0 or 0 <= other["editDistance"] < ahead["editDistance"]:
                read = reverse_complement(read)
                ahead = edlib.align(READ1, read, mode="HW", task="locations", k=5)
            start = ahead["locations"][0][1] + 1
            observed = read[start : start + 16]
            cell = rows.get(observed)
            if cell is None:
                near = process.extract(
                    observed, whitelist, scorer=Levenshtein.distance, score_cutoff=2, limit=2, processor=None
                )
                if not near or (len(near) == 2 and near[0][1] == near[1][1]):
                    continue
                cell = near[0][2]
            umi, rest = read[start + 16 : start + 28], read[start + 26 :]
            distances = [edlib.align(form, rest, mode="HW", k=2)["editDistance"] for form in forms]
            fitting = sorted((distance, tag) for tag, distance in enumerate(distances) if distance >= 0)
            if len(umi) < 12 or not fitting or (len(fitting) > 1 and fitting[0][0] == fitting[1][0]):
                continue
            of_pair = molecules.setdefault((cell, fitting[0][1]), {})
            of_pair[umi] = of_pair.get(umi, 0) + 1
            used += 1
    return used, {
        pair: sum(
            not any(
                (-of_pair[near], near) < (-of_pair[umi], umi) and Levenshtein.distance(umi, near) <= 1
                for near in of_pair
            )
            for umi in of_pair
        )
        for pair, of_pair in molecules.items()
    }


@pytest.mark.parametrize(("name", "rounds"), [("ours", 5), ("edlib and rapidfuzz", 2)])
@pytest.mark.benchmark(group="hashtags: 150,000 reads, 20,000 cells, 10 tags")
def test_beside_the_plain_loop(benchmark, folder, name, rounds):
    """Ours on all 150,000 reads; the plain loop on the first 1,500, both as reads a second of one core."""
    path, whitelist, truth = library(folder, 150_000)
    seconds = []

    def run():
        begin = process_time()
        if name == "ours":
            found, report = count_hashtag_reads(path, whitelist, TAGS, ReadParams())
            result = report.reads, report.used / report.reads, found
        else:
            used, found = plain_count(path, whitelist, TAGS, PLAIN_READS)
            result = PLAIN_READS, used / PLAIN_READS, found
        seconds.append((process_time() - begin) / result[0])
        return result

    _, share, found = benchmark.pedantic(run, rounds=rounds, warmup_rounds=1 if name == "ours" else 0)
    RATE[name] = 1 / min(seconds)
    benchmark.extra_info["reads_per_second_per_core"] = round(RATE[name])
    benchmark.extra_info["share_of_reads_used"] = round(share, 4)
    if name == "ours":
        check(found.counts.toarray(), truth)
        assert share > 0.94
        assert RATE[name] > LEAST_READS_S
    elif "ours" in RATE:
        benchmark.extra_info["ours_times_as_fast"] = round(RATE["ours"] / RATE[name])
        assert RATE["ours"] > RATIO * RATE[name]


CODE = """
import json, resource, sys
from pathlib import Path
from time import process_time
import numpy as np
from hyped_core.design import Hashtag
from hyped_seq.hashtags.params import ReadParams
from hyped_seq.hashtags.reads import count_hashtag_reads
path, lists, out, threads = sys.argv[1:]
whitelist, tags = json.load(open(lists))
tags = [Hashtag(**tag) for tag in tags]
def peak():
    # where the kernel says it: ru_maxrss counts the parent's memory too, before the program is loaded
    if Path("/proc/self/status").is_file():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
before, begin = peak(), process_time()
found, report = count_hashtag_reads(path, whitelist, tags, ReadParams(threads=int(threads)))
seconds = process_time() - begin
np.save(out, found.counts.toarray())
print(json.dumps({"seconds": seconds, "before": before, "peak": peak(), **report.record()}))
"""


def in_a_process(path, whitelist, folder, threads=1):
    """What a process of its own says of its counting, and the counts."""
    lists = Path(folder) / "lists.json"
    lists.write_text(json.dumps([whitelist, [tag.model_dump() for tag in TAGS]]))
    out = Path(folder) / "found.npy"
    command = [sys.executable, "-c", CODE, str(path), str(lists), str(out), str(threads)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ)
    return json.loads(done.stdout), np.load(out)


@pytest.mark.benchmark(group="hashtags: 1,000,000 reads, 20,000 cells, 10 tags")
def test_full_size(benchmark, folder):
    """1,000,000 reads (about 830,000 molecules) in a process of its own: reads a second, peak memory."""
    path, whitelist, truth = library(folder, 1_000_000)
    said, found = benchmark.pedantic(in_a_process, (path, whitelist, folder), rounds=2)
    check(found, truth)
    rate = said["reads"] / said["seconds"]
    benchmark.extra_info.update(
        reads=said["reads"],
        reads_per_second_per_core=round(rate),
        peak_mb=round(said["peak"]),
        before_mb=round(said["before"]),
        bytes_per_molecule=round((said["peak"] - said["before"]) * 1e6 / said["umis"]),
    )
    assert rate > LEAST_READS_S
    assert said["peak"] < LIMIT_MB


@pytest.mark.benchmark(group="hashtags: whitelist of 3,000,000")
def test_whole_list(benchmark, folder):
    """150,000 reads against a whole kit's list: 3,000,000 barcodes, the 20,000 of the cells among them."""
    path, whitelist, truth = library(folder, 150_000)
    known = set(whitelist)
    whole = whitelist + [barcode for barcode in whitelist_of(2_990_000, seed=9) if barcode not in known]
    seconds = []

    def run():
        begin = process_time()
        found, report = count_hashtag_reads(path, whole, TAGS, ReadParams())
        seconds.append(process_time() - begin)
        return found, report

    found, report = benchmark.pedantic(run, rounds=2)
    benchmark.extra_info["reads_per_second_per_core"] = round(report.reads / min(seconds))
    benchmark.extra_info["share_of_reads_used"] = round(report.used / report.reads, 4)
    counts = found.counts[:CELLS].toarray()
    assert np.corrcoef(counts.ravel(), truth.ravel())[0, 1] > 0.95 and report.used > 0.8 * report.reads


@pytest.mark.benchmark(group="hashtags: 100,000 UMIs of one cell and tag")
def test_umis(benchmark):
    """100,000 distinct UMIs, most of them within an edit of another."""
    rng = np.random.default_rng(0)
    umis = np.unique(rng.integers(0, 4**12, 101_000, dtype=np.uint64))[:100_000]
    reads = rng.integers(1, 5, len(umis)).astype(np.uint32)
    molecules = benchmark.pedantic(count_molecules, (umis, reads, 12, 1), rounds=5, warmup_rounds=1)
    assert 0.5 * len(umis) < molecules < len(umis)
