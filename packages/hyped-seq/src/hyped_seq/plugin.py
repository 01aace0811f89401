"""hyped-seq's contributions to the registry: records with import strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import CommandSpec, ModelSpec, Needs

_READING = (
    "hyped_seq.readers", "hyped_seq.ingest.params", "hyped_seq.ingest.perturbations", "hyped_seq.perturb_option",
    "hyped_seq.hashtags.params",
)  # fmt: skip
_TORCH = ("hyped_seq.cpu_products", "hyped_seq.torch_run")
_BY_PLACE = "weights are drawn for genes by their place: another order of genes is another start"
_SMALL = {"pretrain": {"steps": 4, "hidden": 16, "feed_forward": 16, "max_tokens": 64}}
_GEARS_FAILS = {
    "gears": {"gene_order": _BY_PLACE},
    "gears-reference": {
        "gene_order": _BY_PLACE,
        "control_in_control_out": "a perturbation that changes nothing is given the change that all have in common",
    },
}


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """Demultiplexers, expression models and embedders."""
    demultiplex = "hyped_seq.demultiplex"
    yield ModelSpec(
        name="hashed",
        task="demultiplex",
        seeded=False,
        target=f"{demultiplex}.hashed:Hashed",
        config=f"{demultiplex}.hashed:HashedConfig",
        summary="Background and carriers of each tag, doublets as many as the counts show, calibrated probabilities.",
        licence="BSD-3-Clause",
        sources=(f"{demultiplex}.levels", f"{demultiplex}.calibration", f"{demultiplex}.calls"),
    )
    yield ModelSpec(
        name="hashsolo",
        task="demultiplex",
        seeded=False,
        target=f"{demultiplex}.hashsolo:HashSolo",
        config=f"{demultiplex}.hashsolo:HashSoloConfig",
        summary="HashSolo as scanpy implements it.",
        needs=Needs(modules=("scanpy",), install="pip install scanpy"),
        licence="BSD-3-Clause",
        citation="Bernstein et al. 2020, doi:10.1016/j.cels.2020.05.010",
        sources=(f"{demultiplex}.calls",),
    )
    yield ModelSpec(
        name="gmm",
        task="demultiplex",
        seeded=False,
        target=f"{demultiplex}.gmm:Gmm",
        config=f"{demultiplex}.gmm:GmmConfig",
        summary="A mixture of two normals for each tag over centred log ratios (GMM-Demux).",
        needs=Needs(modules=("sklearn",), install="pip install scikit-learn"),
        licence="BSD-3-Clause",
        citation="Xin et al. 2020, doi:10.1186/s13059-020-02084-2",
        sources=(f"{demultiplex}.calls",),
    )
    yield ModelSpec(
        name="quantile",
        task="demultiplex",
        seeded=False,
        target=f"{demultiplex}.quantile:Quantile",
        config=f"{demultiplex}.quantile:QuantileConfig",
        summary="A negative-binomial quantile of each tag's background as threshold (HTODemux).",
        needs=Needs(modules=("sklearn",), install="pip install scikit-learn"),
        licence="BSD-3-Clause",
        citation="Stoeckius et al. 2018, doi:10.1186/s13059-018-1603-1",
        sources=(f"{demultiplex}.calls",),
    )
    yield ModelSpec(
        name="latent_ridge",
        task="expression",
        target="hyped_seq.expression.latent_ridge:LatentRidge",
        config="hyped_seq.expression.latent_ridge:LatentRidgeConfig",
        summary="Ridge from gene embeddings to latent changes, with damped addition for combinations.",
        needs=Needs(modules=("safetensors",), install="pip install safetensors"),
        licence="BSD-3-Clause",
        sources=("hyped_seq.expression.effects",),
    )
    gears = "hyped_seq.gears"
    for name, target, summary in (
        ("gears", "Gears", "GEARS from graphs of co-expression and of gene sets, its defects repaired."),
        ("gears-reference", "GearsReference", "GEARS with the original's arithmetic, defects included."),
    ):
        yield ModelSpec(
            name=name,
            task="expression",
            target=f"{gears}.model:{target}",
            config=f"{gears}.model:{target}Config",
            summary=summary,
            needs=Needs(modules=("torch", "safetensors"), install="pip install 'hyped-seq[torch]'"),
            licence="BSD-3-Clause",
            citation="Roohani et al. 2024, doi:10.1038/s41587-023-01905-6",
            sources=(gears, *_READING, *_TORCH),
            expected_failures=_GEARS_FAILS[name],
            quick={"epochs": 1, "hidden": 8},
        )
    geneformer = "hyped_seq.geneformer"
    embedders = (
        (
            "geneformer", "model:Geneformer", "model:GeneformerConfig", "model", "geneformer",
            "Geneformer's encoder with published weights, V1 or V2; in-silico perturbation of counts or of tokens.",
        ),
        (
            "geneformer-tiny", "tiny:GeneformerTiny", "tiny:GeneformerTinyConfig", "model", "",
            "Geneformer's architecture, small, pretrained here on control cells; not the published weights.",
        ),
        (
            "geneformer-untrained", "tiny:GeneformerUntrained", "tiny:GeneformerUntrainedConfig", "control", "",
            "The weights that geneformer-tiny starts from, trained on nothing: the difference is pretraining.",
        ),
    )  # fmt: skip
    for name, target, config, role, weights, summary in embedders:
        yield ModelSpec(
            name=name,
            task="embedding",
            target=f"{geneformer}.{target}",
            config=f"{geneformer}.{config}",
            role=role,  # type: ignore[arg-type]
            summary=summary,
            needs=Needs(modules=("torch", "safetensors"), install="pip install 'hyped-seq[torch]'"),
            licence="BSD-3-Clause; published weights: Apache-2.0" if weights else "BSD-3-Clause",
            citation="Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9; "
            "Chen et al. 2024, doi:10.1101/2024.08.16.608180",
            sources=(geneformer, "hyped_seq.readers", *_TORCH),
            weights=weights,
            quick={} if weights else _SMALL,
        )


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """The commands under `hyped seq`."""
    yield CommandSpec(
        ("seq", "process"), "hyped_seq.cli_process:process", "Pools and hashtags from end to end, with a summary."
    )
    yield CommandSpec(
        ("seq", "design"), "hyped_seq.cli_design:design_command", "The start of a design for your pools."
    )
    yield CommandSpec(
        ("seq", "simulate"),
        "hyped_seq.cli_simulate:simulate",
        "Pools, hashtags and a screen with known truth.",
    )
    yield CommandSpec(("seq", "ingest"), "hyped_seq.cli_ingest:ingest", "Raw matrices and hashtags to h5ad.")
    yield CommandSpec(
        ("seq", "demultiplex"),
        "hyped_seq.cli_demultiplex:demultiplex",
        "Call each cell's hashtag and condition.",
    )
    yield CommandSpec(
        ("seq", "annotate"),
        "hyped_seq.cli_annotate:annotate",
        "Quality, normalisation, embedding, phases, contrasts.",
    )
    yield CommandSpec(
        ("seq", "import-cells"),
        "hyped_seq.cli_import_cells:import_cells",
        "A finished h5ad to annotated cells.",
    )
    yield CommandSpec(
        ("seq", "release"),
        "hyped_seq.cli_release:release",
        "Annotated cells to one documented h5ad.",
    )
    for verb, help_text in (
        ("dictionary", "Token and median dictionaries from cells, or official ones as JSON."),
        ("tokenize", "Rank value encoding of cells, out of core."),
        ("pretrain", "A small Geneformer pretrained on your cells."),
        ("embed", "Embeddings of cells, as they are or perturbed in silico."),
    ):
        yield CommandSpec(
            ("seq", "geneformer", verb), f"hyped_seq.cli_geneformer_{verb}:{verb}", help_text
        )
    for verb, help_text in (
        ("train", "GEARS on a screen, or from a trained one on your cells."),
        ("predict", "Cells under perturbations, by a trained GEARS."),
        ("convert", "An official GEARS checkpoint to safetensors and JSON."),
    ):
        yield CommandSpec(("seq", "gears", verb), f"hyped_seq.cli_gears_{verb}:{verb}", help_text)
