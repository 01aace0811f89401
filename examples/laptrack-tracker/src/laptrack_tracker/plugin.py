"""What this package offers HYPED. Imports nothing heavy: HYPED reads it whenever a model is listed."""

from collections.abc import Iterable

from hyped_core import ModelSpec, Needs, hookimpl


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """One tracker."""
    yield ModelSpec(
        name="laptrack-area",
        task="track",
        target="laptrack_tracker.model:AreaTracker",
        config="laptrack_tracker.model:AreaTrackerConfig",
        summary="laptrack with costs of distance in time and of area: a daughter is half her mother",
        needs=Needs(modules=("laptrack",), install="pip install 'laptrack>=0.17,<0.18'"),
        seeded=False,
        licence="BSD-3-Clause",
        citation="laptrack: Fukai and Kawaguchi 2023, Bioinformatics 39 (1) btac799",
        sources=("laptrack_tracker.costs",),
    )
