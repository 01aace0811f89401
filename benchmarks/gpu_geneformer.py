"""Throughput of the encoder on a GPU: cells/s and share of the card's matrix peak, in bf16 and, beside it, in fp32.

    python benchmarks/gpu_geneformer.py [--compile] [--out gpu.json]
    python benchmarks/gpu_geneformer.py --device cpu --tiny      # the same code with small shapes, without a GPU

Random weights in the shape of V2-104M, states after the layer before the last, mean pooling. Cells of 2,048 tokens, of
4,096, and a mix (log-normal, median 2,000, spread 0.6, cut at 4,096) sorted by length and batched by tokens. Operations
are counted by formula (`Architecture.flops`: matrix products only, of tokens that are there). The peak is that of a
large matrix product measured on the spot in the same precision, and beside it the card's printed one where it is known.
Timings are the median of several runs after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from hyped_seq.geneformer.architecture import V2_104M, Architecture
from hyped_seq.geneformer.encoder import Encoder, Intermediate, Output

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
PRINTED_TFLOPS = {
    "H200": {"bf16": 989, "fp32": 67},
    "H100 PCIe": {"bf16": 756, "fp32": 51},
    "H100": {"bf16": 989, "fp32": 67},
    "A100": {"bf16": 312, "fp32": 19.5},
    "L40S": {"bf16": 362, "fp32": 91.6},
    "L4": {"bf16": 121, "fp32": 30.3},
    "RTX 4090": {"bf16": 165, "fp32": 82.6},
}
"""Dense matrix peaks as the makers print them, without TF32 for fp32; the first name that the card's contains."""
SMALL = Architecture(3, 64, 2, 128, 256, 500, name="small")
ROUNDS = 5


def workloads(tiny: bool) -> dict[str, list[int]]:
    """Name -> lengths of the cells, longest first."""
    top = 256 if tiny else 4096
    drawn = np.exp(np.random.default_rng(0).normal(np.log(top * 2000 / 4096), 0.6, 16 if tiny else 512))
    mix = sorted(np.clip(drawn, 16, top).astype(int).tolist(), reverse=True)
    count = 4 if tiny else 128
    return {f"{top // 2}": [top // 2] * count, f"{top}": [top] * (count // 2), "mix": mix}


def batches(lengths: list[int], tokens: int) -> Iterator[list[int]]:
    """Neighbours of at most ``tokens`` tokens."""
    batch: list[int] = []
    for length in lengths:
        if batch and sum(batch) + length > tokens:
            yield batch
            batch = []
        batch.append(length)
    yield batch


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median of `ROUNDS` runs after one that warms up."""
    found = []
    for _ in range(ROUNDS + 1):
        _wait(device)
        start = perf_counter()
        run()
        _wait(device)
        found.append(perf_counter() - start)
    return median(found[1:])


def measured_peak(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """Operations a second of a square matrix product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device)


def printed_peak(name: str, precision: str) -> float | None:
    """Operations a second that the maker of the card prints."""
    found = next((peaks for card, peaks in PRINTED_TFLOPS.items() if card in name), None)
    return None if found is None else found[precision] * 1e12


def measure(encoder: Encoder, lengths: list[int], device: torch.device, batch_tokens: int) -> tuple[float, int]:
    """Seconds for all cells, and the memory taken at most, in bytes."""
    a = encoder.architecture
    parts = list(batches(lengths, batch_tokens))
    tokens = [torch.randint(4, a.vocabulary, (sum(part),), device=device) for part in parts]
    def run() -> None:
        for some, part in zip(tokens, parts, strict=True):
            encoder.pooled(some, part, layers=a.depth(-1), special=True)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        taken = seconds(run, device)
    return taken, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes")
    parser.add_argument("--compile", action="store_true", help="norms, sums and activations through torch.compile")
    parser.add_argument("--batch-tokens", type=int, default=131_072)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU here; to try the script: --device cpu --tiny")
    torch.manual_seed(0)
    architecture = SMALL if options.tiny else V2_104M
    encoder = Encoder(architecture).eval().to(device)
    if options.compile:
        for part in encoder.modules():
            if isinstance(part, Output | Intermediate):
                part.compile(dynamic=True)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    runs = []
    for precision, dtype in PRECISIONS.items():
        encoder = encoder.to(dtype)
        peak, printed = measured_peak(dtype, device, 256 if options.tiny else 8192), printed_peak(card, precision)
        for name, lengths in workloads(options.tiny).items():
            taken, memory = measure(encoder, lengths, device, options.batch_tokens)
            work = sum(architecture.flops(n, layers=architecture.depth(-1)) for n in lengths) / taken
            runs.append(
                {
                    "tokens": name,
                    "precision": precision,
                    "cells_per_s": len(lengths) / taken,
                    "tokens_per_s": sum(lengths) / taken,
                    "tflops": work / 1e12,
                    "measured_peak_tflops": peak / 1e12,
                    "share_of_measured_peak": work / peak,
                    "share_of_printed_peak": None if printed is None else work / printed,
                    "memory_gb": memory / 1e9,
                }
            )
            said = "" if printed is None else f", {work / printed:.0%} of the printed one"
            sys.stdout.write(
                f"{architecture.label} {precision} tokens {name}: {len(lengths) / taken:,.1f} cells/s, "
                f"{work / 1e12:,.2f} TFLOP/s, share of peak {work / peak:.0%}{said}\n"
            )
    facts = {"device": card, "torch": torch.__version__, "compiled": options.compile, "runs": runs}
    if options.out:
        options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
