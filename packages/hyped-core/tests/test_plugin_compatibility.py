"""Plugins for another HYPED or Python are refused with reason and mend; deprecated ones work and say so."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.version import Version

from hyped_core import __version__, contracts
from hyped_core.plugins import compatibility
from hyped_core.plugins.compatibility import Deprecation, requirement_refusals
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.testing import isolated_host, make_distribution

HEAD = "from hyped_core import ModelSpec, hookimpl\n@hookimpl\ndef hyped_models():\n"


def plugin(*versions: int) -> str:
    return HEAD + "".join(f"    yield ModelSpec('m{v}', 'track', 'a:B', api_version={v})\n" for v in versions)


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyped-core of days to come: contracts of version 3, those of 2 deprecated, those of 1 no longer there."""
    soon = Deprecation(since="0.7.0", removed_in="0.9.0", instead="return int64 labels and state api_version=3")
    hook = Deprecation(since="0.7.0", removed_in="1.0.0", instead="implement hyped_datasets")
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
        "model track/m2: api_version 2 is deprecated since hyped-core 0.7.0, refused from 0.9.0 on: "
        "return int64 labels and state api_version=3"
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
    assert "the hook hyped_readers is deprecated since hyped-core 0.7.0, refused from 1.0.0" in host.record("lab").note


def test_what_is_deprecated_now_is_still_there():
    from hyped_core.spec import API_VERSION

    assert API_VERSION == max(compatibility.SUPPORTED_API_VERSIONS)
    assert set(compatibility.DEPRECATED_API_VERSIONS) <= set(compatibility.SUPPORTED_API_VERSIONS) - {API_VERSION}
    assert set(compatibility.DEPRECATED_HOOKS) <= set(HOOKS)
    for told in [*compatibility.DEPRECATED_API_VERSIONS.values(), *compatibility.DEPRECATED_HOOKS.values()]:
        assert Version(told.since) <= Version(__version__) < Version(told.removed_in), "it is time to remove it"


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
