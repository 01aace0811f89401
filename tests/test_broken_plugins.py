"""Each broken plugin, alone and with all others, leaves every command working for the rest, and is shown as broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hyped_core.testing.broken import AT_WORK, BROKEN, BrokenPlugin
from tests.conftest import ROOT, run, tool_environment
from tests.test_reproduce import outputs, prepared

FAST = 4.0
"""Seconds of a look, in tests of plugins that hang; others have plenty."""

ALSO_IN_ONE_PROCESS = {
    "missing-module", "syntax", "sys-exit", "endless", "wrong-type", "wrong-field", "bad-target", "misspelt",
    "other-api", "other-core", "other-python", "evil-attributes", "garbled-entry-points",
}  # fmt: skip
"""Kinds that test_plugin_host.py and test_plugin_compatibility.py see to as well."""

TELLING = {
    "missing-module", "syntax", "sys-exit", "os-exit", "segfault", "hangs", "leaks", "prints-below", "wrong-type",
    "misspelt", "takes-model-name", "other-api", "garbled-entry-points",
}  # fmt: skip
"""Kinds that stand for the others where every command is tried."""

COMMANDS = """
import contextlib, io, json, os, sys
from hyped_core.cli.main import run

said = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.stdout.flush()
    kept, (reader, writer) = os.dup(1), os.pipe()
    os.dup2(writer, 1)
    os.close(writer)
    code = run(arguments)
    sys.stdout.flush()
    os.dup2(kept, 1)
    with open(reader) as file:
        said[name] = [code, file.read()]
print(json.dumps(said))
"""
"""Runs commands in one process and tells the exit code of each and what reached the file descriptor of stdout."""


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of these tests."""
    return tmp_path_factory.mktemp("verdicts")


@pytest.fixture(scope="session")
def lock(tmp_path_factory: pytest.TempPathFactory, verdicts: Path) -> Path:
    """The lock file of an environment without strangers."""
    file = tmp_path_factory.mktemp("lock") / "plugins.lock.yaml"
    hyped("plugins", "lock", "--output", str(file), env=environment(None, verdicts))
    return file


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parameters of a tiny demultiplexing benchmark."""
    from hyped_bench.demo_data import write_demo

    folder = tmp_path_factory.mktemp("demo")
    params = write_demo(folder)["demultiplex"]
    file = folder / "params.yaml"
    file.write_text(json.dumps({"sources": params["sources"][:1]}))  # JSON is YAML
    return file


def environment(folder: Path | None, verdicts: Path, seconds: float = 60) -> dict[str, str]:
    limits = {"HYPED_PROBE_SECONDS": str(seconds), "HYPED_PROBE_GB": "0.5", "HYPED_SECTION_SECONDS": "10"}
    path = {} if folder is None else {"PYTHONPATH": str(folder)}
    return tool_environment(**limits, **path, HYPED_CACHE=str(verdicts), OMP_NUM_THREADS="1")


def hyped(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "hyped_core.cli.main", *arguments], ROOT, env=env, check=False)


def install(folder: Path, *plugins: BrokenPlugin) -> Path:
    for plugin in plugins:
        plugin.install(folder)
    return folder


def seconds_of(kind: str) -> float:
    return FAST if kind.startswith("hangs") else 60


def check_shown(plugin: BrokenPlugin, rows: list[dict]) -> None:
    (row,) = [row for row in rows if row["distribution"].replace("_", "-") == plugin.distribution]
    assert row["state"] == "broken"
    assert plugin.reason in row["reason"]
    assert f"pip uninstall {row['distribution']}" in row["mend"] and "HYPED_BLOCK_PLUGINS=" in row["mend"]
    assert "HYPED_BLOCK_PLUGINS=hyped-" not in row["mend"]


def own_models(text: str) -> list[str]:
    return sorted(f"{m['task']}/{m['name']}" for m in json.loads(text) if m["package"].startswith("hyped-"))


@pytest.fixture(scope="session")
def expected(verdicts: Path) -> list[str]:
    """The models there are without strangers."""
    return own_models(hyped("models", "list", "--json", env=environment(None, verdicts)).stdout)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in ALSO_IN_ONE_PROCESS else []) for kind in BROKEN]
)
def test_one_broken_plugin_alone(tmp_path: Path, verdicts: Path, expected: list[str], kind: str):
    install(tmp_path, BROKEN[kind])
    commands = {"models": ["models", "list", "--json"], "plugins": ["plugins", "list", "--json"]}
    done = run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        tmp_path,
        env=environment(tmp_path, verdicts, seconds_of(kind)),
    )
    said = json.loads(done.stdout)
    assert {name: code for name, (code, _) in said.items()} == dict.fromkeys(commands, 0), done.stderr
    assert own_models(said["models"][1]) == expected
    check_shown(BROKEN[kind], json.loads(said["plugins"][1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in TELLING else [pytest.mark.exhaustive]) for kind in BROKEN]
)
def test_one_broken_plugin_alone_and_every_command(
    tmp_path: Path, verdicts: Path, lock: Path, bench: Path, expected: list[str], kind: str
):
    install(tmp_path, BROKEN[kind])
    env = environment(tmp_path, verdicts, seconds_of(kind))
    check_commands(env, lock, bench, expected)
    table = hyped("plugins", "list", env=env)
    assert table.returncode == 0 and BROKEN[kind].distribution in table.stdout.replace("_", "-")
    assert hyped("doctor", "--json", env=env).returncode == 0


def check_commands(env: dict[str, str], lock: Path, bench: Path, expected: list[str]) -> None:
    """The commands work for the rest; what strangers add to the lock file is nothing, since their code is not there."""
    models = hyped("models", "list", "--json", env=env)
    assert models.returncode == 0 and own_models(models.stdout) == expected, models.stderr
    checked = hyped("plugins", "lock", "--output", str(lock), "--check", env=env)
    assert checked.returncode == 0 and checked.stdout == "", checked.stderr
    assert hyped("--help", env=env).stdout.startswith("Usage")
    done = hyped(*benchmark(bench), env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["top_tag"]["accuracy"] > 0.9


def benchmark(bench: Path) -> list[str]:
    return ["bench", "run", "--task", "demultiplex", "--params", str(bench), "--model", "top_tag", "--json"]


@pytest.fixture(scope="session")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All broken plugins in one folder."""
    return install(tmp_path_factory.mktemp("all"), *BROKEN.values(), *AT_WORK.values())


@pytest.mark.slow
def test_all_at_once(all_of_them: Path, verdicts: Path, lock: Path, bench: Path, expected: list[str]):
    env = environment(all_of_them, verdicts, seconds=12)
    plugins = hyped("plugins", "list", "--json", env=env)
    assert plugins.returncode == 0, plugins.stderr
    rows = json.loads(plugins.stdout)
    for plugin in BROKEN.values():
        check_shown(plugin, rows)
    assert {row["state"] for row in rows if row["distribution"].startswith("hyped-")} == {"active"}
    check_commands(env, lock, bench, expected)


def test_nothing_that_they_started_goes_on(all_of_them: Path, verdicts: Path):
    hyped("plugins", "list", env=environment(all_of_them, verdicts, seconds=12))
    left = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"PYTHONPATH={all_of_them}".encode() in (place / "environ").read_bytes().split(b"\0"):
                left.append((place / "cmdline").read_bytes())
        except OSError:
            continue
    assert left == []


@pytest.mark.slow
def test_those_that_do_harm_at_work(tmp_path: Path, verdicts: Path, lock: Path, bench: Path, expected: list[str]):
    env = environment(install(tmp_path / "site", *AT_WORK.values()), verdicts, seconds=12)
    rows = json.loads(hyped("plugins", "list", "--json", env=env).stdout)
    assert {row["state"] for row in rows} == {"active"}
    check_commands(env, lock, bench, expected)
    done = hyped("doctor", "--json", env=env)
    assert done.returncode == 0, done.stderr
    told = {row["name"]: row for row in json.loads(done.stdout)}
    assert told["python"]["state"] == "ok"
    (tmp_path / "metrics" / "denoise").mkdir(parents=True)
    (tmp_path / "metrics" / "denoise" / "identity.json").write_text('{"psnr": 20.0}')
    places = ["--dataset", "tiny", "--metrics", str(tmp_path / "metrics"), "--json"]
    done = hyped("bench", "report", str(tmp_path / "out"), *places, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "leaderboards" in found["sections"] and "identity" in (tmp_path / "out" / "index.html").read_text()
    assert sorted(found["failed"]) == sorted(kind for kind in AT_WORK if kind.startswith("section-"))
    for kind, plugin in AT_WORK.items():
        said = found["failed"].get(kind) or f"{told[kind]['package']}: {told[kind]['detail']} {told[kind]['mend']}"
        assert said.startswith(plugin.distribution) and plugin.reason in said
        assert f"pip uninstall {plugin.distribution}" in said and "HYPED_BLOCK_PLUGINS=" in said
        assert kind in found["failed"] or told[kind]["state"] == "broken"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_pipeline_with_all_of_them(root: Path, tracked_files: list[str], tmp_path: Path, all_of_them: Path):
    """scripts/repro.sh, which is ``make repro``, runs to its end; without them nothing is to be done again."""
    place = prepared(root, tracked_files, tmp_path / "repository")
    env = environment(all_of_them, tmp_path / "cache", seconds=20) | {"DATASET": "mini"}
    done = run(["sh", "scripts/repro.sh"], place, env=env, timeout=2400)
    assert "plugin broken-abort is broken" in done.stderr
    page = (place / "reports/mini/index.html").read_text()
    assert all(f"broken-section-{way}: " in page for way in ("exits", "hangs", "segfault", "vanishes"))
    before = outputs(place)
    assert len(before) > 60
    env.pop("PYTHONPATH")
    done = run(["sh", "scripts/repro.sh"], place, env=env, timeout=1200)
    assert "Running stage" not in done.stdout
    assert outputs(place) == before


def test_a_name_of_hyped_stays_hypeds_and_the_other_can_be_asked_for(tmp_path: Path, verdicts: Path):
    install(tmp_path, BROKEN["takes-model-name"])
    env = environment(tmp_path, verdicts)
    mine = json.loads(hyped("models", "info", "demultiplex/top_tag", "--json", env=env).stdout)
    assert mine["package"] == "hyped-bench"
    theirs = json.loads(hyped("models", "info", "broken-takes-model-name:top_tag", "--json", env=env).stdout)
    assert theirs["package"] == "broken-takes-model-name"


def test_blocking_what_is_advised_silences_it(tmp_path: Path, verdicts: Path):
    install(tmp_path, BROKEN["abort"], BROKEN["takes-plugin-name"])
    env = environment(tmp_path, verdicts) | {"HYPED_BLOCK_PLUGINS": "broken-abort,broken-takes-plugin-name"}
    rows = {row["distribution"]: row["state"] for row in json.loads(hyped("plugins", "list", "--json", env=env).stdout)}
    assert rows["broken-abort"] == rows["broken-takes-plugin-name"] == "blocked"
    assert rows["hyped-bench"] == "active"
