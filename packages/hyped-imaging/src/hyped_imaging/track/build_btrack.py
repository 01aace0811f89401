"""Make btrack's library load: compile it for this system where the one in the wheel does not fit.

btrack 0.7.0's wheel is linked against a C++ library newer than Debian 12 and Ubuntu 22.04 have, so
``import btrack`` succeeds and every tracker fails. ``python -m hyped_imaging.track.build_btrack`` compiles
the
sources that come with the package (or its source distribution) in about 20 s and puts the result in its
place.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import click

from hyped_core.errors import HypedError, MissingDependencyError, NetworkError
from hyped_core.io.atomic import atomic_path

MEND = "make btrack (needs g++ and the Eigen headers: apt-get install g++ libeigen3-dev)"
"""What to type where btrack's library does not load."""

EIGEN_VARIABLE = "EIGEN_INCLUDE"
EIGEN_FOLDERS = ("/usr/include/eigen3", "/usr/local/include/eigen3", "/opt/homebrew/include/eigen3")
"""Where Eigen's headers are looked for, after the folder that ``EIGEN_INCLUDE`` names."""

SUFFIX = {"linux": ".so", "darwin": ".dylib"}


def btrack_folder() -> Path:
    """Folder of the installed btrack; nothing of it is imported.

    Raises
    ------
    MissingDependencyError
        btrack is not installed.
    """
    found = importlib.util.find_spec("btrack")
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError(
            "is not installed", where="btrack", mend="pip install 'hyped-imaging[btrack]'"
        )
    return Path(next(iter(found.submodule_search_locations)))


def library_path() -> Path:
    """The library that btrack loads."""
    return btrack_folder() / "libs" / f"libtracker{SUFFIX.get(sys.platform, '.so')}"


def library_error() -> str | None:
    """Why btrack's library does not load, or None where it does."""
    path = library_path()
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return None


def require_btrack() -> None:
    """Raise `MissingDependencyError` with the mend where btrack cannot be used."""
    reason = library_error()
    if reason is not None:
        raise MissingDependencyError(f"its library does not load: {reason}", where="btrack", mend=MEND)


def find_eigen() -> Path:
    """Folder that holds ``Eigen/Dense``."""
    named = os.environ.get(EIGEN_VARIABLE)
    for folder in ([named] if named else []) + list(EIGEN_FOLDERS):
        if (Path(folder) / "Eigen" / "Dense").is_file():
            return Path(folder)
    raise MissingDependencyError(
        "the Eigen headers (Eigen/Dense) are not there",
        where="building btrack",
        mend=f"apt-get install libeigen3-dev, or set {EIGEN_VARIABLE} to the folder that holds Eigen/",
    )


def find_compiler() -> str:
    """The C++ compiler: ``CXX``, else g++ or clang++."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise MissingDependencyError(
        "no C++ compiler is there", where="building btrack", mend="apt-get install g++, or set CXX"
    )


def find_sources(scratch: Path) -> Path:
    """Folder with btrack's ``src/*.cc`` and ``include``: the installed package, else its source
    distribution."""
    folder = btrack_folder()
    if any((folder / "src").glob("*.cc")) and (folder / "include").is_dir():
        return folder
    wanted = f"btrack=={version('btrack')}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "btrack", wanted]
    done = subprocess.run([*command, "--dest", str(scratch)], capture_output=True, text=True, check=False)
    archives = sorted(scratch.glob("btrack-*.tar.gz"))
    if done.returncode or not archives:
        raise NetworkError(
            f"the source distribution could not be downloaded: {done.stderr.strip()[-300:]}",
            where=wanted,
            mend="connect to a package index (PIP_INDEX_URL) and try again",
        )
    with tarfile.open(archives[0]) as archive:
        archive.extractall(scratch, filter="data")
    return next(path.parent for path in sorted(scratch.glob("btrack-*/btrack/src")))


def build(target: Path | None = None) -> Path:
    """Compile btrack's library and put it at ``target`` (where btrack loads it from); returns ``target``.

    Raises
    ------
    MissingDependencyError
        No compiler or no Eigen headers.
    HypedError
        The compiler failed; its last lines are in the message.
    """
    target = target or library_path()
    compiler, eigen = find_compiler(), find_eigen()
    with tempfile.TemporaryDirectory(prefix="btrack-build-") as name:
        scratch = Path(name)
        sources = find_sources(scratch)
        headers = scratch / "include" / "eigen"  # btrack includes "eigen/Eigen/Dense"
        headers.mkdir(parents=True)
        (headers / "Eigen").symlink_to(eigen / "Eigen")
        with atomic_path(target) as part:
            command = [
                compiler, "-std=c++14", "-O3", "-fPIC", "-shared", "-w",
                "-DDEBUG=false", "-DBUILD_SHARED_LIB",
                f"-I{sources / 'include'}", f"-I{scratch / 'include'}", "-o", str(part),
                *map(str, sorted((sources / "src").glob("*.cc"))),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise HypedError(
                    f"the compiler failed:\n{done.stderr.strip()[-1500:]}",
                    where=compiler,
                    mend="use g++ 9 or newer (CXX) and Eigen 3.3 or newer",
                )
            ctypes.CDLL(str(part))
    return target


def main() -> int:
    """Check, build where needed, and say what was done; returns the exit code."""
    try:
        reason = library_error()
        if reason is None:
            click.echo(f"btrack's library loads: {library_path()}", err=True)
            return 0
        click.echo(f"btrack's library does not load ({reason}); compiling it", err=True)
        path = build()
        require_btrack()
    except HypedError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    click.echo(f"built {path}", err=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
