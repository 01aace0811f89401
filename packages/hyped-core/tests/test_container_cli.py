"""``hyped data assemble``, ``info`` and ``validate`` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hyped_core.cli.main import run


def test_info_of_container_movie_and_labels(tiny_built: Path, capsys: pytest.CaptureFixture):
    assert run(["data", "info", str(tiny_built), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "container" and found["absent"] == ["hto", "isoform"]
    assert run(["data", "info", str(tiny_built)]) == 0
    text = capsys.readouterr().out
    assert "absent   hto, isoform" in text and "B: MYOD1, replicate 2" in text
    assert run(["data", "info", str(tiny_built / "movies" / "A.zarr"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == ["Cy5", "mKate"]
    assert run(["data", "info", str(tiny_built / "labels" / "A.zarr"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "labels"


@pytest.mark.parametrize("name", ["none.hyped", "none.zarr"])
def test_info_of_what_is_not_there(tmp_path: Path, name: str, capsys: pytest.CaptureFixture):
    assert run(["data", "info", str(tmp_path / name)]) == 3
    assert name in capsys.readouterr().err


def test_validate_says_valid_or_lists_problems(tiny_container: Path, capsys: pytest.CaptureFixture):
    assert run(["data", "validate", str(tiny_container), "--deep"]) == 0
    assert "valid (5 parts)" in capsys.readouterr().err
    shutil.rmtree(tiny_container / "movies" / "A.zarr")
    assert run(["data", "validate", str(tiny_container)]) == 3
    assert "movies/A.zarr: is gone" in capsys.readouterr().err
    assert run(["data", "validate", str(tiny_container), "--quick", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False and found["problems"][0]["where"] == "movies/A.zarr"
    (tiny_container / "manifest.json").unlink()
    assert run(["data", "validate", str(tiny_container), "--json"]) == 3
    assert "never finished" in json.loads(capsys.readouterr().out)["problems"][0]["message"]


def test_assemble(tiny_maker, tiny_built: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    import yaml

    (tmp_path / "cells").mkdir()
    tiny_maker.rna().write_h5ad(tmp_path / "cells" / "rna.h5ad")
    (tmp_path / "design.yaml").write_text(yaml.safe_dump(tiny_maker.DESIGN))
    out = tmp_path / "t.hyped"
    call = ["data", "assemble", str(out), "--name", "mine", "--design", str(tmp_path / "design.yaml")]
    call += ["--movies", str(tiny_built / "movies"), "--labels", str(tiny_built / "labels")]
    call += ["--phases", str(tiny_built.parent), "--cells", str(tmp_path / "cells")]
    assert run([*call, "--dry-run"]) == 0
    assert not out.exists() and "would write about" in capsys.readouterr().err
    assert run([*call, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "mine" and sorted(found["tables"]) == ["nuclei", "rna", "tracks"]
    assert run(["data", "validate", str(out)]) == 0


def test_assemble_without_inputs(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run(["data", "assemble", str(tmp_path / "t.hyped")]) == 3
    assert "nothing to assemble" in capsys.readouterr().err
    (tmp_path / "phases").mkdir()
    assert run(["data", "assemble", str(tmp_path / "t.hyped"), "--phases", str(tmp_path / "phases")]) == 3
    assert "hyped imaging phases" in capsys.readouterr().err
    assert not (tmp_path / "t.hyped").exists()
