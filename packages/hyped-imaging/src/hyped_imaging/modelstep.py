"""What every step that runs a model shares: its section of the parameter file, and making the model from
it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyped_core.errors import UsageError
from hyped_core.params import Params, load_params

if TYPE_CHECKING:
    from hyped_core.design import Design
    from hyped_core.remote.placing import Placed
    from hyped_core.spec import ModelSpec


class ModelStep(Params):
    """``{model: NAME, config: {...}}``: which model a step runs, and its parameters."""

    model: str = ""
    """Name of a registered model; the step's default where empty."""
    config: dict[str, Any] = {}
    """The model's own parameters (``hyped models info NAME`` lists them)."""


def read_step(reference: str | None, model: str | None, default: str) -> ModelStep:
    """The step's section; ``model`` from the command line wins, and may not meet another model's
    ``config``."""
    step = load_params(reference, ModelStep)
    named = step.model or default
    if model and model != named and step.config:
        raise UsageError(
            f"--model {model} with the parameters of {named}",
            where=reference,
            mend="give a section of parameters for this model, or none",
        )
    return ModelStep(model=model or named, config=step.config)


def place_model(task: str, step: ModelStep, design: Design) -> Placed:
    """The model of a step where it is to work: one of another package in a process of its own.

    A config class may offer ``for_design(values, design) -> values`` to fill from the design what the user
    left out (names of channels).
    """
    from hyped_core.remote.placing import place

    return place(task, step.model, step.config, design)


def make_model(task: str, step: ModelStep, design: Design) -> tuple[Any, ModelSpec, dict[str, Any]]:
    """The model of a step (`place_model`), its spec and the parameters it was made with."""
    placed = place_model(task, step, design)
    return placed.create(), placed.spec, placed.values
