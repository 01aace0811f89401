"""`hyped seq geneformer pretrain`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command("pretrain")
@click.argument("cells", type=click.Path(path_type=Path), metavar="CELLS")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only cells whose obs says so; may be given several times (one column twice: either value).",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="GENE",
    help="Gene (id or symbol) that has a token even where no cell expresses it; may be given several times.",
)
@click.option("--params", "params_ref", metavar="FILE#SECTION", help="Parameters (sizes, steps, learning rate, ...).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of split, weights, batches and masks.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads; the result is the same."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="End training by then; the result depends on the machine where this cuts it.",
)
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk, memory and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def pretrain(
    cells: Path,
    out: Path,
    conditions: tuple[str, ...],
    keep: tuple[str, ...],
    params_ref: str | None,
    seed: int,
    threads: int,
    device: str,
    max_seconds: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Pretrain a small Geneformer by masked tokens on CELLS (.h5ad or .hyped) into the folder OUT.

    OUT gets config.json and model.safetensors (as HuggingFace's BertForMaskedLM reads them), dictionaries.json,
    geneformer.json (what it is and what it scores on held-out cells) and loss.csv. The result is no published
    Geneformer: it knows the cells it was given and nothing else. Give it unperturbed cells where perturbed ones are
    to be predicted:

    \b
      hyped seq geneformer pretrain rna.h5ad tiny --where condition=control --keep MYOD1 --keep PRRX1
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import MissingDependencyError
    from hyped_core.io.outputs import check_output
    from hyped_core.params import load_params
    from hyped_seq.geneformer.pretrain_data import estimate_pretrain
    from hyped_seq.geneformer.pretrain_params import PretrainParams
    from hyped_seq.geneformer.weights import CARD
    from hyped_seq.readers.cells import read_cells, select_cells

    params_file = [params_ref.partition("#")[0]] if params_ref else []
    check_output(out, kind="folder", inputs=[cells, *params_file], marks=[CARD])
    params = load_params(params_ref, PretrainParams)
    if keep:
        params = params.model_copy(update={"keep": tuple(dict.fromkeys((*params.keep, *keep)))})
    chosen = select_cells(read_cells(cells), conditions, cells)
    if dry_run:
        click.echo(json.dumps(estimate_pretrain(chosen, params, threads=threads), sort_keys=True))
        return
    try:
        from hyped_seq.geneformer.pretrain import pretrain as run
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError("pretraining needs PyTorch", mend="pip install 'hyped-seq[torch]'") from error

    context = RunContext(seed=seed, device=device, threads=threads, progress=default_progress())
    source = cells.name + (f" with {', '.join(conditions)}" if conditions else "")
    result = run(chosen, params, context=context, max_seconds=max_seconds, source=source)
    result.save(out)
    if as_json:
        click.echo(json.dumps(result.record, sort_keys=True))
    for line in messages(result.record):
        click.echo(line, err=True)


def messages(record: dict[str, Any]) -> Iterator[str]:
    """What a user should know of the record, a line each."""
    cells, training, held_out = record["cells"], record["training"], record["held_out"]
    yield f"pretrained on {cells['trained_on']} cells in {training['steps']} steps; not the published weights"
    if cells["without_a_gene"]:
        yield f"{cells['without_a_gene']} cells have no gene with a token and were left out"
    if held_out["loss"] is not None:
        yield (
            f"loss on {cells['held_out']} held-out cells {held_out['loss']:.3f}, "
            f"untrained {held_out['untrained_loss']:.3f}"
        )
        known = {
            "frequency": "frequency of genes",
            "rank": "frequency at that rank",
            "frequency_unseen": "frequency among genes not shown",
            "rank_unseen": "frequency at that rank among genes not shown",
        }
        losses = ", ".join(f"{text} {held_out['baselines'][name]['loss']:.3f}" for name, text in known.items())
        yield f"without a model: {losses}"
    yield from record["notes"]
