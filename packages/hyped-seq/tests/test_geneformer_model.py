"""The embedders: rows at their cells, facts for the record, each cell run once, the tiny model, the command."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.contracts import CellEmbedder  # noqa: E402
from hyped_core.design import Perturbation, default_design  # noqa: E402
from hyped_core.errors import (  # noqa: E402
    HypedError,
    InvalidDataError,
    MissingFileError,
    ParamsError,
    UsageError,
    ValidationError,
)
from hyped_seq.cli_geneformer_embed import embed as embed_command  # noqa: E402
from hyped_seq.geneformer.architecture import Architecture  # noqa: E402
from hyped_seq.geneformer.dictionaries import build_dictionaries, load_dictionaries  # noqa: E402
from hyped_seq.geneformer.embed_run import embed_file  # noqa: E402
from hyped_seq.geneformer.embedding import embed_tokens  # noqa: E402
from hyped_seq.geneformer.encoder import Encoder  # noqa: E402
from hyped_seq.geneformer.model import Geneformer, GeneformerConfig, load_model  # noqa: E402
from hyped_seq.geneformer.pretrain_params import PretrainParams  # noqa: E402
from hyped_seq.geneformer.tiny import (  # noqa: E402
    GeneformerTiny,
    GeneformerTinyConfig,
    GeneformerUntrained,
    GeneformerUntrainedConfig,
)
from hyped_seq.geneformer.tokenizer import Tokenizer  # noqa: E402
from hyped_seq.geneformer.weights import load_weights, save_weights  # noqa: E402
from hyped_seq.perturb_option import perturbation_of  # noqa: E402

CONTEXT = RunContext()
MYOD1, PRRX1 = "ENSG00000129152", "ENSG00000116132"
BOTH = default_design().perturbation("siPRRX1_mmMYOD1")
PERTURBED = [default_design().perturbation(name) for name in ("siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1")]
SMALL = PretrainParams(hidden=16, heads=2, feed_forward=24, max_tokens=64, steps=20, batch_cells=8, checks=1)


def make_cells(n: int = 40, seed: int = 0) -> anndata.AnnData:
    """Cells of 30 genes, half of them control; MYOD1 has no count, cell 3 none at all of a known gene."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1.0, 2.0, 31)[None], (n, 31)).astype(np.float32)
    counts[:, 0] = 0
    counts[:, 1] += 1
    counts[3, :30] = 0
    counts[:, 30] += 1
    ids = [MYOD1, PRRX1, *[f"ENSG{i:011d}" for i in range(28)], "SPIKE"]
    obs = pd.DataFrame(
        {
            "n_counts": counts.sum(axis=1).astype(int),
            "phase": np.array(["G1", "S", "G2M"])[np.arange(n) % 3],
            "perturbation": np.where(np.arange(n) < n // 2, "control", "MYOD1"),
        },
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame({"gene_id": ids}, index=["MYOD1", "PRRX1", *[f"G{i}" for i in range(28)], "SPIKE"])
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture(scope="module")
def cells() -> anndata.AnnData:
    return make_cells()


@pytest.fixture(scope="module")
def folder(cells, tmp_path_factory) -> Path:
    """Weights and dictionaries that fit each other, random; the spike has no token."""
    path = tmp_path_factory.mktemp("weights") / "w"
    known = cells.var["gene_id"].iloc[:30].tolist()
    dictionaries = build_dictionaries(cells, only=known, keep=[MYOD1], symbols={"MYOD1": MYOD1, "PRRX1": PRRX1})
    architecture = Architecture(2, 16, 2, 24, 4096, dictionaries.vocabulary)
    torch.manual_seed(0)
    encoder = Encoder(architecture)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20)
    path.mkdir()
    save_weights(path, encoder, architecture)
    dictionaries.save(path)
    return path


def geneformer(folder: Path, **settings) -> Geneformer:
    return Geneformer(GeneformerConfig(weights=str(folder), **settings))


def test_rows_stand_at_their_cells_and_unknown_cells_are_nan(cells, folder):
    model = geneformer(folder)
    assert isinstance(model, CellEmbedder)
    rows = model.embed(cells, context=CONTEXT)
    assert rows.shape == (40, 16)
    assert rows.dtype == np.float32
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [3]
    assert np.isfinite(np.delete(rows, 3, axis=0)).all()
    tokens = Tokenizer(load_dictionaries(folder)).tokenize_cells(cells)
    weights = load_weights(folder)
    expected = embed_tokens(weights, tokens, series=load_dictionaries(folder).series, context=CONTEXT)
    assert (rows[tokens.rows] == expected).all()
    assert model.facts["cells"]["unperturbed"] == {"embedded": 39, "without_known_gene": 1, "cut": 0}
    assert model.facts["weights"]["sha256"] == weights.sha256


def test_cells_are_left_as_they_were(cells, folder):
    before = cells.copy()
    model = geneformer(folder)
    for perturbation in PERTURBED:
        model.embed_perturbed(cells, perturbation, context=CONTEXT)
    assert (cells.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    pd.testing.assert_frame_equal(cells.var, before.var)


@pytest.mark.parametrize("mode", ["expression", "token"])
def test_a_perturbation_changes_what_it_says_and_is_recorded(cells, folder, mode):
    model = geneformer(folder, mode=mode)
    plain = model.embed(cells, context=CONTEXT)
    changed = model.embed_perturbed(cells, BOTH, context=CONTEXT)
    here = np.arange(40) != 3
    assert (np.abs(changed - plain)[here].max(axis=1) > 1e-4).all()
    record = model.facts["perturbations"][BOTH.name]
    assert record["mode"] == model.facts["mode"] == mode
    assert record["level"] == ("max" if mode == "expression" else None)
    prrx1, myod1 = record["genes"]
    assert (prrx1["gene"], prrx1["direction"], myod1["gene"]) == ("PRRX1", "suppression", "MYOD1")
    assert prrx1["share_expressed"] == pytest.approx(39 / 40)
    assert myod1["share_expressed"] == 0
    if mode == "token":
        assert (myod1["rank_min"], myod1["rank_max"]) == (1, 1)
    json.dumps(model.facts, allow_nan=False)


def test_a_perturbation_given_in_parts_has_one_record(cells, folder):
    whole, parts = geneformer(folder), geneformer(folder)
    rows = whole.embed_perturbed(cells, BOTH, context=CONTEXT)
    halves = [parts.embed_perturbed(cells[a:b], BOTH, context=CONTEXT) for a, b in ((0, 17), (17, 40))]
    np.testing.assert_allclose(np.concatenate(halves), rows, atol=2e-5)
    assert parts.facts["perturbations"] == whole.facts["perturbations"]
    assert parts.facts["cells"] == whole.facts["cells"]


def test_the_nine_cells_of_table_3_run_each_sequence_once(cells, folder, monkeypatch):
    ran: list[int] = []
    original = Encoder.pooled

    def pooled(self, tokens, lengths, **options):
        ran.append(len(lengths))
        return original(self, tokens, lengths, **options)

    monkeypatch.setattr(Encoder, "pooled", pooled)
    model = geneformer(folder)
    control = cells[:20]
    for phase in ("G1", "S", "G2M"):
        of_phase = control[control.obs["phase"] == phase]
        for perturbation in PERTURBED:
            model.embed(cells[20:], context=CONTEXT)  # the perturbed cells, for each of the nine
            model.embed(of_phase, context=CONTEXT)
            model.embed_perturbed(of_phase, perturbation, context=CONTEXT)
    # 19 control cells with a gene, as they are and after three perturbations, and 20 perturbed cells
    assert sum(ran) == 19 * 4 + 20
    assert model.facts["sequences"]["computed"] == sum(ran)


def test_no_change_is_the_cell_itself(cells, folder):
    model = geneformer(folder)
    control = Perturbation(name="control")
    found = model.embed_perturbed(cells, control, context=CONTEXT)
    np.testing.assert_array_equal(found, model.embed(cells, context=CONTEXT))
    assert model.facts["perturbations"] == {}


def test_settings_reach_the_encoder(cells, folder):
    rows = {
        name: geneformer(folder, **settings).embed(cells, context=CONTEXT)
        for name, settings in {
            "default": {}, "last": {"layer": 0}, "cls": {"pooling": "cls"}, "short": {"max_tokens": 10},
            "bf16": {"precision": "bf16"},
        }.items()
    }  # fmt: skip
    for name, found in rows.items():
        if name != "default":
            assert not np.allclose(found[0], rows["default"][0], atol=1e-4), name
    cut = geneformer(folder, max_tokens=10)
    cut.embed(cells, context=CONTEXT)
    assert cut.facts["cells"]["unperturbed"]["cut"] == 39
    assert cut.facts["max_tokens"] == 10


def test_missing_weights_say_how_to_get_them(cells, folder, tmp_path):
    with pytest.raises(MissingFileError, match="no weights") as error:
        Geneformer().embed(cells, context=CONTEXT)
    assert "hyped models fetch geneformer" in str(error.value)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(MissingFileError, match="dictionaries"):
        geneformer(bare).embed(cells, context=CONTEXT)
    rows = geneformer(bare, dictionaries=str(folder)).embed(cells, context=CONTEXT)
    np.testing.assert_array_equal(rows, geneformer(folder).embed(cells, context=CONTEXT))


def test_dictionaries_of_another_model_are_refused(cells, folder, tmp_path):
    build_dictionaries(cells[:, 5:]).save(tmp_path)
    with pytest.raises(ValidationError, match="vocabulary"):
        geneformer(folder, dictionaries=str(tmp_path)).embed(cells, context=CONTEXT)


def test_normalised_counts_are_refused(cells, folder):
    logged = cells.copy()
    logged.X = logged.X.log1p()
    for call in (
        lambda model: model.embed(logged, context=CONTEXT),
        lambda model: model.embed_perturbed(logged, BOTH, context=CONTEXT),
    ):
        with pytest.raises(InvalidDataError, match="whole numbers"):
            call(geneformer(folder))


def test_genes_that_are_not_there_are_refused(cells, folder):
    with pytest.raises(InvalidDataError, match="MYOD7") as error:
        geneformer(folder).embed_perturbed(cells, perturbation_of(["MYOD7:activation"]), context=CONTEXT)
    assert "MYOD1" in str(error.value)
    without = cells[:, 2:]
    with pytest.raises(InvalidDataError, match="to be suppressed"):
        geneformer(folder).embed_perturbed(without, perturbation_of(["PRRX1:suppression"]), context=CONTEXT)
    with pytest.raises(InvalidDataError, match="add_absent"):
        geneformer(folder).embed_perturbed(without, perturbation_of(["MYOD1:activation"]), context=CONTEXT)
    model = geneformer(folder, add_absent=True)
    model.embed_perturbed(without, perturbation_of(["MYOD1:activation"]), context=CONTEXT)
    assert model.facts["perturbations"]["MYOD1"]["genes"][0]["column_added"]


def test_an_unknown_setting_is_refused():
    from hyped_core.params import build

    with pytest.raises(ParamsError, match="pooling"):
        build(GeneformerConfig, {"poolin": "mean"})


# ------------------------------------------------------------------ tiny and untrained
def tiny(**settings) -> GeneformerTiny:
    return GeneformerTiny(GeneformerTinyConfig(pretrain=SMALL, **settings))


@pytest.fixture(scope="module")
def fitted(cells) -> GeneformerTiny:
    model = tiny()
    model.fit(cells, context=CONTEXT)
    return model


def test_tiny_learns_from_control_cells_alone(cells, fitted):
    alone = tiny()
    alone.fit(cells[:20], context=CONTEXT)
    assert alone.facts["weights"]["sha256"] == fitted.facts["weights"]["sha256"]
    other = tiny()
    without_labels = cells.copy()
    del without_labels.obs["perturbation"]
    other.fit(without_labels, context=CONTEXT)
    assert other.facts["weights"]["sha256"] != fitted.facts["weights"]["sha256"]
    assert fitted.facts["published_weights"] is False
    assert "not the published" in fitted.facts["what"]
    assert fitted.facts["pretraining"]["cells"]["given"] == 20


def test_tiny_is_the_same_for_a_seed_and_another_for_another(cells, fitted):
    rows = fitted.embed(cells, context=CONTEXT)
    again, other = tiny(), tiny()
    again.fit(cells, context=CONTEXT)
    other.fit(cells, context=RunContext(seed=1))
    assert (again.embed(cells, context=CONTEXT)[4:] == rows[4:]).all()
    assert not np.allclose(other.embed(cells, context=CONTEXT)[4:], rows[4:], atol=1e-3)


def test_a_gene_without_counts_can_be_activated(cells, fitted):
    fitted.embed_perturbed(cells, BOTH, context=CONTEXT)  # no control cell has a count of MYOD1
    myod1 = fitted.facts["perturbations"][BOTH.name]["genes"][1]
    assert myod1["share_expressed"] == 0
    assert myod1["rank_max"] <= 31


def test_a_saved_model_embeds_as_before(cells, fitted, tmp_path):
    rows = fitted.embed(cells, context=CONTEXT)
    fitted.save(tmp_path / "model")
    loaded = tiny()
    loaded.load(tmp_path / "model")
    assert (loaded.embed(cells, context=CONTEXT)[4:] == rows[4:]).all()
    loaded.save(tmp_path / "copy")
    by_config = tiny(weights=str(tmp_path / "copy"))
    by_config.fit(cells, context=CONTEXT)
    assert (by_config.embed(cells, context=CONTEXT)[4:] == rows[4:]).all()
    with pytest.raises(UsageError, match="no empty folder"):
        fitted.save(tmp_path / "model")


def test_a_pretrained_model_is_held_to_the_dictionaries_it_was_trained_with(cells, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    # as many genes, other medians: nothing but the hash tells
    other = cells[:20].copy()
    other.X = other.X * 3
    build_dictionaries(other, keep=[MYOD1]).save(tmp_path / "model")
    with pytest.raises(InvalidDataError, match="other dictionaries") as caught:
        tiny().load(tmp_path / "model")
    assert caught.value.where == str(tmp_path / "model/dictionaries.json")
    fitted.save(tmp_path / "whole")
    with pytest.raises(InvalidDataError, match="other dictionaries") as caught:
        load_model(tmp_path / "whole", tmp_path / "model")
    assert caught.value.where == str(tmp_path / "model/dictionaries.json") and "--dictionary" in caught.value.mend


def test_untrained_has_tinys_dictionaries_and_start(cells, fitted):
    control = GeneformerUntrained(GeneformerUntrainedConfig(pretrain=SMALL))
    control.fit(cells, context=CONTEXT)
    assert control.facts["dictionaries"] == fitted.facts["dictionaries"]
    assert control.facts["weights"]["sha256"] != fitted.facts["weights"]["sha256"]
    rows = control.embed(cells, context=CONTEXT)
    again = GeneformerUntrained(GeneformerUntrainedConfig(pretrain=SMALL))
    again.fit(cells, context=CONTEXT)
    assert (again.embed(cells, context=CONTEXT)[4:] == rows[4:]).all()
    assert not np.allclose(fitted.embed(cells, context=CONTEXT)[4:], rows[4:], atol=1e-3)


def test_what_learned_nothing_says_so(cells, tmp_path):
    for model in (tiny(), GeneformerUntrained()):
        with pytest.raises(UsageError, match="not learned"):
            model.embed(cells, context=CONTEXT)
        with pytest.raises(UsageError, match="not learned"):
            model.save(tmp_path / "model")
    with pytest.raises(InvalidDataError, match="no control cell"):
        tiny().fit(cells[20:], context=CONTEXT)


# ------------------------------------------------------------------ command
@pytest.fixture
def file(cells, tmp_path) -> Path:
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    return path


def run(*words: object) -> str:
    result = CliRunner().invoke(embed_command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_writes_embeddings_and_what_they_are(cells, folder, file, tmp_path):
    out = tmp_path / "out.h5ad"
    words = ["--weights", folder, "--perturb", "MYOD1:activation", "--perturb", "PRRX1:suppression", "--mode", "token"]
    printed = json.loads(run(file, out, *words, "--where", "perturbation=control", "--json"))
    found = anndata.read_h5ad(out)
    perturbation = perturbation_of(["MYOD1:activation", "PRRX1:suppression"])
    expected = geneformer(folder, mode="token").embed_perturbed(cells[:20], perturbation, context=CONTEXT)
    here = np.isfinite(expected[:, 0])
    np.testing.assert_array_equal(found.X, expected[here])
    assert found.obs_names.tolist() == cells.obs_names[:20][here].tolist()
    assert found.obs["phase"].astype(str).tolist() == cells.obs["phase"][:20][here].tolist()
    facts = json.loads(found.uns["geneformer_json"])
    assert facts == printed and facts["genes"] == {"columns": 31, "known": 28, "shared": 0}
    assert facts["cells"] == {"given": 20, "embedded": 19, "without_known_gene": 1, "cut": 0}
    assert (facts["mode"], facts["perturbed"]["genes"][0]["rank_max"]) == ("token", 1)
    content = out.read_bytes()
    run(file, out, *words, "--where", "perturbation=control")
    assert out.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


def test_a_dry_run_writes_nothing(folder, file, tmp_path):
    found = json.loads(run(file, tmp_path / "out.h5ad", "--weights", folder, "--dry-run"))
    assert (found["cells"], found["sequences"], found["without_known_gene"], found["width"]) == (40, 39, 1, 16)
    assert found["seconds"] >= 0
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_a_command_that_was_killed_goes_on_where_it_was(folder, file, tmp_path):
    class Interrupted:
        def track(self, items, description, total=None):
            for i, item in enumerate(items):
                if i == 20:
                    raise KeyboardInterrupt
                yield item

    out = tmp_path / "out.h5ad"
    config, control = GeneformerConfig(weights=str(folder), batch_tokens=1), Perturbation(name="control")
    with pytest.raises(KeyboardInterrupt):
        embed_file(file, out, config, control, context=RunContext(progress=Interrupted()))
    assert not out.exists()
    seen: list[int] = []

    class Counting:
        def track(self, items, description, total=None):
            seen.append(total)
            yield from items

    embed_file(file, out, config, control, context=RunContext(progress=Counting()))
    assert seen == [19]
    assert anndata.read_h5ad(out).shape == (39, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--perturb", "MYOD1"], "GENE:activation"),
        (["--where", "phase"], "COLUMN=VALUE"),
        (["--where", "phase=G3"], "G3"),
        (["--weights", "nowhere"], "nowhere"),
        (["--perturb", "G99:activation"], "G99"),
        (["--perturb", "MYOD1:activation", "--mode", "token", "--level", "above"], "--level"),
    ],
)
def test_the_command_refuses(folder, file, tmp_path, words, said):
    with pytest.raises(HypedError, match=said):
        run(file, tmp_path / "out.h5ad", "--weights", folder, *words)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("words", [[], ["--perturb", "MYOD1:activation", "--add-absent"], ["--dry-run"]])
def test_errors_name_the_file(cells, folder, tmp_path, words):
    path, spoiled = tmp_path / "cells.h5ad", cells.copy()
    spoiled.X[2, 4] = 0.5
    spoiled.write_h5ad(path)
    with pytest.raises(InvalidDataError, match="not whole numbers") as caught:
        run(path, tmp_path / "out.h5ad", "--weights", folder, *words)
    assert str(caught.value.where).startswith(f"{path}/X")
    cells[:0].copy().write_h5ad(path)
    with pytest.raises(InvalidDataError, match="holds no cells") as caught:
        run(path, tmp_path / "out.h5ad", "--weights", folder, *words, "--where", "phase=G1")
    assert caught.value.where == str(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", ["expression", "token"])
def test_a_perturbation_holds_the_cells_that_are_held_without_it(cells, folder, mode):
    model = geneformer(folder, mode=mode)
    plain, changed = model.embed(cells, context=CONTEXT), model.embed_perturbed(cells, BOTH, context=CONTEXT)
    assert (np.isnan(plain) == np.isnan(changed)).all() and np.isnan(changed[3]).all()
    counted = model.facts["cells"]
    assert counted[BOTH.name] == counted["unperturbed"] == {"embedded": 39, "without_known_gene": 1, "cut": 0}


def test_the_command_says_how_many_genes_it_knows(cells, folder, file, tmp_path):
    ids = load_dictionaries(folder).genes
    for known, warned in ((len(ids), False), (4, False), (3, True)):
        odd = cells.copy()
        odd.var["gene_id"] = [*ids[:known], *(f"ENSMUSG{i:011d}" for i in range(31 - known))]
        odd.write_h5ad(file)
        words = [str(file), str(tmp_path / "out.h5ad"), "--weights", str(folder)]
        said = CliRunner().invoke(embed_command, words, catch_exceptions=False).stderr
        assert f"; {known} of 31 genes are in the dictionary" in said
        assert (f"warning: of 31 genes only {known} are" in said) is warned
        dry = json.loads(run(*words, "--dry-run"))
        assert (dry["genes"], dry["known_genes"]) == (31, known)


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_the_command_replaces_nothing_that_it_reads(folder, file, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.h5ad").mkdir()
    (tmp_path / "folder.h5ad/notes.txt").write_text("mine")
    (tmp_path / "link.h5ad").symlink_to(file)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out, said in ((file, "is read"), ("cells.h5ad", "is read"), ("link.h5ad", "is read"),
                      ("folder.h5ad", "is a folder, where a file"), (".", "you are in")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            run(file, out, "--weights", folder, *words)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_out_has_to_be_an_h5ad_file(folder, file, tmp_path):
    with pytest.raises(UsageError, match="h5ad"):
        run(file, tmp_path / "out.csv", "--weights", folder)
