"""The pytest kit: checks as parametrised tests, suites of three lines, and fixtures, as an author has them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from hyped_core.errors import PluginError
from hyped_core.params import Params
from hyped_core.testing.kit import config_of, parametrize_model_checks, resolve

MODEL = """
    import numpy as np
    from hyped_core import Params

    class ShiftConfig(Params):
        by: float = 0.0

    class Shift:
        def __init__(self, config: ShiftConfig):
            self.by = config.by

        def denoise(self, stack, meta, *, context):
            return stack.astype(np.float32) + np.float32(self.by)

    class Loud:
        def denoise(self, stack, meta, *, context):
            print("denoising")
            return stack.astype(np.float32)
"""


def run(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An author's tests of a model, with nothing of this repository's configuration."""
    (folder / "author_model.py").write_text(dedent(MODEL))
    (folder / "test_author.py").write_text(dedent(test))
    plugin = "hyped_core.testing.pytest_plugin"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", plugin, "-rA", "-q"]
    return subprocess.run(
        [*command, *arguments, "test_author.py"],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder)},
    )  # fmt: skip


def test_a_check_is_a_test_and_its_failure_says_what_and_why(tmp_path):
    test = """
        from hyped_core.testing import parametrize_model_checks

        @parametrize_model_checks(["author_model:Shift", "author_model:Loud"], task="denoise")
        def test_contract(model_check):
            model_check()
    """
    done = run(tmp_path, test, "-k", "stdout_silent or inputs_unmodified")
    assert "PASSED test_author.py::test_contract[denoise/shift-inputs_unmodified]" in done.stdout
    assert "PASSED test_author.py::test_contract[denoise/shift-stdout_silent]" in done.stdout
    assert "FAILED test_author.py::test_contract[denoise/loud-stdout_silent]" in done.stdout
    assert "printed to stdout: 'denoising" in done.stdout
    assert "why it matters:" in done.stdout
    assert done.returncode == 1


def test_expected_failures_are_expected_and_fail_when_stale(tmp_path):
    test = """
        from hyped_core.testing import parametrize_model_checks

        @parametrize_model_checks(
            ["author_model:Loud"], task="denoise", only=["stdout_silent", "runs"],
            expected_failures={"denoise/loud": {"stdout_silent": "a library prints", "runs": "it hangs"}},
        )
        def test_contract(model_check):
            model_check()
    """
    done = run(tmp_path, test)
    assert "1 xfailed" in done.stdout
    assert "a library prints" in done.stdout
    assert "[XPASS(strict)] it hangs" in done.stdout
    assert done.returncode == 1


def test_a_suite_is_three_lines_and_its_tests_can_be_replaced(tmp_path):
    test = """
        import pytest
        from hyped_core.testing import DenoiserSuite

        class TestShift(DenoiserSuite):
            model = "author_model:Shift"

        class TestLoud(DenoiserSuite):
            expected_failures = {"stdout_silent": "a library prints", "runs": "it hangs"}

            @pytest.fixture
            def model(self):
                return "author_model:Loud"

            def test_seed_repeats(self):
                pytest.skip("looked at elsewhere")

        class TestShifted(DenoiserSuite):
            model = "author_model:Shift"
            config = {"by": 500.0}
    """
    done = run(tmp_path, test, "-k", "stdout_silent or test_runs or seed_repeats or camera_units")
    said = done.stdout
    assert "PASSED test_author.py::TestShift::test_stdout_silent" in said
    assert "PASSED test_author.py::TestShift::test_camera_units" in said
    assert "FAILED test_author.py::TestShifted::test_camera_units" in said
    assert "XFAIL test_author.py::TestLoud::test_stdout_silent" in said
    assert "FAILED test_author.py::TestLoud::test_runs" in said
    assert "looked at elsewhere" in said


def test_fixtures_give_data_with_truth_and_a_host_of_ones_own(tmp_path):
    test = """
        import sys

        def test_data(tiny_movie, tiny_perturbseq, tiny_hashtags):
            assert tiny_movie.labels.ndim == 3
            assert len(tiny_movie.tracks)
            assert tiny_perturbseq.cells.n_obs > 100
            assert set(tiny_hashtags.truth.columns) >= {"call", "kind"}

        def test_host(plugin_host):
            assert plugin_host().check() == []
            text = "from hyped_core import ModelSpec, hookimpl\\n@hookimpl\\ndef hyped_models():\\n"
            text += "    yield ModelSpec('mine', 'denoise', 'mine.model:Model')\\n"
            files = {"mine/__init__.py": "", "mine/plugin.py": text}
            host = plugin_host("mine", files, entry_points={"mine": "mine.plugin"})
            assert [item.spec.key for item in host.collect("hyped_models")] == ["denoise/mine"]
    """
    done = run(tmp_path, test)
    assert "2 passed" in done.stdout, done.stdout


def test_the_pytest_plugin_is_declared_and_loads_nothing():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"hyped": "hyped_core.testing.pytest_plugin"}
    code = "import pytest, sys; before = set(sys.modules); import hyped_core.testing.pytest_plugin; "
    code += "tops = {n.partition('.')[0] for n in set(sys.modules) - before}; "
    code += "print(sorted(tops & {'numpy', 'pandas', 'anndata', 'scipy'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


class Configured:
    def __init__(self, config: Params):
        self.config = config


class Unclear:
    def __init__(self, config):
        self.config = config


def test_what_a_class_takes_is_told_by_its_type():
    assert config_of(Configured) is Params
    assert config_of(object) is None
    with pytest.raises(PluginError, match="no config that can be made"):
        config_of(Unclear)


def test_models_are_found_however_they_are_named():
    with pytest.raises(PluginError, match="task has to be given"):
        resolve(Configured)
    spec, make = resolve(Configured, "track")
    assert (spec.key, type(make())) == ("track/configured", Configured)
    with pytest.raises(PluginError, match="a model is"):
        resolve(3)
    with pytest.raises(PluginError, match="no check 'stdout'"):
        parametrize_model_checks([Configured], task="track", expected_failures={"track/configured": {"stdout": "why"}})
