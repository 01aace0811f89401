"""`hyped seq gears train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

_KINDS = ("simulation", "simulation_single", "single", "combo_seen0", "combo_seen1", "combo_seen2", "no_test")


@click.command("train")
@click.argument("cells", type=click.Path(path_type=Path), metavar="CELLS")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--terms",
    type=click.Path(path_type=Path),
    help="Gene sets for the perturbation graph: .gmt, gene2go (.pkl, .json) or a table gene, term.",
)
@click.option("--split", type=click.Choice(_KINDS), help="Hold perturbations out as GEARS does.")
@click.option("--split-seed", type=int, default=1, show_default=True, help="Seed of the split; published ones have 1.")
@click.option(
    "--split-file", type=click.Path(path_type=Path), help="Lists train, validation and test (JSON, YAML) instead."
)
@click.option(
    "--from", "pretrained", type=click.Path(path_type=Path), metavar="MODEL", help="Start from this trained GEARS."
)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only cells whose obs says so; may be given several times (one column twice: either value).",
)
@click.option("--mode", type=click.Choice(["fixed", "reference"]), help="Defects repaired (default) or the original.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes through the training cells (default: 20).")
@click.option("--params", "params_ref", metavar="FILE#SECTION", help="All parameters (widths, graphs, loss, ...).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, pairs and the order of cells.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option("--overwrite", is_flag=True, help="Train anew where OUT holds a model or the state of a training.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk, memory and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def train(
    cells: Path,
    out: Path,
    terms: Path | None,
    split: str | None,
    split_seed: int,
    split_file: Path | None,
    pretrained: Path | None,
    conditions: tuple[str, ...],
    mode: str | None,
    epochs: int | None,
    params_ref: str | None,
    seed: int,
    threads: int,
    device: str,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train GEARS on CELLS (.h5ad or .hyped, X log-normalised, obs.perturbation) into the folder OUT.

    OUT gets gears.json and gears.safetensors, loss.csv, report.json and, with a split, split.json and test.csv: errors
    on the test perturbations beside those of predicting no change. Without a split a tenth of the perturbations (or of
    the cells, where there are few) is held out to choose the epoch by. A run that was killed goes on from its last
    epoch. Files whose labels are called condition (A+ctrl) go through `hyped seq import-cells` first.

    \b
      hyped seq gears train norman.h5ad model --terms gene2go_all.pkl --split simulation
      hyped seq gears train rna.h5ad tuned --from model
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_core.params import load_params
    from hyped_seq.gears.model import GearsConfig, need_torch

    if split is not None and split_file is not None:
        raise UsageError("are two splits", where="--split and --split-file", mend="give one of them")
    config = load_params(
        params_ref,
        GearsConfig,
        terms=None if terms is None else str(terms),
        pretrained=None if pretrained is None else str(pretrained),
        mode=mode,
        epochs=epochs,
    )
    need_torch()
    from hyped_seq.gears.train_run import SplitChoice, estimate_train, train_file

    if dry_run:
        click.echo(json.dumps(estimate_train(cells, config, where=conditions), sort_keys=True))
        return
    report = train_file(
        cells,
        out,
        config.training,
        split=SplitChoice(split, split_seed, split_file),  # type: ignore[arg-type]
        extra=config.perturbed,
        where=conditions,
        overwrite=overwrite,
        context=RunContext(seed=seed, device=device, threads=threads, progress=default_progress()),
    )
    if as_json:
        click.echo(json.dumps(report, sort_keys=True))
    for line in messages(report):
        click.echo(line, err=True)


def messages(report: dict[str, Any]) -> Iterator[str]:
    """What a user should know of a report, a line each."""
    model = report["model"]
    counts = model["cells"]
    yield (
        f"mode {model['mode']}, trained on {counts['train']} cells ({counts['control']} control) of "
        f"{model['conditions']} perturbations, {model['genes']} genes; epoch {model['best_epoch']} of "
        f"{model['epochs']} is kept"
    )
    yield model["validation"]
    transferred = model.get("started_from", {}).get("transferred")
    if transferred:
        genes = transferred["genes"]
        yield (
            f"of the model to start from {genes['shared']} genes are shared; {genes['new_from_neighbours']} start from "
            f"their neighbours, {genes['new_fresh']} fresh; {genes['left_out']} are left out"
        )
    alone = model["perturbed_genes_without_neighbours"]
    if alone:
        shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
        mend = "" if model["perturbation_graph"] == "terms" else " (--terms FILE gives genes off the panel neighbours)"
        yield f"{len(alone)} perturbed genes have no neighbour in the perturbation graph: {shown}{mend}"
    for name, values in report.get("test", {}).items():
        better, n = values["better_than_no_change"], values["perturbations"]
        yield (
            f"test, {name}: better than no change on {better['mse']} of {n} (all genes; error {values['mse']:.4g}, no "
            f"change {values['mse_no_change']:.4g}) and on {better['mse_de']} of {n} (20 most changed genes; "
            f"{values['mse_de']:.4g}, {values['mse_de_no_change']:.4g}); correlation of change "
            f"{values['pearson_change']:.3f}"
        )
        if values["nothing_known"]:
            yield f"test, {name}: of {values['nothing_known']} of {n} the model knows nothing (test.csv, fallback)"
