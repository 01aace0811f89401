"""``hyped plugins check`` as a command: source folders, names, exit codes, and models that hang or crash."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyped_core.checking.plugin import _needed
from hyped_core.checking.static import all_static
from hyped_core.testing import make_distribution
from hyped_core.testing.broken import BROKEN

_spec = importlib.util.spec_from_file_location("check_folders", Path(__file__).parent / "check_folders.py")
folders = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(folders)

HYPED = [sys.executable, "-m", "hyped_core.cli.main"]
LIMIT = ("--seconds", "8")


def check(*arguments, cwd=None, site=""):
    """The finished command; ``site`` is a folder with further installed packages."""
    done = subprocess.run(
        [*HYPED, "plugins", "check", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300,
        env={**os.environ, "HYPED_PLUGIN_FOLDERS": "", "PYTHONPATH": str(site)},
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
    ("line", "said", "mend"),
    [
        ("while True: pass", "took longer than 8 s", "ModelSpec.quick, or give it more time with --seconds"),
        ("__import__('os')._exit(3)", "exit code 3", "find what ends"),
        ("__import__('ctypes').string_at(0)", "SIGSEGV", "find what ends"),
        ("__import__('os').abort()", "Fatal Python error: Aborted", "find what ends"),
        ("raise SystemExit(3)", "raises SystemExit: 3", "correct that line"),
    ],
)
def test_a_model_that_hangs_or_crashes_is_one_failed_check_with_its_line(tmp_path, line, said, mend):
    folder, name = folders.write_plugin(
        tmp_path, model=("        return stack", f"        {line}\n        return stack")
    )
    done = check(folder, "--json", *LIMIT)
    assert done.returncode == 4
    assert bad(done) == {"runs"}
    found = records(done)["denoise", "runs"]
    assert said in found["reason"] and mend in found["mend"]
    assert "Extension modules" not in found["reason"] and 'File "' not in found["reason"]
    at = folder / "src" / name / "model.py"
    number = 1 + next(i for i, text in enumerate(at.read_text().splitlines()) if line in text)
    silent = "_exit" in line  # leaves nothing behind that could say where
    assert found["where"] == (f"{name}.model:Same" if silent else f"{name}/model.py:{number} in denoise")


@pytest.mark.parametrize(
    ("defect", "teller"),
    [
        ({"model": ("offset: float = 0.0", "offset: float")}, "config"),
        ({"plugin": ('model:Same"', 'model:Smae"')}, "target"),
        ({"model": ("import numpy as np", "import numpy as np\nimport a_library_not_there")}, "libraries_declared"),
    ],
)
def test_what_keeps_a_model_from_being_made_is_told_once(tmp_path, defect, teller):
    folder, _ = folders.write_plugin(tmp_path, **defect)
    done = check(folder, "--json")
    assert bad(done) == {teller}
    found = records(done)
    for name in ("runs", "inputs_unmodified"):
        assert found["denoise", name]["reason"] == f"the model cannot be made: see the check {teller!r}"
    alone = check(folder, "--json", "--only", "runs")
    assert bad(alone) == {"runs"}


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
    assert bad(done) == {"entry_point"}
    found = next(r for r in json.loads(done.stdout)["records"] if r["check"] == "entry_point")
    assert found["where"].partition(":")[0].endswith("/plugin.py")
    assert found["mend"].startswith("take out what")
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


def test_only_runs_what_its_checks_need(tmp_path):
    names = [check.name for check in all_static()]
    assert _needed(names, []) == names
    assert _needed(names, ["licence"]) == ["licence"]
    assert _needed(names, ["runs"]) == ["syntax", "entry_point"]
    assert _needed(names, ["names", "licence"]) == ["licence", "syntax", "entry_point", "names"]
    line = f"open({str(tmp_path / 'imported')!r}, 'w').close()\nfrom hyped_core"
    folder, name = folders.write_plugin(tmp_path, plugin=("from hyped_core", line))
    done = check(folder, "--json", "--only", "licence", "--only", "metadata", "--only", "syntax")
    assert [record["check"] for record in json.loads(done.stdout)["records"]] == ["metadata", "licence", "syntax"]
    assert not (tmp_path / "imported").exists()
    done = check(folder, "--json", "--only", "runs", "--only", "sparse_input")
    assert done.returncode == 0, done.stdout
    assert {key: r["status"] for key, r in records(done).items()} == {
        ("denoise", "runs"): "passed", (name, "sparse_input"): "skipped",
    }  # fmt: skip
    assert "models of expression" in records(done)[name, "sparse_input"]["reason"]


@pytest.mark.parametrize("only", ["runs", "described"])
def test_a_plugin_that_cannot_be_loaded_is_said_whatever_was_asked(tmp_path, only):
    folder, name = folders.write_plugin(tmp_path, plugin=("from hyped_core", "1 / 0\nfrom hyped_core"))
    done = check(folder, "--json", "--only", only)
    assert done.returncode == 4
    assert bad(done) == {"entry_point"}
    assert records(done)[name, "entry_point"]["where"] == f"{name}/plugin.py:2"
    (folder / "src" / name / "plugin.py").write_text("def\n")
    done = check(folder, "--json", "--only", only)
    assert done.returncode == 4
    assert bad(done) == {"syntax"}


def test_a_model_that_nothing_would_find_is_put_to_work_all_the_same(tmp_path):
    folder, name = folders.write_plugin(
        tmp_path,
        pyproject=("entry-points.hyped", "entry-points.hype"),
        model=("        return stack", "        print('here')\n        return stack"),
    )
    done = check(folder, "--json", "--only", "entry_point", "--only", "stdout_silent")
    assert bad(done) == {"entry_point", "stdout_silent"}
    done = check(folder, "--static")
    assert "pyproject.toml:13: project.entry-points.hype\n      HYPED looks for the group 'hyped'" in done.stdout
    assert "      to mend: rename it to [project.entry-points.hyped]\n" in done.stdout
    text = (folder / "pyproject.toml").read_text().partition("[project.entry-points")[0]
    (folder / "pyproject.toml").write_text(text)
    done = check(folder, "--static")
    assert f'      to mend: [project.entry-points.hyped]\n      {name} = "{name}.plugin"\n' in done.stdout


def test_what_is_no_plugin_is_refused_with_what_to_do(tmp_path):
    for arguments in ((tmp_path,), ()):
        done = check(*arguments, cwd=tmp_path)
        assert done.returncode == 4
        assert "pyproject.toml is not there" in done.stderr
        assert "hyped plugins new DIR --task TASK" in done.stderr
    (tmp_path / "pyproject.toml").write_text("[project\n")
    done = check(tmp_path)
    assert done.returncode == 4
    assert "at line 1" in done.stderr
    done = check(tmp_path / "pyproject.toml")
    assert done.returncode == 4
    assert f"hyped plugins check {tmp_path}" in done.stderr


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("hyped-croe", "did you mean hyped-core"),
        ("identity", "did you mean denoise/identity"),
        ("denoise/identty", "did you mean denoise/identity"),
        ("denoise/qqqqqqqqq", "models of denoise: "),
        ("qqqqq/xxxxxxxxx", "tasks with a contract: expression, embedding"),
    ],
)
def test_an_unknown_name_gets_the_closest(tmp_path, named, said):
    done = check(named, cwd=tmp_path)
    assert done.returncode == 4
    assert repr(named) in done.stderr
    assert said in done.stderr


def installed(tmp_path, **changes):
    """A folder with an installed plugin, and the plugin's name."""
    folder, name = folders.write_plugin(tmp_path / "source", **changes)
    modules = {
        f"{name}/{path.name}": path.read_text() for path in sorted((folder / "src" / name).glob("*.py"))
    }
    site = tmp_path / "site"
    make_distribution(site, f"{name}-dist", modules, entry_points={name: f"{name}.plugin"}, requires=["hyped-core<0.2"])
    return site, name


def test_an_installed_plugin_is_checked_by_distribution_plugin_or_model(tmp_path):
    more = "    yield ModelSpec(name='other', task='denoise', target='NAME.model:Same')\n    yield ModelSpec("
    site, name = installed(tmp_path, plugin=("    yield ModelSpec(", more))
    for named in (f"{name}-dist", name):
        done = check(named, "--static", "--json", cwd=tmp_path, site=site)
        found = json.loads(done.stdout)
        assert found["checked"] == f"{name}-dist 1.0"
        assert {r["model"] for r in found["records"]} == {f"{name}-dist", "denoise/other", f"denoise/{name}"}
        assert {(r["check"], r["where"]) for r in found["records"] if r["model"] == "denoise/other" and r["mend"]} >= {
            ("described", f"{name}/plugin.py:6: ModelSpec.summary")
        }
        assert records(done)[f"{name}-dist", "core_requirement"]["where"] == f"METADATA of {name}-dist: Requires-Dist"
    only = ("--only", "described", "--only", "runs", "--only", "inputs_unmodified")
    for named in (f"denoise/{name}", f"{name}-dist:denoise/{name}"):
        done = check(named, "--json", *only, cwd=tmp_path, site=site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {(r["model"], r["check"], r["status"]) for r in json.loads(done.stdout)["records"]} == {
            (f"denoise/{name}", check, "passed") for check in ("described", "runs", "inputs_unmodified")
        }
    done = check(f"denoise/{name}x", cwd=tmp_path, site=site)
    assert f"did you mean denoise/{name}" in done.stderr


def test_a_model_of_a_broken_plugin_names_the_plugin_to_check(tmp_path):
    site, name = installed(tmp_path, plugin=("seeded=False", "seeded=False, api_version=99"))
    done = check(f"denoise/{name}", cwd=tmp_path, site=site)
    assert done.returncode == 4
    assert f"it may be of a broken plugin: hyped plugins check {name}-dist" in done.stderr
    done = check(f"{name}-dist", "--static", cwd=tmp_path, site=site)
    assert f"{name}/plugin.py:6: ModelSpec.api_version" in done.stdout
    assert "api_version=1" in done.stdout
    assert "uninstall" not in done.stdout + done.stderr


def test_an_entry_point_that_is_no_module_leaves_the_rest_working(tmp_path):
    folder, name = folders.write_plugin(tmp_path, pyproject=("NAME.plugin", "my-model.plugin"))
    done = subprocess.run(
        [*HYPED, "plugins", "list"],
        capture_output=True, text=True, env={**os.environ, "HYPED_PLUGIN_FOLDERS": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name in done.stdout and "hyped-core" in done.stdout
    assert bad(check(folder, "--json", "--static")) == {"entry_point"}


def test_a_distribution_that_cannot_be_read_is_said(tmp_path):
    site, name = installed(tmp_path)
    next(site.glob("*.dist-info/entry_points.txt")).write_text("[hyped]\nno value\n")
    done = check(f"{name}-dist", cwd=tmp_path, site=site)
    assert done.returncode == 4
    assert "entry points cannot be read" in done.stderr
    assert "install it anew" in done.stderr


def test_a_model_of_our_own_is_checked_by_name():
    done = check("denoise/identity", "--json", "--only", "runs", "--only", "described", "--only", "frames_kept")
    assert done.returncode == 0, done.stdout
    assert {(model, name) for model, name in records(done)} == {
        ("denoise", "runs"), ("denoise", "described"), ("denoise", "frames_kept"),
    }  # fmt: skip


def test_an_installed_package_is_checked_by_name():
    done = check("hyped-core", "--json", "--only", "metadata", "--only", "entry_point", "--only", "import_light")
    assert done.returncode == 0, done.stdout
    assert {name: r["status"] for (_, name), r in records(done).items()} == {
        "metadata": "passed", "entry_point": "passed", "import_light": "passed",
    }  # fmt: skip
    assert {model for model, _ in records(done)} == {"hyped-core"}


HARM = ("prints", "changes-folder", "takes-signals", "forks", "bad-end")
MORE_HARM = (
    "changes-environment", "raises-warnings", "prints-below", "closes-stdout", "patches-builtins", "reads-stdin",
    "thread", "leaves-process", "interrupt", "empties-path", "sets-alarm", "lowers-limits", "hides-package",
    "silences-logging", "changes-umask",
)  # fmt: skip


@pytest.mark.parametrize("kind", [*HARM, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_HARM)])
def test_what_a_command_refuses_to_import_fails_here_and_is_refused_afterwards(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    BROKEN[kind].install(site)
    name = BROKEN[kind].distribution
    done = check(name, "--static", "--json", cwd=tmp_path, site=site)
    assert done.returncode == 4
    found = records(done)[name, "entry_point"]
    assert found["status"] == "failed" and BROKEN[kind].reason in found["reason"]
    assert found["where"].startswith(BROKEN[kind].module) and found["mend"]
    done = subprocess.run(
        [*HYPED, "plugins", "list", "--json"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    (row,) = [row for row in json.loads(done.stdout) if row["distribution"] == name]
    assert row["state"] == "broken" and BROKEN[kind].reason in row["reason"]


def test_a_process_that_imported_the_plugin_keeps_no_verdict_of_it(tmp_path, monkeypatch):
    from importlib.metadata import EntryPoint

    from hyped_core.plugins.probe import verdicts

    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_before.py").write_text("")
    points = [EntryPoint("lab", "imported_before", "hyped")]
    monkeypatch.setitem(sys.modules, "imported_before", importlib.util)
    assert verdicts(points)[0].harm == "" and not (tmp_path / "cache").exists()
    monkeypatch.delitem(sys.modules, "imported_before")
    assert verdicts(points)[0].harm == "" and len(list((tmp_path / "cache" / "plugins").iterdir())) == 1


@pytest.mark.parametrize("form", ["--json", "--verbose"])
def test_an_interrupt_shows_what_was_found_until_then(tmp_path, form):
    line = "        __import__('time').sleep(1000)\n        return stack"
    folder, name = folders.write_plugin(
        tmp_path, pyproject=('license = "BSD-3-Clause"', ""), model=("        return stack", line)
    )
    process = subprocess.Popen(
        [*HYPED, "plugins", "check", str(folder), form, "--seconds", "100"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HYPED_PLUGIN_FOLDERS": ""},
    )  # fmt: skip
    for said in process.stderr:
        if said.startswith(f"checking denoise/{name}"):
            break
    process.send_signal(signal.SIGTERM)  # which the command takes for an interrupt
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err
    if form == "--json":
        found = json.loads(out)
        told = {record["check"]: record["status"] for record in found["records"]}
        assert found["ok"] is False and told["licence"] == "failed" and told["metadata"] == "passed"
    else:
        assert "project.license" in out and "1 failed" in out


def test_a_check_whose_command_is_killed_ends_too_and_leaves_no_files(tmp_path):
    mark, place = tmp_path / "asked", tmp_path / "tmp"
    line = f"        open({str(mark)!r}, 'w').close(); __import__('time').sleep(1000)\n        return stack"
    folder, _ = folders.write_plugin(tmp_path / "source", model=("        return stack", line))
    place.mkdir()
    process = subprocess.Popen(
        [*HYPED, "plugins", "check", str(folder), "--only", "runs", "--seconds", "100"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip
    while not mark.exists() and process.poll() is None:
        time.sleep(0.05)
    assert list(place.glob("hyped-check-*"))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while list(place.glob("hyped-check-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(place.glob("hyped-check-*"))


def test_strictness_about_an_installed_plugin_does_not_keep_its_source_from_being_checked(tmp_path, monkeypatch):
    folder, name = folders.write_plugin(tmp_path)
    site = tmp_path / "site"
    make_distribution(site, name, {f"{name}_old": "1 / 0\n"}, entry_points={name: f"{name}_old"})
    make_distribution(site, "lab", {"lab_plugin": "1 / 0\n"})
    monkeypatch.setenv("HYPED_STRICT_PLUGINS", "1")
    done = check(folder, "--static", site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    done = check("lab", "--static", "--json", cwd=tmp_path, site=site)
    assert done.returncode == 4 and bad(done) >= {"entry_point"}
    assert "ZeroDivisionError" in records(done)["lab", "entry_point"]["reason"]
