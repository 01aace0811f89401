"""What this package offers HYPED. Imports nothing heavy: HYPED reads it whenever a model is listed."""

from collections.abc import Iterable

from hyped_core import ModelSpec, Needs, hookimpl

ENVIRONMENT = ("scvi-tools==1.4.2", "lightning>=2.5", "torch==2.13.0", "safetensors>=0.4")


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """One embedder."""
    yield ModelSpec(
        name="scvi",
        task="embedding",
        target="scvi_embedding.model:Scvi",
        config="scvi_embedding.model:ScviConfig",
        summary="Latent space of SCVI trained on the control cells; perturbations as counts set high or to 0",
        licence="BSD-3-Clause",
        citation="scVI: Lopez et al. 2018, Nature Methods 15, 1053-1058; scvi-tools: Gayoso et al. 2022",
        needs=Needs(modules=("scvi",), install="pip install 'scvi-tools==1.4.2', or let HYPED make its environment"),
        environment=ENVIRONMENT,
        sources=("scvi_embedding.counts", "scvi_embedding.process", "scvi_embedding.network"),
    )
