"""Croissant metadata: MLCommons' own library accepts it, reads its records, and needs no network for either."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.data.card import make_card, manifest_of_container
from hyped_core.data.croissant import CONTEXT, SPDX, croissant
from hyped_core.data.manifest import parse_manifest, read_manifest
from hyped_core.plugins.registry import datasets

NAMES = ["mini", "hard", "public", "hyped", "norman", "gene2go", "geneformer"]


@pytest.fixture
def mlc(monkeypatch):
    """MLCommons' library, with no network to reach."""
    library = pytest.importorskip("mlcroissant")

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return library


def test_every_own_dataset_is_here():
    assert set(NAMES) == set(datasets().names())


@pytest.mark.parametrize("name", NAMES)
def test_the_library_accepts_the_metadata_of_every_dataset(mlc, tmp_path, name):
    make_card(read_manifest(name)).write(tmp_path)
    found = mlc.Dataset(tmp_path / "croissant.json").metadata
    assert not found.ctx.issues.errors
    assert found.name == name and found.license
    assert str(found.ctx.conforms_to.value).endswith("/1.1")


def test_the_context_is_the_library_s_own(mlc):
    from mlcroissant._src.core.context import Context, CroissantVersion
    from mlcroissant._src.core.rdf import make_context

    assert make_context(Context(conforms_to=CroissantVersion.V_1_1)) == CONTEXT


def test_files_are_listed_with_their_address_size_and_hash(mlc, tmp_path):
    manifest = read_manifest("public")
    make_card(manifest).write(tmp_path)
    found = {file.id: file for file in mlc.Dataset(tmp_path / "croissant.json").metadata.distribution}
    assert set(found) == {file.path for file in manifest.files}
    for file in manifest.files:
        listed = found[file.path]
        assert (listed.sha256, listed.content_url) == (file.sha256, file.source.address())
        assert listed.content_size == f"{file.bytes} B" and file.licence in listed.description
    licences = json.loads((tmp_path / "croissant.json").read_text())["license"]
    assert "https://spdx.org/licenses/MIT.html" in licences and "GPL-3.0" in licences


def test_a_file_without_a_hash_is_named_and_not_listed():
    metadata = make_card(read_manifest("norman")).metadata
    assert "distribution" not in metadata and "norman.zip" in metadata["description"]
    hyped = make_card(read_manifest("hyped")).metadata
    assert "research use only" in hyped["description"] and hyped["rai:dataLimitations"]


@pytest.mark.parametrize("name", SPDX)
def test_a_licence_with_words_after_it_is_still_that_licence(name):
    values = {"name": "t", "title": "t", "licence": f"{name} (made by us)"}
    assert make_card(parse_manifest(values, "here")).metadata["license"] == [f"https://spdx.org/licenses/{name}.html"]
    other = {**values, "licence": "as its page says"}
    assert make_card(parse_manifest(other, "here")).metadata["license"] == ["as its page says"]


def test_the_library_reads_the_tables_of_a_container(mlc, tiny_container, tmp_path):
    from hyped_core.container.data import HypedData

    card = make_card(manifest_of_container(tiny_container), [tiny_container])
    card.write(tmp_path)
    dataset = mlc.Dataset(tmp_path / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    hd = HypedData.read(tiny_container)
    cells = list(dataset.records("tiny-cells"))
    obs = hd.table("rna").obs

    def text(value):
        return value.decode() if isinstance(value, bytes) else "" if value is None or value != value else str(value)

    assert [text(row["tiny-cells/cell"]) for row in cells] == obs.index.tolist()
    assert [text(row["tiny-cells/pool"]) for row in cells] == obs["pool"].astype(str).tolist()
    scenes = list(dataset.records("tiny-scenes"))
    assert [text(row["tiny-scenes/scene"]) for row in scenes] == sorted(hd.movies)
    assert [row["tiny-scenes/frames"] for row in scenes] == [hd.movies[s].n_frames for s in sorted(hd.movies)]
    np.testing.assert_allclose(
        [row["tiny-scenes/first_h"] for row in scenes], [hd.movies[s].time_h[0] for s in sorted(hd.movies)]
    )


def test_tables_with_missing_numbers_can_be_read(mlc, tmp_path):
    replicate = pd.array([1, None], dtype="Int64")
    table = pd.DataFrame({"scene": ["S0", "S1"], "replicate": replicate, "first_h": [0.5, None]})
    table.to_csv(tmp_path / "t.csv", index=False)
    from hyped_core.io.hashing import sha256_file

    values = {"name": "t", "title": "t", "licence": "MIT"}
    found = croissant(parse_manifest(values, "here"), tables={"t.csv": (table, sha256_file(tmp_path / "t.csv"))})
    (tmp_path / "croissant.json").write_text(json.dumps(found))
    rows = list(mlc.Dataset(tmp_path / "croissant.json").records("t"))
    assert rows[0]["t/replicate"] == 1 and pd.isna(rows[1]["t/replicate"]) and pd.isna(rows[1]["t/first_h"])


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
said = words.filter(lambda text: text.strip())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=said,
    answer=said | st.lists(said, min_size=1, max_size=3),
    path=st.lists(words.filter(lambda t: t not in (".", "..") and not set(t) & set("/\\")), min_size=1, max_size=3),
    licence=said,
)
def test_whatever_people_write_the_library_accepts_it(mlc, tmp_path, title, answer, path, licence):
    file = {"path": "/".join(path), "bytes": 3, "sha256": "ab" * 32, "source": {"kind": "url", "url": "https://a.b/c"}}
    sheet = {"uses": {"limits": answer, "suited": answer}, "collection": {"how": answer}}
    values = {"name": "t", "title": title, "licence": licence, "files": [file], "datasheet": sheet}
    card = make_card(parse_manifest(values, "here"))
    card.write(tmp_path)
    found = mlc.Dataset(tmp_path / "croissant.json").metadata
    assert not found.ctx.issues.errors and [item.sha256 for item in found.distribution] == ["ab" * 32]
    first = answer if isinstance(answer, str) else answer[0]
    assert first.strip() in card.markdown


LIGHT = """
import sys
from pathlib import Path

import hyped_core.data
from hyped_core.data.card import make_card
from hyped_core.data.manifest import read_manifest_file

make_card(read_manifest_file(Path(hyped_core.data.__file__).parent / "manifests" / "public.yaml"))
heavy = {"mlcroissant", "pandas", "anndata", "zarr", "spatialdata", "torch"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_card_from_a_manifest_needs_nothing_heavy():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
