"""The environment record: complete, the same every time, and silent about who and where."""

from __future__ import annotations

import getpass
import json
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from hyped_core.provenance import container_provenance, environment_record, git_state, versions


def test_the_record_is_json_and_the_same_every_time():
    record = environment_record()
    assert json.loads(json.dumps(record)) == record == environment_record()
    assert record["python"] == platform.python_version()
    assert record["packages"]["hyped-core"] == version("hyped-core")
    assert record["libraries"]["numpy"] == version("numpy")
    assert record["cpus"] >= 1 and record["device"]["kind"] in ("cpu", "cuda")


def test_the_record_names_no_machine_and_no_person(tmp_path: Path):
    text = json.dumps(environment_record())
    for secret in (str(Path.home()), str(Path.cwd()), sys.prefix, socket.gethostname()):
        assert len(secret) < 4 or secret not in text
    assert not any(part in text for part in ("/home", "/root", "/usr", "/tmp"))
    name = getpass.getuser()
    assert f'"{name}"' not in text


def git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(folder), *options, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_commit_and_plugin_lock_of_a_checkout(tmp_path: Path):
    assert environment_record(checkout=tmp_path)["git"] is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None, "no commit yet"
    (tmp_path / "plugins.lock.yaml").write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    (tmp_path / "sub").mkdir()
    record = environment_record(checkout=tmp_path / "sub")
    assert record["git"] == {"commit": git(tmp_path, "rev-parse", "HEAD"), "changed": False}
    (tmp_path / "plugins.lock.yaml").write_text("a: 2\n")
    after = environment_record(checkout=tmp_path)
    assert after["git"]["changed"] is True
    assert after["plugins_lock"] != record["plugins_lock"]


def test_versions_import_nothing():
    code = (
        "import sys; from hyped_core.provenance import environment_record; environment_record();"
        "heavy = ('numpy', 'torch', 'zarr', 'anndata', 'spatialdata', 'scanpy');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert versions(["numpy", "no-such-distribution"]) == {"numpy": version("numpy")}


def test_the_container_s_record_has_only_what_shapes_bytes():
    record = container_provenance(step="assemble", nothing=None)
    assert set(record) == {"written_with", "step"}
    assert record["written_with"]["zarr"] == version("zarr")
