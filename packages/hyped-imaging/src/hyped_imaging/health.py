"""hyped-imaging's checks of ``hyped doctor``: each CZI reader opens, btrack's library loads."""

from __future__ import annotations

import importlib

from hyped_core.spec import HealthResult


def pylibczirw() -> HealthResult:
    """pylibCZIrw, the CZI reader and writer that hyped-imaging cannot do without."""
    return _imports("pylibCZIrw.czi", "pylibCZIrw", "pip install --force-reinstall pylibCZIrw", "broken")


def aicspylibczi() -> HealthResult:
    """aicspylibczi, the faster CZI reader, which is optional."""
    return _imports("aicspylibczi", "aicspylibczi", "pip install 'hyped-imaging[aics]'", "missing")


def btrack() -> HealthResult:
    """btrack and its compiled library, needed by the tracker `btrack` only."""
    from importlib.util import find_spec

    mend = "pip install 'hyped-imaging[btrack]'; where its library does not load, make setup builds it"
    if find_spec("btrack") is None:
        return HealthResult("missing", "not installed: the tracker lap needs nothing more", mend)
    try:
        wrapper = importlib.import_module("btrack.libwrapper")
        loaded = wrapper.get_library()
    except Exception as error:  # noqa: BLE001  whatever the compiled library says when it does not load
        return HealthResult("broken", f"its library does not load: {type(error).__name__}: {error}", mend)
    if loaded is None:
        return HealthResult("broken", "its library does not load", mend)
    return HealthResult("ok", f"btrack {_version('btrack')}, library loads")


def _imports(module: str, distribution: str, mend: str, without: str) -> HealthResult:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        state = "broken" if without == "broken" else "missing"
        return HealthResult(state, f"not installed ({error})", mend)
    except Exception as error:  # noqa: BLE001  a compiled library that does not load raises ImportError or OSError
        return HealthResult("broken", f"does not load: {type(error).__name__}: {error}", mend)
    return HealthResult("ok", f"{distribution} {_version(distribution)}")


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"
