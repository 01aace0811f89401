"""Makes docs/plugins/contracts.md, and the tables in docs/plugins/checks.md, from the code: run it if a test says so.

`python docs/_ext/contract_pages.py` writes both; they are in git so that they can be read without a build.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from hyped_core import contracts
from hyped_core.checking.catalogue import all_checks, checks_of
from hyped_core.checking.records import Check
from hyped_core.checking.static import all_static
from hyped_core.checking.static.records import ModelCheck, PackageCheck
from hyped_core.context import RunContext
from hyped_core.plugins.compatibility import SUPPORTED_API_VERSIONS
from hyped_core.spec import API_VERSION, TASKS
from hyped_core.templates.render import LEARNS_BY_DEFAULT, Choice, rendered

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
CONTRACTS = PLUGINS / "contracts.md"
CHECKS = PLUGINS / "checks.md"
WRITE = "python docs/_ext/contract_pages.py"
BLOCK = re.compile(r"(<!-- table (\w+): made by [^\n]*? -->\n).*?(<!-- end -->)", re.S)

TITLES = {
    "expression": "Expression predictors",
    "embedding": "Cell embedders",
    "denoise": "Denoisers",
    "segment": "Segmenters",
    "track": "Trackers",
    "demultiplex": "Demultiplexers",
}
OPTIONAL = {
    "expression": {
        "facts": "a dict that JSON can hold, for the record of a run: what fit left out, where it fell back",
        "save(folder)": "write what was learned: safetensors and JSON, never pickle",
        "load(folder)": "read it back, and refuse what does not fit",
    },
    "embedding": {
        "fit(train, *, context)": "learns from cells before any is embedded; the benchmark gives control cells only",
        "facts": "a dict that JSON can hold, for the record of a run: which weights, what a perturbation did",
        "save(folder)": "as for expression predictors",
        "load(folder)": "as for expression predictors",
    },
    "denoise": {
        "fit(stack, meta, *, context)": "learns a channel from some of its frames (t, y, x), spread over the movie",
        "neighbours": "of the model or its config: how many frames on each side a result depends on; 0 if absent",
        "denoise_frames(read, count, meta, *, context, frames=None)": "goes through a long movie frame by frame",
        "save(folder)": "as for expression predictors",
        "load(folder)": "as for expression predictors",
    },
    "segment": {},
    "track": {"unassigned_reason": "column: why an object has no track (`track_id` 0); empty for the others"},
    "demultiplex": {
        "forced_call": "column: the best tag whatever the doubt, empty for a cell without counts",
        "doublet_probability": "column: probability in [0, 1] that the cell carries two tags",
        "margin": "column: how far the call stands clear of the next",
    },
}
"""What a model of a task may have beside its contract; the protocols' docstrings say more."""


def contracts_page() -> str:
    """The contract reference as Markdown."""
    lines = [
        "# Contracts",
        "",
        f"<!-- made from the code by {WRITE}: change the docstrings of hyped_core.contracts, then run it -->",
        "",
        "What a model of each task has to offer. A model inherits from nothing: it is a class with these methods, and",
        "`isinstance(model, hyped_core.contracts.Tracker)` says whether they are there. Arrays are numpy's, tables",
        "pandas', cells an AnnData. This page is made from the docstrings of `hyped_core.contracts`.",
        "",
        f"Version of the contracts: `api_version` {API_VERSION}; models for {_said(SUPPORTED_API_VERSIONS)} are taken.",
        "",
        "| task | protocol | methods | since hyped-core |",
        "| --- | --- | --- | --- |",
    ]
    for task in TASKS:
        methods = ", ".join(f"`{name}`" for name in contracts.REQUIRED_METHODS[task])
        name = contracts.PROTOCOLS[task].__name__
        lines.append(f"| [`{task}`](#{_anchor(TITLES[task])}) | `{name}` | {methods} | {_since(task)} |")
    lines += [
        "",
        "For every task:",
        "",
        "- Inputs belong to the caller. Copy what you change.",
        "- Every call gets `context`, a [RunContext](#runcontext), by keyword.",
        "- A model is made as `Class(config)`, or `Class()` where its `ModelSpec` names no config, once for each run.",
        "- What a model prints goes to stderr; reports of progress go to `context.progress`.",
        "",
    ]
    for task in TASKS:
        lines += _task(task)
    lines += [
        "## RunContext",
        "",
        *_docstring(RunContext),
        "",
        "`context.rng(\"a name\", i)` gives a random generator: equal names under an equal seed give equal numbers.",
        "",
        "## ImageMeta",
        "",
        *_docstring(contracts.ImageMeta),
    ]
    parts = re.split(r"(^```.*?^```$)", "\n".join(lines), flags=re.S | re.M)
    return "".join(p if p.startswith("```") else re.sub(r"\n{3,}", "\n\n", p) for p in parts).rstrip() + "\n"


def _task(task: str) -> list[str]:
    protocol = contracts.PROTOCOLS[task]
    lines = [f"## {TITLES[task]}", "", f"Task `{task}`, protocol `hyped_core.contracts.{protocol.__name__}`.", ""]
    lines += [*_docstring(protocol), ""]
    for name in contracts.REQUIRED_METHODS[task]:
        method = getattr(protocol, name)
        lines += ["```python", *_signature(name, method), "```", "", *_docstring(method), ""]
    if OPTIONAL[task]:
        lines += ["Optional:", "", "| member | what it is for | since hyped-core |", "| --- | --- | --- |"]
        for member, what in OPTIONAL[task].items():
            lines.append(f"| `{member}` | {what} | {_since(task, re.split(r'[(]', member)[0])} |")
        lines.append("")
    names = ", ".join(f"`{check.name}`" for check in checks_of(task) if not _of_all(check))
    anchor = _anchor(TITLES[task])
    lines += [f"[Checked](checks.md#{anchor}), beside [what is asked of all](checks.md#every-task): {names}.", ""]
    choice = Choice(
        "my-model", task, "my_model", "you", 2000, learns=task in LEARNS_BY_DEFAULT
    )
    source = rendered(choice)["src/my_model/model.py"].rstrip()
    lines += [
        f"A whole model, as `hyped plugins new my-model --task {task}` writes it ([how to](howto-{task}.md)):",
        "",
        "```python",
        *source.splitlines(),
        "```",
        "",
    ]
    return lines


def checks_tables() -> dict[str, str]:
    """Name of a block in checks.md -> its table."""
    common = [check for check in all_checks() if _of_all(check)]
    behaviour = ["### Every task", "", *_table(common)]
    for task in TASKS:
        own = [check for check in checks_of(task) if not _of_all(check)]
        behaviour += ["", f"### {TITLES[task]}", "", *_table(own)]
    return {"behaviour": "\n".join(behaviour) + "\n", "static": "\n".join(_table(all_static())) + "\n"}


def _of_all(check: Check) -> bool:
    return set(check.tasks) >= set(TASKS)


def _table(checks: Iterable[Check | PackageCheck | ModelCheck]) -> list[str]:
    return ["| check | why |", "| --- | --- |", *(f"| `{check.name}` | {_cell(check.why)} |" for check in checks)]


def checks_page(text: str) -> str:
    """The page of checks with its tables made anew; the prose is kept."""
    tables = checks_tables()
    return BLOCK.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", text)


def _signature(name: str, method: object) -> list[str]:
    """A method's head, in one line where it fits, else an argument a line."""
    signature = inspect.signature(method)  # type: ignore[arg-type]
    whole = f"def {name}{signature}".replace("'", "")
    if len(whole) <= 100:
        return [whole]
    body, _, result = whole.partition(" -> ")
    arguments = re.split(r", (?![^\[]*\])", body[len(f"def {name}(") : -1])
    return [f"def {name}(", *(f"    {argument}," for argument in arguments), f") -> {result}"]


def _docstring(thing: object) -> list[str]:
    """A docstring as Markdown: sections of names become lists, roles and double backticks single ones."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", inspect.getdoc(thing) or "").replace("``", "`")
    lines: list[str] = []
    for line in text.splitlines():
        if re.fullmatch(r"-{3,}", line):
            lines.pop()  # the section's heading: a list needs none
            continue
        match = re.match(r"^(\w[\w, ]*?) : (\S.*)$", line)
        lines.append(f"- `{match[1]}`: {match[2]}" if match else line)
    return lines


def _since(task: str, member: str = "") -> str:
    protocol = "Trainable" if member in ("save", "load") else contracts.PROTOCOLS[task].__name__
    return contracts.ADDED_IN[f"{protocol}.{member}" if member else protocol]


def _said(versions: Iterable[int]) -> str:
    return " and ".join(map(str, versions))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


if __name__ == "__main__":
    CONTRACTS.write_text(contracts_page(), encoding="utf-8")
    CHECKS.write_text(checks_page(CHECKS.read_text(encoding="utf-8")), encoding="utf-8")
