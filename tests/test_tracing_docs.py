"""docs/tracing.md: its Python blocks run on the results of `make repro`, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tracing.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)
MADE = ("data/mini/containers/mini.hyped/manifest.json", "plots/mini/leaderboard.csv")


def words(text: str) -> list[str]:
    """What does not depend on the machine: words without digits, DNA and signs; numbers count as one word."""
    found = []
    for word in re.findall(r"[^\s{}\[\]()',:;]+", text):
        found.append("#" if re.search(r"\d|^nan$", word) else "DNA" if re.fullmatch(r"[ACGTN]{9,}", word) else word)
    return found


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the page's blocks, in order."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def test_every_python_block_compiles_and_says_what_it_prints():
    found = blocks()
    assert sum(language == "python" for language, _ in found) > 10
    for place, (language, text) in enumerate(found):
        if language == "python":
            compile(text, f"docs/tracing.md, block {place}", "exec")
            follows = found[place + 1][0] if place + 1 < len(found) else ""
            assert ("print(" in text) == (follows == "text"), text


def test_the_page_is_true_of_the_results(monkeypatch: pytest.MonkeyPatch):
    if not all((ROOT / name).is_file() for name in MADE):
        pytest.skip("run make repro first")
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    found = blocks()
    for place, (language, text) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, f"docs/tracing.md, block {place}", "exec"), names)
        if printed.getvalue().strip():
            now, shown = printed.getvalue(), found[place + 1][1]
            assert words(now) == words(shown), f"the page shows\n{shown}\nand it prints\n{now}"
