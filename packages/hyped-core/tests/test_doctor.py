"""hyped doctor: every check gives a row, a check that fails is a row too, and only required ones decide."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hyped_core import health
from hyped_core.cli.doctor import examine
from hyped_core.spec import HealthResult
from hyped_core.testing import isolated_host, make_distribution

LAB = """
    from hyped_core import HealthCheckSpec, HealthResult, hookimpl

    @hookimpl
    def hyped_health_checks():
        for name in ("fine", "absent", "raising", "exiting", "wrong", "chatty", "crashing", "vanishing", "odd"):
            yield HealthCheckSpec(name, f"lab_checks:{name}")
        yield HealthCheckSpec("nowhere", "lab_checks:nowhere")
"""
CHECKS = """
    from hyped_core import HealthResult

    def fine():
        return HealthResult("ok", "all good")

    def absent():
        return HealthResult("missing", "not there", "pip install it")

    def raising():
        raise RuntimeError("driver")

    def exiting():
        raise SystemExit(1)

    def wrong():
        return "ok"

    def chatty():
        import os

        print("loading")
        os.write(1, b"past sys.stdout")
        return HealthResult("ok", "")

    def crashing():
        import ctypes

        ctypes.string_at(0)

    def vanishing():
        import os

        os._exit(0)

    def odd():
        return HealthResult("ok", {"a": "\\x1b[2J"})

    def hanging():
        import time

        time.sleep(1000)
"""


def test_rows_of_a_plugin(tmp_path, capfd):
    make_distribution(tmp_path, "lab", {"lab_plugin": LAB, "lab_checks": CHECKS})
    make_distribution(tmp_path, "ruin", {"ruin_plugin": "1 / 0\n"})
    with isolated_host(tmp_path) as host:
        rows = {row["name"]: row for row in examine(host)}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "fine": "ok",
        "absent": "missing",
        "raising": "broken",
        "exiting": "broken",
        "wrong": "broken",
        "chatty": "ok",
        "crashing": "broken",
        "vanishing": "broken",
        "odd": "ok",
        "nowhere": "broken",
        "plugin ruin": "broken",
    }
    assert "RuntimeError: driver" in rows["raising"]["detail"]
    assert rows["absent"]["mend"] == "pip install it"
    assert "ZeroDivisionError" in rows["plugin ruin"]["detail"]
    assert "pip uninstall ruin" in rows["plugin ruin"]["mend"]
    assert all(row["mend"] for row in rows.values() if row["state"] == "broken")
    for name, reason in (("crashing", "SIGSEGV"), ("vanishing", "exit code 0"), ("exiting", "SystemExit")):
        assert reason in rows[name]["detail"] and "\n" not in rows[name]["detail"]
        assert rows[name]["mend"] == (
            "report it to the authors of lab, or pip uninstall lab, or set HYPED_BLOCK_PLUGINS=lab"
        )
    assert "\x1b" not in json.dumps(rows["odd"]) and "[2J" in rows["odd"]["detail"]
    assert capfd.readouterr().out == ""


def test_a_check_that_hangs_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPED_PROBE_SECONDS", "3")
    text = LAB.replace('"chatty", "crashing", "vanishing", "odd"', '"hanging"').replace('"raising", "exiting", ', "")
    make_distribution(tmp_path, "lab", {"lab_plugin": text, "lab_checks": CHECKS})
    with isolated_host(tmp_path) as host:
        rows = {row["name"]: row for row in examine(host)}
    assert rows["fine"]["state"] == "ok" and rows["absent"]["state"] == "missing"
    assert rows["hanging"]["state"] == "broken"
    assert "longer than the 3 seconds" in rows["hanging"]["detail"]
    assert "HYPED_PROBE_SECONDS" in rows["hanging"]["detail"]
    assert "pip uninstall lab" in rows["hanging"]["mend"]


@pytest.mark.parametrize("check", ["python", "packages", "torch", "chromium", "dvc", "git", "disk", "memory"])
def test_own_checks_give_a_result(check):
    result = getattr(health, check)()
    assert isinstance(result, HealthResult)
    assert result.detail
    assert result.state == "ok" or result.mend


def test_unmet_demands_of_a_distribution(tmp_path, monkeypatch):
    info = make_distribution(tmp_path, "needy", {"needy": ""})
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: needy\nVersion: 1\n"
        "Requires-Dist: click>=999\nRequires-Dist: not-there-at-all\nRequires-Dist: pluggy\n"
        "Requires-Dist: torch; extra == 'gpu'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    first, second = health._unmet("needy")
    assert first.startswith("needy needs click >=999, found")
    assert second == "needy needs not-there-at-all, which is not installed"


def test_command_prints_json_on_stdout_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hyped_core.cli.main", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    rows = json.loads(done.stdout)
    assert {"python", "packages", "git", "disk"} <= {row["name"] for row in rows}
    required = [row for row in rows if row["required"]]
    assert done.returncode == (0 if all(row["state"] != "broken" for row in required) else 5)


def test_a_required_check_decides_the_exit_code(tmp_path, monkeypatch, capsys):
    from hyped_core.cli import doctor, main

    text = LAB.replace('"lab_checks:nowhere")', '"lab_checks:nowhere", required=True)')
    make_distribution(tmp_path, "lab", {"lab_plugin": text, "lab_checks": CHECKS})
    with isolated_host(tmp_path) as host:
        from hyped_core import plugin as own

        monkeypatch.setattr(doctor, "default_host", lambda: host)
        host.register(own, "hyped-core", "hyped-core")
        monkeypatch.setattr(main, "default_host", lambda: host)
        assert main.run(["doctor"]) == 5
    captured = capsys.readouterr()
    assert "to mend:" in captured.out and "nowhere" in captured.err
