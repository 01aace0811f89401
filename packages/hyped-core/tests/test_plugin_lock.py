"""The lock file: stable bytes, no import of a model, a changed source changes its model alone."""

from __future__ import annotations

import sys

import pytest
import yaml

from hyped_core.errors import PluginError
from hyped_core.plugins.lock import lock_changes, lock_entries, lock_text
from hyped_core.plugins.registry import provided_model
from hyped_core.plugins.sources import locate, model_modules, source_files, source_hash
from hyped_core.spec import ModelSpec
from hyped_core.testing import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("ridge", "expression", "lablock.ridge:Ridge", "lablock.config:Config")
        yield ModelSpec("net", "expression", "lablock.net:Net", sources=("lablock.layers",))
        yield ModelSpec("blur", "denoise", "lablock.blur:Blur")
"""
MODULES = {
    "lablock/plugin": PLUGIN,
    "lablock/__init__": "raise RuntimeError('the parent is not to be imported')\n",
    "lablock/ridge": "raise RuntimeError('not to be imported')\n",
    "lablock/config": "class Config: ...\n",
    "lablock/net/__init__": "from lablock.net.deep import Net\n",
    "lablock/net/deep": "class Net: ...\n",
    "lablock/layers": "SIZE = 1\n",
    "lablock/blur": "class Blur: ...\n",
}


@pytest.fixture
def lab(tmp_path):
    modules = {**MODULES, "lablock_plugin": MODULES["lablock/plugin"]}
    del modules["lablock/plugin"]
    make_distribution(tmp_path, "lablock", modules, entry_points={"lablock": "lablock_plugin"}, version="3.1")
    return tmp_path


def locked(folder):
    with isolated_host(folder) as host:
        return lock_entries(host)


def test_entries_are_nested_for_dvc_and_nothing_is_imported(lab):
    with isolated_host(lab) as host:
        entries, notes = lock_entries(host)
        assert "lablock" not in sys.modules
    assert notes == []
    models = entries["models"]
    assert list(models) == ["denoise", "expression"]
    assert models["expression"]["ridge"]["distribution"] == "lablock"
    assert models["expression"]["ridge"]["version"] == "3.1"
    assert len(models["expression"]["ridge"]["sha256"]) == 64
    assert yaml.safe_load(lock_text(entries)) == entries


def test_same_plugins_same_bytes_wherever_they_are(lab, tmp_path_factory):
    first = lock_text(locked(lab)[0])
    assert lock_text(locked(lab)[0]) == first
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for file in lab.rglob("*"):
        if file.is_file():
            copy = elsewhere / file.relative_to(lab)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    assert lock_text(locked(elsewhere)[0]) == first


@pytest.mark.parametrize(
    ("changed", "models"),
    [
        ("lablock/ridge.py", ["expression/ridge"]),
        ("lablock/config.py", ["expression/ridge"]),
        ("lablock/net/deep.py", ["expression/net"]),
        ("lablock/layers.py", ["expression/net"]),
        ("lablock/blur.py", ["denoise/blur"]),
        ("lablock/__init__.py", []),
    ],
)
def test_a_changed_source_changes_its_model_alone(lab, changed, models):
    lock = lab / "plugins.lock.yaml"
    lock.write_text(lock_text(locked(lab)[0]))
    (lab / changed).write_text((lab / changed).read_text() + "# another line\n")
    assert lock_changes(lock, locked(lab)[0]) == [f"{key} changed" for key in models]


def test_line_ends_do_not_count(lab):
    before = locked(lab)[0]
    blur = lab / "lablock/blur.py"
    blur.write_bytes(blur.read_bytes().replace(b"\n", b"\r\n"))
    assert locked(lab)[0] == before


def test_a_missing_source_is_left_out_with_a_note(lab):
    (lab / "lablock/blur.py").unlink()
    entries, notes = locked(lab)
    assert "denoise" not in entries["models"]
    assert len(notes) == 1 and "denoise/blur" in notes[0] and "lablock" in notes[0]


def test_a_clash_lists_both(lab):
    text = MODULES["lablock/plugin"].replace("lablock.", "othermodel.")
    make_distribution(
        lab,
        "other-lab",
        {"other_plugin": text, "othermodel/blur": "X = 2\n"},
        entry_points={"other-lab": "other_plugin"},
    )
    entries, notes = locked(lab)
    assert sorted(entries["models"]["denoise"]) == ["lablock:blur", "other-lab:blur"]
    assert len({item["sha256"] for item in entries["models"]["denoise"].values()}) == 2
    assert {note.split()[0] for note in notes} == {"expression/ridge", "expression/net"}


def test_no_key_holds_a_dot_and_each_names_its_model(lab):
    """DVC splits keys at dots, and a stage asks for the model by the key."""
    text = MODULES["lablock/plugin"].replace("lablock.", "othermodel.")
    modules = {"other_plugin": text, "othermodel/blur": "X = 2\n"}
    make_distribution(lab, "other.lab", modules, entry_points={"other-lab": "other_plugin"})
    with isolated_host(lab) as host:
        keys = list(lock_entries(host)[0]["models"]["denoise"])
        owners = [provided_model("denoise", key, host).plugin.distribution for key in keys]
    assert dict(zip(keys, owners)) == {"lablock:blur": "lablock", "other-lab:blur": "other.lab"}


def test_a_new_version_is_a_change(lab):
    lock = lab / "plugins.lock.yaml"
    lock.write_text(lock_text(locked(lab)[0]))
    info = lab / "lablock-3.1.dist-info" / "METADATA"
    info.write_text(info.read_text().replace("3.1", "3.2"))
    assert len(lock_changes(lock, locked(lab)[0])) == 3


def test_changes_of_a_lock_that_is_not_there_or_is_no_lock(lab):
    entries = locked(lab)[0]
    assert lock_changes(lab / "none.yaml", entries) == [
        "denoise/blur is new",
        "expression/net is new",
        "expression/ridge is new",
    ]
    bad = lab / "bad.yaml"
    bad.write_text("{")
    assert lock_changes(bad, entries) == [f"{bad} is not valid YAML"]
    assert lock_changes(bad, {"models": {}})


def test_sources_of_a_package_are_all_its_modules(lab):
    sys.path.insert(0, str(lab))
    try:
        assert sorted(source_files("lablock.net")) == ["lablock.net/__init__.py", "lablock.net/deep.py"]
        assert locate("lablock.layers") == lab / "lablock/layers.py"
    finally:
        sys.path.remove(str(lab))


@pytest.mark.parametrize("module", ["no_such_package", "yaml.no_such_module", "sys", "yaml.nodes.deeper"])
def test_a_module_without_source_is_a_typed_error(module):
    with pytest.raises(PluginError, match=module):
        source_hash([module])


@pytest.mark.parametrize(
    ("code", "unseen"),
    [
        ("from lablock import layers\n", "lablock.layers"),
        ("from lablock.layers import SIZE\n", "lablock.layers"),
        ("import lablock.layers as l\n", "lablock.layers"),
        ("from . import layers\n", "lablock.layers"),
        ("from .layers import SIZE\n", "lablock.layers"),
        ("def f():\n    from lablock.layers import SIZE\n", "lablock.layers"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lablock.layers import SIZE\n", ""),
        ("from lablock.config import Config\nimport json, hyped_core.spec\n", ""),
        ("from .nets import UNet\n", "lablock.nets"),
        ("from .nets import *\n", "lablock.nets"),
        ("import lablock.nets\n", "lablock.nets"),
        ("from .nets import small\n", "lablock.nets.small"),
        ("from .nets.small import S\n", "lablock.nets.small"),
        ("from lablock.bare import small\n", "lablock.bare.small"),
        ("from lablock import made_in_its_init\n", "lablock"),
        ("from lablock import __version__, no, lablock\n", "lablock"),
        ("from lablock import __version__\n", ""),
        ("from lablock.bare import nothing_there\nimport lablock.bare, lablock.nowhere\n", ""),
    ],
)
def test_an_import_that_the_spec_does_not_name_is_noted(lab, code, unseen):
    for name, text in {"nets": "class UNet: ...\n", "bare": '"""Says what lives here."""\n'}.items():
        (lab / "lablock" / name).mkdir()
        (lab / "lablock" / name / "__init__.py").write_text(text)
        (lab / "lablock" / name / "small.py").write_text("class S: ...\n")
    (lab / "lablock/ridge.py").write_text(code)
    entries, notes = locked(lab)
    assert "ridge" in entries["models"]["expression"]
    said = [note for note in notes if f"expression/ridge of lablock imports {unseen}, which" in note]
    assert len(said) == len(notes) == bool(unseen)


def test_what_is_imported_and_not_named_counts_too(lab):
    (lab / "lablock/ridge.py").write_text("from .near import far\n")
    (lab / "lablock/near.py").write_text("from lablock.far import X as far\n")
    (lab / "lablock/far.py").write_text("X = 1\n")
    lock = lab / "plugins.lock.yaml"
    lock.write_text(lock_text(locked(lab)[0]))
    (lab / "lablock/far.py").write_text("X = 2\n")
    entries, notes = locked(lab)
    assert lock_changes(lock, entries) == ["expression/ridge changed"]
    assert any("imports lablock.far, lablock.near, which" in note for note in notes)


def test_a_package_that_is_named_counts_with_all_its_modules(lab):
    nets = lab / "lablock/nets"
    nets.mkdir()
    (nets / "__init__.py").write_text("from .small import S as UNet\n")
    (nets / "small.py").write_text("class S: ...\n")
    (lab / "lablock/ridge.py").write_text("from .nets import UNet\n")
    plugin = lab / "lablock_plugin.py"
    plugin.write_text(plugin.read_text().replace('.config:Config"', '.config:Config", sources=("lablock.nets",)'))
    before, notes = locked(lab)
    assert notes == []
    (nets / "small.py").write_text("class S: 'changed'\n")
    assert locked(lab)[0]["models"]["expression"]["ridge"] != before["models"]["expression"]["ridge"]


def test_another_environment_is_a_change_of_its_model_alone(lab):
    lock = lab / "plugins.lock.yaml"
    plugin = lab / "lablock_plugin.py"
    without = plugin.read_text()
    for environment in ('("six",)', '("six==1.16.0",)', '("six==1.16.0", "attrs")', '("six==1.16.0attrs",)'):
        lock.write_text(lock_text(locked(lab)[0]))
        plugin.write_text(without.replace('.blur:Blur"', f'.blur:Blur", environment={environment}'))
        assert lock_changes(lock, locked(lab)[0]) == ["denoise/blur changed"]
    lock.write_text(lock_text(locked(lab)[0]))
    plugin.write_text(without)
    assert lock_changes(lock, locked(lab)[0]) == ["denoise/blur changed"]


def test_another_class_of_the_same_file_is_a_change_of_its_model_alone(lab):
    (lab / "lablock/blur.py").write_text("class Blur: ...\nclass Sharp: ...\n")
    lock = lab / "plugins.lock.yaml"
    lock.write_text(lock_text(locked(lab)[0]))
    plugin = lab / "lablock_plugin.py"
    plugin.write_text(plugin.read_text().replace('.blur:Blur"', '.blur:Sharp"'))
    assert lock_changes(lock, locked(lab)[0]) == ["denoise/blur changed"]


@pytest.mark.parametrize(
    "content", [b"def f(:\n", b"x = 1\x00\n", b"\xff\xfe\x00", b"# coding: none\n", b"(" * 5000 + b")" * 5000]
)
def test_a_source_that_is_none_spoils_its_own_entry_alone(lab, content):
    before = locked(lab)[0]["models"]
    (lab / "lablock/blur.py").write_bytes(content)
    entries, notes = locked(lab)
    assert entries["models"] == {"expression": before["expression"]}
    assert len(notes) == 1 and notes[0].startswith("denoise/blur of lablock left out")


def test_a_broken_or_absent_stranger_leaves_the_others_entries_as_they_are(lab):
    alone = locked(lab)[0]
    broken = "from hyped_core import ModelSpec, hookimpl\n"
    models = "    yield ModelSpec('blur', 'track', 'ruin_model:Blur')\n    1 / 0\n"
    broken += f"@hookimpl\ndef hyped_models():\n{models}"
    make_distribution(lab, "ruin", {"ruin_plugin": broken, "ruin_model": "class Blur: ..."})
    assert locked(lab)[0] == alone
    (lab / "ruin_plugin.py").write_text(broken.replace("    1 / 0\n", ""))
    beside = locked(lab)[0]
    assert beside["models"].pop("track").keys() == {"blur"} and beside == alone


def test_modules_of_a_model():
    spec = ModelSpec("m", "track", "a.b:C", config="a.c:D", sources=("a.z", "a.b"))
    assert model_modules(spec) == ["a.b", "a.c", "a.z"]
