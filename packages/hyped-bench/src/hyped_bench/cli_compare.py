"""``hyped bench compare``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyped_core.errors import InvalidDataError, RegressionError


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "--tolerance", type=float, help="Relative, of the larger value, for every metric that FILE does not name."
)
@click.option(
    "--absolute", type=float, help="Allowed beside it. Default of both: what each metric declares, else 1e-6."
)
@click.option(
    "--tolerances", type=click.Path(path_type=Path), metavar="FILE.yaml",
    help="Tolerances by metric: `psnr: 0.01`, `expression/pearson_*: {absolute: 1e-4, relative: 0}`.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on stdout.")
def compare(
    first: Path, second: Path, tolerance: float | None, absolute: float | None, tolerances: Path | None, as_json: bool
) -> None:
    """Compare two runs A and B: records, metrics files, or folders of them.

    Values agree where they differ by at most absolute + relative * larger value, or both are undefined. FILE goes
    before the options, these before what a metric declares (hyped_core.spec.MetricSpec.tolerance, taken for both).
    Exit code 6 where a metric differs by more, or one run lacks it, or all models failed in both: models that did are
    named, counted and not compared. What differs in how the runs were made (data,
    parameters, versions, processor, threads, GPU, flags of determinism) is listed.
    """
    from hyped_bench.comparison import compare_runs
    from hyped_bench.tolerances import Tolerances, read_tolerances

    allowed = Tolerances(read_tolerances(tolerances) if tolerances else {}, absolute, tolerance)
    found = compare_runs(first, second, tolerances=allowed)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, sort_keys=True))
    else:
        for line in found.differences:
            mark = "PAST" if line.past else "within"
            click.echo(
                f"{mark}  {line.record}  {line.metric}: {line.first} against {line.second}, allowed {line.allowed:.3g}"
            )
        for side, names in (("A", found.only_first), ("B", found.only_second)):
            for name in names:
                click.echo(f"only in {side}: {name}")
        for place, (a, b) in found.environment.items():
            click.echo(f"made with other {place}: {a} against {b}")
    for name in allowed.unused():
        click.echo(f"{tolerances}: {name} is no metric of these runs", err=True)
    for name in found.failed:
        click.echo(f"failed in both: {name}", err=True)
    if found.n_metrics == 0 and not (found.only_first or found.only_second or found.failed):
        raise InvalidDataError("there is nothing to compare", where=first)
    if found.failed and found.n_metrics == 0 and not (found.only_first or found.only_second):
        raise RegressionError(
            f"every model failed in both runs ({len(found.failed)}): no number agrees",
            where=f"{first} against {second}",
        )
    if not found.agrees:
        missing = len(found.only_first) + len(found.only_second)
        raise RegressionError(
            f"{len(found.past)} of {found.n_metrics} metrics differ past tolerance, {missing} in one run",
            where=f"{first} against {second}",
            mend="the differences of environment above say what to look at"
            if found.environment and not as_json
            else None,
        )
    failed = f"; failed in both and not compared: {len(found.failed)} of the models" if found.failed else ""
    click.echo(f"{found.n_metrics} metrics agree{failed}", err=True)
