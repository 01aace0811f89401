"""Models that a pipeline asks for and nobody gives: each has an entry in the lock file that says what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hyped_core.plugins.lock import add_lost, lock_changes, lock_entries, lock_text
from hyped_core.plugins.lost import asked_models, lost_model
from hyped_core.testing import isolated_host, make_distribution

PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    yield ModelSpec("{model}", "denoise", "{name}_model:Model")
"""


def stage(*keys: str, over: str = "") -> dict:
    made = {"cmd": "x", "params": ["seed", {"plugins.lock.yaml": list(keys), "params.yaml": ["models.a.b"]}]}
    return {"foreach": over, "do": made} if over else made


DVC = {
    "stages": {
        "bench-denoise": stage("models.denoise.${item.model}", "models.track.${item.tracker}", over="${bench-denoise}"),
        "listed": stage("models.segment.${item}", over="${names}"),
        "plain": stage("models.track.lap"),
        "absent": stage("models.denoise.${item.model}", over="${nowhere}"),
    }
}


class Place:
    """A folder of installed plugins beside a pipeline that asks for models by these names."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.root, self.site = folder / "root", folder / "site"
        self.lock = self.root / "plugins.lock.yaml"
        self.root.mkdir()
        stage = DVC["stages"]["bench-denoise"]
        self.root.joinpath("dvc.yaml").write_text(yaml.safe_dump({"stages": {"bench-denoise": stage}}))
        self.ask(*names)

    def ask(self, *names: str) -> None:
        lines = {name: {"model": name} for name in names}
        self.root.joinpath("params.yaml").write_text(yaml.safe_dump({"bench-denoise": lines}))

    def install(self, name: str, code: str = PLUGIN, model: str = "theirs") -> None:
        files = {f"{name}_plugin": code.format(name=name, model=model), f"{name}_model": "class Model: ...\n"}
        self.remove(name)
        make_distribution(self.site, name, files, version="2.0")

    def remove(self, name: str) -> None:
        for file in (*self.site.glob(f"{name}-*/*"), *self.site.glob(f"{name}_*.py")):
            file.unlink()
        for folder in self.site.glob(f"{name}-*"):
            folder.rmdir()

    def write(self, **settings) -> tuple[dict, list[str]]:
        """Entries of the task and notes; the file is written, and a second time with equal bytes."""
        found = []
        for _ in range(2):
            with isolated_host(self.site, **settings) as host:
                entries, _ = lock_entries(host)
                notes = add_lost(entries, self.lock, host)
            found.append(lock_text(entries))
            self.changes = lock_changes(self.lock, entries) or self.changes
            self.lock.write_text(found[-1])
        assert found[0] == found[1]
        return entries["models"].get("denoise", {}), notes

    changes: list[str] = []


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path, "theirs")
    made.install("lab")
    good, notes = made.write()
    assert set(good["theirs"]) == {"distribution", "version", "sha256"} and notes == []
    return made


def test_what_stages_ask_for_is_read_from_the_pipeline(tmp_path):
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(DVC))
    lines = {"a": {"model": "median", "tracker": "lap"}, "b": {"model": "nlm"}, "c": {"model": 3}, "d": "text"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"bench-denoise": lines, "names": ["fast", "slow"]}))
    assert asked_models(tmp_path) == [
        ("denoise", "median"), ("denoise", "nlm"), ("segment", "fast"), ("segment", "slow"), ("track", "lap")
    ]  # fmt: skip


@pytest.mark.parametrize("text", [None, "", "- 1", "stages: 3", "stages: {a: 3, b: {params: 4}}", "a: [", "a: !!x/y 1"])
def test_a_pipeline_that_cannot_be_read_asks_for_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "dvc.yaml").write_text(text)
    assert asked_models(tmp_path) == []


def test_a_broken_plugins_model_keeps_an_entry_with_owner_and_reason(place):
    place.install("lab", "raise RuntimeError('out of luck')\n")
    entries, notes = place.write()
    assert {k: entries["theirs"][k] for k in ("distribution", "version", "state")} == {
        "distribution": "lab", "version": "2.0", "state": "broken"
    }  # fmt: skip
    assert "out of luck" in entries["theirs"]["reason"] and "sha256" not in entries["theirs"]
    assert place.changes == ["denoise/theirs is broken"] and "denoise/theirs is broken: " in notes[0]
    place.install("lab")
    assert set(place.write()[0]["theirs"]) == {"distribution", "version", "sha256"}


def test_an_uninstalled_ones_stays_until_nobody_asks_for_it(place):
    place.remove("lab")
    entries, _ = place.write()
    assert (entries["theirs"]["distribution"], entries["theirs"]["state"]) == ("lab", "gone")
    assert "lab is not installed" in entries["theirs"]["reason"]
    place.ask("other")
    place.install("another", model="other")
    assert set(place.write()[0]) == {"other"}


def test_one_that_its_package_dropped_and_one_that_is_blocked(place):
    with isolated_host(place.site, block=["lab"]) as host:
        lost = lost_model("denoise", "theirs", host, {"distribution": "lab"})
    assert lost.state == "blocked" and lost.distribution == "lab" and lost.version == "2.0"
    place.install("lab", model="renamed")
    entries, _ = place.write()
    assert entries["theirs"]["state"] == "gone" and "lab 2.0 has no such model" in entries["theirs"]["reason"]
    assert "sha256" in entries["renamed"]


def test_a_name_that_two_claim_is_no_end_of_the_run(place):
    place.ask("theirs", "lab:theirs")
    place.install("rival")
    entries, _ = place.write()
    assert entries["theirs"]["state"] == "clashing"
    assert "lab" in entries["theirs"]["reason"] and "rival" in entries["theirs"]["reason"]
    assert "sha256" in entries["lab:theirs"] and "sha256" in entries["rival:theirs"]
    place.remove("rival")
    entries, _ = place.write()
    assert entries["lab:theirs"] == entries["theirs"] and "sha256" in entries["theirs"]


def test_a_name_that_nobody_ever_had_is_not_lost_unless_a_plugin_is_broken(place):
    place.ask("thiers")
    entries, notes = place.write()
    assert entries["thiers"] == {"state": "unknown"} and "no plugin here has it" in notes[0]
    with isolated_host(place.site) as host:
        assert lost_model("denoise", "thiers", host, {"state": "unknown"}) is None
        assert lost_model("denoise", "theirs", host, {}) is None
    place.install("other", "raise RuntimeError('out of luck')\n")
    with isolated_host(place.site) as host:
        lost = lost_model("denoise", "thiers", host, {})
    assert lost.state == "broken" and lost.distribution == "other" and "out of luck" in lost.reason
    assert "did you mean" not in lost.reason and "pip uninstall other" in str(lost)


def test_a_model_whose_source_cannot_be_read_keeps_an_entry(place):
    (place.site / "lab_model.py").write_bytes(b"class Model: ...\0")
    entries, _ = place.write()
    assert entries["theirs"] == {"distribution": "lab", "version": "2.0", "state": "unread"}
