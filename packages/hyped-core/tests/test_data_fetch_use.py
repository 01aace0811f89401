"""Adding a dataset to params.yaml: its entries appear once, all else keeps its bytes, and they go again."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.data.use import remove_dataset, use_dataset
from hyped_core.errors import MissingFileError, ParamsError

PARAMS = """\
# The pipeline's parameters.
datasets:
  mini: {seed: 1, device: cpu}  # simulated

# Stages -----------------------------------------------------------
stitch:
  mini-S0:
    dataset: mini
    scene: S0     # the first

  # the second scene
  mini-S1: {dataset: mini, scene: "S1"}

segment: {}  # filled by use
bench-track:
    mini-lap: {dataset: mini, model: lap, config: {gate_um: 20.0}}

note: |
  text with
  two lines
seed: 7
"""

PIPELINE = """\
# What public adds.
datasets:
  public:
    seed: 1
stitch:
  public-tiles: {dataset: public, path: czi/tiles.czi}   # 2x2
  public-mosaic:
    dataset: public
    # a comment inside
    scenes: [S0, S1]
    note: >
      folded
      text
segment:
  public-tiles:
    dataset: public
    config:
      radius_um: 4.0
track:
  public-tiles: {dataset: public}
bench-track:
  public-lap: {dataset: public, model: lap}
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data/public").mkdir(parents=True)
    (tmp_path / "data/public/pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def merged(before, added):
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in before.items()}
    for group, items in added.items():
        result[group] = {**(result.get(group) or {}), **items}
    return result


def test_entries_are_merged_and_the_rest_keeps_its_lines(project):
    params = project / "params.yaml"
    outcome = use_dataset("public", params)
    text = params.read_text()
    assert yaml.safe_load(text) == merged(yaml.safe_load(PARAMS), yaml.safe_load(PIPELINE))
    assert len(outcome.changed) == 6 and outcome.kept == []
    remaining = iter(text.splitlines())
    touched = {"segment: {}  # filled by use"}
    assert all(line in remaining for line in PARAMS.splitlines() if line not in touched)
    assert "  public-tiles: {dataset: public, path: czi/tiles.czi}   # 2x2" in text
    assert "    # a comment inside" in text
    assert "segment:  # filled by use" in text
    stitch = text[text.index("stitch:") : text.index("segment:")]
    assert stitch.index("mini-S1") < stitch.index("public-tiles") < stitch.index("public-mosaic")
    assert list(yaml.safe_load(text)["bench-track"]) == ["mini-lap", "public-lap"]


def test_a_second_time_changes_no_byte(project):
    params = project / "params.yaml"
    use_dataset("public", params)
    before, stamp = params.read_bytes(), params.stat().st_mtime_ns
    assert use_dataset("public", params).changed == []
    assert (params.read_bytes(), params.stat().st_mtime_ns) == (before, stamp)


def test_remove_restores_the_file(project):
    params = project / "params.yaml"
    params.write_text(PARAMS + "track: {}\n")
    use_dataset("public", params)
    assert len(remove_dataset("public", params).changed) == 6
    assert yaml.safe_load(params.read_text()) == yaml.safe_load(PARAMS + "track: {}\n")
    assert params.read_text() == PARAMS + "track: {}\n"
    before = params.read_bytes()
    assert remove_dataset("public", params).changed == []
    assert params.read_bytes() == before


def test_the_users_changes_are_kept(project):
    params = project / "params.yaml"
    use_dataset("public", params)
    params.write_text(params.read_text().replace("radius_um: 4.0", "radius_um: 9.5"))
    before = params.read_bytes()
    assert use_dataset("public", params).kept == [("segment", "public-tiles")]
    assert params.read_bytes() == before


def test_a_key_of_another_dataset_is_a_conflict(project):
    params = project / "params.yaml"
    params.write_text(PARAMS.replace("mini-S0", "public-tiles"))
    before = params.read_bytes()
    with pytest.raises(ParamsError, match="stitch.public-tiles belongs to the dataset 'mini'"):
        use_dataset("public", params)
    assert params.read_bytes() == before


def test_an_entry_has_to_say_whose_it_is(project):
    (project / "data/public/pipeline.yaml").write_text("stitch:\n  public-a: {path: x}\n")
    with pytest.raises(ParamsError, match="stitch.public-a does not say dataset: public"):
        use_dataset("public", project / "params.yaml")
    (project / "data/public/pipeline.yaml").write_text("datasets:\n  other: {}\n")
    with pytest.raises(ParamsError, match="datasets.other"):
        use_dataset("public", project / "params.yaml")


def test_missing_files(project):
    with pytest.raises(MissingFileError, match="'nothing' has no stages") as caught:
        use_dataset("nothing", project / "params.yaml")
    assert "public" in caught.value.mend
    with pytest.raises(MissingFileError):
        remove_dataset("public", project / "none.yaml")
    (project / "params.yaml").write_text("- a\n")
    with pytest.raises(ParamsError, match="mapping of groups"):
        use_dataset("public", project / "params.yaml")


def test_line_ends_are_kept(project):
    params = project / "params.yaml"
    params.write_bytes(PARAMS.replace("\n", "\r\n").encode())
    use_dataset("public", params)
    content = params.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n")
    assert yaml.safe_load(content) == merged(yaml.safe_load(PARAMS), yaml.safe_load(PIPELINE))


def test_a_group_in_flow_style_is_refused_and_left_alone(project):
    params = project / "params.yaml"
    params.write_text("stitch: {mini-S0: {dataset: mini}}\nseed: 1\n")
    before = params.read_bytes()
    with pytest.raises(ParamsError, match="line by line") as caught:
        use_dataset("public", params)
    assert "block style" in caught.value.mend
    assert params.read_bytes() == before


keys = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
items = st.dictionaries(keys, values, max_size=4)
groups = st.dictionaries(
    keys.filter(lambda key: key != "datasets"), st.dictionaries(keys, items, max_size=3), max_size=3
)


@settings(deadline=None, max_examples=40)
@given(before=groups, added=groups, indent=st.sampled_from([2, 4]))
def test_use_then_remove_for_any_files(tmp_path_factory, before, added, indent):
    folder = tmp_path_factory.mktemp("use")
    before = {
        g: {f"m-{k}": {**v, "dataset": "mini"} for k, v in named.items()} for g, named in before.items()
    }
    added = {g: {f"x-{k}": {**v, "dataset": "extra"} for k, v in named.items()} for g, named in added.items()}
    params, source = folder / "params.yaml", folder / "data/extra/pipeline.yaml"
    source.parent.mkdir(parents=True)
    params.write_text(yaml.safe_dump(before, indent=indent) if before else "seed: 1\n")
    source.write_text(yaml.safe_dump(added))
    start = yaml.safe_load(params.read_text())
    use_dataset("extra", params)
    now = yaml.safe_load(params.read_text())
    assert {g: v or {} for g, v in now.items()} == {
        g: v or {} for g, v in merged(start, {g: v for g, v in added.items() if v}).items()
    }
    remove_dataset("extra", params)
    after = yaml.safe_load(params.read_text())
    assert {g: v for g, v in after.items() if v} == {g: v for g, v in start.items() if v}
