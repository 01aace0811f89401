"""``hyped bench report``: everything a reader wants to see, in one page."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("report")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="Name of the dataset; the folders below follow from it.")
@click.option(
    "--params",
    "reference",
    metavar="REF",
    help="FILE.yaml#datasets.NAME: its description, and the tasks that should be there.",
)
@click.option("--metrics", type=click.Path(path_type=Path), help="Default: metrics/DATASET.")
@click.option("--records", type=click.Path(path_type=Path), help="Default: records/DATASET.")
@click.option("--containers", type=click.Path(path_type=Path), help="Default: data/DATASET/containers.")
@click.option(
    "--plots", type=click.Path(path_type=Path), help="Also write tables for `dvc plots` to this folder."
)
@click.option("--json", "as_json", is_flag=True, help="What was written as JSON on stdout.")
def report(
    out_dir: Path,
    dataset: str,
    reference: str | None,
    metrics: Path | None,
    records: Path | None,
    containers: Path | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    """Write the report of a dataset to OUT_DIR.

    index.html is one page that opens from disk with no network; tables/*.csv, figures/*.svg and summary.md
    stand beside it. --plots DIR adds leaderboard.csv and, where nuclei have phases, phase_fractions.csv
    (long) and s_g2m_fraction.csv (a column a condition).

    Example: hyped bench report reports/mini --dataset mini --params params.yaml#datasets.mini
    """
    from hyped_bench.report.build import build_report
    from hyped_bench.report.inputs import read_inputs
    from hyped_core.context import default_progress
    from hyped_core.errors import MissingFileError
    from hyped_core.params import read_section

    for name, path in (("metrics", metrics), ("records", records), ("containers", containers)):
        if path is not None and not path.is_dir():
            raise MissingFileError("no such folder", where=path, mend=f"correct --{name}, or leave it out")
    inputs = read_inputs(
        dataset,
        read_section(reference) if reference else {},
        metrics=metrics or Path("metrics") / dataset,
        records=records or Path("records") / dataset,
        containers=containers or Path("data") / dataset / "containers",
    )
    made = build_report(out_dir, inputs, plots=plots, progress=default_progress())
    for name, reason in made.failed.items():
        click.echo(f"section {name} failed: {reason}", err=True)
    if as_json:
        found = {
            "page": made.page.as_posix(),
            "sections": list(made.sections),
            "failed": made.failed,
            "tables": list(made.tables),
            "figures": list(made.figures),
            "plots": [path.as_posix() for path in made.plots],
        }
        click.echo(json.dumps(found, indent=2, sort_keys=True))
    else:
        click.echo(made.page.as_posix())
