"""Fetching a dataset: from a folder, a local server, and stand-ins for Kaggle and HuggingFace."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from hyped_core.data import download
from hyped_core.data.fetch import RECEIPT, chosen_files, fetch, read_receipt
from hyped_core.data.manifest import Manifest, parse_manifest, read_manifest
from hyped_core.errors import (
    CorruptFileError,
    HypedError,
    MissingDependencyError,
    MissingFileError,
    MissingHardwareError,
    NetworkError,
    UsageError,
    ValidationError,
)

CONTENTS = {"a.csv": b"1,2,3\n" * 100, "deep/er/b b.bin": bytes(range(256)) * 9, "c.txt": b""}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `/short/` breaks off, `/fail/` answers 500, `/long/` sends more than is there."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        for trouble in ("short", "fail", "long", "drop"):
            if self.path.startswith(f"/{trouble}/"):
                return getattr(self, trouble)()
        return super().do_GET()

    def short(self):
        self.send_response(200)
        self.send_header("Content-Length", "600")
        self.end_headers()
        self.wfile.write(b"1,2,3\n" * 50)
        self.close_connection = True

    def fail(self):
        self.send_error(500, "out of order")

    def long(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(50):
            self.wfile.write(b"1" * 100_000)

    def drop(self):
        self.close_connection = True


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", folder
        running.shutdown()


def manifest(base="http://127.0.0.1:9", contents=None, **changes) -> Manifest:
    contents = CONTENTS if contents is None else contents
    files = [
        {
            "path": path,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "source": {"kind": "url", "url": f"{base}/{path.replace(' ', '%20')}"},
        }
        for path, content in contents.items()
    ]
    return parse_manifest(
        {"name": "toy", "title": "Toy", "licence": "CC0-1.0", "files": files, **changes}, "toy"
    )


def write(folder, contents=None):
    for path, content in (CONTENTS if contents is None else contents).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_copy_from_a_folder(tmp_path):
    source, to = write(tmp_path / "have"), tmp_path / "raw"
    done = fetch(manifest(), to, source=source)
    assert tree(to) == CONTENTS
    assert sorted(done.fetched) == sorted(CONTENTS)
    again = fetch(manifest(), to, source=source)
    assert again.fetched == [] and sorted(again.already) == sorted(CONTENTS)
    assert tree(source) == CONTENTS


def test_right_files_are_not_touched_and_wrong_ones_are_mended(tmp_path):
    source, to = write(tmp_path / "have"), tmp_path / "raw"
    fetch(manifest(), to, source=source)
    stamp = (to / "a.csv").stat().st_mtime_ns
    (to / "deep/er/b b.bin").write_bytes(b"tampered")
    done = fetch(manifest(), to, source=source)
    assert done.fetched == ["deep/er/b b.bin"]
    assert (to / "a.csv").stat().st_mtime_ns == stamp
    assert tree(to) == CONTENTS


def test_all_mismatches_in_one_error(tmp_path):
    wrong = {"a.csv": b"9,2,3\n" * 100, "deep/er/b b.bin": b"short"}
    to = tmp_path / "raw"
    with pytest.raises(ValidationError) as caught:
        fetch(manifest(), to, source=write(tmp_path / "have", wrong))
    assert caught.value.exit_code == 3
    problems = {problem.where: problem for problem in caught.value.problems}
    assert len(problems) == 3
    assert hashlib.sha256(CONTENTS["a.csv"]).hexdigest() in problems["a.csv"].message
    assert hashlib.sha256(wrong["a.csv"]).hexdigest() in problems["a.csv"].message
    assert "expected 2304 bytes, found 5" in problems["deep/er/b b.bin"].message
    assert "not there" in problems["c.txt"].message
    assert all(problem.mend for problem in caught.value.problems)
    assert tree(to) == {}


def test_a_failed_fetch_leaves_what_stood_there(tmp_path):
    to = write(tmp_path / "raw", {"a.csv": b"mine"})
    with pytest.raises(ValidationError):
        fetch(manifest(), to, source=write(tmp_path / "have", {"a.csv": b"wrong"}))
    assert tree(to) == {"a.csv": b"mine"}


def test_download(tmp_path, server):
    base, folder = server
    write(folder)
    done = fetch(manifest(base), tmp_path / "raw")
    assert tree(tmp_path / "raw") == CONTENTS and len(done.fetched) == 3


def test_mirror_from_the_environment(tmp_path, server, monkeypatch):
    base, folder = server
    write(folder / "toy")
    monkeypatch.setenv("HYPED_DATA_MIRROR", base + "/")
    fetch(manifest(), tmp_path / "raw")
    assert tree(tmp_path / "raw") == CONTENTS


@pytest.mark.parametrize(
    ("prefix", "error", "said"),
    [
        ("missing/", NetworkError, "answered 404"),
        ("fail/", NetworkError, "answered 500"),
        ("short/", NetworkError, "broke off after 300 of 600 bytes"),
        ("drop/", NetworkError, "broke off"),
        ("long/", ValidationError, "expected 600 bytes, found at least"),
    ],
)
def test_a_bad_answer_is_typed_and_leaves_nothing(tmp_path, server, prefix, error, said):
    base, _ = server
    one = {"a.csv": CONTENTS["a.csv"]}
    with pytest.raises(error, match=said) as caught:
        fetch(manifest(f"{base}/{prefix.rstrip('/')}", one), tmp_path / "raw")
    assert caught.value.mend or caught.value.problems[0].mend
    assert tree(tmp_path / "raw") == {}


def test_wrong_bytes_of_the_right_size(tmp_path, server):
    base, folder = server
    write(folder, {"a.csv": b"9,2,3\n" * 100})
    with pytest.raises(ValidationError, match="expected sha256"):
        fetch(manifest(base, {"a.csv": CONTENTS["a.csv"]}), tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


def test_verified_files_stay_when_others_fail_and_a_second_run_goes_on(tmp_path, server):
    base, folder = server
    write(folder, {"a.csv": CONTENTS["a.csv"], "c.txt": b""})
    with pytest.raises(NetworkError, match="1 of 3 files"):
        fetch(manifest(base), tmp_path / "raw")
    assert sorted(tree(tmp_path / "raw")) == ["a.csv", "c.txt"]
    write(folder)
    assert fetch(manifest(base), tmp_path / "raw").fetched == ["deep/er/b b.bin"]


def test_no_network_is_said_once(tmp_path):
    """Port 9 of this machine: nothing listens there; the first file is enough to know."""
    with pytest.raises(NetworkError, match="1 of 3 files could not be downloaded") as caught:
        fetch(manifest(), tmp_path / "raw")
    assert "--from DIR" in caught.value.mend
    assert caught.value.exit_code == 5


def test_unknown_sha256_is_recorded_and_then_held_to(tmp_path, server):
    base, folder = server
    write(folder, {"a.csv": b"first"})
    open_manifest = parse_manifest(
        {
            "name": "toy",
            "title": "t",
            "licence": "x",
            "files": [{"path": "a.csv", "source": {"kind": "url", "url": f"{base}/a.csv"}}],
        },
        "toy",
    )
    to = tmp_path / "raw"
    done = fetch(open_manifest, to)
    digest = hashlib.sha256(b"first").hexdigest()
    assert done.recorded == {"a.csv": {"bytes": 5, "sha256": digest}}
    assert read_receipt(to) == done.recorded
    assert fetch(open_manifest, to).already == ["a.csv"]
    receipt = (to / RECEIPT).read_bytes()
    (to / "a.csv").unlink()
    write(folder, {"a.csv": b"other"})
    with pytest.raises(ValidationError, match=digest):
        fetch(open_manifest, to)
    assert (to / RECEIPT).read_bytes() == receipt


def test_only(tmp_path):
    source = write(tmp_path / "have")
    assert fetch(manifest(), tmp_path / "raw", source=source, only=("deep/*",)).fetched == ["deep/er/b b.bin"]
    with pytest.raises(UsageError, match="no file matches"):
        chosen_files(manifest(), ("x*",))


def test_usage_errors(tmp_path):
    with pytest.raises(MissingFileError):
        fetch(manifest(), tmp_path / "raw", source=tmp_path / "none")
    with pytest.raises(UsageError, match="takes no handle"):
        fetch(manifest(), tmp_path / "raw", handle="a/b")
    with pytest.raises(UsageError, match="simulated") as caught:
        fetch(manifest(made_by="make repro"), tmp_path / "raw")
    assert "make repro" in caught.value.mend


def test_too_small_a_disk(tmp_path):
    huge = manifest()
    file = huge.files[0].model_copy(update={"bytes": 10**18})
    with pytest.raises(MissingHardwareError, match="bytes are needed"):
        fetch(huge.model_copy(update={"files": (file,)}), tmp_path / "raw", source=write(tmp_path / "have"))


# a release whose files are not listed

RELEASE = {"name": "rel", "title": "Release", "licence": "research", "release": {"kind": "kaggle"}}


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A stand-in for kagglehub that serves one folder for one handle."""
    folder = write(tmp_path / "cache", {"frames/f0.h5": b"frame", "cells.h5ad": b"cells", ".complete": b""})
    module = ModuleType("kagglehub")
    module.asked = []

    def dataset_download(handle):
        module.asked.append(handle)
        if not handle.startswith("lab/hyped"):
            raise RuntimeError("403 Client Error: you don't have permission")
        return str(folder)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module, folder


def test_kaggle_release_by_handle(tmp_path, kaggle):
    module, folder = kaggle
    release, to = parse_manifest(RELEASE, "rel"), tmp_path / "raw"
    done = fetch(release, to, handle="lab/hyped/versions/3")
    assert module.asked == ["lab/hyped/versions/3"]
    assert done.fetched == ["cells.h5ad", "frames/f0.h5"]
    assert read_receipt(to)["frames/f0.h5"]["sha256"] == hashlib.sha256(b"frame").hexdigest()
    receipt = (to / RECEIPT).read_bytes()
    assert fetch(release, to, source=folder).fetched == []
    assert (to / RECEIPT).read_bytes() == receipt


def test_a_release_that_changed_under_the_same_name_is_noticed(tmp_path, kaggle):
    _, folder = kaggle
    release, to = parse_manifest(RELEASE, "rel"), tmp_path / "raw"
    fetch(release, to, source=folder)
    (to / "cells.h5ad").unlink()
    (folder / "cells.h5ad").write_bytes(b"other")
    with pytest.raises(ValidationError, match="cells.h5ad"):
        fetch(release, to, source=folder)


def test_kaggle_without_handle_or_with_a_bad_one(tmp_path, kaggle):
    release = parse_manifest(RELEASE, "rel")
    with pytest.raises(UsageError, match="handle") as caught:
        fetch(release, tmp_path / "raw")
    assert "--handle OWNER/NAME" in caught.value.mend and "--from DIR" in caught.value.mend
    for bad in ("hyped", "a/b/c", "a/b/versions/x", "/b", "a//versions/1"):
        with pytest.raises(UsageError, match="not a Kaggle handle"):
            fetch(release, tmp_path / "raw", handle=bad)
    with pytest.raises(NetworkError, match="permission"):
        fetch(release, tmp_path / "raw", handle="other/data")


def test_kaggle_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingDependencyError) as caught:
        fetch(parse_manifest(RELEASE, "rel"), tmp_path / "raw", handle="a/b")
    assert "pip install" in caught.value.mend


def test_an_empty_folder_is_no_release(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="holds no files"):
        fetch(parse_manifest(RELEASE, "rel"), tmp_path / "raw", source=tmp_path / "empty")


def test_a_release_is_not_copied_into_itself(tmp_path):
    source = write(tmp_path / "have")
    with pytest.raises(UsageError, match="inside the folder"):
        fetch(parse_manifest(RELEASE, "rel"), source / "raw", source=source)


def test_a_receipt_that_is_none(tmp_path):
    (tmp_path / RECEIPT).write_text("[]")
    with pytest.raises(CorruptFileError, match="not a receipt"):
        read_receipt(tmp_path)


# HuggingFace


@pytest.fixture
def hub_manifest():
    weights = b"weights" * 10
    return parse_manifest(
        {
            "name": "gf",
            "title": "t",
            "licence": "Apache-2.0",
            "files": [
                {
                    "path": "V2/model.safetensors",
                    "bytes": len(weights),
                    "source": {
                        "kind": "huggingface",
                        "repository": "lab/model",
                        "path": "big/model.safetensors",
                    },
                }
            ],
        },
        "gf",
    )


def test_huggingface_through_its_client(tmp_path, monkeypatch, hub_manifest):
    asked = []
    module = ModuleType("huggingface_hub")

    def hf_hub_download(*, repo_id, filename, revision, local_dir):
        asked.append((repo_id, filename, revision))
        path = Path(local_dir) / filename
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights" * 10)
        return str(path)

    module.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fetch(hub_manifest, tmp_path / "raw")
    assert asked == [("lab/model", "big/model.safetensors", "main")]
    assert set(tree(tmp_path / "raw")) == {"V2/model.safetensors", RECEIPT}


def test_huggingface_client_errors_are_typed(tmp_path, monkeypatch, hub_manifest):
    class RepositoryNotFoundError(Exception):
        pass

    def hf_hub_download(**_):
        raise RepositoryNotFoundError("404 Client Error")

    module = ModuleType("huggingface_hub")
    module.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="RepositoryNotFoundError"):
        fetch(hub_manifest, tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


def test_huggingface_without_its_client_is_a_plain_address(monkeypatch, hub_manifest, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    seen = []

    def fetch_address(url, target, *, limit=None):
        seen.append(url)
        target.write_bytes(b"weights" * 10)
        return 70, hashlib.sha256(b"weights" * 10).hexdigest()

    monkeypatch.setattr(download, "fetch_address", fetch_address)
    fetch(hub_manifest, tmp_path / "raw")
    assert seen == ["https://huggingface.co/lab/model/resolve/main/big/model.safetensors"]


# manifests


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"path": "../x", "source": {"kind": "url", "url": "https://a.b/c"}}, "relative path"),
        ({"path": "/etc/x", "source": {"kind": "url", "url": "https://a.b/c"}}, "relative path"),
        ({"path": "x", "source": {"kind": "url", "url": "file:///etc/passwd"}}, "http or https"),
        ({"path": "x", "source": {"kind": "ftp", "url": "https://a.b/c"}}, "source"),
        ({"path": "x", "sha256": "abc", "source": {"kind": "url", "url": "https://a.b/c"}}, "sha256"),
        ({"path": "x", "sha": "abc", "source": {"kind": "url", "url": "https://a.b/c"}}, "unknown key"),
        ({"path": "x"}, "source"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_place(file, said):
    with pytest.raises(ValidationError, match=said) as caught:
        parse_manifest({"name": "t", "title": "t", "licence": "x", "files": [file]}, "here")
    assert "files/0" in str(caught.value)


def test_a_path_twice_is_refused():
    file = {"path": "x", "source": {"kind": "url", "url": "https://a.b/c"}}
    with pytest.raises(ValidationError, match="more than once"):
        parse_manifest({"name": "t", "title": "t", "licence": "x", "files": [file, file]}, "here")


@pytest.mark.parametrize("name", ["mini", "public", "hyped", "norman", "gene2go", "geneformer"])
def test_own_manifests(name):
    own = read_manifest(name)
    assert own.name == name and own.licence and own.card == f"data/{name}/card.md"
    assert bool(own.files) != bool(own.release or own.made_by)


def test_public_manifest_is_complete():
    public = read_manifest("public")
    assert len(public.files) == 83
    assert all(file.sha256 and file.bytes and file.licence for file in public.files)
    assert {file.source.kind for file in public.files} == {"github"}


def test_geneformer_weights_have_their_published_sizes():
    sizes = {file.path: file.bytes for file in read_manifest("geneformer").files}
    assert sizes["V2-104M/model.safetensors"] == 417_571_156
    assert sizes["V2-316M/model.safetensors"] == 1_265_455_076
    assert set(read_manifest("geneformer").licences()) == {"Apache-2.0"}


def test_addresses():
    by_name = {file.path: file.source for file in read_manifest("public").files}
    assert by_name["segmentation/BBBC007/masks/A9_p5d_cropped_1.tif"].address() == (
        "https://raw.githubusercontent.com/haesleinhuepf/BioImageAnalysisNotebooks/"
        "3766d2f6056aa0058241b80a66c234977e833762/data/BBBC007/masks/A9%20p5d%20%28cropped%201%29.tif"
    )
    norman = read_manifest("norman").files[0].source
    assert norman.address() == "https://dataverse.harvard.edu/api/access/datafile/6154020"


def test_every_failure_is_a_hyped_error(tmp_path):
    with pytest.raises(HypedError):
        read_manifest("no-such-dataset")


def test_receipt_is_deterministic(tmp_path, kaggle):
    _, folder = kaggle
    release = parse_manifest(RELEASE, "rel")
    fetch(release, tmp_path / "one", source=folder)
    fetch(release, tmp_path / "two", source=folder)
    assert (tmp_path / "one" / RECEIPT).read_bytes() == (tmp_path / "two" / RECEIPT).read_bytes()
    assert list(json.loads((tmp_path / "one" / RECEIPT).read_text())) == ["dataset", "files"]
