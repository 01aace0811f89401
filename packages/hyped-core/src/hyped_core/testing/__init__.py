"""For tests of plugins: environments of a few files, tiny data with known truth, and every check of HYPED's as tests.

Names are looked up when they are used, so that the fixtures of `pytest_plugin` cost nothing until a test asks for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyped_core.checking.run import check_model
    from hyped_core.checking.tiny.hashtags import tiny_hashtags
    from hyped_core.checking.tiny.movie import tiny_movie
    from hyped_core.checking.tiny.screen import tiny_perturbseq
    from hyped_core.testing.kit import parametrize_model_checks
    from hyped_core.testing.plugins import isolated_host, make_distribution
    from hyped_core.testing.suites import (
        CellEmbedderSuite,
        DemultiplexerSuite,
        DenoiserSuite,
        ExpressionPredictorSuite,
        SegmenterSuite,
        TrackerSuite,
    )

_HOMES = {
    "check_model": "hyped_core.checking.run",
    "tiny_hashtags": "hyped_core.checking.tiny.hashtags",
    "tiny_movie": "hyped_core.checking.tiny.movie",
    "tiny_perturbseq": "hyped_core.checking.tiny.screen",
    "parametrize_model_checks": "hyped_core.testing.kit",
    "isolated_host": "hyped_core.testing.plugins",
    "make_distribution": "hyped_core.testing.plugins",
    "CellEmbedderSuite": "hyped_core.testing.suites",
    "DemultiplexerSuite": "hyped_core.testing.suites",
    "DenoiserSuite": "hyped_core.testing.suites",
    "ExpressionPredictorSuite": "hyped_core.testing.suites",
    "SegmenterSuite": "hyped_core.testing.suites",
    "TrackerSuite": "hyped_core.testing.suites",
}

__all__ = [
    "CellEmbedderSuite",
    "DemultiplexerSuite",
    "DenoiserSuite",
    "ExpressionPredictorSuite",
    "SegmenterSuite",
    "TrackerSuite",
    "check_model",
    "isolated_host",
    "make_distribution",
    "parametrize_model_checks",
    "tiny_hashtags",
    "tiny_movie",
    "tiny_perturbseq",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
