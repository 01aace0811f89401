"""Names: unknown ones get their closest match, a clash names both distributions, and either can be picked."""

from __future__ import annotations

import pytest

from hyped_core.errors import NameClashError, UnknownNameError
from hyped_core.plugins import registry
from hyped_core.testing import isolated_host, make_distribution

CLASHING = """
    from hyped_core import DatasetSpec, MetricSpec, ModelSpec, ReaderSpec, TaskSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("ridge", "expression", "{name}_model:Ridge", summary="{name}")
        yield ModelSpec("{name}", "expression", "{name}_model:Own")
        yield ModelSpec("{name}", "track", "{name}_model:Own")

    @hookimpl
    def hyped_datasets():
        yield DatasetSpec("{name}-data", "{name}_plugin:m.yaml")

    @hookimpl
    def hyped_tasks():
        yield TaskSpec("{name}-task", "a:B")

    @hookimpl
    def hyped_metrics():
        yield MetricSpec("rmse", "{name}-task", "a:b")

    @hookimpl
    def hyped_readers():
        yield ReaderSpec("{name}", "movie", (".xyz",), "a:b")
"""


@pytest.fixture
def host(tmp_path):
    for name in ("alpha", "beta"):
        make_distribution(
            tmp_path, f"lab-{name}", {f"{name}_plugin": CLASHING.format(name=name)}, version="1.2"
        )
    with isolated_host(tmp_path) as host:
        yield host


def test_clash_names_both_and_either_can_be_picked(host):
    with pytest.raises(NameClashError) as caught:
        registry.get_model("expression", "ridge", host)
    assert "lab-alpha 1.2" in str(caught.value) and "lab-beta 1.2" in str(caught.value)
    assert caught.value.exit_code == 4
    assert registry.get_model("expression", "lab-beta:ridge", host).summary == "beta"
    assert registry.get_model("expression", "lab-alpha:ridge", host).summary == "alpha"
    assert registry.models(host).clashes() == {"expression/ridge": ["lab-alpha", "lab-beta"]}


def test_clash_leaves_other_names_alone(host):
    assert registry.get_model("expression", "alpha", host).target == "alpha_model:Own"
    assert registry.get_model("track", "beta", host).task == "track"


def test_unknown_name_gets_its_closest_match(host):
    with pytest.raises(UnknownNameError, match="did you mean expression/alpha"):
        registry.get_model("expression", "alpah", host)
    with pytest.raises(UnknownNameError, match="there is no dataset called 'x'"):
        registry.datasets(host).get("x")
    with pytest.raises(UnknownNameError):
        registry.get_model("expression", "lab-gamma:ridge", host)


def test_an_unknown_name_may_be_a_broken_plugins(tmp_path):
    make_distribution(tmp_path, "lab-broken", {"broken_plugin": "import not_installed_here\n"})
    with isolated_host(tmp_path) as host, pytest.raises(UnknownNameError) as caught:
        registry.get_model("expression", "theirs", host)
    broken = [plugin.name for plugin in host.broken]
    assert len(broken) == 1 and broken[0] in caught.value.mend and "hyped plugins list" in caught.value.mend


def test_one_distribution_twice_says_so(tmp_path):
    text = (
        "from hyped_core import ModelSpec, hookimpl\n@hookimpl\ndef hyped_models():\n"
        "    return [ModelSpec('m', 'track', 'a:B'), ModelSpec('m', 'track', 'a:C')]\n"
    )
    make_distribution(tmp_path, "twice", {"twice_plugin": text})
    with (
        isolated_host(tmp_path) as host,
        pytest.raises(NameClashError, match="registers the model .* 2 times"),
    ):
        registry.get_model("track", "m", host)


def test_every_kind_has_a_registry(host):
    assert registry.datasets(host).names() == ["alpha-data", "beta-data"]
    assert registry.tasks(host).names() == ["alpha-task", "beta-task"]
    assert registry.metrics(host).names() == ["alpha-task/rmse", "beta-task/rmse"]
    assert registry.readers(host).names() == ["movie/alpha", "movie/beta"]


def test_handle_says_the_distribution_only_in_a_clash(host):
    models = registry.models(host)
    handles = [
        models.handle(item, item.spec.name) for item in models.items() if item.spec.task == "expression"
    ]
    assert handles == ["alpha", "beta", "lab-alpha:ridge", "lab-beta:ridge"]


READERS = """
    from hyped_core import ReaderSpec, hookimpl

    @hookimpl
    def hyped_readers():
        yield ReaderSpec("aaa", "movie", (".tif", ".lif", ".tiff"), "lab:read")
        yield ReaderSpec("all", "movie", (".tif",), "lab:read")
        yield ReaderSpec("cells", "cells", (".tif",), "lab:read")
"""
OWN_READER = """
    from hyped_core import ReaderSpec, hookimpl

    @hookimpl
    def hyped_readers():
        yield ReaderSpec("tiff", "movie", (".tif", ".tiff"), "own:read")
"""


def test_suffixes_of_hypeds_own_readers_stay_with_them(tmp_path):
    make_distribution(tmp_path, "alab", {"alab_plugin": READERS})
    make_distribution(tmp_path, "hyped-imaging", {"own_plugin": OWN_READER})
    with isolated_host(tmp_path) as host:
        found = {item.spec.name: item.spec for item in registry.readers(host).items()}
        host.check()
    assert found["tiff"].suffixes == (".tif", ".tiff")
    assert found["aaa"].suffixes == (".lif",)
    assert found["all"].suffixes == () and found["cells"].suffixes == (".tif",)
    record = host.record("alab")
    assert record.state == "broken" and host.record("hyped-imaging").state == "active"
    assert "the reader 'movie/aaa' is not asked for .tif, .tiff: hyped-imaging reads these" in record.reason
    assert "movie/all" in record.reason and "cells/cells" not in record.reason
    assert "pip uninstall alab" in record.mend


def test_of_strangers_readers_of_one_suffix_the_first_by_name_is_asked_and_the_others_notes_say_so(tmp_path):
    make_distribution(tmp_path, "blab", {"blab_plugin": READERS})
    make_distribution(tmp_path, "clab", {"clab_plugin": READERS.replace('"aaa"', '"aab"')})
    with isolated_host(tmp_path) as host:
        host.check()
    assert {record.state for record in host.plugins} == {"active"}
    assert not any("not asked for" in note for note in host.record("blab").notes)
    assert "the reader 'movie/aab' is not asked for .lif: 'movie/aaa' of blab comes before it" in (
        host.record("clab").notes
    )
