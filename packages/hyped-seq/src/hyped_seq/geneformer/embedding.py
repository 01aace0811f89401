"""Embeddings of token sequences: sorted, batched to the memory there is, run through the encoder, pooled, cached.

Importing this module imports torch.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hyped_core.context import RunContext
from hyped_core.errors import CorruptFileError, MissingHardwareError, ParamsError, UsageError
from hyped_seq.geneformer.architecture import Architecture
from hyped_seq.geneformer.embedding_cache import EmbeddingCache, keys_of
from hyped_seq.geneformer.encoder import Encoder
from hyped_seq.geneformer.series import Series
from hyped_seq.geneformer.tokens import TokenSets
from hyped_seq.geneformer.weights import Weights
from hyped_seq.torch_run import torch_threads

Pooling = Literal["mean", "cls"]
Precision = Literal["auto", "fp32", "bf16"]

MOST_TOKENS = {"cpu": 8192, "cuda": 131_072}
"""Tokens of a batch where memory allows; more are no faster."""
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def embed_tokens(
    weights: Weights,
    tokens: TokenSets,
    *,
    series: Series,
    layer: int = -1,
    pooling: Pooling = "mean",
    batch_tokens: int | None = None,
    precision: Precision = "auto",
    cache: EmbeddingCache | None = None,
    context: RunContext,
) -> npt.NDArray[np.float32]:
    """Embed sequences; rows in their order.

    Sequences run in batches of about ``batch_tokens`` tokens, the longest first, so that batches hold like lengths.
    Which sequences share a batch changes results by float rounding alone (and so do `EmbeddingCache` and memory being
    short, which change the batches).

    Parameters
    ----------
    series : of the tokens: whether ``<cls>`` and ``<eos>`` are there.
    layer : 0 the last layer's state, -1 the one before, and so on; later layers are not computed.
    pooling : ``mean`` over the genes of a sequence, special tokens left out; ``cls``: the state of ``<cls>``.
    batch_tokens : tokens in a batch, one sequence at least; `batch_size` where None.
    precision : ``auto`` is float32 on a CPU and bfloat16 on a GPU. Means are taken in float32.
    cache : sequences it knows are not run; those of equal content run once.

    Returns
    -------
    (sequences, d) float32, finite.

    Raises
    ------
    UsageError
        ``cls`` in a series without ``<cls>``, or a batch of less than one token.
    InvalidDataError
        No such layer; tokens or lengths beyond what the weights hold.
    CorruptFileError
        The weights give numbers that are not finite.
    MissingHardwareError
        ``context.device`` is not here.
    """
    if pooling == "cls" and not series.special:
        raise UsageError(
            f"series {series.name} has no <cls> to pool by",
            where="pooling",
            mend="pooling mean, or a model of series v2",
        )
    architecture = weights.architecture
    depth = architecture.depth(layer)
    device = device_of(context.device)
    kind = resolve_precision(precision, device)
    found = np.zeros(len(tokens), dtype=bool)
    out = np.full((len(tokens), architecture.hidden), np.nan, dtype=np.float32)
    first = np.arange(len(tokens))  # the sequence of equal content that is run
    keys: list[bytes] = []
    if cache is not None:
        facts = {
            "weights": weights.sha256,
            "layer": layer,
            "pooling": pooling,
            "precision": kind,
            "special": series.special,
        }
        keys = keys_of(tokens, facts)
        found, out = cache.get(keys, architecture.hidden)
        seen: dict[bytes, int] = {}
        first = np.array([seen.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)
    todo = np.flatnonzero(~found & (first == np.arange(len(tokens))))
    if len(todo):
        encoder = placed(weights.encoder, device, kind)
        size = batch_size(architecture, kind, device) if batch_tokens is None else batch_tokens
        batches = make_batches(tokens.lengths, todo, size)
        try:
            with torch_threads(context.threads), torch.inference_mode():
                for rows in context.progress.track(batches, "embed", total=len(batches)):
                    out[rows] = _run(encoder, tokens, rows, depth, pooling, series, weights)
                    if cache is not None:
                        cache.put([keys[i] for i in rows], out[rows])
        finally:
            if cache is not None:
                cache.flush()
        missing = np.flatnonzero(~found)
        out[missing] = out[first[missing]]
    return out


def _run(
    encoder: Encoder,
    tokens: TokenSets,
    rows: npt.NDArray[np.int64],
    depth: int,
    pooling: Pooling,
    series: Series,
    weights: Weights,
) -> npt.NDArray[np.float32]:
    """One batch."""
    parts = [tokens[int(i)] for i in rows]
    device = encoder.embeddings.word_embeddings.weight.device
    packed = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)
    lengths = [len(part) for part in parts]
    states = encoder.pooled(packed, lengths, layers=depth, pooling=pooling, special=series.special)
    states = states.to("cpu").numpy()
    if not np.isfinite(states).all():
        raise CorruptFileError(
            "gives embeddings that are not finite",
            where=weights.source,
            mend="fetch the weights again, or precision fp32",
        )
    return states


def make_batches(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], batch_tokens: int
) -> list[npt.NDArray[np.int64]]:
    """``rows`` sorted by length, the longest first, cut into batches of at most ``batch_tokens`` (or one sequence).

    Raises
    ------
    UsageError
        ``batch_tokens`` is below 1.
    """
    if batch_tokens < 1:
        raise UsageError(f"is {batch_tokens}", where="batch_tokens", mend="give 1 or more, or leave it out")
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    ends = np.cumsum(lengths[order])
    batches, start, before = [], 0, 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, before + batch_tokens, side="right")))
        batches.append(order[start:stop])
        start, before = stop, int(ends[stop - 1])
    return batches


def batch_size(architecture: Architecture, precision: str, device: torch.device) -> int:
    """Tokens in a batch: `MOST_TOKENS`, or what a quarter of the memory that is free now holds.

    A token needs about ``bytes of a number * (10 * width + 2 * feed-forward width)``; attention keeps no scores.
    """
    a = architecture
    each = _TYPES[precision].itemsize * (10 * a.hidden + 2 * a.feed_forward)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    return max(1, min(MOST_TOKENS[device.type], free // 4 // each))


def available_memory() -> int:
    """Bytes of memory that can be had without swapping; 4 GiB where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 4 << 30
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 4 << 30)


def device_of(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` or ``cuda:0``.

    Raises
    ------
    MissingHardwareError
        There is no such device here.
    ParamsError
        No name of a device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ParamsError(f"no device is called {name!r}", where="device", mend="cpu, cuda or cuda:0") from error
    if device.type not in MOST_TOKENS:
        raise ParamsError(f"embeddings do not run on {name!r}", where="device", mend="cpu, cuda or cuda:0")
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise MissingHardwareError(f"there is no {name} here", where="device", mend="use --device cpu")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """What ``auto`` means on ``device``."""
    if precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return precision


def placed(encoder: Encoder, device: torch.device, precision: str) -> Encoder:
    """``encoder`` in eval mode on ``device`` in ``precision``: itself where it is so, else a copy."""
    weight = encoder.embeddings.word_embeddings.weight
    where = device if device.index is not None or device.type == "cpu" else torch.device(device.type, 0)
    same = weight.device == where and weight.dtype == _TYPES[precision]
    if not same:
        encoder = copy.deepcopy(encoder).to(device=where, dtype=_TYPES[precision])
    elif encoder.training:
        encoder = copy.deepcopy(encoder)
    return encoder.eval()
