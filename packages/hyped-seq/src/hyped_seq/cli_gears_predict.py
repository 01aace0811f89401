"""`hyped seq gears predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.argument("cells", type=click.Path(path_type=Path), metavar="CELLS")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.h5ad")
@click.option(
    "--perturb",
    multiple=True,
    metavar="GENE:DIRECTION",
    help="activation or suppression of a gene; given several times, a combination.",
)
@click.option(
    "--list",
    "listed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Several predictions, one a line: GENE, GENE+GENE or GENE:DIRECTION+GENE:DIRECTION.",
)
@click.option("--held-out", is_flag=True, help="The test perturbations of the split that MODEL was trained with.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only cells whose obs says so; may be given several times (one column twice: either value).",
)
@click.option(
    "--max-cells", type=click.IntRange(min=1), default=300, show_default=True, help="Most control cells to start from."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw of control cells.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what the file says of itself as JSON.")
def predict(
    model: Path,
    cells: Path,
    out: Path,
    perturb: tuple[str, ...],
    listed: Path | None,
    held_out: bool,
    conditions: tuple[str, ...],
    max_cells: int,
    seed: int,
    threads: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Predict cells by MODEL, a folder of `hyped seq gears train`, from the control cells of CELLS into OUT.h5ad.

    X is ln(1 + counts per 10,000) for the model's genes; obs.perturbation names what a cell predicts, as
    `hyped bench score` reads it, and obs.control_cell the cell it started from. Control cells are those whose
    obs.perturbation is control; all of CELLS where there is no such column.

    \b
      hyped seq gears predict model rna.h5ad both.h5ad --perturb MYOD1:activation --perturb PRRX1:suppression
      hyped seq gears predict model screen.h5ad test.h5ad --held-out
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_seq.gears.model import need_torch

    if bool(perturb) + (listed is not None) + held_out != 1:
        raise UsageError(
            "say what to predict, one way", where="--perturb, --list, --held-out", mend="--perturb MYOD1:activation"
        )
    need_torch()
    from hyped_seq.gears.predict_run import estimate_predict, held_out_of, predict_file, read_perturbations
    from hyped_seq.perturb_option import perturbation_of

    if listed is not None:
        perturbations = read_perturbations(listed)
    else:
        perturbations = held_out_of(model) if held_out else [perturbation_of(perturb)]
    if dry_run:
        found = estimate_predict(model, cells, perturbations, where=conditions, max_cells=max_cells)
        click.echo(json.dumps(found, sort_keys=True))
        return
    context = RunContext(seed=seed, threads=threads, progress=default_progress())
    facts = predict_file(model, cells, out, perturbations, where=conditions, max_cells=max_cells, context=context)
    if as_json:
        click.echo(json.dumps(facts, sort_keys=True))
    for line in messages(facts):
        click.echo(line, err=True)


def messages(facts: dict[str, Any]) -> Iterator[str]:
    """What a user should know of a prediction, a line each."""
    found = facts["perturbations"]
    mode = facts["model"].get("mode", "")
    yield f"{len(found)} perturbations predicted, {facts['cells_each']} cells each, mode {mode}"
    if facts["genes_left_out"]:
        yield f"{facts['genes_left_out']} genes that the model does not know were left out"
    for name, said in found.items():
        if said["fallback"]:
            yield f"{name}: {said['fallback']}"
        for note in said["notes"]:
            yield f"{name}: {note}"
