"""docs/plugins/howto-*.md: each page's model fits its contract, does what the page says, and passes the checks."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hyped_core.checking.run import check_model
from hyped_core.contracts import PROTOCOLS
from hyped_core.spec import TASKS, ModelSpec

PAGES = Path(__file__).resolve().parents[3] / "docs" / "plugins"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)


@pytest.mark.parametrize("task", TASKS)
def test_the_page_of_a_task(task: str, monkeypatch: pytest.MonkeyPatch):
    page = (PAGES / f"howto-{task}.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    assert [language for language, _ in blocks] == ["python", "python", "text"]
    module = ModuleType(f"howto_{task}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # as an import string names it
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for _, text in blocks[:2]:
            exec(compile(text, f"howto-{task}.md", "exec"), module.__dict__)
    assert printed.getvalue() == blocks[2][1]
    found = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    assert len(found) == 1 and isinstance(found[0](), PROTOCOLS[task])
    spec = ModelSpec("howto", task, f"{module.__name__}:{found[0].__name__}", seeded=task == "embedding")
    failed = [record for record in check_model(spec) if record.status == "failed"]
    assert not failed, "\n".join(f"{r.check}: {r.reason} ({r.mend})" for r in failed)


@pytest.mark.parametrize("task", TASKS)
def test_every_page_has_the_four_parts_and_the_template(task: str):
    page = (PAGES / f"howto-{task}.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+)$", page, re.M)
    assert parts == ["What the model gets", "A complete model", "What the checks will ask", "Common mistakes"]
    assert f"hyped plugins new my-model --task {task}" in page
