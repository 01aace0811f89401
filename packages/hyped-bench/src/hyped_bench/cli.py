"""``hyped bench``: run models, score a file of predictions, see what is left, compare two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hyped_bench.cli_compare import compare
from hyped_bench.cli_run import run, table_of
from hyped_bench.cli_score import score
from hyped_core.errors import ParamsError, UsageError

__all__ = ["compare", "run", "score", "status", "table_of"]


@click.command("status")
@click.option(
    "--params", "reference", required=True, metavar="REF", help="FILE.yaml#SECTION that holds tasks."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder that `hyped bench run --out` wrote.")
@click.option("--metrics", "folder", type=click.Path(path_type=Path), help="Default: metrics/<dataset>.")
@click.option("--records", type=click.Path(path_type=Path), help="Default: records/<dataset>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def status(reference: str, out: Path | None, folder: Path | None, records: Path | None, as_json: bool) -> None:
    """What has been scored and what is left, for every task and model of a parameter file.

    The dataset is the word before `bench` in the section's name (params.yaml#datasets.mini.bench).
    """
    from hyped_bench.records import RECORD, read_record
    from hyped_core.cli.tables import aligned
    from hyped_core.params import read_section

    if out is not None:
        if folder is not None or records is not None:
            raise UsageError("--out stands for both --metrics and --records", mend="give one or the other")
        folder, records = out / "metrics", out / "records"
    words = reference.partition("#")[2].split(".")
    dataset = words[words.index("bench") - 1] if "bench" in words[1:] else ""
    if not dataset and (folder is None or records is None):
        raise UsageError(
            "cannot tell the dataset", mend="name the section ...<dataset>.bench, or --out, or --metrics and --records"
        )
    folder, records = folder or Path("metrics") / dataset, records or Path("records") / dataset
    rows: list[dict[str, Any]] = []
    for task, section in read_section(reference).items():
        for model in _models_of(task, section):
            at = records / task / model
            state, reason = "to do", ""
            if (at / RECORD).is_file():
                found = read_record(at)
                state, reason = str(found.get("status", "ok")), str(found.get("reason", ""))
            elif (folder / task / f"{model}.json").is_file():
                state = "ok"
                reason = "no record beside the metrics"
            rows.append({"task": task, "model": model, "state": state, "reason": reason})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(aligned(["task", "model", "state", "reason"], [list(map(str, r.values())) for r in rows]))
    left = sum(r["state"] == "to do" for r in rows)
    click.echo(f"{len(rows) - left} of {len(rows)} done", err=True)


def _models_of(task: str, section: Any) -> list[str]:
    from hyped_bench.runner import PIPELINE, controls_of
    from hyped_core.plugins.registry import models, tasks
    from hyped_core.spec import import_target

    if not isinstance(section, dict):
        raise ParamsError("must be a mapping of the task's parameters", where=task)
    if not import_target(tasks().get(task).target).needs_model:
        return [PIPELINE]
    listed = section.get("models")
    if not listed:
        return [i.spec.name for i in models().items() if i.spec.task == task]
    return [*(name for name in controls_of(task) if name not in listed), *listed]
