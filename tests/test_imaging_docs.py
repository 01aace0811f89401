"""docs/imaging.md: its blocks run one after the other, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs_page import typed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "imaging.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The page followed to its end in an empty folder: the folder, and what each block printed."""
    folder = tmp_path_factory.mktemp("reader")
    printed = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language not in ("sh", "python"):
            continue
        printed.append(typed(language, text, folder))
    return {"folder": folder, "printed": printed}


def test_the_page_runs_and_leaves_what_it_names(followed: dict[str, object]):
    folder = Path(str(followed["folder"]))
    named = ["out/summary.html", "out/summary.json", "out/out.hyped/manifest.json", "out/phases/S0.parquet",
             "out/tracks/S2.geff", "out/phase_fractions.csv", "out/durations.csv", "release/S0/frame_00011.h5",
             "ctc/01_RES", "steps/S0.csv"]  # fmt: skip
    assert [name for name in named if not (folder / name).exists()] == []


def test_what_it_prints_is_what_it_says(followed: dict[str, object]):
    printed = "\n".join(followed["printed"])  # type: ignore[arg-type]
    assert "(12, 4, " in printed
    assert "'G1'" in printed and "'S_G2M'" in printed
    assert "scenes, " in printed and "summary.html" in printed


def test_released_and_read_back_is_the_same_movie(followed: dict[str, object]):
    import numpy as np

    from hyped_core.container.movies import Movie

    folder = Path(str(followed["folder"]))
    first, second = Movie.open(folder / "out/out.hyped/movies/S0.zarr"), Movie.open(folder / "back.zarr")
    assert first.channels == second.channels and np.array_equal(first.time_h, second.time_h)
    assert all(np.array_equal(first.frame(k), second.frame(k)) for k in range(first.n_frames))
