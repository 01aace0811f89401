"""How long the command line takes to answer, interpreter start included (warm: under 0.5 s)."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT_S = 0.5


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models", "list"], ["models", "list", "--json"]], ids=" ".join
)
def test_answer_time(benchmark, arguments):
    """The fastest of several runs stays under the limit."""

    def answer():
        subprocess.run(
            [sys.executable, "-m", "hyped_core.cli.main", *arguments], capture_output=True, check=True
        )

    benchmark.pedantic(answer, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        assert benchmark.stats.stats.min < LIMIT_S
