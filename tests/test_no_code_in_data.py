"""Data from others never runs: no reader unpickles, and hostile files of every kind are tried on every reader."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyped_core.errors import HypedError

AUDITED = {"packages/hyped-core/src/hyped_core/io/unpickle.py"}
"""The one allow-list loader; it builds plain data and never calls what a pickle names."""
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
LOADERS = {"loader", "_LOADER", "Loader"}


class Canary:
    """Unpickled by a reader, it makes the file ``sign``."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self):
        return exec, (f"open({str(self.sign)!r}, 'w').close()",)


def pickled(sign: Path) -> bytes:
    return pickle.dumps({"a": Canary(sign)})


def npy(sign: Path) -> bytes:
    """An array of objects as numpy writes it: a pickle after the header."""
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(sign)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def npz(sign: Path) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, notes=np.array([Canary(sign)], dtype=object), corners=np.zeros(2))
    return stream.getvalue()


def torch_zip(sign: Path) -> bytes:
    """A checkpoint as torch.save lays it out, its pickle hostile."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(sign))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return stream.getvalue()


def yaml_tag(sign: Path) -> bytes:
    return f"a: !!python/object/apply:builtins.exec [\"open({str(sign)!r}, 'w').close()\"]\n".encode()


PAYLOADS: dict[str, Callable[[Path], bytes]] = {
    "pickle": pickled, "npy": npy, "npz": npz, "torch": torch_zip, "yaml": yaml_tag,
}  # fmt: skip


def as_folder(*names: str):
    """The payload under each of ``names`` in a folder, with what else the reader looks at first."""

    def make(place: Path, payload: bytes) -> Path:
        place.mkdir()
        (place / "config.json").write_text(json.dumps({
            "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16,
            "intermediate_size": 8, "max_position_embeddings": 8, "hidden_act": "relu", "pad_token_id": 0,
        }))  # fmt: skip
        for name in names:
            (place / name).write_bytes(payload)
        return place

    return make


def as_file(suffix: str):
    def make(place: Path, payload: bytes) -> Path:
        file = place.with_suffix(suffix)
        file.write_bytes(payload)
        return file

    return make


def _readers():
    from hyped_bench.readers import read_obs
    from hyped_core.container import HypedData
    from hyped_core.data.manifest import read_manifest_file
    from hyped_core.design import read_design
    from hyped_core.io import tables
    from hyped_core.params import read_yaml
    from hyped_imaging.stitch.calibrate import Calibration
    from hyped_seq.gears.checkpoint import load_checkpoint
    from hyped_seq.gears.official import load_official
    from hyped_seq.gears.terms import read_terms
    from hyped_seq.geneformer.dictionaries import load_dictionaries
    from hyped_seq.geneformer.token_store import open_tokens
    from hyped_seq.geneformer.weights import load_weights
    from hyped_seq.readers.h5ad import read_h5ad

    dictionaries = ("token_dictionary.pkl", "gene_median_dictionary.pkl", "token_dictionary.json", "dictionaries.json")
    return {
        "predictions.h5ad": (tables.read_h5ad, as_file(".h5ad")),
        "cells.h5ad": (read_h5ad, as_file(".h5ad")),
        "obs": (read_obs, as_file(".h5ad")),
        "tracks.parquet": (tables.read_parquet, as_file(".parquet")),
        "calibration": (Calibration.load, as_file(".npz")),
        "params.yaml": (read_yaml, as_file(".yaml")),
        "design.yaml": (read_design, as_file(".yaml")),
        "manifest.yaml": (read_manifest_file, as_file(".yaml")),
        "container": (HypedData.read, as_folder("manifest.json")),
        "geneformer weights": (load_weights, as_folder("pytorch_model.bin", "model.safetensors")),
        "geneformer pickled weights": (load_weights, as_folder("pytorch_model.bin")),
        "geneformer dictionaries": (load_dictionaries, as_folder(*dictionaries)),
        "token folder": (open_tokens, as_folder("tokens.npy", "offsets.npy", "manifest.json")),
        "gears checkpoint": (load_checkpoint, as_folder("model.safetensors", "model.json")),
        "gears official": (
            lambda path: load_official(path, genes=["A", "B"], perturbations=["A"]), as_folder("model.pt", "config.pkl")
        ),
        "terms.pkl": (read_terms, as_file(".pkl")),
        "terms.json": (read_terms, as_file(".json")),
    }  # fmt: skip


READERS = (
    "predictions.h5ad", "cells.h5ad", "obs", "tracks.parquet", "calibration", "params.yaml", "design.yaml",
    "manifest.yaml", "container", "geneformer weights", "geneformer pickled weights", "geneformer dictionaries",
    "token folder",
    "gears checkpoint", "gears official", "terms.pkl", "terms.json",
)  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_file_is_refused_and_does_not_run(reader: str, payload: str, tmp_path: Path):
    sign = tmp_path / "it-ran"
    read, make = _readers()[reader]
    file = make(tmp_path / "given", PAYLOADS[payload](sign))
    try:
        read(file)
    except HypedError as error:
        assert str(file) in str(error) or file.name in str(error), f"the error does not name the file: {error}"
    else:
        assert (reader, payload) in {("params.yaml", "npy")}, "it was read as if it were data"
    assert not sign.exists(), "the file ran code"


@pytest.mark.parametrize("payload", ["pickle", "torch"])
def test_the_canary_sings_where_somebody_does_unpickle(payload: str, tmp_path: Path):
    sign = tmp_path / "it-ran"
    raw = PAYLOADS[payload](sign)
    pickle.loads(raw if payload == "pickle" else zipfile.ZipFile(io.BytesIO(raw)).read("archive/data.pkl"))
    assert sign.exists()


ZARR_CODECS = {
    "filter": dict(compressor=None, filters=[{"id": "pickle", "protocol": 4}]),
    "compressor": dict(compressor={"id": "pickle", "protocol": 4}, filters=None),
    "behind text": dict(compressor=None, filters=[{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 4}]),
    "compressor of text": dict(compressor={"id": "pickle", "protocol": 4}, filters=[{"id": "vlen-utf8"}]),
}


def zarr_array(folder: Path, sign: Path, *, codecs: dict, dtype: str, shape: list[int]) -> None:
    """A zarr (format 2) array whose only chunk is a hostile pickle."""
    folder.mkdir(parents=True)
    said = dict(zarr_format=2, shape=shape, chunks=shape, dtype=dtype, fill_value=0, order="C", **codecs)
    (folder / ".zarray").write_text(json.dumps(said))
    (folder / ".zattrs").write_text("{}")
    (folder / ".".join("0" * len(shape))).write_bytes(pickled(sign))


@pytest.mark.parametrize("dtype", ["|O", "|u1"])
@pytest.mark.parametrize("codecs", ZARR_CODECS)
def test_a_pickle_among_zarrs_codecs_does_not_run(codecs: str, dtype: str, tmp_path: Path, monkeypatch):
    """Not even where numcodecs would unpickle, as some of its versions do unasked."""
    import numcodecs.pickles

    from hyped_bench.estimate import _of_folder
    from hyped_bench.readers import read_obs
    from hyped_core.container.ngff import open_array
    from hyped_core.container.spatial import read_rasters
    from hyped_core.io.tables import read_table_zarr

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    sign = tmp_path / "it-ran"
    movie = tmp_path / "movie.zarr"
    zarr_array(movie / "0", sign, codecs=ZARR_CODECS[codecs], dtype=dtype, shape=[1, 1, 4, 4])
    axes = [{"name": n, "type": t} for n, t in [("t", "time"), ("c", "channel"), ("y", "space"), ("x", "space")]]
    scales = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 1]}]}]
    (movie / ".zgroup").write_text('{"zarr_format": 2}')
    (movie / ".zattrs").write_text(json.dumps({"multiscales": [{"version": "0.4", "axes": axes, "datasets": scales}]}))
    with pytest.raises(HypedError, match="pickle"):
        open_array(movie, "movie")
    assert not sign.exists(), "reading the movie ran code"

    table = tmp_path / "table.zarr"
    zarr_array(table / "X", sign, codecs=ZARR_CODECS[codecs], dtype=dtype, shape=[2, 2])
    (table / ".zgroup").write_text('{"zarr_format": 2}')
    (table / ".zattrs").write_text(json.dumps({"encoding-type": "anndata", "encoding-version": "0.1.0"}))
    (table / "X" / ".zattrs").write_text(json.dumps({"encoding-type": "array", "encoding-version": "0.2.0"}))
    zarr_array(table / "obs" / "cell", sign, codecs=ZARR_CODECS[codecs], dtype=dtype, shape=[2])
    (table / "obs" / ".zgroup").write_text('{"zarr_format": 2}')
    (table / "obs" / ".zattrs").write_text(json.dumps(
        {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "cell", "column-order": []}
    ))  # fmt: skip
    for read in (read_table_zarr, read_obs, read_rasters, lambda folder: _of_folder(folder, "rna")):
        with pytest.raises(HypedError, match="pickle"):
            read(table)
        assert not sign.exists(), "reading the table ran code"


def test_zarrs_pickle_sings_where_nobody_refuses_it(tmp_path: Path, monkeypatch):
    import numcodecs.pickles
    import zarr

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    sign = tmp_path / "it-ran"
    zarr_array(tmp_path / "a", sign, codecs=ZARR_CODECS["compressor of text"], dtype="|O", shape=[2])
    with contextlib.suppress(Exception):
        np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[:])
    assert sign.exists()


PLACES = {
    "array of format 2": (".zarray", {"filters": [{"id": "pickle"}]}),
    "array of format 3": ("zarr.json", {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}),
    "codec by its bare name": ("zarr.json", {"codecs": ["pickle"]}),
    "in a shard": ("zarr.json", {"codecs": [{"name": "sharding_indexed", "configuration": {
        "codecs": [{"name": "bytes"}], "index_codecs": [{"name": "numcodecs.pickle"}]}}]}),
    "consolidated, format 2": (".zmetadata", {"metadata": {"obs/.zarray": {"compressor": {"id": "pickle"}}}}),
    "consolidated, format 3": ("zarr.json", {"consolidated_metadata": {"metadata": {"attributes": {
        "codecs": [{"name": "numcodecs.pickle"}]}}}}),
    "below an array": ("0/c/0/.zarray", {"filters": None, "compressor": {"id": "pickle"}}),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_is_seen_wherever_zarr_names_its_codecs(place: str, tmp_path: Path):
    from hyped_core.io.zarrs import refuse_pickles

    name, said = PLACES[place]
    file = tmp_path / "store" / name
    file.parent.mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "there").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "around").symlink_to(tmp_path)
    file.write_text(json.dumps(said))
    with pytest.raises(HypedError, match="pickle"):
        refuse_pickles(tmp_path / "linked")
    file.write_text(json.dumps({"codecs": [{"name": "bytes"}], "attributes": {"name": "pickle"}}))
    refuse_pickles(tmp_path / "linked")


def test_every_opening_of_a_zarr_is_looked_through_first(root: Path):
    """Who calls a library's reader of zarr folders calls ours too; the writer opens what it has written itself."""
    found = {}
    for file in sorted(root.glob("packages/*/src/**/*.py")):
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)}
        readers = {c for c in calls if c.split(".")[-1] in ("open_group", "read_zarr", "open_consolidated", "from_zarr")
                   or c in ("zarr.open", "zarr.open_array", "zarr.load")}  # fmt: skip
        if readers and not calls & {"refuse_pickles", "open_zarr"}:
            found[file.name] = readers
    assert found == {"writer.py": {"zarr.open_group"}}


def test_no_version_of_numcodecs_is_allowed_that_unpickles(root: Path):
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((root / "packages/hyped-core/pyproject.toml").read_text())["project"]
    asked = [Requirement(text) for text in project["dependencies"]]
    allowed = next(r.specifier for r in asked if r.name == "numcodecs")
    unsafe = ["0.15.0", "0.15.1", *(f"0.16.{n}" for n in range(6))]  # decode pickles that a file holds, unasked
    assert not [version for version in unsafe if version in allowed]
    assert "0.15.2" in allowed and "0.16.6" in allowed


def test_a_damaged_golden_container_stays_data(root: Path, tmp_path: Path):
    """The committed container with one chunk of a table replaced by a pickle: read as damaged, run by nobody."""
    from hyped_core.container import HypedData

    sign = tmp_path / "it-ran"
    shutil.unpack_archive(root / "packages/hyped-core/tests/golden/v1/tiny.hyped.zip", tmp_path / "golden")
    place = next((tmp_path / "golden").rglob("manifest.json")).parent
    chunks = [p for p in (place / "spatial.zarr" / "tables").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(pickled(sign))
    with pytest.raises((HypedError, RuntimeError, ValueError)):
        HypedData.read(place).sdata  # noqa: B018  the tables are read here
    assert not sign.exists()


def test_no_source_evaluates_text_or_loads_with_an_unsafe_loader(root: Path):
    found = []
    files = [*root.glob("packages/*/src/**/*.py"), *root.glob("examples/*/src/**/*.py"), *root.glob("scripts/*.py")]
    assert len(files) > 300
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        if name in AUDITED:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                if {m.split(".")[0] for m in modules} & UNPICKLERS:
                    found.append(f"{name}:{node.lineno}: imports {modules}")
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            said = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in ("eval", "exec", "compile", "pd.read_pickle", "pandas.read_pickle", "yaml.unsafe_load"):
                found.append(f"{name}:{node.lineno}: {called}")
            if called == "yaml.load" and said.get("Loader") not in (*LOADERS, "yaml.SafeLoader", "yaml.CSafeLoader") \
                    and "SafeLoader" not in said.get("Loader", ""):  # fmt: skip
                found.append(f"{name}:{node.lineno}: yaml.load")
            if called == "torch.load" and said.get("weights_only") != "True":
                found.append(f"{name}:{node.lineno}: torch.load")
            if "allow_pickle" in said and said["allow_pickle"] != "False":
                found.append(f"{name}:{node.lineno}: allow_pickle")
            if "trust_remote_code" in said and said["trust_remote_code"] != "False":
                found.append(f"{name}:{node.lineno}: trust_remote_code")
    assert found == []


def test_the_loaders_of_yaml_are_safe_ones():
    import yaml

    from hyped_core.data import manifest, use

    for module in (manifest, use):
        loaders = [v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "yaml_constructors")]
        assert all(issubclass(v, (yaml.SafeLoader, yaml.CSafeLoader)) for v in loaders)
