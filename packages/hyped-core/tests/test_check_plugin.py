"""``hyped plugins check`` as a command: source folders, names, exit codes, and models that hang or crash."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("check_folders", Path(__file__).parent / "check_folders.py")
folders = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(folders)

HYPED = [sys.executable, "-m", "hyped_core.cli.main"]
LIMIT = ("--seconds", "8")


def check(*arguments, cwd=None):
    done = subprocess.run(
        [*HYPED, "plugins", "check", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, "HYPED_PLUGIN_FOLDERS": ""},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def records(done):
    return {(r["model"].partition("/")[0], r["check"]): r for r in json.loads(done.stdout)["records"]}


def bad(done):
    return {name for (_, name), r in records(done).items() if r["status"] in ("failed", "stale")}


def test_a_good_folder_passes_within_a_minute_and_is_the_default(tmp_path):
    folder, name = folders.write_plugin(tmp_path)
    started = time.monotonic()
    done = check("--json", cwd=folder)
    assert time.monotonic() - started < 60
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["checked"] == f"{name} 0.1.0"
    passed = {r["check"] for r in found["records"] if r["status"] == "passed"}
    assert {"metadata", "import_time", "config", "runs", "inputs_unmodified", "seed_repeats"} <= passed
    assert not list(folder.rglob("*.txt"))


def test_problems_of_package_and_model_are_shown_together_with_exit_code_4(tmp_path):
    folder, name = folders.write_plugin(
        tmp_path,
        pyproject=('license = "BSD-3-Clause"', ""),
        model=("        return stack", "        print('here')\n        stack[0, 0, 0] = 0\n        return stack"),
    )
    done = check(folder)
    assert done.returncode == 4
    for said in ("licence", "project.license", "stdout_silent", "inputs_unmodified", "to mend:", f"denoise/{name}"):
        assert said in done.stdout
    assert done.stderr.startswith("checking")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("__import__('time').sleep(1000)", "took longer than 8 s"),
        ("__import__('os')._exit(3)", "exit code 3"),
        ("__import__('ctypes').string_at(0)", "SIGSEGV"),
    ],
)
def test_a_model_that_hangs_or_crashes_is_one_failed_check(tmp_path, line, said):
    folder, _ = folders.write_plugin(tmp_path, model=("        return stack", f"        {line}\n        return stack"))
    done = check(folder, "--json", *LIMIT)
    assert done.returncode == 4
    assert bad(done) == {"runs"}
    assert said in records(done)["denoise", "runs"]["reason"]


def test_a_crash_in_one_check_leaves_the_others_their_turn(tmp_path):
    crash = "        if context.threads == 2: __import__('os')._exit(3)\n        return stack"
    folder, _ = folders.write_plugin(tmp_path, model=("        return stack", crash))
    done = check(folder, "--json", *LIMIT)
    assert bad(done) == {"threads_agree"}
    names = [r["check"] for r in json.loads(done.stdout)["records"] if r["model"].startswith("denoise")]
    after = names[names.index("threads_agree") + 1 :]
    assert {"stdout_silent", "network_unused"} <= set(after)
    assert records(done)["denoise", "stdout_silent"]["status"] == "passed"


@pytest.mark.parametrize("line", ["while True: pass", "__import__('os')._exit(3)"])
def test_a_plugin_module_that_hangs_or_crashes_is_said(tmp_path, line):
    folder, _ = folders.write_plugin(tmp_path, plugin=('"""What the package offers."""', line))
    done = check(folder, "--json", *LIMIT)
    assert done.returncode == 4
    assert {"entry_point"} <= bad(done) <= {"entry_point", "import_time", "import_light"}
    assert records(done)[json.loads(done.stdout)["checked"].split()[0], "licence"]["status"] == "passed"


def test_failures_expected_in_pyproject_are_no_problems_unless_stale(tmp_path):
    table = '[tool.hyped.expected-failures]\n"denoise/NAME" = {stdout_silent = "a library prints", runs = "hangs"}\n'
    folder, name = folders.write_plugin(
        tmp_path,
        pyproject=("[project]\n", f"{table}\n[project]\n"),
        model=("        return stack", "        print('here')\n        return stack"),
    )
    done = check(folder, "--json", "--only", "runs", "--only", "stdout_silent")
    found = records(done)
    assert found["denoise", "stdout_silent"]["status"] == "expected"
    assert "a library prints" in found["denoise", "stdout_silent"]["reason"]
    assert found["denoise", "runs"]["status"] == "stale"
    assert "pyproject.toml" in found["denoise", "runs"]["where"]
    assert done.returncode == 4


def test_the_network_is_closed_to_models(tmp_path):
    line = "        __import__('socket').create_connection(('192.0.2.1', 80), timeout=1)\n        return stack"
    folder, _ = folders.write_plugin(tmp_path, model=("        return stack", line))
    done = check(folder, "--json", "--only", "runs")
    assert "network may not be used" in records(done)["denoise", "runs"]["reason"]


def test_only_and_static_choose_and_unknown_names_are_refused(tmp_path):
    folder, _ = folders.write_plugin(tmp_path)
    done = check(folder, "--json", "--static")
    assert all("denoise" != model or name != "runs" for model, name in records(done))
    done = check(folder, "--only", "seed_repaets")
    assert done.returncode == 4
    assert "seed_repeats" in done.stderr


def test_what_is_no_plugin_is_refused_with_what_to_do(tmp_path):
    done = check(tmp_path)
    assert done.returncode == 4
    assert "pyproject.toml" in done.stderr
    done = check("hyped-croe")
    assert done.returncode == 4
    assert "hyped-core" in done.stderr


def test_an_installed_package_is_checked_by_name():
    done = check("hyped-core", "--json", "--only", "metadata", "--only", "entry_point", "--only", "import_light")
    assert done.returncode == 0, done.stdout
    assert {name: r["status"] for (_, name), r in records(done).items()} == {
        "metadata": "passed", "entry_point": "passed", "import_light": "passed",
    }  # fmt: skip
    assert {model for model, _ in records(done)} == {"hyped-core"}
