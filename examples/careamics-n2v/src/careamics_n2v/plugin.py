"""What this package offers HYPED. Imports nothing heavy: HYPED reads it whenever a model is listed."""

from collections.abc import Iterable

from hyped_core import ModelSpec, Needs, hookimpl

ENVIRONMENT = (
    "careamics==0.3.5",
    "lightning>=2.5",
    "torch==2.13.0",
    "torchvision==0.2.0",
    "torchmetrics==1.4.3",
    "safetensors>=0.4",
)
"""careamics takes torchvision up to 0.26, which takes torch 2.11 alone. torchvision 0.2.0 takes any torch, and will do:
N2V uses nothing of it. Later releases of torchmetrics import more of torchvision than that has."""


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """One denoiser."""
    yield ModelSpec(
        name="careamics-n2v",
        task="denoise",
        target="careamics_n2v.model:CareamicsN2V",
        config="careamics_n2v.model:CareamicsN2VConfig",
        summary="Noise2Void as CAREamics trains it, on the movie's own noisy frames",
        licence="BSD-3-Clause",
        citation="CAREamics: https://careamics.github.io; Noise2Void: Krull, Buchholz and Jug 2019, CVPR 2129-2137",
        needs=Needs(modules=("careamics",), install="let HYPED make its environment: its torch is another"),
        environment=ENVIRONMENT,
        sources=("careamics_n2v.process", "careamics_n2v.training", "careamics_n2v.network"),
    )
