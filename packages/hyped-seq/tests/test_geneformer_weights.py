"""Weights: there and back through HuggingFace's files, damage of every kind, and fetching from a stand-in of a hub."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import pickle
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hyped_core.errors import (
    CorruptFileError,
    HypedError,
    InvalidDataError,
    MissingFileError,
    NetworkError,
    UnsupportedDataError,
    ValidationError,
)
from hyped_seq.geneformer import hub
from hyped_seq.geneformer.architecture import Architecture
from hyped_seq.geneformer.series import V1, V2

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402 (needs torch)

from hyped_seq.geneformer.encoder import Encoder  # noqa: E402
from hyped_seq.geneformer.weights import CARD, check_fit, load_weights, save_weights  # noqa: E402

SHAPE = Architecture(2, 32, 2, 48, 24, 41)
WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return Encoder(SHAPE).eval()


@pytest.fixture
def folder(tmp_path, encoder):
    save_weights(tmp_path / "model", encoder, SHAPE)
    return tmp_path / "model"


def same(one, other) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def changed(folder, change):
    """Rewrite the tensors of ``folder`` after ``change`` has altered them."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_there_and_back(folder, encoder):
    found = load_weights(folder)
    assert same(found.encoder, encoder) and found.architecture == SHAPE
    assert found.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert not found.encoder.training and found.series is None and found.source == str(folder)
    assert load_weights(folder, dtype=torch.bfloat16).encoder.embeddings.LayerNorm.weight.dtype == torch.bfloat16


def test_the_same_weights_make_the_same_bytes(folder, tmp_path, encoder):
    save_weights(tmp_path / "again", encoder, SHAPE)
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_file_may_change_after_loading(folder, encoder):
    found = load_weights(folder)
    (folder / "model.safetensors").write_bytes(bytes((folder / "model.safetensors").stat().st_size))
    assert same(found.encoder, encoder)


def test_hugging_face_reads_what_is_written(tmp_path, encoder):
    transformers = pytest.importorskip("transformers")
    first = transformers.BertForMaskedLM(transformers.BertConfig(**SHAPE.to_hf_config())).eval()
    head = {key: value for key, value in first.state_dict().items() if key.startswith("cls.")}
    save_weights(tmp_path, encoder, SHAPE, head)
    read, info = transformers.BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    state = read.state_dict()
    for key, value in encoder.state_dict().items():
        assert torch.equal(state[f"bert.{key}"], value)
    for key, value in head.items():
        assert torch.equal(state[key], value) or key == "cls.predictions.decoder.weight"
    assert torch.equal(state["cls.predictions.decoder.weight"], state[WORDS])
    with pytest.raises(InvalidDataError, match="must begin with 'cls.'"):
        save_weights(tmp_path, encoder, SHAPE, {"predictions.bias": torch.zeros(3)})


@pytest.mark.parametrize("form", ["safetensors", "shards", "bin", "no prefix", "half"])
def test_what_hugging_face_writes_is_read(tmp_path, form):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    config = transformers.BertConfig(**SHAPE.to_hf_config())
    model = (transformers.BertModel if form == "no prefix" else transformers.BertForMaskedLM)(config)
    body = model if form == "no prefix" else model.bert
    if form == "half":
        model.half()
    if form == "bin":
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        config.save_pretrained(tmp_path)
    else:
        model.save_pretrained(tmp_path, **({"max_shard_size": "15KB"} if form == "shards" else {}))
    assert (tmp_path / "model.safetensors.index.json").is_file() == (form == "shards")
    expected = {key: value.float() for key, value in body.state_dict().items() if not key.startswith("pooler.")}
    found = load_weights(tmp_path)
    assert found.architecture == SHAPE
    assert all(torch.equal(value, expected[key]) for key, value in found.encoder.state_dict().items())
    assert len(found.sha256) == 64


def test_safetensors_go_before_pickles(folder, encoder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert same(load_weights(folder).encoder, encoder)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_that_runs_something_is_refused(folder, tmp_path, writer):
    (folder / "model.safetensors").unlink()
    state = {WORDS: torch.zeros(3), "x": Evil(tmp_path / "ran")}
    if writer == "torch":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(HypedError, match="refused|no readable") as caught:
        load_weights(folder)
    assert "pytorch_model.bin" in str(caught.value) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 7, 300, 0.5, -1])
def test_a_file_cut_short_is_named(folder, keep):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CorruptFileError, match="no whole safetensors") as caught:
        load_weights(folder)
    assert caught.value.where == str(path) and caught.value.mend


def test_a_pickle_cut_short_is_named(folder, encoder):
    torch.save(encoder.state_dict(), folder / "pytorch_model.bin")
    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    (folder / "model.safetensors").unlink()
    with pytest.raises(CorruptFileError, match="no readable torch state"):
        load_weights(folder)


def test_every_key_that_is_wrong_is_named(folder):
    def change(state):
        state["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(32)
        del state["bert.encoder.layer.0.attention.self.key.bias"]
        state[WORDS] = torch.zeros(40, 32)
        state["bert.embeddings.LayerNorm.bias"] = torch.zeros(32, dtype=torch.int32)
        state["cls.predictions.bias"] = torch.zeros(41)
        state["bert.pooler.dense.bias"] = torch.zeros(32)

    with pytest.raises(ValidationError) as caught:
        load_weights(changed(folder, change))
    said = {problem.where: problem.message for problem in caught.value.problems}
    assert set(said) == {
        "bert.encoder.layer.2.output.dense.bias",
        "bert.encoder.layer.0.attention.self.key.bias",
        WORDS,
        "bert.embeddings.LayerNorm.bias",
    }
    assert said[WORDS] == "is 40 x 32; config.json says 41 x 32"
    assert "missing" in said["bert.encoder.layer.0.attention.self.key.bias"]
    assert "I32" in said["bert.embeddings.LayerNorm.bias"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(folder, value):
    with pytest.raises(CorruptFileError, match="LayerNorm.bias holds numbers that are not finite"):
        load_weights(changed(folder, lambda state: state["bert.embeddings.LayerNorm.bias"].__setitem__(3, value)))


def test_another_models_tensors_and_lists_are_refused(folder):
    torch.save([1, 2], folder / "pytorch_model.bin")
    save_file({"lstm.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(ValidationError, match="lstm.weight"):
        load_weights(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CorruptFileError, match="no dictionary of tensors"):
        load_weights(folder)


def test_missing_and_broken_files_are_named(folder, tmp_path):
    config = folder / "config.json"
    for content, error, said in (
        ("{", CorruptFileError, "no JSON"),
        ("[]", CorruptFileError, "no JSON object"),
        ('{"model_type": "t5"}', UnsupportedDataError, "model_type is 't5'"),
    ):
        config.write_text(content)
        with pytest.raises(error, match=said) as caught:
            load_weights(folder)
        assert caught.value.where == str(config)
    config.unlink()
    with pytest.raises(MissingFileError, match="config.json"):
        load_weights(folder)
    with pytest.raises(MissingFileError, match="holds neither"):
        config.write_text(json.dumps(SHAPE.to_hf_config()))
        (folder / "model.safetensors").unlink()
        load_weights(folder)
    with pytest.raises(MissingFileError, match="is a file"):
        load_weights(config)
    with pytest.raises(MissingFileError, match="no such folder"):
        load_weights(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("index", "error", "said"),
    [
        ({"weight_map": {WORDS: "../model.safetensors"}}, InvalidDataError, "no safetensors file beside it"),
        ({"weight_map": {WORDS: "lost.safetensors"}}, MissingFileError, "the index names"),
        ({"weight_map": {"bert.x": "part.safetensors"}}, ValidationError, "bert.x"),
        ({"weight_map": {}}, CorruptFileError, "no weight_map"),
        ({}, CorruptFileError, "no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(folder, index, error, said):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(error, match=said):
        load_weights(folder)


SPECIALS = {V1.name: {"<pad>": 0, "<mask>": 1}, V2.name: {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3}}


def dictionary(series, **changes):
    values = {"series": series, "vocabulary": 41, "specials": SPECIALS[series.name], "where": "dictionaries.json"}
    return SimpleNamespace(**values | changes)


@pytest.mark.parametrize(
    ("series", "changes", "tokens", "where"),
    [
        (V2, {"vocabulary": 42}, 24, "vocabulary"),
        (V2, {"specials": SPECIALS["v1"]}, 24, "specials/<cls>"),
        (V2, {"specials": {**SPECIALS["v2"], "<eos>": 41}}, 24, "specials/<eos>"),
        (V1, {"specials": SPECIALS["v2"]}, 24, "specials"),
        (V1, {"specials": {"<pad>": 5, "<mask>": 1}}, 24, "specials/<pad>"),
        (V1, {}, 25, "max_tokens"),
        (V2, {}, None, "max_tokens"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(folder, series, changes, tokens, where):
    weights = load_weights(folder)
    check_fit(weights, dictionary(series), max_tokens=24)
    with pytest.raises(ValidationError) as caught:
        check_fit(weights, dictionary(series, **changes), max_tokens=tokens)
    assert where in [problem.where for problem in caught.value.problems]


def test_a_dictionary_of_the_other_series_is_refused(folder):
    (folder / CARD).write_text(json.dumps({"series": "v2"}))
    weights = load_weights(folder)
    assert weights.series == "v2"
    check_fit(weights, dictionary(V2), max_tokens=24)
    with pytest.raises(ValidationError, match="series v1, the weights of v2"):
        check_fit(weights, dictionary(V1), max_tokens=24)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder laid out as the hub's addresses are, and keeps what was asked for."""

    asked: list[str] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        return super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HYPED_DATA_MIRROR", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    Handler.asked = []
    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield SimpleNamespace(address=f"http://127.0.0.1:{running.server_address[1]}", folder=served)
        running.shutdown()


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "HYPED_DATA_MIRROR"])
@pytest.mark.parametrize("name", ["some/model", "some/model/V1-10M@v1.2"])
def test_a_repository_is_fetched_once(server, monkeypatch, encoder, variable, name):
    monkeypatch.setenv(variable, server.address)
    revision = "v1.2" if "@" in name else "main"
    below = "V1-10M" if "V1" in name else ""
    save_weights(server.folder / "some/model/resolve" / revision / below, encoder, SHAPE)
    found = load_weights(name)
    assert same(found.encoder, encoder) and found.source == name
    assert found.folder.is_relative_to(hub.cache_folder())
    asked = len(Handler.asked)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody answers
    assert same(load_weights(name).encoder, encoder) and len(Handler.asked) == asked


@pytest.mark.parametrize("form", ["bin", "shards"])
def test_other_forms_are_fetched_too(server, monkeypatch, encoder, form):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    there = server.folder / "some/model/resolve/main"
    save_weights(there, encoder, SHAPE)
    if form == "bin":
        torch.save(encoder.state_dict(), there / "pytorch_model.bin")
        (there / "model.safetensors").unlink()
    else:
        (there / "model.safetensors").rename(there / "model-1.safetensors")
        names = dict.fromkeys(load_file(there / "model-1.safetensors"), "model-1.safetensors")
        (there / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert same(load_weights("some/model").encoder, encoder)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert same(load_weights("some/model").encoder, encoder)


def test_a_repository_without_a_model_is_said_so(server, monkeypatch, encoder):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    with pytest.raises(NetworkError, match="404") as caught:
        load_weights("some/model@main")
    assert "hyped models fetch geneformer" in caught.value.mend
    assert caught.value.where == "some/model@main" and not list(hub.cache_folder().rglob("config.json"))
    there = server.folder / "some/model/resolve/main"
    save_weights(there, encoder, SHAPE)
    (there / "model.safetensors").unlink()
    with pytest.raises(NetworkError, match="pytorch_model.bin"):
        load_weights("some/model")


def test_a_file_that_was_cut_after_fetching_is_fetched_again(server, monkeypatch, encoder):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    save_weights(server.folder / "some/model/resolve/main", encoder, SHAPE)
    path = load_weights("some/model").folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    assert same(load_weights("some/model").encoder, encoder)


def test_published_models_are_found_by_name(server, monkeypatch, tmp_path, encoder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPED_DATA_MIRROR", f"{server.address}")
    shape = replace(SHAPE, name="")
    save_weights(server.folder / "geneformer/V2-104M", encoder, shape)
    with pytest.raises(ValidationError, match="model.safetensors: expected 417571156 bytes"):
        load_weights("geneformer/V2-104M")
    raw = tmp_path / "data/geneformer/raw"
    save_weights(raw / "V1-10M", encoder, shape)
    for name in ("token_dictionary", "gene_median_dictionary", "gene_name_id_dict"):
        (raw / "dictionaries/V1").mkdir(parents=True, exist_ok=True)
        (raw / f"dictionaries/V1/{name}.pkl").write_bytes(b"")
    found = load_weights("geneformer/V1-10M")
    assert same(found.encoder, encoder)
    assert hub.dictionaries_folder(found.folder).resolve() == raw / "dictionaries/V1"
    with pytest.raises(MissingFileError, match="hyped models fetch geneformer"):
        load_weights("geneformer/V9-1B")


def test_own_dictionaries_lie_beside_the_weights(tmp_path):
    (tmp_path / "V1-10M").mkdir()
    (tmp_path / "dictionaries" / "V1").mkdir(parents=True)
    assert hub.dictionaries_folder(tmp_path / "V1-10M") == tmp_path / "dictionaries" / "V1"
    (tmp_path / "V1-10M" / "dictionaries.json").write_text("{}")
    assert hub.dictionaries_folder(tmp_path / "V1-10M") == tmp_path / "V1-10M"


@pytest.mark.parametrize("name", ["data/geneformer/raw/V1-10M", "data/other/raw/V1", "models/own", "models/own/V1"])
def test_a_path_is_not_asked_for_before_anything_was_fetched(server, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(MissingFileError, match="no such folder") as caught:
        hub.resolve(name)
    assert "hyped models fetch geneformer" in caught.value.mend and not Handler.asked


@pytest.mark.parametrize("name", ["../a/b", "/a/b", "a", "a/b@", "a/../b", "a/b/../../c", "a b/c", "./a/b"])
def test_what_is_no_repository_is_not_asked_for(server, name):
    with pytest.raises(MissingFileError, match="no such folder"):
        hub.resolve(name)
    assert not Handler.asked
