"""Stops a run whose lines of ``bench-denoise`` name another segmenter or tracker than their dataset's sources do.

Run before ``dvc repro``. A stage depends on the models that its line names, a score on those that the sources name:
were the two apart, an upgraded model would leave old numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyped_core.errors import HypedError, ParamsError
from hyped_core.plugins.discovery import find_points

PARAMS = Path("params.yaml")
GROUP = "bench-denoise"


def problems(content: dict[str, Any]) -> Iterator[str]:
    """One line a stage and role where the two are apart, or where one dataset's sources name several models."""
    from hyped_bench.tasks.denoise.params import DenoiseSource

    for key, line in (content.get(GROUP) or {}).items():
        place = f"datasets.{line['dataset']}.bench.denoise"
        sources = content["datasets"][line["dataset"]]["bench"]["denoise"]["sources"]
        for role in ("segmenter", "tracker"):
            default = DenoiseSource.model_fields[role].default
            named = {source.get(role, default) for source in sources if source["reference"] == "downstream"}
            if named and named != {line.get(role)}:
                wanted = " and ".join(sorted(named))
                yield f"{GROUP}.{key} says {role}: {line.get(role)}, the downstream sources of {place} say {wanted}"


def check(path: Path) -> None:
    """Refuse a parameter file that has `problems`.

    Raises
    ------
    ParamsError
    """
    from hyped_core.params import read_yaml

    if found := list(problems(read_yaml(path))):
        raise ParamsError("\n  ".join(found), where=path, mend="name one model, in the lines as in the sources")


if __name__ == "__main__":
    find_points()  # hides damaged distributions from pydantic, which looks at the entry points of all
    try:
        check(PARAMS)
    except HypedError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
