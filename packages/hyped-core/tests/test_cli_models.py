"""hyped models and hyped plugins: what they show of models, clashes, broken plugins, configs and weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from hyped_core.cli import models as models_cli
from hyped_core.cli import plugins as plugins_cli
from hyped_core.errors import HypedError, NameClashError, UnknownNameError, UsageError
from hyped_core.plugins import registry
from hyped_core.testing import isolated_host, make_distribution

PLUGIN = """
    print("a plugin that talks")
    from hyped_core import DatasetSpec, ModelSpec, Needs, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec(
            "ridge", "expression", "{name}_model:Ridge", "{name}_model:Config", summary="Ridge of {name}",
            licence="MIT", citation="Doe 2020", weights="{name}-weights",
        )
        yield ModelSpec("{name}-net", "expression", "{name}_model:Net", role="control",
            needs=Needs(("no_such_lib",), "pip install {name}[net]", gpu=True, memory_gb=12))
        yield ModelSpec("shared", "{task}", "{name}_model:Net")

    @hookimpl
    def hyped_datasets():
        yield DatasetSpec("{name}-weights", "{name}_data:manifest.yaml")
"""
MODEL = """
    print("talks again")
    from hyped_core import Params

    class Config(Params):
        alpha: float = 0.5
        '''Strength of the penalty.'''
        genes: tuple[str, ...] = ("MYOD1",)
        mode: str | None = None

    class Ridge: ...
    class Net: ...
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    for name, task in (("alpha", "track"), ("beta", "denoise")):
        make_distribution(
            tmp_path,
            f"lab-{name}",
            {
                f"{name}_plugin": PLUGIN.format(name=name, task=task),
                f"{name}_model": MODEL,
                f"{name}_data/__init__": "",
            },
        )
        (tmp_path / f"{name}_data/manifest.yaml").write_text(
            yaml.safe_dump(
                {
                    "name": f"{name}-weights",
                    "title": "Weights",
                    "licence": "MIT",
                    "files": [
                        {
                            "path": f"{size}.bin",
                            "bytes": 3,
                            "source": {"kind": "url", "url": "http://127.0.0.1:9/x"},
                        }
                        for size in ("small", "large")
                    ],
                }
            )
        )
    make_distribution(tmp_path, "ruin", {"ruin_plugin": "1 / 0\n"})
    with isolated_host(tmp_path) as host:
        for module in (models_cli, plugins_cli, registry):
            monkeypatch.setattr(module, "default_host", lambda: host)
        yield host


def invoke(command, *arguments):
    result = CliRunner().invoke(command, list(arguments))
    if isinstance(result.exception, HypedError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_list_as_json(host):
    records = json.loads(invoke(models_cli.list_models, "--json").stdout)
    found = {(record["task"], record["name"]): record for record in records}
    assert set(found) == {
        ("denoise", "shared"),
        ("track", "shared"),
        ("expression", "lab-alpha:ridge"),
        ("expression", "lab-beta:ridge"),
        ("expression", "alpha-net"),
        ("expression", "beta-net"),
    }
    net = found["expression", "alpha-net"]
    assert (net["package"], net["version"], net["role"]) == ("lab-alpha", "1.0", "control")
    assert net["installed"] is False and net["missing"] == ["no_such_lib"]
    assert net["needs"] == {
        "modules": ["no_such_lib"], "install": "pip install alpha[net]", "gpu": True, "memory_gb": 12,
    }  # fmt: skip


def test_list_as_columns(host):
    result = invoke(models_cli.list_models, "--task", "expression")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["task", "name", "role", "package", "version", "needs", "installed"]
    assert len(lines) == 5
    assert "no_such_lib, a GPU, 12 GB of memory" in result.stdout
    assert "ruin is broken" in result.stderr and "ruin" not in result.stdout


def test_list_of_an_unknown_or_empty_task(host):
    with pytest.raises(UnknownNameError, match="there is no task called 'trakc'"):
        invoke(models_cli.list_models, "--task", "trakc")
    assert json.loads(invoke(models_cli.list_models, "--task", "segment", "--json").stdout) == []


@pytest.mark.parametrize("name", ["lab-alpha:ridge", "lab-alpha:expression/ridge"])
def test_info_shows_the_config(host, name):
    result = invoke(models_cli.model_info, name)
    for said in (
        "Ridge of alpha",
        "MIT",
        "Doe 2020",
        "alpha",
        "0.5",
        "Strength of the penalty.",
        '["MYOD1"]',
    ):
        assert said in result.stdout
    assert "talks again" not in result.stdout
    record = json.loads(invoke(models_cli.model_info, name, "--json").stdout)
    assert record["schema"]["properties"]["alpha"]["default"] == 0.5
    assert [field["name"] for field in record["fields"]] == ["alpha", "genes", "mode"]


CONFIGS = {
    "sleeps": ("import time\ntime.sleep(600)\n", "hangs"),
    "exits": ("import os\nos._exit(0)\n", "ends the interpreter (exit code 0)"),
    "crashes": ("import ctypes\nctypes.string_at(0)\n", "SIGSEGV"),
    "interrupts": ("raise KeyboardInterrupt\n", "ends the interpreter"),
    "raises": ("1 / 0\n", "ZeroDivisionError"),
    "lacks": ("import a_library_that_is_not_there\n", "pip install a_library_that_is_not_there"),
    "misnamed": ("class Konfig: ...\n", "has no 'Config'"),
    "plain": ("class Config: ...\n", "is not a pydantic model"),
    "shapeless": (
        "from typing import Any, Callable\nfrom hyped_core import Params\n"
        "class Config(Params):\n    key: Callable[[int], Any] = len\n",
        "PydanticInvalidForJsonSchema",
    ),
    "evil": (
        "from pydantic import Field\nfrom hyped_core import Params\ndef make():\n    raise RuntimeError('no default')\n"
        "class Config(Params):\n    key: int = Field(default_factory=make)\n",
        "no default",
    ),
}
TALKS = """
    import os, threading, time
    os.write(1, b"past sys.stdout")
    print("talks")
    threading.Thread(target=time.sleep, args=(600,)).start()
    from hyped_core import Params

    class Config(Params):
        alpha: float = 0.5
    """


@pytest.fixture
def odd_configs(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPED_PROBE_SECONDS", "3")
    lines = "".join(f"    yield ModelSpec('{n}', 'track', 'a:B', '{n}_config:Config')\n" for n in (*CONFIGS, "talks"))
    files = {"odd_plugin": f"from hyped_core import ModelSpec, hookimpl\n@hookimpl\ndef hyped_models():\n{lines}"}
    files |= {f"{name}_config": text for name, (text, _) in CONFIGS.items()}
    make_distribution(tmp_path / "site", "odd", {**files, "talks_config": TALKS})
    with isolated_host(tmp_path / "site") as host:
        for module in (models_cli, plugins_cli, registry):
            monkeypatch.setattr(module, "default_host", lambda: host)
        yield tmp_path


@pytest.mark.parametrize("name", CONFIGS)
def test_info_of_a_model_whose_config_is_broken(odd_configs, name):
    result = invoke(models_cli.model_info, name, "--json")
    record = json.loads(result.stdout)
    assert (record["name"], record["fields"], record["schema"]) == (name, [], None)
    assert "note: its config cannot be shown: " in result.stderr and CONFIGS[name][1] in result.stderr
    assert f"{name}_config" not in sys.modules


def test_a_strangers_config_is_imported_elsewhere_and_what_was_found_is_kept(odd_configs, capfd):
    for state in ("new", "kept", "damaged"):
        record = json.loads(invoke(models_cli.model_info, "talks", "--json").stdout)
        assert [field["default"] for field in record["fields"]] == ["0.5"], state
        assert "talks_config" not in sys.modules and capfd.readouterr().out == ""
        (kept,) = (odd_configs / "cache/plugins").iterdir()
        if state == "new":  # what is there is used: nothing is imported
            kept.write_text(kept.read_text().replace('"0.5"', '"0.7"'))
            shown = json.loads(invoke(models_cli.model_info, "talks", "--json").stdout)
            assert [field["default"] for field in shown["fields"]] == ["0.7"]
            kept.write_text(kept.read_text().replace('"0.7"', '"0.5"'))
        else:
            kept.write_text(json.dumps({**json.loads(kept.read_text()), "found": {"fields": 7}}))
    config = odd_configs / "site/talks_config.py"
    config.write_text(config.read_text().replace("0.5", "0.25"))
    assert '"0.25"' in invoke(models_cli.model_info, "talks", "--json").stdout, "a change is seen"


def test_info_of_a_model_of_hypeds_own_imports_its_config_once(tmp_path, monkeypatch):
    pytest.importorskip("hyped_bench")
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    code = (
        "import sys\nfrom hyped_core.cli.main import run\n"
        "assert run(['models', 'info', sys.argv[1]]) == 0\n"
        "print(sorted({'numba', 'pandas', 'scipy', 'pydantic'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = [
        subprocess.run([sys.executable, "-c", code, "embedding/pca"], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert "pandas" in done[0].stderr and done[1].stderr.strip() == "[]"
    assert done[0].stdout == done[1].stdout and "fit_cells" in done[0].stdout


def test_info_says_how_to_install(host):
    text = invoke(models_cli.model_info, "alpha-net").stdout
    assert "missing no_such_lib" in text and "pip install alpha[net]" in text


def test_info_of_ambiguous_clashing_and_unknown_names(host):
    with pytest.raises(UsageError, match="several tasks") as caught:
        invoke(models_cli.model_info, "shared")
    assert "denoise/shared or track/shared" in caught.value.mend
    with pytest.raises(NameClashError, match="lab-alpha 1.0 and by lab-beta 1.0"):
        invoke(models_cli.model_info, "ridge")
    with pytest.raises(UnknownNameError) as caught:
        invoke(models_cli.model_info, "alpha-nett")
    assert "expression/alpha-net" in caught.value.mend
    with pytest.raises(UnknownNameError):
        invoke(models_cli.model_info, "track/alpha-net")


def test_fetch_by_the_models_manifest(host, tmp_path):
    have = tmp_path / "have"
    have.mkdir()
    (have / "small.bin").write_bytes(b"abc")
    to = tmp_path / "weights"
    arguments = ["lab-alpha:ridge", "--from", str(have), "--to", str(to), "--only", "small*", "--json"]
    result = invoke(models_cli.fetch_model, *arguments)
    assert json.loads(result.stdout)["fetched"] == ["small.bin"]
    assert (to / "small.bin").read_bytes() == b"abc"
    assert "licence  MIT" in result.stderr and "recorded small.bin" in result.stderr
    with pytest.raises(UsageError, match="has no published weights"):
        invoke(models_cli.fetch_model, "alpha-net")


def test_fetch_dry_run_writes_nothing(host, tmp_path):
    to = tmp_path / "weights"
    result = invoke(models_cli.fetch_model, "beta-weights", "--to", str(to), "--dry-run", "--json")
    assert json.loads(result.stdout)["bytes"] == 6
    assert not to.exists()


def test_plugins_list(host):
    rows = {row["name"]: row for row in json.loads(invoke(plugins_cli.list_plugins, "--json").stdout)}
    assert rows["ruin"]["state"] == "broken" and "ZeroDivisionError" in rows["ruin"]["reason"]
    assert "pip uninstall ruin" in rows["ruin"]["mend"]
    assert rows["lab-alpha"]["state"] == "active"
    assert rows["lab-alpha"]["provides"] == {"models": 3, "datasets": 1}
    plain = invoke(plugins_cli.list_plugins, "--verbose")
    assert "to mend: pip uninstall ruin" in plain.stdout
    assert "ruin_plugin.py" in plain.stderr and "Traceback" not in plain.stdout


def test_plugins_lock(host, tmp_path):
    output = tmp_path / "plugins.lock.yaml"
    result = invoke(plugins_cli.lock_plugins, "--output", str(output))
    assert "ruin" in result.stderr and result.stdout == ""
    models = yaml.safe_load(output.read_text())["models"]
    assert set(models["expression"]) == {"lab-alpha:ridge", "lab-beta:ridge", "alpha-net", "beta-net"}
    assert set(models) == {"denoise", "expression", "track"}
    before, stamp = output.read_bytes(), output.stat().st_mtime_ns
    invoke(plugins_cli.lock_plugins, "--output", str(output))
    invoke(plugins_cli.lock_plugins, "--output", str(output), "--check")
    assert (output.read_bytes(), output.stat().st_mtime_ns) == (before, stamp)
    (tmp_path / "alpha_model.py").write_text("class Net: ...\n")
    with pytest.raises(HypedError, match="expression/alpha-net changed") as caught:
        invoke(plugins_cli.lock_plugins, "--output", str(output), "--check")
    assert caught.value.exit_code == 1 and "hyped plugins lock" in caught.value.mend
    assert output.read_bytes() == before
