"""What a result was made with: versions, platform and device as plain JSON, without times, paths or names."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HYPED_PACKAGES = ("hyped-core", "hyped-imaging", "hyped-seq", "hyped-bench")
LIBRARIES = (
    "aicspylibczi", "anndata", "btrack", "dask", "mudata", "numba", "numpy", "opencv-python-headless",
    "pandas", "pyarrow", "pylibCZIrw", "scanpy", "scikit-image", "scikit-learn", "scipy", "spatialdata",
    "torch", "zarr",
)  # fmt: skip
LOCK_FILE = "plugins.lock.yaml"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Installed version of each distribution in ``names`` that is there; imports none of them."""
    found = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment_record(
    *, checkout: str | Path | None = None, libraries: Iterable[str] = LIBRARIES, commit: bool = True
) -> dict[str, Any]:
    """What this process runs on, JSON-able and the same every time on one machine.

    Holds python, platform, CPU count, versions of HYPED's packages and of ``libraries``, the git commit and
    the hash of ``plugins.lock.yaml`` of the checkout (by default the current folder's), and the device where
    torch is loaded already. No time, no path, no user or host name. Without ``commit`` the git commit and the
    lock's hash are left out, for records that are to stay the same while other things in the checkout change.
    """
    root = _checkout(Path.cwd() if checkout is None else Path(checkout))
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "cpus": _cpus(),
        "packages": versions(HYPED_PACKAGES),
        "libraries": versions(libraries),
        "git": None if root is None or not commit else git_state(root),
        "plugins_lock": None if root is None or not commit else _hash(root / LOCK_FILE),
        "device": device_record(),
    }
    return record


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checkout(start: Path) -> Path | None:
    """The folder at or above ``start`` that is HYPED's checkout or a project with a plugin lock."""
    for folder in (start, *start.parents):
        if (folder / ".git").exists() or (folder / LOCK_FILE).is_file():
            return folder
    return None


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def git_state(root: str | Path) -> dict[str, Any] | None:
    """Commit of a checkout and whether tracked files were changed; None without git or a commit."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changed)}


def _git(root: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_record() -> dict[str, Any]:
    """The accelerator where torch was imported already (it is never imported for this)."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"kind": "cpu"}
    if not torch.cuda.is_available():
        return {"kind": "cpu", "torch": str(torch.__version__)}
    return {
        "kind": "cuda",
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "names": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def container_provenance(**notes: Any) -> dict[str, Any]:
    """The short record in a container's manifest: only what shaped its bytes, plus the caller's notes."""
    written_by = versions(("hyped-core", "anndata", "spatialdata", "zarr"))
    return {"written_with": written_by, **{key: value for key, value in notes.items() if value is not None}}
