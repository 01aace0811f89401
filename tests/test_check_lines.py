"""scripts/check_lines.py: stages of the task denoise depend on the segmenter and tracker that its sources name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyped_core.testing.broken import BROKEN
from tests.conftest import run, tool_environment


@pytest.fixture(scope="module")
def lines(root: Path):
    place = importlib.util.spec_from_file_location("check_lines", root / "scripts" / "check_lines.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def content(segmenters: list[str | None], line: dict[str, str], reference: str = "downstream") -> dict[str, Any]:
    """A parameter file of one stage whose dataset has a source for each of ``segmenters``."""
    sources = [{"name": f"S{i}", "reference": reference, **({"segmenter": name} if name else {})}
               for i, name in enumerate(segmenters)]  # fmt: skip
    return {
        "datasets": {"mini": {"bench": {"denoise": {"sources": sources}}}},
        "bench-denoise": {"mini-tv": {"dataset": "mini", "model": "tv", **line}},
    }


def test_lines_of_the_repository_name_what_their_sources_name(lines, root: Path):
    looked_at = 0
    for file in (root / "params.yaml", *sorted(root.glob("data/*/pipeline.yaml"))):
        held = yaml.safe_load(file.read_text())
        looked_at += len(held.get("bench-denoise") or {})
        assert list(lines.problems(held)) == [], file
        for line in (held.get("bench-denoise") or {}).values():
            assert {"segmenter", "tracker"} <= set(line), "dvc.yaml asks for both in every line"
    assert looked_at > 20


def test_a_line_apart_from_its_sources_is_said(lines):
    line = {"segmenter": "fast", "tracker": "lap"}
    assert list(lines.problems(content([None, "fast"], line))) == []
    assert list(lines.problems(content(["paper"], line, reference="clean"))) == [], "only downstream needs one"
    (apart,) = lines.problems(content(["paper", "paper"], line))
    assert "bench-denoise.mini-tv says segmenter: fast" in apart and apart.endswith("say paper")
    (several,) = lines.problems(content([None, "paper"], line))
    assert several.endswith("say fast and paper")
    (missing,) = lines.problems(content([None], {"segmenter": "fast"}))
    assert "says tracker: None" in missing


def test_a_run_stops_before_anything_is_made(root: Path, tmp_path: Path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content(["paper"], {"segmenter": "fast", "tracker": "lap"})))
    (tmp_path / "scripts").symlink_to(root / "scripts")
    done = run(["sh", "scripts/repro.sh"], tmp_path, env=tool_environment(DATASET="mini"), check=False)
    assert done.returncode == 3
    assert "says segmenter: fast" in done.stderr and "to mend: name one model" in done.stderr
    assert not (tmp_path / "plugins.lock.yaml").exists()


def test_a_damaged_distribution_does_not_stop_it(root: Path, tmp_path: Path):
    for kind in ("binary-entry-points", "binary-metadata", "no-metadata"):
        BROKEN[kind].install(tmp_path)
    line = {"segmenter": "fast", "tracker": "lap"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content([None], line)))
    env = tool_environment(PYTHONPATH=str(tmp_path))
    run([sys.executable, str(root / "scripts/check_lines.py")], tmp_path, env=env)
