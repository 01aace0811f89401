"""A lock file cut at any place is noticed, and the committed one or none takes its place."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import run, tool_environment


def prepared(root: Path, folder: Path) -> str:
    lock = (root / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock)
    run(["git", "init", "-q"], folder)
    run(["git", "add", "dvc.lock"], folder)
    run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "lock"], folder)
    return lock


def mend(root: Path, folder: Path) -> str:
    return run([sys.executable, str(root / "scripts/mend_after_kill.py")], folder, env=tool_environment()).stderr


def test_a_whole_lock_is_left_alone(root: Path, tmp_path: Path):
    lock = prepared(root, tmp_path)
    assert mend(root, tmp_path) == ""
    assert (tmp_path / "dvc.lock").read_text() == lock


def test_a_cut_lock_gives_way_to_the_committed_one_or_to_none(root: Path, tmp_path: Path):
    lock = prepared(root, tmp_path)
    middle = lock.index("    cmd:", len(lock) // 2)
    for cut in (0, 5, middle, lock.index("md5:", middle)):
        (tmp_path / "dvc.lock").write_text(lock[:cut])
        assert "cut short" in mend(root, tmp_path)
        assert (tmp_path / "dvc.lock").read_text() == lock
    run(["git", "rm", "-q", "-f", "dvc.lock"], tmp_path)
    run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "none"], tmp_path)
    (tmp_path / "dvc.lock").write_text(lock[:middle])
    assert "made anew" in mend(root, tmp_path)
    assert not (tmp_path / "dvc.lock").exists()


def test_a_cut_table_of_readers_is_removed(root: Path, tmp_path: Path):
    prepared(root, tmp_path)
    readers = tmp_path / ".dvc" / "tmp" / "rwlock"
    readers.parent.mkdir(parents=True)
    readers.write_text('{"read": {"a": [')
    assert "rwlock" in mend(root, tmp_path)
    assert not readers.exists()
