"""`hyped seq gears convert`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("official", type=click.Path(path_type=Path), metavar="OFFICIAL")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--genes",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Genes of the panel in the model's order: one a line, or a JSON list (cell-gears: gene_list).",
)
@click.option(
    "--perturbations",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Genes of the perturbation graph in the model's order, likewise (cell-gears: pert_list).",
)
@click.option("--overwrite", is_flag=True, help="Write over a model in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print what the model says of itself as JSON.")
def convert(
    official: Path, out: Path, genes: Path, perturbations: Path, overwrite: bool, as_json: bool
) -> None:
    """Convert a checkpoint of cell-gears (folder OFFICIAL with config.pkl and model.pt) into the folder OUT.

    Nothing but plain data and tensors is unpickled. The files hold no names: they have to be given, and their numbers
    are checked, but not their order. The result computes what the original does (mode reference).

    \b
      python -c "import json, gears; ...; json.dump(model.gene_list, open('genes.json', 'w'))"
      hyped seq gears convert norman_full model --genes genes.json --perturbations perturbations.json
    """
    import json

    from hyped_seq.gears.model import need_torch

    need_torch()
    from hyped_seq.gears.predict_run import convert_folder

    facts = convert_folder(official, out, genes, perturbations, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(facts, sort_keys=True))
    sizes = facts["sizes"]
    click.echo(f"{sizes['genes']} genes, {sizes['perturbations']} perturbations, mode reference", err=True)
