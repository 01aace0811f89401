"""`hyped data fetch`: which manifest it uses, sizes that are about right, and no empty folder left behind."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from click.testing import CliRunner

from hyped_core.cli.data_fetch import fetch_data
from hyped_core.cli.tables import about_text
from hyped_core.data.fetch import fetch
from hyped_core.data.manifest import find_manifest, parse_manifest, read_manifest
from hyped_core.errors import NetworkError, ParamsError, UnknownNameError, ValidationError

URL = {"kind": "url", "url": "http://127.0.0.1:9/x"}  # nothing listens there


def toy(**changes):
    return {"name": "norman", "title": "Edited", "licence": "CC0-1.0", **changes}


def put(folder, values):
    path = folder / "data" / "norman" / "manifest.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(fetch_data, list(arguments))

    return call


def test_the_package_s_manifest_without_a_checkout(tmp_path, run):
    found, used = find_manifest("norman", tmp_path)
    assert found == read_manifest("norman") and used == "hyped_core:data/manifests/norman.yaml"
    result = run("norman", "--dry-run")
    assert "manifest hyped_core:data/manifests/norman.yaml" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_edited_manifest_of_the_working_folder_is_used(tmp_path, run):
    content = b"edited\n"
    file = {"path": "a.txt", "bytes": 7, "sha256": hashlib.sha256(content).hexdigest(), "source": URL}
    put(tmp_path, toy(files=[file]))
    (tmp_path / "have").mkdir()
    (tmp_path / "have" / "a.txt").write_bytes(content)
    result = run("norman", "--from", "have", "--json")
    assert result.exit_code == 0, result.exception
    record = json.loads(result.stdout)
    assert record["manifest"] == "data/norman/manifest.yaml" and record["fetched"] == ["a.txt"]
    assert "norman: Edited" in result.stderr and "manifest data/norman/manifest.yaml" in result.stderr
    assert (tmp_path / "data/norman/raw/a.txt").read_bytes() == content


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        (toy(name="public"), ValidationError, "expected 'norman', found 'public'"),
        (toy(files=[{"path": "../x", "source": URL}]), ValidationError, "relative path"),
        ("a: [", ParamsError, "not valid YAML"),
        ("", ValidationError, "manifest"),
    ],
)
def test_a_bad_manifest_of_the_working_folder_is_named(tmp_path, values, error, said):
    path = put(tmp_path, values)
    with pytest.raises(error, match=said) as caught:
        find_manifest("norman", tmp_path)
    assert str(caught.value.where) == str(path)


def test_a_name_that_is_no_dataset_is_not_looked_for_in_folders(tmp_path):
    put(tmp_path, toy())
    for name in ("../norman", "norman/", "nobody"):
        with pytest.raises(UnknownNameError):
            find_manifest(name, tmp_path)


def test_sizes_known_about_and_unknown(tmp_path, run):
    files = [
        {"path": "big.bin", "bytes": 417_571_156, "source": URL},
        {"path": "b.pkl", "approx_bytes": 8_000_000, "source": URL},
        {"path": "c.pkl", "approx_bytes": 4_000_000, "source": URL},
    ]
    path = put(tmp_path, toy(files=files))
    result = run("norman", "--dry-run", "--json")
    assert "would fetch b.pkl (about 8 MB)" in result.stderr
    assert "would fetch 3 files: 417.6 MB and about 12 MB\n" in result.stderr
    assert "size     3 files, 417.6 MB and about 12 MB\n" in result.stderr
    record = json.loads(result.stdout)
    assert (record["bytes"], record["approx_bytes"]) == (417_571_156, 12_000_000)
    path.write_text(yaml.safe_dump(toy(files=[*files, {"path": "d", "source": URL}])))
    assert "4 files: 417.6 MB and about 12 MB and 1 of unknown size" in run("norman", "--dry-run").stderr
    assert "would fetch 1 file: about 8 MB\n" in run("norman", "--dry-run", "--only", "b.*").stderr
    assert "would fetch 1 file: size unknown\n" in run("norman", "--dry-run", "--only", "d").stderr


def test_an_approximate_size_is_not_held_to(tmp_path):
    values = toy(files=[{"path": "a", "approx_bytes": 10**7, "source": URL}])
    (tmp_path / "have").mkdir()
    (tmp_path / "have" / "a").write_bytes(b"abc")
    done = fetch(parse_manifest(values, "t"), tmp_path / "raw", source=tmp_path / "have")
    assert done.recorded["a"]["bytes"] == 3


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "about 0 B"), (1000, "about 1 kB"), (41_185_000, "about 41 MB"), (1_500_000, "about 1.5 MB"),
     (999_600_000, "about 1 GB"), (170_000_000, "about 170 MB")],
)  # fmt: skip
def test_about(count, text):
    assert about_text(count) == text


@pytest.mark.parametrize("name", ["norman", "gene2go", "geneformer"])
def test_every_file_of_ours_has_a_size_or_about(name):
    for file in read_manifest(name).files:
        assert (file.bytes is None) != (file.approx_bytes is None), file.path


def test_a_failed_fetch_leaves_no_empty_folder(tmp_path):
    values = toy(files=[{"path": "deep/er/a", "sha256": "0" * 64, "source": URL}])
    manifest = parse_manifest(values, "t")
    with pytest.raises(NetworkError):
        fetch(manifest, tmp_path / "new" / "X")
    assert list(tmp_path.iterdir()) == []
    have = tmp_path / "have" / "deep" / "er"
    have.mkdir(parents=True)
    (have / "a").write_bytes(b"wrong")
    with pytest.raises(ValidationError):
        fetch(manifest, tmp_path / "X", source=tmp_path / "have")
    assert [path.name for path in tmp_path.iterdir()] == ["have"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(NetworkError):
        fetch(manifest, tmp_path / "mine")
    assert (tmp_path / "mine").is_dir(), "a folder that was there stays"


def test_a_failed_fetch_keeps_the_folder_with_what_came(tmp_path):
    digest = hashlib.sha256(b"right").hexdigest()
    files = [{"path": path, "sha256": digest, "source": URL} for path in ("a", "deep/b")]
    (tmp_path / "have" / "deep").mkdir(parents=True)
    (tmp_path / "have" / "a").write_bytes(b"right")
    (tmp_path / "have" / "deep" / "b").write_bytes(b"wrong")
    with pytest.raises(ValidationError):
        fetch(parse_manifest(toy(files=files), "t"), tmp_path / "X", source=tmp_path / "have")
    assert sorted(path.name for path in (tmp_path / "X").rglob("*")) == ["a"]
