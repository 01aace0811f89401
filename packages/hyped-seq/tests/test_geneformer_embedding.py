"""Embeddings of sequences: pooled states against plain code, batches, and the cache that runs each sequence once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingHardwareError, ParamsError, UsageError  # noqa: E402
from hyped_seq.geneformer import embedding, embedding_cache  # noqa: E402
from hyped_seq.geneformer.architecture import Architecture  # noqa: E402
from hyped_seq.geneformer.embedding import batch_size, embed_tokens, make_batches  # noqa: E402
from hyped_seq.geneformer.embedding_cache import EmbeddingCache  # noqa: E402
from hyped_seq.geneformer.encoder import Encoder  # noqa: E402
from hyped_seq.geneformer.series import V1, V2  # noqa: E402
from hyped_seq.geneformer.tokens import TokenSets  # noqa: E402
from hyped_seq.geneformer.weights import Weights  # noqa: E402

CONTEXT = RunContext()
SHAPE = Architecture(layers=3, hidden=32, heads=4, feed_forward=48, positions=64, vocabulary=90)


def make_weights(seed: int = 0) -> Weights:
    """Random weights, ten times as large as at the start of a training, so that attention tells tokens apart."""
    torch.manual_seed(seed)
    encoder = Encoder(SHAPE).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return Weights(encoder, SHAPE, f"{seed:064d}", "random", Path("random"))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return make_weights()


def make_tokens(n: int = 30, seed: int = 0, special: bool = True) -> TokenSets:
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(n):
        genes = rng.permutation(np.arange(4, 90))[: rng.integers(1, 60)]
        sequences.append([2, *genes, 3] if special else list(genes))
    lengths = [len(sequence) for sequence in sequences]
    return TokenSets(
        np.concatenate(sequences).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.arange(n),
        n,
        np.array(lengths, dtype=np.int32),
    )


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many sequences each batch brought to the encoder."""
    batches: list[int] = []
    original = Encoder.pooled

    def pooled(self, tokens, lengths, **options):
        batches.append(len(lengths))
        return original(self, tokens, lengths, **options)

    monkeypatch.setattr(Encoder, "pooled", pooled)
    return batches


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def one_by_one(weights: Weights, tokens: TokenSets, layers: int, pooling: str, special: bool) -> np.ndarray:
    """Each sequence on its own through `Encoder.forward`, pooled by numpy."""
    rows = []
    for i in range(len(tokens)):
        sequence = torch.from_numpy(tokens[i].astype(np.int64))[None]
        with torch.no_grad():
            states = weights.encoder(sequence, torch.tensor([sequence.shape[1]]), layers=layers)[0].numpy()
        genes = states[1:-1] if special else states
        rows.append(states[0] if pooling == "cls" else genes.mean(0))
    return np.stack(rows)


@pytest.mark.parametrize(
    ("series", "layer", "pooling"),
    [(V2, -1, "mean"), (V2, 0, "mean"), (V2, -1, "cls"), (V2, -3, "mean"), (V1, -1, "mean"), (V1, 0, "mean")],
)
def test_rows_are_pooled_states_in_the_order_of_the_sequences(weights, series, layer, pooling):
    tokens = make_tokens(special=series.special)
    found = embed_tokens(weights, tokens, series=series, layer=layer, pooling=pooling, context=CONTEXT)
    expected = one_by_one(weights, tokens, 3 + layer, pooling, series.special)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not np.allclose(found[0], found[1], atol=1e-2)  # or the order would not be tested


def test_batches_change_rounding_alone(weights):
    tokens = make_tokens(60)
    whole = embed_tokens(weights, tokens, series=V2, batch_tokens=100_000, context=CONTEXT)
    for size in (1, 64, 300):
        parts = embed_tokens(weights, tokens, series=V2, batch_tokens=size, context=CONTEXT)
        assert cosines(parts, whole).min() > 1 - 1e-6
        np.testing.assert_allclose(parts, whole, atol=2e-5)
    again = embed_tokens(weights, tokens, series=V2, batch_tokens=100_000, context=CONTEXT)
    assert (again == whole).all()


def test_threads_are_put_back_and_weights_left_alone(weights):
    state = {key: value.clone() for key, value in weights.encoder.state_dict().items()}
    tokens = make_tokens()
    content = tokens.tokens.copy()
    before = torch.get_num_threads()
    embed_tokens(weights, tokens, series=V2, precision="bf16", context=RunContext(threads=before + 1))
    assert torch.get_num_threads() == before
    assert (tokens.tokens == content).all()
    for key, value in weights.encoder.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key])


def test_bf16_is_near_fp32(weights):
    tokens = make_tokens()
    exact = embed_tokens(weights, tokens, series=V2, context=CONTEXT)
    short = embed_tokens(weights, tokens, series=V2, precision="bf16", context=CONTEXT)
    assert short.dtype == np.float32
    assert not (short == exact).all()
    assert cosines(short, exact).min() > 0.995


def test_no_sequences_give_no_rows(weights):
    found = embed_tokens(weights, make_tokens().__class__(
        np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int64), 5, np.empty(0, np.int32)
    ), series=V2, cache=EmbeddingCache(), context=CONTEXT)  # fmt: skip
    assert found.shape == (0, 32)


def test_what_cannot_be_done_is_refused(weights):
    tokens = make_tokens(3)
    v1 = make_tokens(3, special=False)
    with pytest.raises(UsageError, match="no <cls>"):
        embed_tokens(weights, v1, series=V1, pooling="cls", context=CONTEXT)
    with pytest.raises(InvalidDataError, match="no layer"):
        embed_tokens(weights, tokens, series=V2, layer=-4, context=CONTEXT)
    with pytest.raises(UsageError, match="batch_tokens"):
        embed_tokens(weights, tokens, series=V2, batch_tokens=0, context=CONTEXT)
    with pytest.raises(ParamsError, match="device"):
        embed_tokens(weights, tokens, series=V2, context=RunContext(device="gpu"))
    if not torch.cuda.is_available():
        with pytest.raises(MissingHardwareError, match="cuda"):
            embed_tokens(weights, tokens, series=V2, context=RunContext(device="cuda"))


def test_embeddings_that_are_not_finite_are_refused(weights):
    broken = make_weights()
    with torch.no_grad():
        broken.encoder.encoder.layer[0].output.dense.bias.fill_(float("nan"))
    cache = EmbeddingCache()
    with pytest.raises(CorruptFileError, match="not finite"):
        embed_tokens(broken, make_tokens(3), series=V2, cache=cache, context=CONTEXT)
    assert cache.n_computed == 0


def test_batches_hold_every_row_once_the_longest_first():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    rows = np.arange(0, 200, 2)
    for size in (1, 10, 75, 10_000):
        batches = make_batches(lengths, rows, size)
        order = np.concatenate(batches)
        assert sorted(order) == rows.tolist()
        assert (np.diff(lengths[order]) <= 0).all()
        assert all(lengths[batch].sum() <= max(size, lengths[batch[0]]) for batch in batches)
        # no two neighbours would fit into one
        sums = [lengths[batch].sum() for batch in batches]
        assert all(a + lengths[b[0]] > size for a, b in zip(sums, batches[1:], strict=False))


def test_a_batch_takes_at_most_a_quarter_of_free_memory(monkeypatch):
    each = 4 * (10 * 32 + 2 * 48)
    for free, expected in ((each * 4 * 100, 100), (0, 1), (1 << 60, embedding.MOST_TOKENS["cpu"])):
        monkeypatch.setattr(embedding, "available_memory", lambda free=free: free)
        assert batch_size(SHAPE, "fp32", torch.device("cpu")) == expected


# ------------------------------------------------------------------ cache
def test_each_content_reaches_the_encoder_once(weights, encoded):
    tokens = make_tokens(10)
    offsets, lengths = tokens.offsets, tokens.lengths
    twice = TokenSets(
        np.tile(tokens.tokens, 2),
        np.concatenate([offsets, offsets[1:] + offsets[-1]]),
        np.arange(20),
        20,
        np.tile(lengths, 2).astype(np.int32),
    )
    cache = EmbeddingCache()
    first = embed_tokens(weights, twice, series=V2, cache=cache, context=CONTEXT)
    assert sum(encoded) == 10
    assert (first[:10] == first[10:]).all()
    again = embed_tokens(weights, tokens, series=V2, cache=cache, context=CONTEXT)
    assert sum(encoded) == 10
    assert (again == first[:10]).all()
    assert (cache.n_computed, cache.n_found) == (10, 10)


def test_whatever_decides_an_embedding_is_part_of_its_key(weights, encoded):
    tokens, cache = make_tokens(4), EmbeddingCache()
    common = {"cache": cache, "context": CONTEXT}
    calls = [
        embed_tokens(weights, tokens, series=V2, **common),
        embed_tokens(weights, tokens, series=V2, layer=0, **common),
        embed_tokens(weights, tokens, series=V2, pooling="cls", **common),
        embed_tokens(weights, tokens, series=V2, precision="bf16", **common),
        embed_tokens(weights, tokens, series=V1, **common),
        embed_tokens(make_weights(1), tokens, series=V2, **common),
    ]
    assert sum(encoded) == 4 * len(calls)
    assert len({call.tobytes() for call in calls}) == len(calls)
    embed_tokens(weights, tokens, series=V2, precision="fp32", **common)  # what auto was
    assert sum(encoded) == 4 * len(calls)


class Interrupted:
    """A progress that is interrupted before the batch ``after``."""

    def __init__(self, after: int) -> None:
        self.after = after

    def track(self, items, description, total=None):
        for i, item in enumerate(items):
            if i == self.after:
                raise KeyboardInterrupt
            yield item


def test_an_interrupted_run_goes_on_where_it_was(weights, encoded, tmp_path):
    tokens = make_tokens(20)
    whole = embed_tokens(weights, tokens, series=V2, batch_tokens=150, context=CONTEXT)
    batches = list(encoded)
    encoded.clear()
    with pytest.raises(KeyboardInterrupt):
        embed_tokens(
            weights, tokens, series=V2, batch_tokens=150, cache=EmbeddingCache(tmp_path / "cache"),
            context=replace(CONTEXT, progress=Interrupted(3)),
        )  # fmt: skip
    assert encoded == batches[:3]
    encoded.clear()
    found = embed_tokens(
        weights, tokens, series=V2, batch_tokens=150, cache=EmbeddingCache(tmp_path / "cache"), context=CONTEXT
    )
    assert sum(encoded) == 20 - sum(batches[:3])
    assert (found == whole).all()


def test_a_run_that_was_killed_loses_what_was_not_yet_written(weights, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_cache, "FLUSH_ROWS", 1)
    tokens = make_tokens(12)
    cache = EmbeddingCache(tmp_path)
    monkeypatch.setattr(EmbeddingCache, "flush", _flush_until(5))
    embed_tokens(weights, tokens, series=V2, batch_tokens=1, cache=cache, context=CONTEXT)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("*.npy"))) == 5
    again = EmbeddingCache(tmp_path)
    embed_tokens(weights, tokens, series=V2, cache=again, context=CONTEXT)
    assert (again.n_found, again.n_computed) == (5, 7)


def _flush_until(times: int):
    original = EmbeddingCache.flush
    calls: list[int] = []

    def flush(self) -> None:
        calls.append(1)
        if len(calls) <= times:
            original(self)

    return flush


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "text"])
def test_a_damaged_shard_is_said_and_computed_again(weights, encoded, tmp_path, damage):
    tokens = make_tokens(10)
    whole = embed_tokens(weights, tokens, series=V2, cache=EmbeddingCache(tmp_path), context=CONTEXT)
    (shard,) = tmp_path.glob("*.npy")
    content = shard.read_bytes()
    shard.write_bytes(
        {
            "cut": content[:-7],
            "changed": content[:-40] + b"\x00\x00\x80\x3f" + content[-36:],
            "emptied": b"",
            "text": b"no array",
        }[damage]
    )
    encoded.clear()
    cache = EmbeddingCache(tmp_path)
    again = embed_tokens(weights, tokens, series=V2, cache=cache, context=CONTEXT)
    assert sum(encoded) == 10
    assert cache.damaged == [shard.name]
    assert (again == whole).all()
    clean = EmbeddingCache(tmp_path)
    embed_tokens(weights, tokens, series=V2, cache=clean, context=CONTEXT)
    assert (clean.damaged, clean.n_found) == ([], 10)


def test_two_at_one_folder_find_what_the_other_wrote(weights, encoded, tmp_path):
    first, second = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    a, b = make_tokens(6, seed=1), make_tokens(6, seed=2)
    of_a = embed_tokens(weights, a, series=V2, cache=first, context=CONTEXT)
    of_b = embed_tokens(weights, b, series=V2, cache=second, context=CONTEXT)
    assert sum(encoded) == 12
    assert (embed_tokens(weights, a, series=V2, cache=second, context=CONTEXT) == of_a).all()
    assert (embed_tokens(weights, b, series=V2, cache=first, context=CONTEXT) == of_b).all()
    assert sum(encoded) == 12


def test_a_shard_that_vanishes_is_computed_again(weights, encoded, tmp_path):
    cache = EmbeddingCache(tmp_path)
    tokens = make_tokens(5)
    embed_tokens(weights, tokens, series=V2, cache=EmbeddingCache(tmp_path), context=CONTEXT)
    cache.get([b"0" * 16], 32)  # has seen the shard
    for shard in tmp_path.glob("*.npy"):
        shard.unlink()
    found = embed_tokens(weights, tokens, series=V2, cache=cache, context=CONTEXT)
    assert np.isfinite(found).all()
    assert sum(encoded) == 10


def test_memory_is_bounded(weights, encoded, monkeypatch):
    monkeypatch.setattr(embedding_cache, "MEMORY_BYTES", 4 * 32 * 4)
    tokens, cache = make_tokens(10), EmbeddingCache()
    embed_tokens(weights, tokens, series=V2, cache=cache, context=CONTEXT)
    embed_tokens(weights, tokens, series=V2, cache=cache, context=CONTEXT)
    assert (cache.n_found, sum(encoded)) == (4, 16)


def test_a_file_is_no_folder_for_a_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        EmbeddingCache(tmp_path / "file")
