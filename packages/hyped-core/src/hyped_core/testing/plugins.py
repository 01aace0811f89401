"""Distributions made of a module and a ``dist-info`` folder, found as installed ones are, without pip."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from hyped_core.plugins.hookspecs import PROJECT
from hyped_core.plugins.host import PluginHost


def make_distribution(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    *,
    entry_points: Mapping[str, str] | None = None,
    version: str = "1.0",
    requires: Iterable[str] = (),
    requires_python: str = "",
) -> Path:
    """Write a distribution into ``folder`` as pip would leave it in ``site-packages``.

    Parameters
    ----------
    modules
        Path of each file below ``folder`` (``"mylab/plugin.py"``; ``.py`` may be left out) -> its text.
    entry_points
        Name -> ``"module"`` or ``"module:object"`` in the group ``hyped``; by default the distribution's
        name -> its first module.
    requires, requires_python
        Requirements (``"hyped-core>=0.1"``) and the Pythons it is for, as its metadata state them.

    Returns
    -------
    The ``dist-info`` folder.
    """
    first = ""
    for place, text in modules.items():
        file = folder / (place if place.endswith(".py") else f"{place}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        first = first or file.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(metadata) + "\n", encoding="utf-8")
    points = entry_points if entry_points is not None else {name: first}
    lines = [f"[{PROJECT}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return info


@contextmanager
def isolated_host(
    folder: Path, *, block: tuple[str, ...] = (), strict: bool = False, probe: bool = False
) -> Iterator[PluginHost]:
    """A host that sees only the distributions in ``folder``, which is importable meanwhile.

    What was imported from the folder is forgotten at the end, so that the next test may reuse the names. The code is
    imported in this process without a look at it in another first, unless ``probe`` asks for one.
    """
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    before = set(sys.modules)
    try:
        yield PluginHost(path=[str(folder)], block=block, strict=strict, probe=probe)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            try:
                origin = str(getattr(sys.modules[name], "__file__", None) or "")
            except Exception:  # noqa: BLE001  a module may have put anything in its own place
                origin = str(folder)
            if origin.startswith(str(folder)):
                del sys.modules[name]
        importlib.invalidate_caches()
