"""hyped-core's own contributions, through the same door as everyone else's."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import CommandSpec, DatasetSpec, HealthCheckSpec


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """The commands that need no other package."""
    cli = "hyped_core.cli"
    yield CommandSpec(("doctor",), f"{cli}.doctor:doctor", "Check what is installed and what works.")
    yield CommandSpec(("models", "list"), f"{cli}.models:list_models", "List registered models.")
    yield CommandSpec(("models", "info"), f"{cli}.models:model_info", "Describe a model and its config.")
    yield CommandSpec(("models", "fetch"), f"{cli}.models:fetch_model", "Fetch a model's published weights.")
    yield CommandSpec(("plugins", "list"), f"{cli}.plugins:list_plugins", "List plugins and their state.")
    yield CommandSpec(("plugins", "check"), f"{cli}.plugins_check:check_plugins", "Check a plugin: all that is wrong.")
    yield CommandSpec(
        ("plugins", "environments"), f"{cli}.plugins_environments:list_environments",
        "List and remove environments made for models.",
    )  # fmt: skip
    yield CommandSpec(("plugins", "new"), f"{cli}.plugins_new:new_plugin", "Write the package of a new model plugin.")
    yield CommandSpec(("plugins", "lock"), f"{cli}.plugins:lock_plugins", "Write plugins.lock.yaml.")
    yield CommandSpec(("data", "fetch"), f"{cli}.data_fetch:fetch_data", "Fetch a dataset by its manifest.")
    yield CommandSpec(("data", "use"), f"{cli}.data_fetch:use_data", "Add a dataset to the pipeline.")
    yield CommandSpec(
        ("data", "info"), f"{cli}.data_container:info_command", "Describe a container or a movie."
    )
    yield CommandSpec(("data", "validate"), f"{cli}.data_container:validate_command", "Check a container.")
    yield CommandSpec(
        ("data", "assemble"), f"{cli}.data_container:assemble_command", "Put a container together."
    )
    yield CommandSpec(("data", "card"), f"{cli}.data_card:card_command", "Card and Croissant metadata of a dataset.")


@hookimpl
def hyped_datasets() -> Iterable[DatasetSpec]:
    """The datasets that HYPED itself works with."""
    manifests = "hyped_core:data/manifests"
    yield DatasetSpec("mini", f"{manifests}/mini.yaml", "Simulated experiment with known truth")
    yield DatasetSpec("hard", f"{manifests}/hard.yaml", "Simulated movies at the difficulty hard")
    yield DatasetSpec("public", f"{manifests}/public.yaml", "Small real files for tests and benchmarks")
    yield DatasetSpec("hyped", f"{manifests}/hyped.yaml", "The paper's release")
    yield DatasetSpec("norman", f"{manifests}/norman.yaml", "Norman et al. 2019, as GEARS prepared it")
    yield DatasetSpec("gene2go", f"{manifests}/gene2go.yaml", "Gene ontology terms of genes, for GEARS")
    yield DatasetSpec(
        "geneformer", f"{manifests}/geneformer.yaml", "Published Geneformer weights and dictionaries"
    )


@hookimpl
def hyped_health_checks() -> Iterable[HealthCheckSpec]:
    """What the core can say about the machine."""
    health = "hyped_core.health"
    yield HealthCheckSpec("python", f"{health}:python", "Python 3.11 or newer", required=True)
    yield HealthCheckSpec("packages", f"{health}:packages", "HYPED's packages", required=True)
    yield HealthCheckSpec("memory", f"{health}:memory", "Main memory")
    yield HealthCheckSpec("disk", f"{health}:disk", "Free disk")
    yield HealthCheckSpec("git", f"{health}:git", "git")
    yield HealthCheckSpec("dvc", f"{health}:dvc", "DVC, which runs the pipeline")
    yield HealthCheckSpec("torch", f"{health}:torch", "torch, for learned models")
    yield HealthCheckSpec("gpu", f"{health}:gpu", "NVIDIA GPU")
    yield HealthCheckSpec("chromium", f"{health}:chromium", "Browser for the report's tests")
