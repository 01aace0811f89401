"""What every benchmark has in common: machine information, memory beside time, GPUs waited for, a table of ratios."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from hyped_bench.environment import run_environment
from hyped_core.cli.tables import aligned
from hyped_core.remote.memory import peak_memory_mb, reset_peak, resident_memory_mb

WHO = ("who", "name", "way", "chain", "model")
"""Parameters that say whose work is timed; rows of a group are compared where all others are equal."""
OURS = re.compile(r"\b(ours|hyped|compiled|fast|lap|hashed|photon|together)\b")
"""What our own is called in the brackets of a benchmark's name, or in the name where it has none."""
WARM_UP = 3
"""Calls before the first that counts, on a GPU: kernels are compiled and chosen, and memory is reserved."""


def _cuda() -> Any:
    """``torch.cuda`` where a benchmark has loaded torch and there is a GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Processor, cores, load when the suite began, threads, BLAS and versions of libraries."""
    machine_info["hyped"] = {**run_environment(1), "load": [round(x, 2) for x in os.getloadavg()]}


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    """The ratios of the table, the GPU where one was used, and the load when the suite ended."""
    output_json["ratios"] = [row | {"group": group} for group, rows in ratios(benchmarks) for row in rows]
    output_json["machine_info"]["hyped"]["load_after"] = [round(x, 2) for x in os.getloadavg()]
    if (cuda := _cuda()) is not None:
        output_json["machine_info"]["hyped"]["gpu"] = [cuda.get_device_name(i) for i in range(cuda.device_count())]


@pytest.fixture(autouse=True)
def memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Main memory while a benchmark runs, in its ``extra_info``: at most, and by how much more than before it.

    Children are not counted: benchmarks that start some measure them themselves.
    """
    if "benchmark" not in request.fixturenames:
        yield
        return
    benchmark = request.getfixturevalue("benchmark")
    own, before = reset_peak(), resident_memory_mb()
    if (cuda := _cuda()) is not None:
        cuda.reset_peak_memory_stats()
    yield
    if own:
        peak = peak_memory_mb()
        benchmark.extra_info.update(peak_memory_mb=round(peak), added_memory_mb=round(max(0.0, peak - before)))
    if (cuda := _cuda()) is not None and (used := cuda.max_memory_allocated()):
        benchmark.extra_info["peak_gpu_memory_mb"] = round(used / 2**20)


@pytest.fixture
def synchronised() -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Wraps work so that its time ends when the GPU is done, after `WARM_UP` calls; on a CPU it is left as it is."""

    def wrap(work: Callable[[], Any]) -> Callable[[], Any]:
        cuda = _cuda()
        if cuda is None:
            return work

        def waited() -> Any:
            result = work()
            cuda.synchronize()
            return result

        for _ in range(WARM_UP):
            waited()
        cuda.reset_peak_memory_stats()
        return waited

    return wrap


def ratios(benchmarks: Iterable[Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows of each group in the order they ran; ``ratio`` is how many times as long as ours one took, None where
    the group names no alternative (a benchmark's own ratios then stand in its ``extra_info``)."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for bench in benchmarks:
        groups[bench.group or bench.fullname.partition("::")[0]].append(bench)
    found = []
    for group, members in groups.items():
        rows = []
        for bench in members:
            same = [other for other in members if _case(other) == _case(bench)]
            own = [other for other in same if _is_ours(other)]
            ratio = bench.stats.min / own[0].stats.min if len(own) == 1 and len(same) > 1 else None
            rows.append(
                {
                    "name": bench.name.removeprefix("test_"),
                    "min_s": bench.stats.min,
                    "median_s": bench.stats.median,
                    "rounds": bench.stats.rounds,
                    "ratio": ratio,
                    "added_memory_mb": bench.extra_info.get("added_memory_mb"),
                }
            )
        found.append((group, rows))
    return found


def _case(bench: Any) -> tuple[tuple[str, str], ...]:
    """What a benchmark was run on: its parameters without who did it."""
    return tuple(sorted((k, str(v)) for k, v in (bench.params or {}).items() if k not in (*WHO, "rounds")))


def _is_ours(bench: Any) -> bool:
    inside = bench.name.partition("[")[2]
    return OURS.search((inside or bench.name).replace("_", " ")) is not None


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: each group, and how many times as long as ours the alternatives took."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    done = [bench for bench in getattr(session, "benchmarks", []) if bench]
    if not done:
        return
    lines = []
    for group, rows in ratios(done):
        for row in rows:
            memory = row["added_memory_mb"]
            lines.append(
                [
                    group,
                    row["name"],
                    f"{row['min_s']:.4g}",
                    f"{row['median_s']:.4g}",
                    str(row["rounds"]),
                    "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
                    "-" if memory is None else str(memory),
                ]
            )
    head = ["group", "benchmark", "min s", "median s", "rounds", "times ours", "MB more"]
    terminalreporter.write_sep("=", "time and memory beside the named alternatives")
    terminalreporter.write_line(aligned(head, lines))
