"""What this package offers HYPED. Imports nothing heavy: HYPED reads it whenever a model is listed."""

from collections.abc import Iterable

from hyped_core import ModelSpec, hookimpl


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """One expression predictor."""
    yield ModelSpec(
        name="halfway",
        task="expression",
        target="halfway_model.model:Halfway",
        config="halfway_model.model:HalfwayConfig",
        summary="A share of the sum of the single perturbations' changes",
        licence="BSD-3-Clause",
        seeded=False,
    )
