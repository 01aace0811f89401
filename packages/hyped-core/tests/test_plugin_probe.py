"""Looks at strangers' plugins: once, kept, made again when something changed, ended at once, and free without any."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path

import pytest

from hyped_core.plugins import probe, probe_process
from hyped_core.plugins.folder import folder_distribution
from hyped_core.plugins.kept import cache_folder, code_beside
from hyped_core.plugins.probe import Limits, Verdict
from hyped_core.testing import isolated_host, make_distribution

COUNTS = """
    import os, sys
    with open({log!r}, "a") as file:
        file.write("here" if os.getpid() == {pid} else "child")
        file.write("\\n")
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("mine", "track", "a:B")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test."""
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """A folder with one plugin, which notes each of its imports and in which process it was."""
    place = tmp_path / "site"
    text = COUNTS.format(log=str(tmp_path / "log"), pid=os.getpid())
    make_distribution(place, "lab", {"lab/plugin": text, "lab/__init__": "", "lab/other": ""},
                      entry_points={"lab": "lab.plugin"})  # fmt: skip
    return place


def imports(folder: Path) -> list[str]:
    """Where the plugin was imported since the last time this was asked."""
    with isolated_host(folder, probe=True) as host:
        assert [item.spec.name for item in host.collect("hyped_models")] == ["mine"]
    log = folder.parent / "log"
    lines = log.read_text().split()
    log.write_text("")
    return lines


def test_one_look_and_then_none_until_something_changes(folder: Path):
    assert imports(folder) == ["child", "here"]
    assert imports(folder) == ["here"]
    (folder / "lab" / "other.py").write_text("A = 1\n")
    assert imports(folder) == ["child", "here"], "any file of the package counts"
    assert imports(folder) == ["here"]
    metadata = folder / "lab-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    assert imports(folder) == ["child", "here"], "a new version counts"


def test_another_limit_is_another_look(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert imports(folder) == ["child", "here"]
    monkeypatch.setenv("HYPED_PROBE_SECONDS", "30")
    assert imports(folder) == ["child", "here"]


def test_data_of_the_package_count_and_what_python_writes_does_not(folder: Path):
    assert imports(folder) == ["child", "here"]
    (folder / "lab" / "tables").mkdir()
    (folder / "lab" / "tables" / "genes.json").write_text("[]")
    assert imports(folder) == ["child", "here"]
    (folder / "lab" / "tables" / "genes.json").write_text('["MYOD1"]')
    assert imports(folder) == ["child", "here"]
    for left_out in (".cache", "__pycache__"):
        (folder / "lab" / left_out).mkdir(exist_ok=True)
        (folder / "lab" / left_out / "x").touch()
    assert imports(folder) == ["here"]


def test_the_plugins_own_variables_count_and_others_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert imports(folder) == ["child", "here"]
    for name in ("LAB_DEVICE", "LAB", "PYTHONPATH"):
        monkeypatch.setenv(name, "/nowhere")
        assert imports(folder) == ["child", "here"], name
    for name in ("LABORATORY", "EDITOR"):
        monkeypatch.setenv(name, "x")
        assert imports(folder) == ["here"], name


def test_code_that_the_distribution_installed_beside_the_package_counts(folder: Path):
    (folder / "lab_helper.py").write_text("A = 1\n")
    (folder / "strange.py").write_text("A = 1\n")
    record = folder / "lab-1.0.dist-info" / "RECORD"
    record.write_text("lab/plugin.py,sha256=x,9\nlab_helper.py,sha256=x,6\nlab/__pycache__/plugin.pyc,,\ngone.py,,\n")
    assert imports(folder) == ["child", "here"]
    (folder / "lab_helper.py").write_text("import os\nos.abort()\n")
    assert imports(folder) == ["child", "here"]
    (folder / "strange.py").write_text("import os\nos.abort()\n")
    assert imports(folder) == ["here"]


def test_code_beside_the_package_in_a_source_folder_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, site = tmp_path / "src", tmp_path / "site"
    for place in ("lab/plugin.py", "helper.py", "helpers/deep/fast.so", "helpers/__init__.py", "helpers/table.csv",
                  "data/frames/one.py", "notes.txt"):  # fmt: skip
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).touch()
    make_distribution(site, "lab", {"__editable___lab_finder": ""}, entry_points={"lab": "lab.plugin"})
    text = '[project]\nname = "lab"\nversion = "1.0"\n[project.entry-points.hyped]\nlab = "lab.plugin"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.syspath_prepend(source)
    (editable,) = distributions(path=[str(site)])
    for distribution in (editable, folder_distribution(tmp_path)):
        found = {Path(path).relative_to(source).as_posix() for path, _, _ in code_beside("lab.plugin", distribution)}
        assert found - {"lab/plugin.py"} == {"helper.py", "helpers/__init__.py", "helpers/deep/fast.so"}


def test_a_verdict_of_harm_is_made_again_after_a_day_and_a_good_one_is_not(folder: Path, cache: Path):
    text = f"import os\nif os.path.exists({str(folder / 'busy')!r}):\n    os.abort()\n"
    make_distribution(folder, "abc", {"abc_plugin": text})
    (folder / "busy").touch()

    def state() -> str:
        with isolated_host(folder, probe=True) as host:
            host.check()
            return host.record("abc").state

    assert state() == "broken"
    (folder / "busy").unlink()
    (folder.parent / "log").write_text("")
    for hours, found in ((23, "broken"), (25, "active")):
        for file in (cache / "plugins").iterdir():
            os.utime(file, (time.time() - hours * 3600,) * 2)
        assert state() == found, hours
    assert set((folder.parent / "log").read_text().split()) == {"here"}, "the other was not looked at again"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"stamp": 1}', b'{"found": {"harm": 7}}', "other", "kinds"]
)
def test_a_damaged_verdict_is_made_again(folder: Path, cache: Path, content: bytes | str):
    imports(folder)
    (kept,) = (cache / "plugins").iterdir()
    if isinstance(content, bytes):
        kept.write_bytes(content)
    else:
        verdict = json.loads(kept.read_text())
        verdict["found"] |= {"other": {"unknown": 1}, "kinds": {"harm": ["a list"]}}[content]
        kept.write_text(json.dumps(verdict))
    assert imports(folder) == ["child", "here"]
    assert imports(folder) == ["here"]


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path, cache: Path):
    cache.write_text("a file where the folder should be")
    assert imports(folder) == ["child", "here"]
    assert imports(folder) == ["child", "here"]
    assert cache.read_text() == "a file where the folder should be"


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.setenv("HYPED_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "hyped"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "hyped"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # of nobody that the system knows, as in some containers
    with pytest.raises(OSError, match="hyped"):
        cache_folder().mkdir(parents=True)


@pytest.mark.parametrize("value", ["", "none", "-1", "0", "nan", "inf"])
def test_limits_that_are_none_are_the_usual_ones(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("HYPED_PROBE_SECONDS", value)
    monkeypatch.setenv("HYPED_PROBE_GB", value)
    assert Limits.from_environment() == Limits(20, 2)
    monkeypatch.setenv("HYPED_PROBE_SECONDS", "2.5")
    assert Limits.from_environment() == Limits(2.5, 2)


def test_looks_that_wait_hold_up_no_other(monkeypatch: pytest.MonkeyPatch):
    """Where many hang, they do so side by side; how many go on at all is bounded."""
    monkeypatch.setattr(probe, "YOUNG_S", 0.05)
    running: list[object] = []
    most: list[int] = []

    class Hangs:
        def __init__(self, point: object, limits: Limits) -> None:
            self.started = time.monotonic()
            running.append(self)
            most.append(len(running))

        @property
        def age_s(self) -> float:
            return time.monotonic() - self.started

        def look(self) -> Verdict | None:
            return Verdict("hangs") if self.age_s > 2.0 else None

        def end(self) -> None:
            running.remove(self)

    monkeypatch.setattr(probe_process, "Child", Hangs)
    points = list(entry_points(group="hyped"))
    for count, together in ((5, 5), (20, probe.MOST_AT_ONCE)):
        most.clear()
        found = probe.look([points[0]] * count, Limits())
        assert [verdict.harm for verdict in found] == ["hangs"] * count
        assert max(most) == together and running == []


@pytest.mark.slow
def test_five_plugins_that_hang_take_hardly_longer_than_one(tmp_path: Path, cache: Path):
    for i in range(5):
        text = f"import time\nopen({str(tmp_path / 'log')!r}, 'a').write(f'{{time.time()}} ')\ntime.sleep(600)\n"
        make_distribution(tmp_path / "site", f"hangs-{i}", {f"hangs{i}_plugin": text})
    process = hyped(tmp_path / "site", "plugins", "list", "--json", HYPED_PROBE_SECONDS="12")
    rows = json.loads(process.communicate(timeout=120)[0])
    assert [row["reason"][:5] for row in rows if row["name"].startswith("hangs")] == ["hangs"] * 5
    began = [float(text) for text in (tmp_path / "log").read_text().split()]
    assert len(began) == 5 and max(began) - min(began) < 12, "the last began before the first was ended"


def test_old_verdicts_go(folder: Path, cache: Path):
    (cache / "plugins").mkdir(parents=True)
    for name, days in (("old.json", 100), ("young.json", 10)):
        file = cache / "plugins" / name
        file.write_text("{}")
        os.utime(file, (time.time() - days * 86400,) * 2)
    imports(folder)
    names = {file.name for file in (cache / "plugins").iterdir()}
    assert "young.json" in names and "old.json" not in names and len(names) == 2


def hyped(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    heed += "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    code = f"{heed}runpy.run_module('hyped_core.cli.main', None, '__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_at_once_do_not_trip_over_one_another(folder: Path, cache: Path):
    running = [hyped(folder, "models", "list", "--json") for _ in range(4)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "mine" in {row["name"] for row in json.loads(out)}, err
    files = list((cache / "plugins").iterdir())
    assert len(files) == 1 and json.loads(files[0].read_text())["found"]["harm"] == ""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_a_look_at_once(tmp_path: Path, cache: Path, sent: signal.Signals):
    started = tmp_path / "started"
    text = f"import os, time\nopen({str(started)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    make_distribution(tmp_path / "site", "sleeper", {"sleeper_plugin": text})
    process = hyped(tmp_path / "site", "models", "list", HYPED_PROBE_SECONDS="500")
    deadline = time.monotonic() + 60
    while not (started.is_file() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in err and out == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert not (cache / "plugins").exists(), "what was not seen to its end is not kept"


def test_a_long_look_is_said_once(tmp_path: Path, cache: Path):
    make_distribution(tmp_path / "site", "slowly", {"slowly_plugin": "import time\ntime.sleep(1.5)\n"})
    said = []
    for _ in range(2):
        process = hyped(tmp_path / "site", "models", "list", "--json")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and json.loads(out)
        said.append(err)
    assert said[0].count("looking at plugins of others, each in a process of its own: slowly") == 1
    assert "looking at" not in said[1]


def test_without_strangers_it_costs_nothing():
    code = (
        "import sys\nfrom importlib.metadata import entry_points\nfrom hyped_core.plugins.host import PluginHost\n"
        "points = [p for p in entry_points(group='hyped') if p.name.startswith('hyped-')]\n"
        "host = PluginHost(points, block=(), probe=True)\nassert host.check() and not host.broken\n"
        "print(sorted({'subprocess', 'packaging', 'hyped_core.plugins.probe_process', 'tomllib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert {point.dist.name for point in entry_points(group="hyped") if point.name.startswith("hyped-")}


def test_a_model_is_listed_soon_once_it_was_looked_at(folder: Path):
    hyped(folder, "models", "list").communicate(timeout=120)
    best = min(_seconds(folder) for _ in range(5))
    assert best < 0.5, "seconds of CPU for a listing beside a stranger"


def _seconds(folder: Path) -> float:
    before = os.times()
    hyped(folder, "models", "list").communicate(timeout=120)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_what_ends_the_interpreter_is_never_imported_here(tmp_path: Path, cache: Path):
    log = tmp_path / "log"
    text = f"import os\nopen({str(log)!r}, 'a').write(f'{{os.getpid()}} ')\nos._exit(0)\n"
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": text})
    for _ in range(2):
        with isolated_host(tmp_path / "site", probe=True) as host:
            (record,) = host.check()
            assert record.state == "broken" and "ends the interpreter" in record.reason
    assert len(log.read_text().split()) == 1 and str(os.getpid()) not in log.read_text()


def test_an_interrupt_that_a_plugin_raises_is_its_fault(tmp_path: Path, cache: Path):
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": "raise KeyboardInterrupt\n"})
    with isolated_host(tmp_path / "site", probe=True) as host:
        assert "KeyboardInterrupt" in host.record("lab").reason


def test_a_fault_of_the_ordinary_kind_is_told_as_it_is_now(tmp_path: Path, cache: Path):
    """A module that was missing and is there now needs no change of the plugin."""
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": "import a_library_to_come\n"})
    with isolated_host(tmp_path / "site", probe=True) as host:
        assert "a_library_to_come" in host.record("lab").reason
    (tmp_path / "site" / "a_library_to_come.py").write_text("")
    with isolated_host(tmp_path / "site", probe=True) as host:
        assert host.record("lab").state == "active"


def test_the_trace_of_a_crash_is_kept(tmp_path: Path, cache: Path):
    text = "import ctypes\ndef fall():\n    ctypes.string_at(0)\nfall()\n"
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": text})
    for _ in range(2):
        with isolated_host(tmp_path / "site", probe=True) as host:
            assert "SIGSEGV" in host.record("lab").reason
            assert "hyped plugins list --again" in host.record("lab").mend
            assert "lab_plugin.py" in host.record("lab").traceback and "fall" in host.record("lab").traceback


def test_it_is_looked_at_again_where_that_is_asked_for(tmp_path: Path, cache: Path):
    text = f"import os\nif os.path.exists({str(tmp_path / 'x')!r}):\n    os.abort()\n"
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": text})
    (tmp_path / "x").touch()

    def state(*more: str) -> str:
        out, err = hyped(tmp_path / "site", "plugins", "list", "--json", *more).communicate(timeout=120)
        return {row["name"]: row["state"] for row in json.loads(out)}["lab"]

    assert state() == "broken"
    (tmp_path / "x").unlink()
    assert state() == "broken", "what was found is kept while the plugin is as it was"
    assert state("--again") == "active"
    assert state() == "active"


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--json"),
        ("list", "--json", "--again"),
        ("new", "{}", "--task", "track", "--dry-run"),
        ("check", "nobody"),
    ],
)
def test_commands_on_plugins_work_beside_one_that_only_now_crashes(tmp_path: Path, cache: Path, words: tuple[str, ...]):
    """What it crashes on (a variable of others) is nothing that the verdict kept of it was made for."""
    text = "import os\nif os.environ.get('A_DEVICE') == '9':\n    os.abort()\n"
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": text})

    def run(*arguments: str, device: str = "9") -> tuple[str, str, int]:
        process = hyped(tmp_path / "site", *arguments, A_DEVICE=device)
        return *process.communicate(timeout=120), process.returncode

    assert run("models", "list", device="1")[2] == 0
    _, said, code = run("models", "list")
    assert code == -signal.SIGABRT and str(tmp_path / "site" / "lab_plugin.py") in said, "its place is shown"
    out, said, code = run("plugins", *(word.format(tmp_path / "mine") for word in words))
    assert code == (4 if words[0] == "check" else 0), said
    if words[0] == "list":
        assert {row["name"]: row["state"] for row in json.loads(out)}["lab"] == "broken"
    assert run("models", "list")[2] == 0, "what was found holds for all commands"


DETACHED = "subprocess.Popen(['/bin/sh', '-c', 'echo $$ > {pid}; exec sleep 600'], env={{}}, start_new_session=True)"
FORKED = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "echo $$ > {pid}; exec sleep 600"], {{}})
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere it cannot be told whose it is")
@pytest.mark.parametrize("way", [DETACHED, FORKED])
def test_a_process_that_shed_its_environment_is_found_and_ended(tmp_path: Path, cache: Path, way: str):
    code = "import os, subprocess, time\n" + way.format(pid=tmp_path / "pid") + "\ntime.sleep(0.3)\n"
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": code})
    with isolated_host(tmp_path / "site", probe=True) as host:
        assert host.record("lab").reason == "leaves a process running"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "code",
    [
        "import warnings\nwarnings.simplefilter('ignore')\nwarnings.filterwarnings('error', message='mine')",
        "import warnings\nclass Mine(UserWarning): pass\nwarnings.simplefilter('error', Mine)",
        "import numpy\nnumpy.seterr(all='ignore')\nnumpy.random.seed(1)",
        "import tempfile\ntempfile.gettempdir()",
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'exit'], env={})",
        "import multiprocessing\nlock = multiprocessing.get_context('spawn').Lock()",
        "import logging\nlogging.getLogger('lab').setLevel('ERROR')",
    ],
)
def test_what_libraries_do_is_no_harm(tmp_path: Path, cache: Path, code: str):
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": f"{code}\n"})
    with isolated_host(tmp_path / "site", probe=True) as host:
        assert host.record("lab").state == "active", host.record("lab").reason


def test_warnings_that_the_user_made_errors_are_no_fault_of_a_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error::UserWarning")
    assert imports(folder) == ["child", "here"]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "scanpy", "spatialdata", "laptrack", "btrack", "skimage", "numba"])
def test_a_library_imported_by_a_plugin_is_no_harm(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, library: str
):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("HYPED_PROBE_SECONDS", "120")
    monkeypatch.setenv("HYPED_PROBE_GB", "6")
    make_distribution(tmp_path / "site", "lab", {"lab_plugin": f"import {library}\n"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    (verdict,) = probe.verdicts([EntryPoint("lab", "lab_plugin", "hyped")])
    assert verdict.harm == ""
