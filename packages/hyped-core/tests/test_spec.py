"""Records a plugin announces: names and import strings are checked, nothing is imported early."""

from __future__ import annotations

import pytest

from hyped_core.errors import MissingDependencyError, ParamsError, PluginError
from hyped_core.params import Params
from hyped_core.spec import (
    CommandSpec,
    DatasetSpec,
    HealthCheckSpec,
    ModelSpec,
    Needs,
    TaskSpec,
    import_target,
)


class Config(Params):
    strength: float = 1.0


class Model:
    def __init__(self, config: Config | None = None) -> None:
        self.config = config

    def track(self, objects, labels=None, *, context):
        return objects


HERE = __name__


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """pytest imports test modules under a name that is not importable; make it so."""
    import sys

    monkeypatch.setitem(sys.modules, "spec_under_test", sys.modules[HERE])


def test_create_fills_the_config():
    spec = ModelSpec("m", "track", "spec_under_test:Model", "spec_under_test:Config")
    assert spec.create({"strength": 2}).config.strength == 2
    assert spec.create().config == Config()
    assert spec.key == "track/m"


def test_bad_config_names_the_model_and_the_key():
    spec = ModelSpec("m", "track", "spec_under_test:Model", "spec_under_test:Config")
    with pytest.raises(ParamsError, match="track/m") as caught:
        spec.create({"strenght": 2})
    assert "did you mean 'strength'?" in str(caught.value)


def test_model_without_config_takes_none():
    spec = ModelSpec("m", "track", "spec_under_test:Model")
    assert spec.create().config is None
    with pytest.raises(PluginError, match="takes no parameters"):
        spec.create({"a": 1})


@pytest.mark.parametrize(
    ("target", "config", "said"),
    [
        ("json:dumps", None, "cannot be made: TypeError"),
        ("math:pi", None, "cannot be made: TypeError"),
        ("json:JSONDecoder", None, "no method 'track'"),
        ("spec_under_test:Model", "json:dumps", "not a pydantic model"),
    ],
)
def test_a_target_that_is_no_model_is_a_plugin_error(target, config, said):
    with pytest.raises(PluginError, match=said) as caught:
        ModelSpec("m", "track", target, config).create()
    assert caught.value.exit_code == 4 and "track/m" in str(caught.value) and caught.value.mend


def test_needs_are_checked_before_the_import():
    needs = Needs(modules=("json", "no_such_lib", "no.such.child"), install="pip install lab[no]")
    spec = ModelSpec("m", "track", "also_missing:Model", needs=needs)
    with pytest.raises(MissingDependencyError, match="no_such_lib, no.such.child") as caught:
        spec.create()
    assert caught.value.mend == "pip install lab[no]" and caught.value.exit_code == 5
    assert needs.missing() == ("no_such_lib", "no.such.child")
    Needs(modules=("json", "importlib.util")).check("x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ModelSpec("Upper", "track", "a:B"),
        lambda: ModelSpec("", "track", "a:B"),
        lambda: ModelSpec("a/b", "track", "a:B"),
        lambda: ModelSpec("n2v-0.1", "track", "a:B"),
        lambda: ModelSpec("a\n", "track", "a:B"),
        lambda: ModelSpec("m", "track.2d", "a:B"),
        lambda: ModelSpec("m", "Track It", "a:B"),
        lambda: ModelSpec("m", "track", "a.B"),
        lambda: ModelSpec("m", "track", "a:B", config="Config"),
        lambda: ModelSpec("m", "track", "a:B", role="judge"),
        lambda: ModelSpec("m", "track", "a:B", api_version="1"),
        lambda: ModelSpec("m", "track", "a:B", needs=["torch"]),
        lambda: ModelSpec(None, "track", "a:B"),
        lambda: CommandSpec((), "a:b", "x"),
        lambda: CommandSpec(("a", "b", "c", "d"), "a:b", "x"),
        lambda: CommandSpec(("Bad Word",), "a:b", "x"),
        lambda: TaskSpec("t", "no target"),
        lambda: TaskSpec("t", "a:B", exercise="no target"),
        lambda: DatasetSpec("d", "manifest.yaml"),
        lambda: DatasetSpec("d.2", "package:manifest.yaml"),
        lambda: HealthCheckSpec("h", "nothing"),
    ],
)
def test_nonsense_is_refused_when_it_is_made(make):
    with pytest.raises(PluginError):
        make()


def test_import_target_failures_are_typed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "target_raising.py").write_text("raise ValueError('boom')\n")
    (tmp_path / "target_exiting.py").write_text("raise SystemExit(1)\n")
    (tmp_path / "target_needing.py").write_text("import not_installed_here\n")
    for target, said in {
        "target_raising:X": "ValueError: boom",
        "target_exiting:X": "SystemExit",
        "target_needing:X": "not_installed_here",
        "json:Nothing": "has no 'Nothing'",
        "json": "import string",
    }.items():
        with pytest.raises(PluginError, match=said):
            import_target(target)
    import json

    assert import_target("json:dumps") is json.dumps
