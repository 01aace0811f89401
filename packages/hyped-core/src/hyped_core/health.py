"""hyped-core's checks of ``hyped doctor``: the machine, the pipeline's tools, HYPED's own packages."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from hyped_core.spec import HealthResult

PACKAGES = ("hyped-core", "hyped-imaging", "hyped-seq", "hyped-bench")
MIN_DISK_GB = 5.0
"""What ``make repro`` for the simulated dataset and its environment take together."""
MIN_MEMORY_GB = 4.0


def python() -> HealthResult:
    """Which Python runs (pip refuses to install HYPED on one that is too old)."""
    return HealthResult("ok", f"{platform.python_version()} at {sys.executable}")


def packages() -> HealthResult:
    """Which of HYPED's packages are installed, in which versions, and whether their demands are met."""
    installed, unmet = [], []
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
        unmet += _unmet(name)
    if unmet:
        return HealthResult("broken", "; ".join(unmet), f"pip install --upgrade {' '.join(PACKAGES)}")
    absent = [name for name in PACKAGES if not any(item.startswith(f"{name} ") for item in installed)]
    if absent:
        folders = " ".join(f"./packages/{name}" for name in absent)
        found = f"{', '.join(installed)}; not {', '.join(absent)}"
        return HealthResult("missing", found, f"where you want them, from a checkout: pip install {folders}")
    return HealthResult("ok", ", ".join(installed))


def _unmet(name: str) -> list[str]:
    """Requirements of a distribution (extras left out) that the environment does not meet."""
    from packaging.requirements import Requirement

    found = []
    for line in requires(name) or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            got = version(wanted.name)
        except PackageNotFoundError:
            found.append(f"{name} needs {wanted.name}, which is not installed")
            continue
        if not wanted.specifier.contains(got, prereleases=True):
            found.append(f"{name} needs {wanted.name} {wanted.specifier}, found {got}")
    return found


def torch() -> HealthResult:
    """torch, which only the learned models need."""
    try:
        return HealthResult("ok", f"torch {version('torch')}")
    except PackageNotFoundError:
        return HealthResult(
            "missing",
            "not installed: classical models work without it",
            "pip install 'hyped-imaging[torch]' 'hyped-seq[torch]'",
        )


def gpu() -> HealthResult:
    """An NVIDIA GPU, and whether torch can use it."""
    tool = shutil.which("nvidia-smi")
    listing = _run([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]) if tool else None
    if not listing:
        return HealthResult("missing", "no NVIDIA GPU found: everything built in runs on the CPU")
    names = "; ".join(listing.splitlines())
    if find_spec("torch") is None:
        return HealthResult(
            "missing", f"{names}, but torch is not installed", "pip install 'hyped-imaging[torch]'"
        )
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    if _run(asked, timeout_s=120) != "True":
        return HealthResult("broken", f"{names}, but torch cannot use it", "install a CUDA build of torch")
    return HealthResult("ok", names)


def chromium() -> HealthResult:
    """A browser, which only the tests of the report need."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        found = shutil.which(name)
        if found:
            return HealthResult("ok", _run([found, "--version"]) or found)
    return HealthResult(
        "missing", "no Chromium: only the report's browser tests need it", "apt-get install chromium"
    )


def dvc() -> HealthResult:
    """DVC, which runs the pipeline."""
    beside = Path(sys.executable).with_name("dvc")
    found = str(beside) if beside.exists() else shutil.which("dvc")
    try:
        return HealthResult("ok", f"dvc {version('dvc')}")
    except PackageNotFoundError:
        if found:
            return HealthResult("ok", found)
    return HealthResult(
        "missing", "not installed: only the pipeline needs it", "pip install dvc, or make setup"
    )


def git() -> HealthResult:
    """git, which DVC and the provenance record use."""
    found = shutil.which("git")
    if found is None:
        return HealthResult("missing", "not installed: the pipeline needs it", "apt-get install git")
    return HealthResult("ok", _run([found, "--version"]) or found)


def disk() -> HealthResult:
    """Free disk in the current folder."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    detail = f"{free:.1f} GB free in {Path.cwd()}"
    if free < MIN_DISK_GB:
        return HealthResult("broken", detail, f"free at least {MIN_DISK_GB:g} GB, or work on another disk")
    return HealthResult("ok", detail)


def memory() -> HealthResult:
    """Main memory, and processors."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else 0.0
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total or float(text), int(text) / 1e9)
    detail = f"{total:.1f} GB of memory, {os.cpu_count()} processors"
    if 0 < total < MIN_MEMORY_GB:
        return HealthResult("broken", detail, f"make repro needs {MIN_MEMORY_GB:g} GB")
    return HealthResult("ok", detail)


def _run(command: list[str], timeout_s: float = 10) -> str | None:
    """First lines of a tool's answer, or None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
