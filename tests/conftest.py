"""Fixtures of the tests that look at the whole repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None, check: bool = True, timeout: float = 600):
    """Run a command and show what it printed where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


@pytest.fixture(scope="session")
def tracked_files(root: Path) -> list[str]:
    """Files of the repository, as a fresh clone would have them, with what is not yet committed."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], root).stdout.splitlines()
    return [name for name in listed if (root / name).is_file()]


def copy_repository(root: Path, names: list[str], target: Path) -> Path:
    """A copy of the repository's files as a git repository with one commit."""
    for name in names:
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, file)
    run(["git", "init", "-q"], target)
    run(["git", "add", "-A"], target)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(["git", *identity, "commit", "-q", "-m", "copy"], target)
    return target


def tool_environment(*first: Path, **extra: str) -> dict[str, str]:
    """An environment whose PATH starts with ``first`` and then this interpreter's commands."""
    path = os.pathsep.join([*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": "", **extra}
