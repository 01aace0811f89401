"""Source folders of plugins, good and with one thing changed, for the tests of ``hyped plugins check``."""

from __future__ import annotations

import itertools
from pathlib import Path
from textwrap import dedent

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "NAME"
version = "0.1.0"
description = "Leaves frames as they are"
requires-python = ">=3.11"
license = "BSD-3-Clause"
dependencies = ["hyped-core>=0.1,<0.2"]

[project.entry-points.hyped]
NAME = "NAME.plugin"
"""
PLUGIN = '''
"""What the package offers."""
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    yield ModelSpec(
        name="NAME", task="denoise", target="NAME.model:Same", config="NAME.model:SameConfig",
        summary="Frames as they are", licence="BSD-3-Clause", seeded=False,
    )
'''
MODEL = '''
"""The model."""
import numpy as np
from hyped_core import Params

class SameConfig(Params):
    """Parameters of `Same`."""

    offset: float = 0.0
    """Added to each pixel, in camera units."""

class Same:
    """Leaves frames as they are."""

    def __init__(self, config: SameConfig) -> None:
        self.config = config

    def denoise(self, stack, meta, *, context):
        """(t, y, x) -> the same in float32."""
        return stack.astype(np.float32) + np.float32(self.config.offset)
'''
_numbers = itertools.count()


def write_plugin(
    folder: Path,
    *,
    pyproject: tuple[str, str] | None = None,
    plugin: tuple[str, str] | None = None,
    model: tuple[str, str] | None = None,
    files: dict[str, str] | None = None,
) -> tuple[Path, str]:
    """Write a good plugin with (old text, new text) of its files changed; its folder, and its name, new each time."""
    name = f"undercheck{next(_numbers)}"
    texts = {"pyproject.toml": PYPROJECT, f"src/{name}/plugin.py": PLUGIN, f"src/{name}/model.py": MODEL}
    for place, change in zip(list(texts), (pyproject, plugin, model), strict=True):
        if change is not None:
            assert change[0] in texts[place], f"{change[0]!r} is not in {place}"
            texts[place] = texts[place].replace(*change)
    texts |= {"README.md": "# NAME\n", f"src/{name}/__init__.py": "", **(files or {})}
    for place, text in texts.items():
        file = folder / place.replace("NAME", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip().replace("NAME", name), encoding="utf-8")
    return folder, name
