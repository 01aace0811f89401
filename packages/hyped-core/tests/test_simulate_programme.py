"""The gene programme: what is planted, and that means follow it."""

from __future__ import annotations

import numpy as np
import pytest

from hyped_core.design import GeneChange, Perturbation, default_design
from hyped_core.errors import ParamsError
from hyped_core.simulate.effects import known_effects, module_weights
from hyped_core.simulate.programme import (
    LN2,
    GeneProgramme,
    ProgrammeParams,
    effect_keys,
    factors,
    read_table,
)


def activated(*genes: str) -> Perturbation:
    return Perturbation(
        name="+".join(genes), changes=tuple(GeneChange(gene=g, direction="activation") for g in genes)
    )


def planted(params: ProgrammeParams | None = None, more: tuple[Perturbation, ...] = ()) -> GeneProgramme:
    design = default_design()
    own = [design.perturbation(condition.name) for condition in design.conditions]
    return GeneProgramme.build(params or ProgrammeParams(), np.random.default_rng(0), [*own, *more])


@pytest.fixture(scope="module")
def programme() -> GeneProgramme:
    screen = tuple(activated(name) for name in factors())
    return planted(more=(*screen, activated("IRF1", "STAT1"), activated("IRF1", "SOX9")))


def test_the_panel_has_the_genes_it_promises(programme) -> None:
    symbols = list(programme.symbols)
    assert len(symbols) == programme.n_genes == 600 == len(set(symbols)) == len(set(programme.ensembl))
    ids = dict(zip(programme.symbols, programme.ensembl, strict=True))
    assert ids["MYOD1"] == "ENSG00000129152" and ids["PRRX1"] == "ENSG00000116132"
    for name in (
        "MYOG",
        "DES",
        "MYH3",
        "CDKN1A",
        "CKM",
        "TNNT1",
        "ACTC1",
        "MEF2C",
        "COL1A1",
        "POSTN",
        "TWIST1",
    ):
        assert name in ids
    assert sum(name.startswith("MT-") for name in symbols) >= 10
    made_up = programme.ensembl[~programme.known]
    assert all(str(name).startswith("ENSG9") for name in made_up)
    assert all(str(name).startswith("GENE") for name in programme.symbols[~programme.known])
    assert np.exp(programme.baseline).sum() == pytest.approx(1.0)


def test_known_targets_have_their_planted_fold_changes(programme) -> None:
    design = default_design()
    index = {name: i for i, name in enumerate(programme.symbols)}
    myod1 = programme.fold_change(design.perturbation("mmMYOD1"))
    prrx1 = programme.fold_change(design.perturbation("siPRRX1"))
    double = programme.fold_change(design.perturbation("siPRRX1_mmMYOD1"))
    for symbol, value in known_effects()["MYOD1:activation"].items():
        assert myod1[index[symbol]] == pytest.approx(value)
    assert myod1[index["MYOG"]] > 2 and prrx1[index["PRRX1"]] < -2 and prrx1[index["POSTN"]] < -1
    beyond = double - myod1 - prrx1
    expected = known_effects()["MYOD1:activation+PRRX1:suppression"]
    assert {str(programme.symbols[i]) for i in np.flatnonzero(np.abs(beyond) > 1e-9)} == set(expected)


def test_log_mean_adds_what_was_planted(programme) -> None:
    key, other = "MYOD1:activation", "PRRX1:suppression"
    position = np.array([0.2, 0.2, 0.2, 0.2])
    activities = {key: np.array([0.0, 1.0, 0.5, 1.0]), other: np.array([0.0, 0.0, 0.0, 1.0])}
    mean = programme.log_mean(position, activities)
    np.testing.assert_allclose(mean[1] - mean[0], programme.effects[key])
    np.testing.assert_allclose(mean[2] - mean[0], 0.5 * programme.effects[key])
    double = LN2 * programme.fold_change(default_design().perturbation("siPRRX1_mmMYOD1"))
    np.testing.assert_allclose(mean[3] - mean[0], double)
    shifted = programme.log_mean(position, activities, np.array([True, False, False, False]))
    np.testing.assert_allclose(shifted[0] - mean[0], programme.pool_shift)
    np.testing.assert_array_equal(shifted[1:], mean[1:])
    assert (programme.pool_shift != 0).mean() > 0.3


def test_cycle_genes_peak_in_their_phase(programme) -> None:
    position = np.linspace(0, 0.999, 500)
    mean = programme.log_mean(position, {})
    for module, low, high in (("S", 0.45, 0.78), ("G2M", 0.78, 1.0)):
        genes = np.flatnonzero((programme.role == "cycle") & (programme.module == module))
        at = position[mean[:, genes].argmax(axis=0)]
        assert genes.size > 20 and (at >= low).all() and (at <= high).all()
    still = programme.role == "housekeeping"
    assert np.ptp(mean[:, still], axis=0).max() == 0


def test_factors_of_one_module_act_alike_and_pairs_are_not_additive(programme) -> None:
    modules = {row["symbol"]: row["module"] for row in read_table("genes.csv")}
    effects = {name: programme.effects[f"{name}:activation"] for name in factors()}
    same, other = [], []
    names = sorted(effects)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            (same if modules[a] == modules[b] else other).append(np.corrcoef(effects[a], effects[b])[0, 1])
    assert np.mean(same) > 0.5 and abs(np.mean(other)) < 0.2
    pair = activated("IRF1", "STAT1")
    beyond = programme.interactions["+".join(sorted(effect_keys(pair)))]
    whole = LN2 * programme.fold_change(pair)
    assert 0.1 < np.linalg.norm(beyond) / np.linalg.norm(whole) < 1.5
    weights = module_weights("interferon", programme.symbols, programme.role, programme.module)
    assert (weights > 0).sum() == (programme.module == "interferon").sum()


def test_an_effect_does_not_depend_on_what_else_is_asked_for(programme) -> None:
    alone = planted()
    np.testing.assert_array_equal(alone.symbols, programme.symbols)
    np.testing.assert_array_equal(alone.baseline, programme.baseline)
    for key, effect in alone.effects.items():
        np.testing.assert_array_equal(effect, programme.effects[key])


def test_transcripts_partition_their_gene_and_switch(programme) -> None:
    isoforms = programme.isoforms
    assert len(isoforms.ids) == 1400 == isoforms.count.sum()
    assert isoforms.count.min() >= 1 and isoforms.count.max() <= 4
    plain = isoforms.proportions()
    np.testing.assert_allclose(np.bincount(isoforms.gene, plain), 1.0)
    changed = isoforms.proportions({"MYOD1:activation": 1.0})
    np.testing.assert_allclose(np.bincount(isoforms.gene, changed), 1.0)
    switched = isoforms.switched("MYOD1:activation")
    moved = np.unique(isoforms.gene[np.abs(changed - plain) > 1e-12])
    np.testing.assert_array_equal(moved, switched)
    assert len(switched) >= 3
    for gene in switched:
        assert np.abs(changed - plain)[isoforms.gene == gene].max() > 0.1


def test_a_perturbed_gene_outside_the_table_gets_a_place_and_an_effect() -> None:
    programme = planted(more=(activated("NOTAGENE1"),))
    where = list(programme.symbols).index("NOTAGENE1")
    assert programme.fold_change(activated("NOTAGENE1"))[where] == pytest.approx(3.5)
    assert (programme.effects["NOTAGENE1:activation"] != 0).sum() > 5
    assert programme.n_genes == 600


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ParamsError, match="transcripts"):
        planted(ProgrammeParams(n_genes=600, n_transcripts=500))
    with pytest.raises(ParamsError, match="transcripts"):
        planted(ProgrammeParams(n_genes=600, n_transcripts=1400, max_transcripts=2))
    with pytest.raises(ParamsError, match="room"):
        planted(ProgrammeParams(n_genes=400, n_transcripts=800), (activated("NOTAGENE1"),))
