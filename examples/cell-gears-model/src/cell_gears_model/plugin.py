"""What this package offers HYPED. Imports nothing heavy: HYPED reads it whenever a model is listed."""

from collections.abc import Iterable

from hyped_core import ModelSpec, Needs, hookimpl

ENVIRONMENT = (
    "cell-gears==0.1.2",
    "torch==2.13.0",
    "torch-geometric==2.8.1",  # imported by cell-gears, which does not declare it
    "dcor==0.7",
    "numpy==1.26.4",
    "pandas==2.2.2",
    "scipy==1.14.1",
    "scanpy==1.10.2",
    "anndata==0.10.9",
    "zarr==2.18.7",
    "scikit-learn==1.9.1",
    "networkx==3.6.1",
    "safetensors>=0.4",
)
"""The versions that cell-gears runs on unmodified: numpy and anndata of before its last release."""


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """One expression predictor."""
    yield ModelSpec(
        name="cell-gears",
        task="expression",
        target="cell_gears_model.model:CellGears",
        config="cell_gears_model.model:CellGearsConfig",
        summary="GEARS by its authors' package, in the old environment that it needs",
        licence="MIT",
        citation="GEARS: Roohani, Huang and Leskovec 2024, Nature Biotechnology 42, 927-935",
        needs=Needs(modules=("gears",), install="let HYPED make its environment: it wants old versions"),
        environment=ENVIRONMENT,
        sources=("cell_gears_model.graph", "cell_gears_model.process", "cell_gears_model.state"),
    )
