"""``hyped demo``: see the benchmark work on a tiny simulated container."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.argument("out_dir", type=click.Path(path_type=Path), default="hyped-demo", required=False)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace OUT_DIR where it exists.")
def demo(out_dir: Path, seed: int, force: bool) -> None:
    """Make a tiny container in OUT_DIR (default hyped-demo), score the controls on it and print the tables.

    Takes under a minute, needs no network and no package beyond hyped-core and hyped-bench.
    """
    from hyped_bench.demo import run_demo, task_rows
    from hyped_core.cli.tables import aligned
    from hyped_core.context import default_progress
    from hyped_core.errors import UsageError

    if out_dir.exists() and not force:
        raise UsageError("is there already", where=out_dir, mend="name another folder, or say --force")
    found = run_demo(out_dir, seed=seed, progress=default_progress())
    for task, results in found.items():
        head, rows = task_rows(task, results)
        click.echo(f"{task}\n{aligned(head, rows)}\n")
    click.echo(f"read {out_dir / 'README.md'}; try: hyped data info {out_dir / 'demo.hyped'}", err=True)
