"""The command line: exit codes, stdout is data, help and listing import nothing heavy, clashes are said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from hyped_core import errors
from hyped_core.cli import main as cli
from hyped_core.testing import isolated_host, make_distribution

HEAVY = (
    "torch scanpy spatialdata anndata zarr pandas cv2 skimage numba scipy mudata dask matplotlib "
    "pylibCZIrw _pylibCZI_pybind aicspylibczi btrack h5py numpy"
).split()


def hyped(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "hyped_core.cli.main", *arguments], capture_output=True, text=True, **options
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models", "list"],
        ["models", "list", "--json"],
        ["plugins", "list"],
        ["data", "--help"],
        ["-h"],
    ],
)
def test_listing_imports_nothing_heavy(arguments):
    code = (
        "import sys, json\nfrom hyped_core.cli.main import run\n"
        f"code = run({arguments!r})\n"
        f"print(json.dumps([code, sorted(set({HEAVY!r}) & set(sys.modules))]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    status, loaded = json.loads(done.stderr.splitlines()[-1])
    assert status == 0 and loaded == []
    assert done.stdout


def test_every_command_has_help():
    """Each registered command imports, and its --help says what it does; the record's help is one line."""
    from hyped_core.plugins.host import default_host

    for item in default_host().collect("hyped_commands"):
        assert item.spec.help and "\n" not in item.spec.help, item.spec.path
        if item.plugin.distribution == "hyped-core":
            done = hyped(*item.spec.path, "--help")
            assert done.returncode == 0 and done.stdout.startswith("Usage:"), (item.spec.path, done.stderr)


def error_classes():
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.HypedError)
    ]


PLUGIN = """
    from hyped_core import CommandSpec, ModelSpec, hookimpl

    @hookimpl
    def hyped_commands():
        for path, target in {commands!r}.items():
            yield CommandSpec(tuple(path.split()), target, "what it does")
"""


@pytest.fixture
def run_with(tmp_path, monkeypatch):
    """Run `hyped` with the core's commands and those of plugins written here: name -> {path: target}."""
    from contextlib import ExitStack

    from hyped_core import plugin as own

    stack = ExitStack()

    def runner(arguments, **plugins):
        for name, commands in plugins.items():
            make_distribution(tmp_path, name, {f"{name}_plugin": PLUGIN.format(commands=commands)})
        host = stack.enter_context(isolated_host(tmp_path))
        host.register(own, "hyped-core", "hyped-core", "0.1.0")
        monkeypatch.setattr(cli, "default_host", lambda: host)
        return cli.run(arguments)

    with stack:
        yield runner


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_exit_code_of_each_error(run_with, tmp_path, capsys, error):
    made = (
        f"errors.{error.__name__}('it is bad', [])"
        if error is errors.ValidationError
        else (f"errors.{error.__name__}('it is bad', where='file.czi', mend='mend it')")
    )
    (tmp_path / "raising_commands.py").write_text(
        f"import click\nfrom hyped_core import errors\n@click.command()\ndef fail():\n    raise {made}\n"
    )
    assert run_with(["lab", "fail"], raising={"lab fail": "raising_commands:fail"}) == error.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "it is bad" in captured.err


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise click.UsageError('not so')", 2, "not so"),
        ("raise click.ClickException('no')", 2, "no"),
        ("raise KeyboardInterrupt", 130, "outputs that were finished stand whole"),
        ("raise click.Abort", 130, "interrupted"),
        ("raise FileNotFoundError(2, 'No such file', 'x.czi')", 3, "x.czi"),
        ("raise PermissionError(13, 'Permission denied', '.x.csv.5bce98-6-21640b0f.part')", 5, "error: x.csv: the"),
        ("raise OSError(28, 'No space left on device')", 5, "free space on the disk"),
        ("raise NotADirectoryError(20, 'Not a directory', 'afile/x.json')", 5, "afile/x.json: a file is where"),
        ("raise OSError(5, 'Input/output error', 'x.czi')", 1, "HYPED_DEBUG"),
        ("raise MemoryError", 5, "memory"),
        ("open('/no/such/file')", 3, "/no/such/file"),
        ("click.get_current_context().exit(6)", 6, ""),
        ("return None", 0, ""),
    ],
)
def test_exit_code_of_what_else_may_happen(run_with, tmp_path, capsys, body, code, said):
    (tmp_path / "odd_commands.py").write_text(f"import click\n@click.command()\ndef odd():\n    {body}\n")
    assert run_with(["odd"], odd={"odd": "odd_commands:odd"}) == code
    assert said in capsys.readouterr().err


def test_a_path_option_that_does_not_exist_is_bad_data(run_with, tmp_path, capsys):
    (tmp_path / "path_commands.py").write_text(
        "import click\n@click.command()\n@click.argument('file', type=click.Path(exists=True))\n"
        "@click.option('--n', type=int)\ndef read(file, n):\n    pass\n"
    )
    commands = {"read": "path_commands:read"}
    assert run_with(["read", str(tmp_path / "none.czi")], reader=commands) == 3
    assert "none.czi" in capsys.readouterr().err
    assert run_with(["read"]) == 2, "a path that was not given is a wrong call"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modles"], "Did you mean models?"),
        (["models", "lst"], "Did you mean list?"),
        (["zzz"], "hyped --help"),
        (["models", "list", "--jsn"], "--jsn"),
        (["models", "info"], "NAME"),
        (["models", "list", "extra"], "extra"),
        (["--no-such-option"], "--no-such-option"),
        (["models"], "Usage"),
    ],
)
def test_usage_errors(run_with, capsys, arguments, said):
    assert run_with(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""


def test_version(run_with, capsys):
    from hyped_core import __version__

    assert run_with(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_clashing_commands_name_both_and_leave_the_rest(run_with, capsys, tmp_path):
    (tmp_path / "some_commands.py").write_text(
        "import click\n@click.command()\ndef ok():\n    click.echo('done')\n"
    )
    plugins = {
        "alpha": {"lab convert": "some_commands:ok"},
        "beta": {"lab convert": "some_commands:ok", "lab other": "some_commands:ok"},
    }
    assert run_with(["lab", "convert"], **plugins) == 4
    err = capsys.readouterr().err
    assert "alpha 1.0" in err and "beta 1.0" in err and "HYPED_BLOCK_PLUGINS" in err
    assert run_with(["lab", "other"]) == 0
    assert capsys.readouterr().out == "done\n"


def test_own_commands_and_groups_cannot_be_taken_over(run_with, capsys):
    thief = {"models list": "x:y", "models": "x:y", "plugins": "x:y"}
    assert run_with(["models", "list"], thief=thief) == 0
    capsys.readouterr()
    host = cli.default_host()
    record = host.record("thief")
    assert record.state == "broken"
    assert "'models list' belongs to hyped-core" in record.reason
    assert "'plugins' is a group" in record.reason


@pytest.mark.parametrize("target", ["no_such_module:x", "json:dumps", "json:nothing"])
def test_a_command_that_is_none_is_a_plugin_error(run_with, capsys, target):
    assert run_with(["lab"], lab={"lab": target}) == 4
    assert target.partition(":")[0] in capsys.readouterr().err


def test_errors_of_the_real_command_end_in_its_exit_code(tmp_path):
    done = hyped("models", "info", "no-such-model")
    assert done.returncode == 4 and "no-such-model" in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    done = hyped("data", "fetch", "hyped", cwd=tmp_path)
    assert done.returncode == 2 and "--handle" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupting_leaves_nothing_half_written(tmp_path, sent):
    text = (
        "import time, click\nfrom hyped_core.io.atomic import atomic_path\n@click.command()\ndef slow():\n"
        "    with atomic_path('out.bin') as temporary:\n        temporary.write_bytes(b'half')\n"
        "        click.echo('ready')\n        time.sleep(60)\n"
    )
    plugin = PLUGIN.format(commands={"slow": "slow_commands:slow"})
    make_distribution(tmp_path, "slow", {"slow_plugin": plugin, "slow_commands": text})
    (tmp_path / "work").mkdir()
    # a shell's background job ignores interrupts, and nohup the terminal that closes
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    heed += "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    code = f"{heed} runpy.run_module('hyped_core.cli.main', None, '__main__')"
    running = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "slow"],
        cwd=tmp_path / "work",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "ready\n"
    assert len(list((tmp_path / "work").iterdir())) == 1
    running.send_signal(sent)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130 and "interrupted" in said
    assert "kept" not in said, "not every command goes on where it was"
    assert list((tmp_path / "work").iterdir()) == []


def test_under_nohup_a_terminal_that_closes_ends_nothing():
    code = (
        "import signal; from hyped_core.cli import main; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "main.run = lambda arguments: int(signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)\nmain.main(['doctor'])"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_groups_are_described():
    help_text = hyped("--help").stdout
    assert "Datasets and containers" in help_text and "doctor" in help_text
    assert isinstance(cli.root(), click.Group)


def test_a_group_of_a_package_that_is_not_installed_names_the_package(monkeypatch, capsys):
    from importlib.metadata import entry_points

    from hyped_core.plugins.host import PluginHost

    host = PluginHost([point for point in entry_points(group="hyped") if point.name == "hyped-core"])
    monkeypatch.setattr(cli, "default_host", lambda: host)
    assert cli.run(["seq", "ingest"]) == 2
    assert "hyped-seq" in capsys.readouterr().err
