"""The encoder against HuggingFace's own BERT with the same random weights, and against itself in other batches."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import InvalidDataError, UnsupportedDataError
from hyped_seq.geneformer.architecture import (
    PUBLISHED,
    TINY,
    V1_10M,
    V1_40M,
    V2_104M,
    V2_316M,
    Architecture,
)

torch = pytest.importorskip("torch")

from hyped_seq.geneformer import cpu_layers  # noqa: E402 (imports torch)
from hyped_seq.geneformer.encoder import Encoder  # noqa: E402

ROOT = Path(__file__).parents[3]
SMALL_V1 = Architecture(3, 64, 4, 96, 320, 211)
SMALL_V2 = Architecture(4, 96, 3, 192, 400, 157, activation="gelu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["onednn", "plain"])
def way(request, monkeypatch):
    """Both implementations of the layers: the one for CPUs and the plain one."""
    if request.param == "plain":
        monkeypatch.setattr(cpu_layers, "available", lambda: False)
    elif not cpu_layers.available():
        pytest.skip("this PyTorch has no oneDNN")
    return request.param


def hugging_face(architecture: Architecture):
    """HuggingFace's model with random weights whose biases and norms are not 0 and 1, and an encoder with the same."""
    transformers = pytest.importorskip("transformers")
    model = transformers.BertForMaskedLM(transformers.BertConfig(**architecture.to_hf_config())).eval()
    with torch.no_grad():
        for parameter in model.bert.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    encoder = Encoder(architecture).eval()
    encoder.load_state_dict(model.bert.state_dict())
    return model, encoder


def padded(architecture: Architecture, lengths: list[int]):
    tokens = torch.randint(1, architecture.vocabulary, (len(lengths), max(lengths)))
    inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return tokens.masked_fill(~inside, architecture.pad), inside


def hidden_states(model, tokens, inside):
    with torch.inference_mode():
        return model(tokens, attention_mask=inside.long(), output_hidden_states=True).hidden_states


@pytest.mark.parametrize("architecture", [SMALL_V1, SMALL_V2], ids=["v1", "v2"])
@pytest.mark.parametrize("lengths", [[40] * 3, [300, 41, 40, 40, 96, 7, 1], [257, 130, 130]], ids=str)
def test_states_of_every_layer_are_those_of_hugging_face(architecture, lengths, way):
    model, encoder = hugging_face(architecture)
    tokens, inside = padded(architecture, lengths)
    expected = hidden_states(model, tokens, inside)
    for layers in range(architecture.layers + 1):
        with torch.inference_mode():
            found = encoder(tokens, torch.tensor(lengths), layers=layers)
        assert found.shape == expected[layers].shape
        assert torch.all(found[~inside] == 0)
        assert (found - expected[layers])[inside].abs().max() < 2e-5
        cosine = torch.cosine_similarity(found[inside], expected[layers][inside])
        assert cosine.min() > 0.99999


def test_published_shape_is_that_of_hugging_face(way):
    model, encoder = hugging_face(V1_10M)
    tokens, inside = padded(V1_10M, [64, 50, 64])
    expected = hidden_states(model, tokens, inside)[V1_10M.depth(-1)]
    with torch.inference_mode():
        found = encoder(tokens, inside.sum(1), layers=V1_10M.depth(-1))
    assert (found - expected)[inside].abs().max() < 2e-5
    assert torch.cosine_similarity(found[inside], expected[inside]).min() > 0.99999


@pytest.mark.parametrize(("layer", "index"), [(-1, -2), (0, -1), (-3, -4)])
def test_depth_is_the_official_choice_of_a_hidden_state(layer, index):
    model, encoder = hugging_face(SMALL_V1)
    tokens, inside = padded(SMALL_V1, [30, 30])
    with torch.inference_mode():
        found = encoder(tokens, inside.sum(1), layers=SMALL_V1.depth(layer))
    assert torch.allclose(found, hidden_states(model, tokens, inside)[index], atol=2e-5)
    with pytest.raises(InvalidDataError, match="there is no layer -4"):
        SMALL_V1.depth(-4)


@pytest.mark.parametrize("special", [False, True])
def test_pooling_leaves_out_padding_and_special_tokens(special, way):
    model, encoder = hugging_face(SMALL_V2)
    lengths = [120, 9, 9, 3]
    tokens, inside = padded(SMALL_V2, lengths)
    states = hidden_states(model, tokens, inside)[3].numpy()
    edge = 1 if special else 0
    means = np.stack([state[edge : n - edge].mean(0) for state, n in zip(states, lengths, strict=True)])
    with torch.inference_mode():
        found = encoder.pooled(tokens[inside], lengths, layers=3, special=special)
        first = encoder.pooled(tokens[inside], lengths, layers=3, pooling="cls", special=special)
    np.testing.assert_allclose(found.numpy(), means, atol=2e-5)
    np.testing.assert_allclose(first.numpy(), states[:, 0], atol=2e-5)
    assert found.dtype == torch.float32


def test_what_stands_behind_a_length_is_not_looked_at(way):
    encoder = Encoder(SMALL_V1).eval()
    tokens, inside = padded(SMALL_V1, [33, 20, 5])
    other = tokens.masked_fill(~inside, 99)
    with torch.inference_mode():
        assert torch.equal(encoder(tokens, inside.sum(1)), encoder(other, inside.sum(1)))


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_cell_does_not_depend_on_its_batch(lengths, seed):
    torch.manual_seed(seed)
    encoder = Encoder(SMALL_V1).eval()
    parts = [torch.randint(0, SMALL_V1.vocabulary, (n,)) for n in lengths]
    with torch.inference_mode():
        together = encoder.packed(torch.cat(parts), lengths).split(lengths)
        for part, found in zip(parts, together, strict=True):
            assert (encoder.packed(part, [len(part)]) - found).abs().max() < 1e-5


def test_threads_and_long_sequences_change_no_more_than_rounding(way):
    """Lengths on both sides of where sequences and scores are cut into pieces."""
    encoder = Encoder(replace(SMALL_V1, layers=1, positions=1025)).eval()
    lengths = [1025, 514, 513, 257, 96, 95, 1]
    tokens = torch.randint(0, SMALL_V1.vocabulary, (sum(lengths),))
    with torch.inference_mode():
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encoder.packed(tokens, lengths))
        assert (found[0] - found[1]).abs().max() < 1e-5
        alone = [encoder.packed(part, [len(part)]) for part in tokens.split(lengths)]
    assert (torch.cat(alone) - found[0]).abs().max() < 1e-5


def test_order_of_tokens_matters():
    encoder = Encoder(SMALL_V1).eval()
    with torch.inference_mode():
        forth, back = (encoder.pooled(t, [30]) for t in (torch.arange(1, 31), torch.arange(30, 0, -1)))
    assert (forth - back).abs().max() > 1e-3


def test_gradients_are_those_of_hugging_face():
    model, encoder = hugging_face(replace(SMALL_V1, dropout=0.0, attention_dropout=0.0))
    tokens, inside = padded(SMALL_V1, [50, 33, 2])
    model.train(), encoder.train()
    model.bert(tokens, attention_mask=inside.long()).last_hidden_state[inside].pow(3).sum().backward()
    encoder(tokens, inside.sum(1))[inside].pow(3).sum().backward()
    expected = dict(model.bert.named_parameters())
    for name, parameter in encoder.named_parameters():
        scale = expected[name].grad.abs().max().clamp_min(1e-3)
        assert (parameter.grad - expected[name].grad).abs().max() / scale < 2e-3, name


def test_dropout_acts_in_training_only():
    encoder = Encoder(replace(SMALL_V1, dropout=0.5))
    tokens, lengths = torch.randint(1, 200, (2, 20)), torch.tensor([20, 20])
    with torch.no_grad():
        assert not torch.equal(encoder.train()(tokens, lengths), encoder(tokens, lengths))
        assert torch.equal(encoder.eval()(tokens, lengths), encoder(tokens, lengths))


def test_half_precision_stays_close():
    model, encoder = hugging_face(SMALL_V1)
    tokens, inside = padded(SMALL_V1, [100, 30])
    expected = hidden_states(model, tokens, inside)[-1][inside]
    with torch.inference_mode():
        found = encoder.to(torch.bfloat16)(tokens, inside.sum(1))[inside].float()
    assert torch.cosine_similarity(found, expected).min() > 0.999


@pytest.mark.parametrize(
    ("tokens", "lengths", "layers", "said"),
    [
        ([1, 2, 3], [2], None, "sum to the number"),
        ([1, 2, 3], [3, 0], None, "1 or more"),
        ([1] * 321, [321], None, "320 positions"),
        ([1, 211], [2], None, "knows 0 to 210"),
        ([1, -1], [2], None, "tokens from -1"),
        ([1, 2], [2], 4, "cannot run 4 of 3"),
    ],
)
def test_impossible_input_is_refused(tokens, lengths, layers, said):
    encoder = Encoder(SMALL_V1).eval()
    with pytest.raises(InvalidDataError, match=said):
        encoder.packed(torch.tensor(tokens), lengths, layers=layers)


def test_a_sequence_of_special_tokens_has_no_mean():
    with pytest.raises(InvalidDataError, match="no gene between"):
        Encoder(SMALL_V2).eval().pooled(torch.tensor([2, 9, 3, 2, 3]), [3, 2], special=True)


def test_published_shapes_have_their_published_sizes():
    assert [a.name for a in PUBLISHED] == ["V1-10M", "V1-40M", "V2-104M", "V2-316M"]
    assert V1_10M.n_parameters() / 1e6 == pytest.approx(10.29, abs=0.005)
    assert V2_104M.n_parameters() / 1e6 == pytest.approx(104.39, abs=0.005)
    for architecture in (TINY, SMALL_V1, V1_40M, V2_104M, V2_316M):
        with torch.device("meta"):
            weights = sum(p.numel() for p in Encoder(architecture).parameters())
        assert architecture.n_parameters(head=False) == weights
    # the published file of 104M holds float32 and a header of some thousand bytes, and 316M's likewise
    assert 0 < 417_571_156 - 4 * V2_104M.n_parameters() < 100_000
    assert 0 < 1_265_455_076 - 4 * V2_316M.n_parameters() < 100_000


def test_operations_are_counted_as_pytorch_counts_them():
    from torch.utils.flop_counter import FlopCounterMode

    model, encoder = hugging_face(SMALL_V1)
    tokens, inside = padded(SMALL_V1, [40])
    for run, count in ((lambda: encoder(tokens, inside.sum(1)), False), (lambda: model(tokens), True)):
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            run()
        attention = 4 * 40 * 40 * SMALL_V1.hidden * SMALL_V1.layers  # PyTorch does not count it on a CPU
        total = counter.get_total_flops()
        assert SMALL_V1.flops(40, head=count) == total + attention


HF_V1 = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.02,
    "gradient_checkpointing": False,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.02,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 2048,
    "model_type": "bert",
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 25426,
}


def test_published_configuration_is_recognised():
    found = Architecture.from_hf_config(HF_V1)
    assert found == V1_10M and found.label == "V1-10M"
    for architecture in (*PUBLISHED, SMALL_V2):
        assert Architecture.from_hf_config(json.loads(json.dumps(architecture.to_hf_config()))) == architecture


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"position_embedding_type": "relative_key"}, UnsupportedDataError, "position_embedding_type is 'relative"),
        ({"hidden_act": "gelu_new"}, UnsupportedDataError, "hidden_act must be relu or gelu"),
        ({"add_cross_attention": True}, UnsupportedDataError, "add_cross_attention"),
        ({"is_decoder": True}, UnsupportedDataError, "is_decoder"),
        ({"model_type": "roberta"}, UnsupportedDataError, "model_type is 'roberta'"),
        ({"quantization_config": {"bits": 4}}, UnsupportedDataError, "quantization_config"),
        ({"architectures": ["T5Model"]}, UnsupportedDataError, "T5Model"),
        ({"rope_theta": 1e4}, UnsupportedDataError, "not known: rope_theta"),
        ({"num_attention_heads": 5}, InvalidDataError, "5 heads do not divide"),
        ({"hidden_size": "256"}, InvalidDataError, "hidden_size must be a positive integer"),
        ({"vocab_size": True}, InvalidDataError, "vocab_size"),
        ({"hidden_dropout_prob": 1.5}, InvalidDataError, "hidden_dropout_prob"),
        ({"pad_token_id": 30_000}, InvalidDataError, "pad_token_id"),
        ({"num_hidden_layers": None}, InvalidDataError, "num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, UnsupportedDataError, "more than 1,000 layers"),
        ({"vocab_size": 10**400}, UnsupportedDataError, "more than 1,000 layers or 10,000,000,000 parameters"),
        ({"hidden_size": 2**17, "intermediate_size": 2**17}, UnsupportedDataError, "parameters"),
    ],
)
def test_configurations_of_something_else_are_refused_by_name(change, error, said):
    with pytest.raises(error, match=said) as caught:
        Architecture.from_hf_config({**HF_V1, **change}, "there/config.json")
    assert caught.value.where == "there/config.json" and caught.value.mend


def test_missing_settings_are_named():
    short = {key: value for key, value in HF_V1.items() if key not in ("vocab_size", "hidden_size")}
    with pytest.raises(InvalidDataError, match="lacks hidden_size, vocab_size"):
        Architecture.from_hf_config(short)


def test_importing_the_architecture_imports_no_torch():
    code = "import sys, hyped_seq.geneformer.weights, hyped_seq.geneformer.hub; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_throughput_script_runs_without_a_gpu(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "gpu_geneformer.py", "--device", "cpu", "--tiny"]
    done = subprocess.run([*command, "--out", tmp_path / "out.json"], check=True, capture_output=True, text=True)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert "share of peak" in done.stdout
    assert {run["precision"] for run in facts["runs"]} == {"bf16", "fp32"}
    assert all(run["cells_per_s"] > 0 and 0 < run["share_of_measured_peak"] for run in facts["runs"])
