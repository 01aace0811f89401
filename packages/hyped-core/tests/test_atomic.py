from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hyped_core.errors import UsageError
from hyped_core.io.atomic import atomic_path, write_json, write_text


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_replaces_a_folder_whole(tmp_path):
    target = tmp_path / "part"
    for content in ("a", "b"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / f"{content}.txt").write_text(content)
    assert [p.name for p in target.iterdir()] == ["b.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["part"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    target = tmp_path / "out.json"
    code = (
        "import os, signal, sys\n"
        "from hyped_core.io.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir()\n"
        "    (temporary / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(target)])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it ended and stays a zombie until the test is over
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_path(target) as mine:
        mine.write_text("x")
        write_json(tmp_path / "other.json", {"b": 1, "a": 2})
        with atomic_path(target) as second:
            second.write_text("y")
        assert mine.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "out.json"]
    killed.wait()
    assert (tmp_path / "other.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


def test_a_file_and_a_folder_do_not_replace_one_another(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is a file, which no folder replaces"), atomic_path(file) as temporary:
        temporary.mkdir()
    with pytest.raises(UsageError, match="is a folder, which no file replaces"):
        write_text(folder, "text")
    assert file.read_text() == (folder / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("target", [".", "", "..", "/"])
def test_a_folder_with_nothing_beside_it_is_refused(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be replaced"), atomic_path(target):
        pass
    assert not list(tmp_path.iterdir())
