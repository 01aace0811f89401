"""Pretraining: masks, head, the loop's promises, what is written, and odd inputs."""

from __future__ import annotations

import json
import math

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from hyped_core.context import RunContext
from hyped_core.errors import HypedError, InvalidDataError, UsageError

torch = pytest.importorskip("torch")

from hyped_seq.cli_geneformer_pretrain import pretrain as command  # noqa: E402
from hyped_seq.geneformer import pretrain as module  # noqa: E402
from hyped_seq.geneformer.architecture import Architecture  # noqa: E402
from hyped_seq.geneformer.dictionaries import load_dictionaries  # noqa: E402
from hyped_seq.geneformer.masked_lm import MaskedLM, MaskedTokens, first_model, mask_tokens  # noqa: E402
from hyped_seq.geneformer.pretrain import pretrain, schedule  # noqa: E402
from hyped_seq.geneformer.pretrain_baselines import baselines  # noqa: E402
from hyped_seq.geneformer.pretrain_data import batches, estimate_pretrain, n_held_out, shards  # noqa: E402
from hyped_seq.geneformer.pretrain_params import PretrainParams  # noqa: E402
from hyped_seq.geneformer.tokens import TokenSets  # noqa: E402
from hyped_seq.geneformer.weights import load_weights  # noqa: E402
from hyped_seq.readers.cells import select_cells  # noqa: E402

SMALL = PretrainParams(hidden=16, heads=2, feed_forward=16, max_tokens=64, steps=12, batch_cells=6, checks=3)


def make_cells(n_cells: int = 40, n_genes: int = 30, seed: int = 0) -> anndata.AnnData:
    """Cells of two kinds: each expresses the first or the second half of the genes, and a few of the others."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 2
    own = np.arange(n_genes)[None] // max(1, (n_genes + 1) // 2) == kind[:, None]
    counts = rng.poisson(np.where(own, 4.0, 0.05)).astype(np.int32)
    counts[:, 0] += 1  # no cell is empty
    obs = pd.DataFrame({"condition": np.where(np.arange(n_cells) % 4 < 2, "control", "other"), "n": kind.astype(str)})
    obs.index = [f"cell{i}" for i in range(n_cells)]
    var = pd.DataFrame(
        {"gene_id": [f"ENSG{i:011d}" for i in range(n_genes)], "symbol": [f"GENE{i}" for i in range(n_genes)]}
    )
    var.index = list(var["symbol"])
    return anndata.AnnData(X=sp.csr_matrix(counts), obs=obs, var=var)


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# masks


def test_masks_hide_the_share_and_never_special_tokens():
    sequences = [np.r_[2, np.arange(4, 4 + n), 3] for n in (1, 7, 100, 400)]
    masked = mask_tokens(sequences, np.random.default_rng(0), share=0.15, mask=1, first_gene=4, genes=np.arange(4, 500))
    whole = np.concatenate(sequences)
    assert masked.lengths == (3, 9, 102, 402)
    assert (masked.targets == whole[masked.places]).all() and (masked.targets >= 4).all()
    ends = np.cumsum(masked.lengths)
    per_sequence = np.bincount(np.searchsorted(ends, masked.places, side="right"), minlength=4)
    assert per_sequence.tolist() == [1, 1, 15, 60]
    untouched = np.delete(np.arange(len(whole)), masked.places)
    assert (masked.tokens[untouched] == whole[untouched]).all()


def test_of_hidden_tokens_four_in_five_are_masks_and_a_tenth_each_is_replaced_and_kept():
    sequence = np.r_[2, np.arange(4, 20004), 3]
    genes = np.arange(4, 20004)
    masked = mask_tokens([sequence], np.random.default_rng(1), share=0.5, mask=1, first_gene=4, genes=genes)
    shown = masked.tokens[masked.places]
    assert np.mean(shown == 1) == pytest.approx(0.8, abs=0.02)
    assert np.mean(shown == masked.targets) == pytest.approx(0.1, abs=0.02)
    plain = mask_tokens(
        [sequence], np.random.default_rng(1), share=0.5, mask=1, first_gene=4, genes=genes, all_masked=True
    )
    assert (plain.tokens[plain.places] == 1).all()


# the model


def test_logits_and_loss_are_those_of_bert_for_masked_lm(tmp_path):
    transformers = pytest.importorskip("transformers")
    from hyped_seq.geneformer.weights import save_weights

    torch.manual_seed(3)
    sizes = Architecture(2, 24, 3, 40, 50, 61)
    model = MaskedLM(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_weights(tmp_path, model.encoder, sizes, model.head.hf_state())
    theirs, info = transformers.BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    lengths = (9, 14)
    tokens = np.random.default_rng(0).integers(4, 61, sum(lengths))
    masked = MaskedTokens(tokens, lengths, np.array([1, 5, 8, 10, 22]), np.array([7, 30, 8, 9, 60]))
    padded, labels = np.zeros((2, 14), np.int64), np.full((2, 14), -100)
    full = np.full(len(tokens), -100)
    full[masked.places] = masked.targets
    for row, (start, length) in enumerate(((0, 9), (9, 14))):
        padded[row, :length], labels[row, :length] = tokens[start : start + length], full[start : start + length]
    attention = torch.arange(14)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        inputs = {"input_ids": torch.from_numpy(padded), "attention_mask": attention.long()}
        expected = theirs.eval()(**inputs, labels=torch.from_numpy(labels))
        logits, loss = model(masked), model.loss_sum(masked) / 5
    wanted = expected.logits[torch.from_numpy(labels) != -100]
    torch.testing.assert_close(logits, wanted, atol=2e-5, rtol=2e-5)
    assert float(loss) == pytest.approx(float(expected.loss), rel=1e-5)


def test_hidden_places_start_with_the_reverse_of_what_their_cell_shows():
    context = RunContext(seed=2)
    sizes = Architecture(2, 128, 2, 32, 512, 404)
    model = first_model(sizes, context).eval()
    rng = np.random.default_rng(0)
    shown = [np.r_[2, rng.choice(np.arange(4, 404), 200, replace=False), 3] for _ in range(2)]
    masked = mask_tokens(shown, rng, share=0.15, mask=1, first_gene=4, genes=np.arange(4, 404), all_masked=True)
    tokens = torch.from_numpy(masked.tokens)
    words = torch.nn.functional.normalize(model.encoder.embeddings.word_embeddings.weight, dim=1)
    with torch.no_grad():
        states = model.encoder.packed(tokens, masked.lengths, layers=1)
        logits = model(masked)
    ends = np.cumsum(masked.lengths)
    for row, place in enumerate(masked.places):
        cell = int(place >= ends[0])
        seen = np.isin(np.arange(404), masked.tokens[[0, ends[0]][cell] : ends[cell]])
        for found in (states[place] @ words.T, logits[row]):
            found = found.detach().numpy()
            assert found[4:][~seen[4:]].mean() > found[4:][seen[4:]].mean() + 0.3 * found[4:].std()
    assert first_model(sizes, context).head.bias.abs().max() == 0
    again = first_model(sizes, RunContext(seed=2)).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


# the data


def test_batches_use_every_cell_once_a_round():
    drawn = list(batches(np.arange(10), 5, 4, np.random.default_rng(0)))
    assert sorted(np.concatenate(drawn[:2])) == list(range(10)) == sorted(np.concatenate(drawn[2:]))
    assert len(next(batches(np.arange(3), 16, 1, np.random.default_rng(0)))) == 3


def test_shards_hold_every_cell_once_within_the_bound():
    lengths = np.random.default_rng(0).integers(1, 300, 50)
    parts = shards(np.arange(50)[::-1], lengths, 256)
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert all(lengths[part].sum() <= 256 or len(part) == 1 for part in parts)


@pytest.mark.parametrize(("n", "expected"), [(1, 0), (2, 1), (3, 1), (10, 1), (532, 53)])
def test_how_many_are_held_out(n, expected):
    assert n_held_out(n, 0.1) == expected


def test_cells_are_chosen_by_their_annotation():
    cells = make_cells(8)
    assert select_cells(cells, ["condition=control", "n=1"]).obs_names.tolist() == ["cell1", "cell5"]
    assert select_cells(cells, ["condition=control", "condition=other"]).n_obs == 8
    with pytest.raises(InvalidDataError, match="did you mean 'condition'"):
        select_cells(cells, ["conditon=control"])
    with pytest.raises(InvalidDataError, match="did you mean 'control'"):
        select_cells(cells, ["condition=contrl"])
    with pytest.raises(UsageError, match="COLUMN=VALUE"):
        select_cells(cells, ["control"])


def test_baselines_on_a_known_case():
    # every training cell is 4 5 6 7: the frequency is uniform, the rank says it all, and what is not shown is one gene
    rows = np.tile([2, 4, 5, 6, 7, 3], 300).astype(np.int32)
    tokens = TokenSets(rows, np.arange(0, 1801, 6), np.arange(300), 300, np.full(300, 4, np.int32))
    masked = [MaskedTokens(np.array([2, 4, 1, 6, 7, 3]), (6,), np.array([2]), np.array([5]))]
    found = baselines(tokens, np.arange(300), masked, 8, 4)
    assert found["frequency"]["loss"] == pytest.approx(math.log(4), rel=1e-6)
    assert found["frequency_unseen"] == {"loss": pytest.approx(0, abs=1e-9), "guessed": 1.0}
    assert found["rank"]["loss"] < found["frequency"]["loss"]


# training


def test_the_same_bytes_twice_and_for_any_number_of_threads(tmp_path):
    cells = make_cells()
    params = SMALL.model_copy(update={"batch_cells": 30, "steps": 6})
    for name, threads in (("a", 1), ("b", 1), ("c", 3)):
        module_tokens = dict(module.SHARD_TOKENS)
        try:
            module.SHARD_TOKENS["cpu"] = 64  # many parts
            pretrain(cells, params, context=RunContext(seed=4, threads=threads)).save(tmp_path / name)
        finally:
            module.SHARD_TOKENS.update(module_tokens)
    first = files_of(tmp_path / "a")
    assert set(first) == {"config.json", "model.safetensors", "dictionaries.json", "geneformer.json", "loss.csv"}
    assert files_of(tmp_path / "b") == first and files_of(tmp_path / "c") == first
    pretrain(cells, params, context=RunContext(seed=5)).save(tmp_path / "d")
    assert files_of(tmp_path / "d")["model.safetensors"] != first["model.safetensors"]


def test_it_learns_what_frequencies_do_not_say():
    # two kinds of cells: the genes shown tell the kind, and so which genes are hidden
    params = SMALL.model_copy(update={"steps": 150, "batch_cells": 16, "learning_rate": 1e-2})
    result = pretrain(make_cells(200, 40), params, context=RunContext(threads=1))
    held_out = result.record["held_out"]
    assert held_out["loss"] < held_out["untrained_loss"] - 0.5
    assert held_out["loss"] < held_out["baselines"]["frequency"]["loss"] - 0.3
    assert held_out["loss"] < held_out["baselines"]["rank"]["loss"] - 0.2


def test_it_learns_that_a_gene_that_is_shown_is_not_hidden():
    # each cell shows a random half of the genes: all there is to know is that what is hidden is none of those shown
    rng = np.random.default_rng(0)
    cells = make_cells(300, 60)
    cells.X = sp.csr_matrix((rng.random((300, 60)) < 0.5).astype(np.int32) * rng.integers(1, 5, (300, 60)))
    sizes = {"hidden": 64, "heads": 2, "feed_forward": 32, "max_tokens": 64, "batch_cells": 16, "held_out": 0.3}
    held_out = pretrain(cells, PretrainParams(**sizes, checks=1), context=RunContext()).record["held_out"]
    known = held_out["baselines"]
    assert known["frequency"]["loss"] == pytest.approx(math.log(60), abs=0.05)
    assert known["frequency_unseen"]["loss"] == pytest.approx(math.log(34), abs=0.1)
    assert held_out["loss"] < min(known["frequency"]["loss"], held_out["untrained_loss"]) - 0.06


def test_training_starts_from_the_weights_of_the_untrained_control(monkeypatch):
    from hyped_seq.geneformer.tiny import GeneformerUntrained, GeneformerUntrainedConfig

    cells, starts = make_cells(), []
    train = module._Run.train

    def noted(self, clock):
        starts.append({key: value.clone() for key, value in self.model.encoder.state_dict().items()})
        return train(self, clock)

    monkeypatch.setattr(module._Run, "train", noted)
    trained = pretrain(cells, SMALL, context=RunContext(seed=6))
    control = GeneformerUntrained(GeneformerUntrainedConfig(pretrain=SMALL))
    control.fit(cells, context=RunContext(seed=6))
    weights, _ = control._ready()
    (start,) = starts
    assert all(torch.equal(start[key], value) for key, value in weights.encoder.state_dict().items())
    end = trained.model.encoder.state_dict()
    assert not torch.equal(end["embeddings.word_embeddings.weight"], start["embeddings.word_embeddings.weight"])


def test_genes_without_counts_are_kept_where_that_is_asked_for():
    cells = make_cells(12)
    counts = cells.X.toarray()
    counts[:, [4, 9]] = 0
    cells.X = sp.csr_matrix(counts)
    few = SMALL.model_copy(update={"steps": 1})
    assert len(pretrain(cells, few, context=RunContext()).dictionaries) == 28
    every = pretrain(cells, few.model_copy(update={"keep_unseen": True}), context=RunContext())
    assert len(every.dictionaries) == 30 and every.architecture.vocabulary == 34
    assert every.record["params"]["keep_unseen"] is True


def test_what_is_written_can_be_loaded_and_says_what_it_is(tmp_path):
    transformers = pytest.importorskip("transformers")
    cells = make_cells()
    cells = cells[:, [i for i in range(cells.n_vars) if i != 7] + [7]].copy()
    counts = cells.X.tolil()
    counts[:, cells.n_vars - 1] = 0
    cells.X = sp.csr_matrix(counts)
    result = pretrain(cells, SMALL.model_copy(update={"keep": ("GENE7",)}), context=RunContext(), source="test cells")
    before = torch.get_num_threads()
    result.save(tmp_path / "tiny")
    assert torch.get_num_threads() == before
    assert len({path.stat().st_mode for path in (tmp_path / "tiny").iterdir()}) == 1
    weights, dictionaries = load_weights(tmp_path / "tiny"), load_dictionaries(tmp_path / "tiny")
    assert weights.series == dictionaries.series.name == "v2"
    assert weights.architecture.vocabulary == dictionaries.vocabulary == 34
    assert dictionaries.token_of("GENE7") < 34
    for key, value in result.weights().encoder.state_dict().items():
        torch.testing.assert_close(weights.encoder.state_dict()[key], value, rtol=0, atol=0)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path / "tiny")
    torch.testing.assert_close(theirs.cls.predictions.bias, result.model.head.bias, rtol=0, atol=0)
    record = json.loads((tmp_path / "tiny" / "geneformer.json").read_text())
    assert "not the published weights" in record["what"] and "test cells" in record["what"]
    assert record["published_weights"] is False and record["cells"]["trained_on"] == 36
    lines = (tmp_path / "tiny" / "loss.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "0", "4", "8", "12"]


@pytest.mark.parametrize(("n_cells", "n_genes"), [(3, 30), (2, 1), (1, 5)])
@pytest.mark.parametrize("series", ["v1", "v2"])
def test_tiny_inputs(tmp_path, n_cells, n_genes, series):
    cells = make_cells(n_cells, n_genes)
    result = pretrain(cells, SMALL.model_copy(update={"steps": 3, "series": series}), context=RunContext())
    result.save(tmp_path / "tiny")
    assert result.record["cells"]["held_out"] == (1 if n_cells > 1 else 0)
    assert (result.record["held_out"]["loss"] is None) == (n_cells == 1)
    assert load_weights(tmp_path / "tiny").series == series


def test_cells_longer_than_the_positions_are_cut():
    result = pretrain(make_cells(6), SMALL.model_copy(update={"max_tokens": 8, "steps": 2}), context=RunContext())
    assert result.architecture.positions == 8
    assert result.record["cells"]["tokens_median"] == 8 and result.record["cells"]["tokens_cut_off"] > 0


def test_refused_input():
    cells = make_cells(6)
    with pytest.raises(InvalidDataError, match="GENEX"):
        pretrain(cells, SMALL.model_copy(update={"keep": ("GENEX",)}), context=RunContext())
    cells.X = cells.X * 0.5
    with pytest.raises(InvalidDataError):
        pretrain(cells, SMALL, context=RunContext())


def test_a_rate_that_diverges_is_lowered_and_in_the_end_refused(monkeypatch):
    cells, seen = make_cells(8), []
    step = module._Run._step

    def diverging(limit):
        def one(self, parts, optimiser, pool):
            seen.append(self.rate)
            if self.rate > limit:  # what a rate that is too high does to the weights
                with torch.no_grad():
                    self.trained[0].fill_(float("nan"))
            return step(self, parts, optimiser, pool)

        return one

    params = SMALL.model_copy(update={"steps": 2, "learning_rate": 0.4})
    monkeypatch.setattr(module._Run, "_step", diverging(0.2))
    result = pretrain(cells, params, context=RunContext())
    assert result.record["training"]["attempts"] == 2 and result.record["training"]["learning_rate"] == 0.1
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())
    monkeypatch.setattr(module._Run, "_step", diverging(0.0))
    with pytest.raises(HypedError, match="diverged 3 times"):
        pretrain(cells, params, context=RunContext())


def test_a_limit_of_time_ends_it_and_is_said(monkeypatch):
    now = iter(np.arange(0, 1000, 1.0))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    result = pretrain(make_cells(8), SMALL.model_copy(update={"steps": 50}), context=RunContext(), max_seconds=10)
    assert 0 < result.record["training"]["steps"] < 15 and result.record["training"]["cut_by_time"]
    assert "limit of time" in result.record["notes"][0]


def test_the_rate_rises_and_falls():
    rates = [schedule(k / 100, 0.1, 100) for k in range(100)]
    assert rates[9] == pytest.approx(1.0) and max(rates) <= 1.0 and rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.02 and sorted(rates[10:], reverse=True) == rates[10:]


def test_an_interruption_leaves_the_old_folder(tmp_path, monkeypatch):
    result = pretrain(make_cells(8), SMALL.model_copy(update={"steps": 2}), context=RunContext())
    result.save(tmp_path / "tiny")
    before = files_of(tmp_path / "tiny")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", interrupted)
    other = pretrain(make_cells(8, seed=1), SMALL.model_copy(update={"steps": 2}), context=RunContext())
    with pytest.raises(KeyboardInterrupt):
        other.save(tmp_path / "tiny")
    assert files_of(tmp_path / "tiny") == before and [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_model_that_is_no_better_than_frequencies_says_so():
    # counts without structure and a rate that spoils the start from frequencies
    rng = np.random.default_rng(0)
    cells = make_cells(12, 60)
    cells.X = sp.csr_matrix(rng.poisson(0.5, (12, 60)).astype(np.int32))
    params = SMALL.model_copy(update={"steps": 40, "learning_rate": 0.1})
    record = pretrain(cells, params, context=RunContext()).record
    held_out = record["held_out"]
    assert held_out["loss"] > held_out["baselines"]["frequency"]["loss"]
    assert any("how common each gene is" in note for note in record["notes"])
    learned = pretrain(make_cells(80), SMALL.model_copy(update={"steps": 80, "learning_rate": 1e-2}),
                       context=RunContext()).record  # fmt: skip
    held_out = learned["held_out"]
    assert held_out["loss"] < held_out["baselines"]["frequency"]["loss"] and not learned["notes"]


@pytest.mark.parametrize("keep_unseen", [False, True])
def test_the_estimate_knows_which_genes_get_a_token(keep_unseen):
    cells = make_cells()
    counts = cells.X.toarray()
    counts[:, 10:25] = 0
    cells.X = sp.csr_matrix(counts)
    params = SMALL.model_copy(update={"keep": ("GENE3", "GENE12", "ENSG00000000013", "gene12"), "steps": 1})
    params = params.model_copy(update={"keep_unseen": keep_unseen})
    found = pretrain(cells, params, context=RunContext())
    assert found.dictionaries.vocabulary == (34 if keep_unseen else 21)
    assert estimate_pretrain(cells, params)["vocabulary"] == found.dictionaries.vocabulary


# the command


def test_command_replaces_its_own_outputs_alone(tmp_path):
    path = tmp_path / "cells.h5ad"
    make_cells(8).write_h5ad(path)
    (tmp_path / "p.yaml").write_text("tiny: {hidden: 16, heads: 2, feed_forward: 16, max_tokens: 64, steps: 2}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def run(out):
        words = [str(path), str(out), "--params", f"{tmp_path / 'p.yaml'}#tiny"]
        assert CliRunner().invoke(command, words, catch_exceptions=False).exit_code == 0

    for out in (path, tmp_path, tmp_path / "mine", tmp_path / "p.yaml", ".", path / "below"):
        with pytest.raises(UsageError) as caught:
            run(out)
        assert caught.value.mend
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    run(tmp_path / "out")
    run(tmp_path / "out")
    assert (tmp_path / "out/geneformer.json").is_file()


def test_command(tmp_path):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    section = "{hidden: 16, heads: 2, feed_forward: 16, max_tokens: 64, steps: 4, checks: 2}"
    (tmp_path / "p.yaml").write_text(f"tiny: {section}\n")
    common = [str(tmp_path / "cells.h5ad"), str(tmp_path / "out"), "--where", "condition=control", "--params"]
    arguments = [*common, f"{tmp_path / 'p.yaml'}#tiny", "--keep", "GENE3"]
    dry = CliRunner().invoke(command, [*arguments, "--dry-run"], catch_exceptions=False)
    assert json.loads(dry.stdout)["cells"] == 20 and not (tmp_path / "out").exists()
    done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    record = json.loads(done.stdout)
    assert record["cells"]["given"] == 20 and record["params"]["keep"] == ["GENE3"]
    assert "not the published weights" in done.stderr and "condition=control" in record["what"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
