"""Fixtures for tests of plugins, wherever hyped-core is installed beside pytest. Imports nothing until one is used.

``tiny_movie``, ``tiny_perturbseq`` and ``tiny_hashtags`` are data with known truth; ``plugin_host`` makes hosts that
see only the plugins of a folder of the test's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from hyped_core.checking.tiny.hashtags import TinyHashtags
    from hyped_core.checking.tiny.movie import TinyMovie
    from hyped_core.checking.tiny.screen import TinyScreen
    from hyped_core.plugins.host import PluginHost


@pytest.fixture
def tiny_movie() -> TinyMovie:
    """A movie of nuclei with its labels, objects and tracks; made anew for each test."""
    from hyped_core.checking.tiny.movie import tiny_movie as make

    return make()


@pytest.fixture
def tiny_perturbseq() -> TinyScreen:
    """A perturbation screen with the true effect of each perturbation; made anew for each test."""
    from hyped_core.checking.tiny.screen import tiny_perturbseq as make

    return make()


@pytest.fixture
def tiny_hashtags() -> TinyHashtags:
    """Hashtag counts with the tags that each cell carries; made anew for each test."""
    from hyped_core.checking.tiny.hashtags import tiny_hashtags as make

    return make()


@pytest.fixture
def plugin_host(tmp_path: Path) -> Iterator[Callable[..., PluginHost]]:
    """Makes a host that sees only the plugins written for it.

    ``plugin_host("my-model", {"my_model/plugin.py": TEXT})`` writes a distribution as
    `hyped_core.testing.make_distribution` does and gives a host of all that were written in this test; without
    arguments it gives a host of no plugins.
    """
    import contextlib

    from hyped_core.testing.plugins import isolated_host, make_distribution

    folder = tmp_path / "plugins"
    folder.mkdir()
    with contextlib.ExitStack() as stack:

        def host(*distribution: Any, strict: bool = False, **more: Any) -> PluginHost:
            if distribution:
                make_distribution(folder, *distribution, **more)
            return stack.enter_context(isolated_host(folder, strict=strict))

        yield host
