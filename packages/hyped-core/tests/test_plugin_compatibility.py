"""Plugins for another HYPED or Python are refused with reason and mend; deprecated ones work and say so."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from datetime import date
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.version import Version

from hyped_core import __version__, contracts
from hyped_core.cli import plugins as plugins_cli
from hyped_core.plugins import compatibility
from hyped_core.plugins.compatibility import Deprecation, requirement_refusals
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.plugins.host import PluginHost
from hyped_core.spec import ModelSpec
from hyped_core.testing import isolated_host, make_distribution

ROOT = Path(__file__).parents[3]
HEAD = "from hyped_core import ModelSpec, hookimpl\n@hookimpl\ndef hyped_models():\n"


def plugin(*versions: int) -> str:
    return HEAD + "".join(f"    yield ModelSpec('m{v}', 'track', 'a:B', api_version={v})\n" for v in versions)


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyped-core of days to come: contracts of version 3, those of 2 deprecated, those of 1 no longer there."""
    soon = Deprecation("0.7.0", "2027-01-31", "0.9.0", instead="return int64 labels and state api_version=3")
    hook = Deprecation("0.7.0", "2027-09-30", "1.0.0", instead="implement hyped_datasets")
    monkeypatch.setattr(compatibility, "SUPPORTED_API_VERSIONS", (2, 3))
    monkeypatch.setattr(compatibility, "DEPRECATED_API_VERSIONS", {2: soon})
    monkeypatch.setattr(compatibility, "DEPRECATED_HOOKS", {"hyped_readers": hook})
    monkeypatch.setattr(compatibility, "__version__", "0.8.1")


def test_each_api_version_in_days_to_come(tmp_path: Path, future: None):
    make_distribution(tmp_path, "lab", {"lab_plugin": plugin(1, 2, 3, 4)})
    with isolated_host(tmp_path) as host:
        (record,) = host.check()
        assert [item.spec.name for item in host.collect("hyped_models")] == ["m2", "m3"]
    assert record.state == "broken"
    assert "model track/m1 was written for api_version 1, this hyped-core 0.8.1 offers 2, 3" in record.reason
    assert "track/m4 was written for api_version 4" in record.reason
    assert "pip install --upgrade lab" in record.mend, "an old plugin is to be renewed"
    assert "pip install --upgrade hyped-core" in record.mend, "a new one needs a newer core"
    assert "pip uninstall lab" in record.mend
    assert record.note == (
        "model track/m2: api_version 2 is deprecated since hyped-core 0.7.0, refused from 0.9.0 on, "
        "not before 2027-07-31: return int64 labels and state api_version=3"
    )


def test_a_deprecated_hook_is_asked_and_noted(tmp_path: Path, future: None):
    text = (
        "from hyped_core import ReaderSpec, hookimpl\n@hookimpl\ndef hyped_readers():\n"
        "    yield ReaderSpec('nd2', 'movie', ('.nd2',), 'a:b')\n"
    )
    make_distribution(tmp_path, "lab", {"lab_plugin": text})
    make_distribution(tmp_path, "new", {"new_plugin": plugin(3)})
    with isolated_host(tmp_path) as host:
        host.check()
        assert [item.spec.name for item in host.collect("hyped_readers")] == ["nd2"]
        assert host.record("lab").state == "active" and host.record("new").note == ""
    told = "the hook hyped_readers is deprecated since hyped-core 0.7.0, refused from 1.0.0 on, not before 2028-03-30"
    assert told in host.record("lab").note


def test_what_is_deprecated_now_is_still_there():
    from hyped_core.spec import API_VERSION

    assert API_VERSION == max(compatibility.SUPPORTED_API_VERSIONS)
    assert set(compatibility.DEPRECATED_API_VERSIONS) <= set(compatibility.SUPPORTED_API_VERSIONS) - {API_VERSION}
    assert set(compatibility.DEPRECATED_HOOKS) <= set(HOOKS)
    for name, told in deprecated():
        assert overdue(name, told, __version__, date.today(), notes()) == ""


def deprecated() -> list[tuple[str, Deprecation]]:
    versions = {f"api_version {number}": told for number, told in compatibility.DEPRECATED_API_VERSIONS.items()}
    return [*versions.items(), *compatibility.DEPRECATED_HOOKS.items()]


def notes() -> dict[str, str]:
    """What users are told of changes: the changelog of hyped-core with what is to come, and the upgrade notes."""
    core = ROOT / "packages/hyped-core"
    files = [core / "CHANGELOG.md", *sorted((core / "changes").glob("*.md"))]
    return {
        "the changelog": "\n".join(file.read_text() for file in files),
        "the upgrade notes": (ROOT / "docs/upgrading.md").read_text(),
    }


def overdue(name: str, told: Deprecation, version: str, today: date, told_in: dict[str, str]) -> str:
    """What a release of this version on this day still has to do about a deprecation; empty where nothing."""
    for place, text in told_in.items():
        if name not in text:
            return f"{name} is missing from {place}"
    if Version(version) < Version(told.since):
        return f"{name} is noted by a version to come"
    if Version(version) < Version(told.removed_in):
        return ""
    return "remove it" if today >= told.not_before else "too early to refuse it: name a later version"


@pytest.mark.parametrize(
    ("version", "day", "words"),
    [
        ("0.6.9", "2027-01-01", "to come"),
        ("0.7.0", "2027-01-31", ""),
        ("0.8.5", "2029-01-01", ""),
        ("0.9.0", "2027-07-30", "too early"),
        ("0.9.0", "2027-07-31", "remove it"),
        ("0.10.0", "2027-07-31", "remove it"),
    ],
)
def test_a_deprecation_is_kept_to_the_day_and_version_it_named(future: None, version: str, day: str, words: str):
    name, told = deprecated()[0]
    found = overdue(name, told, version, date.fromisoformat(day), {"the changelog": "api_version 2 goes"})
    assert (words in found) if words else found == ""
    assert "missing from the upgrade notes" in overdue(name, told, version, date.today(), {"the upgrade notes": ""})


@pytest.mark.parametrize(
    ("since", "removed_in", "allowed"),
    [
        ("0.7.0", "0.8.0", False),
        ("0.7.0", "0.7.5", False),
        ("0.7.0", "0.9.0", True),
        ("0.7.3", "0.10.0", True),
        ("0.9.0", "1.0.0", True),
        ("0.9.0", "1.1.0", False),
        ("1.2.0", "1.4.0", False),
        ("1.2.0", "1.9.0", False),
        ("1.2.0", "2.0.0", True),
        ("1.2.0", "2.1.0", False),
        ("1.2.0", "0.9.0", False),
    ],
)
def test_two_minor_versions_pass_and_from_1_0_on_a_major_one(since: str, removed_in: str, allowed: bool):
    if allowed:
        assert Deprecation(since, "2027-01-31", removed_in, "x").removed_in == removed_in
    else:
        with pytest.raises(ValueError, match="too early"):
            Deprecation(since, "2027-01-31", removed_in, "x")


@pytest.mark.parametrize(
    ("noted", "first"),
    [("2026-08-31", "2027-02-28"), ("2027-01-31", "2027-07-31"), ("2027-07-15", "2028-01-15")],
)
def test_six_months_pass(noted: str, first: str):
    assert str(Deprecation("0.1.0", noted, "0.3.0", "x").not_before) == first


def test_plugins_list_notes_what_is_deprecated_on_each_plugin_that_uses_it(
    tmp_path: Path, future: None, monkeypatch: pytest.MonkeyPatch
):
    for name, version in (("old", 2), ("older", 2), ("new", 3)):
        make_distribution(tmp_path, name, {f"{name}_plugin": plugin(version).replace("'m", f"'{name}")})
    with isolated_host(tmp_path) as host:
        monkeypatch.setattr(plugins_cli, "default_host", lambda: host)
        said = CliRunner().invoke(plugins_cli.list_plugins, []).stdout
    notes = [line.partition(" ")[0] for line in said.splitlines() if "deprecated since hyped-core 0.7.0" in line]
    assert notes == ["old", "older"] and "new  " in said


def test_a_source_folder_is_held_to_its_requirements_too(tmp_path: Path):
    (tmp_path / "lab_plugin.py").write_text("raise SystemError('imported all the same')\n")
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'lab'\nversion = '0.3.1'\ndependencies = ['hyped-core>=99']\n"
        "[project.entry-points.hyped]\nlab = 'lab_plugin'\n"
    )
    record = PluginHost(path=[], folders=[tmp_path], block=()).record("lab")
    assert record.state == "broken" and record.reason == f"requires hyped-core >=99, installed is {__version__}"


def test_what_is_added_to_a_spec_has_a_default():
    """So that it does not change api_version: a plugin of today states the three fields that there always were."""
    required = [f.name for f in fields(ModelSpec) if f.default is MISSING and f.default_factory is MISSING]
    assert required == ["name", "task", "target"]


def test_the_page_says_what_holds():
    page = (ROOT / "docs/plugins/compatibility.md").read_text()
    major, minor, *_ = __version__.split(".")
    assert f'"hyped-core>={major}.{minor},<{major}.{int(minor) + 1}"' in page, "while HYPED is below 1.0"
    assert f"now {compatibility.API_VERSION}." in page
    assert f"installed is {__version__}" in page and compatibility.MONTHS == 6 and "six months" in page


def refusals(folder: Path, *requires: str, python: str = "", here: str = "3.11.7", **installed: str):
    make_distribution(folder, "lab", {"lab_plugin": ""}, requires=requires, requires_python=python)
    found = PathDistribution(folder / "lab-1.0.dist-info")
    versions = {name.replace("_", "-"): version for name, version in installed.items()}
    return requirement_refusals(found, python=here, installed=versions)


@pytest.mark.parametrize(
    ("requirement", "core", "taken"),
    [
        ("hyped-core", "0.1.0", True),
        ("hyped-core>=0.1,<0.2", "0.1.0", True),
        ("hyped_core >=0.1,<0.2", "0.1.9.post1", True),
        ("Hyped.Core>=0.1,<0.2", "0.2.0", False),
        ("hyped-core>=0.1,<0.2", "0.2.0rc1", False),
        ("hyped-core>=0.2", "0.2.0rc1", False),
        ("hyped-core>=0.2.0rc1", "0.2.0rc1", True),
        ("hyped-core>=0.1", "0.2.0.dev3", True),
        ("hyped-core~=0.1.2", "0.1.1", False),
        ("hyped-core!=0.1.3", "0.1.3", False),
        ("hyped-core>=99; python_version < '3'", "0.1.0", True),
        ("hyped-core>=99; python_version > '3'", "0.1.0", False),
        ("hyped-core>=99; extra == 'deep'", "0.1.0", True),
        ("hyped-core[container]>=0.1", "0.1.0", True),
        ("hyped-core @ file:///somewhere", "0.1.0", True),
        ("hyped-corecoran>=99", "0.1.0", True),
        ("numpy>=99", "0.1.0", True),
        ("hyped-core>>1", "0.1.0", False),
        ("hyped-core>=1; nonsense", "0.1.0", False),
    ],
)
def test_requirements_on_the_core(tmp_path: Path, requirement: str, core: str, taken: bool):
    found = refusals(tmp_path, "numpy", requirement, hyped_core=core)
    assert (found == []) is taken
    for refusal in found:
        assert refusal.mend.startswith("pip install") and ("hyped" in refusal.reason.lower())


def test_requirements_on_packages_of_the_family(tmp_path: Path):
    found = refusals(tmp_path, "hyped-seq>=0.3", "hyped-bench", hyped_core="0.1.0", hyped_seq="0.1.0")
    assert [refusal.reason for refusal in found] == [
        "requires hyped-seq >=0.3, installed is 0.1.0",
        "requires hyped-bench, which is not installed",
    ]
    assert found[1].mend == "pip install 'hyped-bench'"


def test_metadata_read_by_the_backport_count_too(tmp_path: Path):
    """Where anything imported importlib_metadata, its distributions are found, which raise for absent fields."""
    backport = pytest.importorskip("importlib_metadata")
    info = make_distribution(tmp_path, "lab", {"lab_plugin": ""}, requires=("hyped-core>=99",))
    found = backport.Distribution.at(info)
    with pytest.raises(KeyError):
        found.metadata.__getitem__("Requires-Python")
    assert [refusal.reason for refusal in requirement_refusals(found)] == [
        f"requires hyped-core >=99, installed is {__version__}"
    ]


@pytest.mark.parametrize(
    ("wanted", "here", "taken"),
    [
        ("", "3.11.7", True),
        (">=3.11", "3.11.7", True),
        (">=3.12", "3.11.7", False),
        (">=3.11,<3.13", "3.13.0", False),
        (">=3.13", "3.14.0rc1", True),
        ("three", "3.11.7", False),
    ],
)
def test_the_python_it_is_for(tmp_path: Path, wanted: str, here: str, taken: bool):
    found = refusals(tmp_path, python=wanted, here=here)
    assert (found == []) is taken
    assert all(wanted in refusal.reason and refusal.mend for refusal in found)


def test_what_is_refused_is_not_imported(tmp_path: Path):
    text = "raise SystemError('imported all the same')\n"
    make_distribution(tmp_path, "lab", {"lab_plugin": text}, requires=["hyped-core>=99", "hyped-imaging>=99"])
    make_distribution(tmp_path, "old", {"old_plugin": text}, requires_python="<3")
    make_distribution(tmp_path, "good", {"good_plugin": plugin(1)}, requires=["hyped-core>=0.0.1"])
    with isolated_host(tmp_path) as host:
        states = {record.name: record.state for record in host.check()}
        assert [item.spec.name for item in host.collect("hyped_models")] == ["m1"]
        lab, old = host.record("lab"), host.record("old")
    assert states == {"good": "active", "lab": "broken", "old": "broken"}
    assert "hyped-core >=99" in lab.reason and "hyped-imaging >=99" in lab.reason, "all of it at once"
    assert f"installed is {__version__}" in lab.reason and "imported all the same" not in lab.reason + old.reason
    assert "pip install --upgrade lab" in lab.mend and "pip uninstall lab" in lab.mend
    assert "requires Python <3" in old.reason


def members(protocol: type) -> set[str]:
    return {name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")}


def test_every_contract_says_since_when():
    protocols = {
        name: value
        for name, value in vars(contracts).items()
        if inspect.isclass(value) and value.__module__ == contracts.__name__
    }
    listed = set(protocols)
    for name, value in protocols.items():
        if getattr(value, "_is_protocol", False):
            listed |= {f"{name}.{member}" for member in members(value)}
    listed |= {f"{name}.{member}" for name, optional in contracts.OPTIONAL_MEMBERS.items() for member in optional}
    assert set(contracts.ADDED_IN) == listed
    for version in contracts.ADDED_IN.values():
        assert Version(version) <= Version(__version__)
    for contract, version in contracts.ADDED_IN.items():
        assert Version(contracts.ADDED_IN[contract.partition(".")[0]]) <= Version(version)


def test_every_optional_member_that_a_docstring_names_is_listed():
    """After the word optional, sentences that open with a name tell of members: ``fit(...)``, ``facts``."""
    for name, protocol in vars(contracts).items():
        if not (inspect.isclass(protocol) and getattr(protocol, "_is_protocol", False)):
            continue
        texts = [protocol.__doc__ or "", *(getattr(protocol, member).__doc__ or "" for member in members(protocol))]
        named: set[str] = set()
        for text in texts:
            told = re.split(r"[Oo]ptional", text, maxsplit=1)
            for sentence in re.split(r"\.\s+|\n\n", told[1]) if len(told) > 1 else ():
                first = re.match(r"\s*(?:[\w ]+:)?\s*``(\w+)", sentence)
                if first:
                    named.add(first[1])
        assert named <= set(contracts.OPTIONAL_MEMBERS.get(name, ())), name
        for member in contracts.OPTIONAL_MEMBERS.get(name, ()):
            assert any(f"``{member}" in text for text in texts), f"{name}.{member} is not in its docstring"
    assert set(contracts.OPTIONAL_MEMBERS) <= set(vars(contracts))
