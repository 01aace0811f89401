"""HYPED's own design against the paper, and what a user's design is told when it contradicts itself."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.design import (
    COARSE_PHASES,
    PHASE_SYSTEMS,
    Design,
    Perturbation,
    coarse_phase,
    default_design,
    read_design,
)
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError, ParamsError, ValidationError


@pytest.fixture(scope="module")
def design() -> Design:
    return default_design()


def test_ten_scenes_over_four_conditions(design):
    counts = Counter(scene.condition for scene in design.scenes)
    assert counts == {"control": 3, "siPRRX1_mmMYOD1": 3, "mmMYOD1": 2, "siPRRX1": 2}
    for condition, count in counts.items():
        replicates = [scene.replicate for scene in design.scenes if scene.condition == condition]
        assert sorted(replicates) == list(range(1, count + 1))


def test_perturbations_with_direction_agent_and_onset(design):
    both = design.perturbation("siPRRX1_mmMYOD1")
    assert [(c.gene, c.direction, c.agent, c.onset_h) for c in both.changes] == [
        ("PRRX1", "suppression", "siRNA", 0),
        ("MYOD1", "activation", "mmRNA", 24),
    ]
    assert design.perturbation("siPRRX1").changes == both.changes[:1]
    assert design.perturbation("mmMYOD1").changes == both.changes[1:]
    assert design.perturbation("control").is_control


def test_timeline(design):
    times = {event.name: event.time_h for event in design.timeline.events}
    assert times == {"starvation": -24, "siPRRX1": 0, "mmMYOD1": 24, "harvest": 48}
    assert design.timeline.time_of("harvest") == 48 and design.timeline.time_of("lunch") is None
    assert (design.timeline.imaging_start_h, design.timeline.imaging_end_h) == (0, 72)
    assert design.timeline.interval_min == 20


def test_tags_of_both_pools(design):
    perturbed = {tag.tag: tag for tag in design.pool_hashtags("perturbed")}
    control = {tag.tag: tag for tag in design.pool_hashtags("control")}
    assert set(perturbed) == {"394631", "394633", "394635"}
    assert set(control) == {"394631", "394603", "394605"}
    assert {tag.condition for tag in perturbed.values()} == {"siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"}
    assert {tag.condition for tag in control.values()} == {"control"}
    assert {tag.phase for tag in control.values()} == {"G1", "S", "G2M"}
    assert {tag.phase for tag in perturbed.values()} == {None}


def test_one_tag_means_two_things(design):
    meanings = {(tag.pool, tag.condition) for tag in design.hashtags if tag.tag == "394631"}
    assert len(meanings) == 2


def test_chemistry_differs_where_the_barcode_does_not(design):
    barcodes = {}
    for tag in design.hashtags:
        assert len(tag.barcode) == 15
        barcodes.setdefault(tag.barcode, set()).add(tag.tag)
        expected = "TotalSeq-A" if tag.tag in ("394603", "394605") else "TotalSeq-B"
        assert tag.chemistry == expected
    assert sorted(map(sorted, barcodes.values())) == [["394603", "394633"], ["394605", "394635"], ["394631"]]


def test_what_the_design_cannot_show(design):
    assert ("condition", "pool") in design.flags.confounded
    assert design.flags.pooled_wells
    assert design.sorted_conditions() == ("control",)
    pools = {name: pool.name for pool in design.pools for name in pool.conditions}
    assert pools["control"] == "control" and set(pools) == {c.name for c in design.conditions}


def test_reporters_follow_the_probes_biology(design):
    assert design.reporter("G1") == "mKate"
    assert design.reporter("S_G2M") == "TagGFP"
    assert design.nuclear_channel() == "Cy5"
    assert design.channel("SiR-DNA").name == "Cy5"
    assert design.channel("TagGFP2").name == "TagGFP"
    assert [channel.name for channel in design.channels] == ["Cy5", "mKate", "TagGFP", "Oblique"]


def test_yaml_round_trip(design, tmp_path):
    file = tmp_path / "design.yaml"
    file.write_text(design.to_yaml(), encoding="utf-8")
    assert read_design(file) == design == read_design(None)
    assert design.problems() == []


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (lambda d: d.channel("DAPI"), "Cy5, mKate, TagGFP, Oblique"),
        (lambda d: d.condition("siMYOD1"), "siPRRX1"),
        (lambda d: d.perturbation("x"), "control"),
        (lambda d: d.scene("S99"), "S9"),
        (lambda d: d.pool_hashtags("third"), "perturbed"),
    ],
)
def test_unknown_names_list_the_known(design, call, known):
    with pytest.raises(DesignError, match="there is no") as caught:
        call(design)
    assert known in caught.value.mend and caught.value.exit_code == 3


def broken(design, change):
    values = yaml.safe_load(design.to_yaml())
    change(values)
    return values


BREAKS = {
    "scenes/S0/condition": lambda v: v["scenes"][0].update(condition="nowhere"),
    "scenes/S1": lambda v: v["scenes"][0].update(name="S1"),
    "pools/control/conditions": lambda v: v["pools"][1].update(conditions=["nowhere"]),
    "hashtags/gone/394631/pool": lambda v: v["hashtags"][0].update(pool="gone"),
    "hashtags/perturbed/394631/condition": lambda v: v["hashtags"][0].update(condition="nowhere"),
    "hashtags/perturbed/394633": lambda v: v["hashtags"][0].update(tag="394633"),
    "hashtags/perturbed/394631/barcode": lambda v: v["hashtags"][0].update(
        barcode=v["hashtags"][1]["barcode"]
    ),
    "timeline/imaging_end_h": lambda v: v["timeline"].update(imaging_end_h=-1),
    "channels": lambda v: v["channels"][2].update(reports="G1"),
    "conditions/control": lambda v: v["conditions"].append({"name": "control"}),
    "conditions/rest": lambda v: v["conditions"].append({"name": "rest"}),
    "hashtags/perturbed/Negative": lambda v: v["hashtags"][0].update(tag="Negative"),
    "hashtags/perturbed/doublet": lambda v: v["hashtags"][1].update(tag="doublet"),
}


@pytest.mark.parametrize("where", BREAKS)
def test_a_contradiction_is_found_at_its_place(design, tmp_path, where):
    file = tmp_path / "design.yaml"
    file.write_text(yaml.safe_dump(broken(design, BREAKS[where])))
    with pytest.raises(ValidationError) as caught:
        read_design(file)
    assert where in {problem.where for problem in caught.value.problems}
    assert str(file) in str(caught.value)
    assert all(problem.mend for problem in caught.value.problems)


def test_all_problems_come_at_once(design, tmp_path):
    def everything(values):
        for where in (
            "scenes/S0/condition",
            "pools/control/conditions",
            "timeline/imaging_end_h",
            "channels",
        ):
            BREAKS[where](values)

    file = tmp_path / "design.yaml"
    file.write_text(yaml.safe_dump(broken(design, everything)))
    with pytest.raises(ValidationError) as caught:
        read_design(file)
    assert len(caught.value.problems) == 4


def test_bad_fields_and_unknown_keys(design, tmp_path):
    def change(values):
        values["chanels"] = []
        values["hashtags"][0]["barcode"] = "ACGU"
        values["scenes"][0]["replicate"] = 0

    file = tmp_path / "design.yaml"
    file.write_text(yaml.safe_dump(broken(design, change)))
    with pytest.raises(ValidationError) as caught:
        read_design(file)
    problems = {problem.where: problem for problem in caught.value.problems}
    assert set(problems) == {"chanels", "hashtags/0/barcode", "scenes/0/replicate"}
    assert "channels" in problems["chanels"].mend


def test_files_that_are_no_design(tmp_path):
    with pytest.raises(MissingFileError):
        read_design(tmp_path / "none.yaml")
    file = tmp_path / "design.yaml"
    file.write_text("name: [x\n")
    with pytest.raises(ParamsError):
        read_design(file)
    for content in ("- a\n", "", "just text\n"):
        file.write_text(content)
        with pytest.raises(ValidationError):
            read_design(file)


genes = st.lists(st.from_regex(r"[A-Z][A-Z0-9-]{0,9}", fullmatch=True), min_size=0, max_size=3, unique=True)


@settings(deadline=None)
@given(genes, st.sampled_from(["activation", "suppression"]))
def test_names_of_perturbations_round_trip(names, direction):
    made = Perturbation.from_name("+".join(names) or "control", direction)
    assert made.genes == tuple(names)
    assert made.is_control == (not names)
    assert Perturbation.from_name(made.name, direction) == made
    assert {change.direction for change in made.changes} <= {direction}


@settings(deadline=None)
@given(genes.filter(bool), st.integers(0, 3))
def test_ctrl_parts_do_not_count(names, at):
    parts = [*names]
    parts.insert(min(at, len(parts)), "ctrl")
    assert Perturbation.from_name("+".join(parts)) == Perturbation.from_name("+".join(names))


@pytest.mark.parametrize("name", ["control", "ctrl", "ctrl+ctrl", ""])
def test_all_names_of_the_control(name):
    assert Perturbation.from_name(name) == Perturbation(name="control")


def test_coarse_map():
    assert COARSE_PHASES == ("G1", "S_G2M")
    assert list(coarse_phase(["G1", "S", "G2M"], "rna")) == ["G1", "S_G2M", "S_G2M"]
    assert list(coarse_phase(["G1", "G1S", "S_G2M", "dark", "M"], "fucci")) == [
        "G1", "S_G2M", "S_G2M", "G1", "S_G2M",
    ]  # fmt: skip
    assert list(coarse_phase(["", None, "nan", "g1"], "rna")) == [None] * 4
    for system in PHASE_SYSTEMS.values():
        assert set(system.coarse) == set(system.phases)
        assert set(system.coarse.values()) == set(COARSE_PHASES)
    with pytest.raises(InvalidDataError, match="phase system 'dna'") as caught:
        coarse_phase([], "dna")
    assert "fucci, rna" in caught.value.mend
