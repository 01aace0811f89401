"""Child processes that answer in lines: heard to the end, and ended with everything that came of them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from hyped_core.remote.watched import WatchedProcess


@pytest.fixture
def start():
    """Starts Python code as a watched child."""
    started = []

    def go(code: str, **more) -> WatchedProcess:
        folder = Path(tempfile.mkdtemp(prefix="hyped-test-"))
        started.append(WatchedProcess([sys.executable, "-c", code], folder, tail=3, **more))
        return started[-1]

    yield go
    for one in started:
        one.close()


def lines(child: WatchedProcess, seconds: float = 30) -> list[bytes]:
    found, deadline = [], time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if (text := child.read(0.1)) is not None:
                found.append(text)
    except EOFError:
        return found
    raise AssertionError(f"no end after {found}")


def test_lines_go_both_ways_and_the_last_of_stderr_is_kept(start):
    heard = []
    code = (
        "import sys, os\n"
        "print('cwd', os.getcwd())\n"
        "for text in sys.stdin: print('got', text.strip())\n"
        "for i in range(5): print('word', i, file=sys.stderr)\n"
        "sys.exit(7)"
    )
    child = start(code, relay=heard.append)
    child.write(b"one\n")
    child.write(b"two\n", last=True)
    assert lines(child) == [f"cwd {child.folder}/work\n".encode(), b"got one\n", b"got two\n"]
    assert child.fate() == "its process ended with exit code 7"
    assert child.last_words() == ["word 2", "word 3", "word 4"] and len(heard) == 5
    child.close()
    assert not child.folder.exists()


def test_how_it_ended_by_a_signal(start):
    child = start("import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    assert lines(child) == [b"x\n"]
    assert child.fate() == "its process was killed by signal SIGKILL (the system does so when memory runs out)"
    child = start("import os; os.close(1); import time; time.sleep(60)")
    with pytest.raises(EOFError):
        while True:
            child.read(5)
    os.kill(child.pid, signal.SIGSEGV)
    assert child.fate() == "its process was killed by signal SIGSEGV"


def test_children_that_hold_the_pipe_or_took_a_mark_of_their_own_go_with_it(start, gone):
    inner = (
        "import sys; from pathlib import Path\n"
        "from hyped_core.remote.watched import WatchedProcess\n"
        "code = 'import os, time; os.setsid() if os.getsid(0) != os.getpid() else 0; time.sleep(300)'\n"
        "child = WatchedProcess([sys.executable, '-c', code], Path.cwd(), tail=1)\n"
        "import os\n"
        "if not os.fork():\n"
        "    os.setsid(); import time; time.sleep(300)\n"
        "print(child.pid, flush=True); os._exit(0)"
    )
    child = start(inner)
    started = time.monotonic()
    [said] = lines(child)  # though a fork holds stdout
    assert time.monotonic() - started < 25 and child.fate() == "its process ended with exit code 0"
    deadline = time.monotonic() + 10
    while child.look()[0] < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.look()[0] == 2, "the fork, and the one that another watches"
    child.close()
    assert gone(int(said))


@pytest.mark.parametrize("adopts", [True, False])
def test_one_let_go_with_nothing_to_tell_it_by_does_not_hold_up_the_end(start, gone, adopts):
    code = (
        f"from hyped_core.remote.memory import adopt; {'adopt()' if adopts else ''}\n"
        "import subprocess, sys, time\n"
        "inner = 'import subprocess; s = subprocess.Popen([\"sleep\", \"300\"], env={}, start_new_session=True); '\n"
        "inner += 'print(s.pid)'\n"
        "subprocess.run([sys.executable, '-c', inner], env={}, start_new_session=True)\n"
        "print('there', flush=True); time.sleep(300)"
    )
    child = start(code)
    pid = int(child.read(60))
    assert child.read(60) == b"there\n"
    ends = threading.Thread(target=child.close, daemon=True)  # stdout and stderr are held open by the one let go
    ends.start()
    ends.join(timeout=60)
    try:
        assert not ends.is_alive() and not child.folder.exists()
        assert not adopts or gone(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_memory_past_a_bound_counts_shared_pages_once(start):
    code = (
        "import os, time\n"
        "held = bytearray(b'x') * 100_000_000\n"
        "for _ in range(3):\n"
        "    if not os.fork():\n"
        "        time.sleep(60)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    child = start(code)
    while child.read(1) is None:
        pass
    time.sleep(0.1)
    count, apart = child.look()
    child._look_due = 0.0
    assert count == 4 and apart > 380
    assert 90 < child.look(300.0)[1] < 250


def test_a_command_that_is_not_there_leaves_no_folder(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises(OSError):
        WatchedProcess([str(tmp_path / "nothing")], folder, tail=1)
    assert not folder.exists()


def test_a_check_that_takes_its_process_along_leaves_no_files(tmp_path):
    spec = importlib.util.spec_from_file_location("check_folders", Path(__file__).parent / "check_folders.py")
    folders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(folders)
    line = "__import__('tempfile').mkstemp(); __import__('os')._exit(3)"
    folder, _ = folders.write_plugin(tmp_path, model=("        return stack", f"        {line}\n        return stack"))
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "hyped_core.cli.main", "plugins", "check", str(folder), "--only", "runs"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HYPED_PLUGIN_FOLDERS": ""},
    )
    assert done.returncode == 4 and "exit code 3" in done.stdout, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
