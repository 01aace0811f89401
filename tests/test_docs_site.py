"""The documentation: pages made from the code are those in git, links lead somewhere, `make docs` has no warnings."""

from __future__ import annotations

import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^\n]*\n.*?^\1\2[ \t]*$", re.S | re.M)
LINK = re.compile(r"(?<![!\\])\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
PAGES = sorted(
    [ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("plugins/*.md"), *ROOT.glob("packages/*/README.md"),
     *ROOT.glob("examples/*/README.md")]
)  # fmt: skip


@pytest.fixture
def contract_pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import contract_pages

    return contract_pages


@pytest.fixture
def repository_pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import repository_pages

    return repository_pages


def test_contract_reference_is_what_the_code_says(contract_pages: ModuleType) -> None:
    assert contract_pages.CONTRACTS.read_text() == contract_pages.contracts_page(), f"run: {contract_pages.WRITE}"


def test_tables_of_checks_are_what_the_code_says(contract_pages: ModuleType) -> None:
    text = contract_pages.CHECKS.read_text()
    assert text == contract_pages.checks_page(text), f"run: {contract_pages.WRITE}"
    for check in (*contract_pages.all_checks(), *contract_pages.all_static()):
        assert f"| `{check.name}` |" in text


def test_optional_members_are_those_of_the_docstrings(contract_pages: ModuleType) -> None:
    """The reference's tables of optional members name nothing that the contracts do not speak of."""
    for task, members in contract_pages.OPTIONAL.items():
        contracts = contract_pages.contracts
        protocol = contracts.PROTOCOLS[task]
        methods = [getattr(protocol, name) for name in contracts.REQUIRED_METHODS[task]]
        told = " ".join(thing.__doc__ for thing in (contracts, protocol, *methods))
        for member in members:
            name = re.split(r"[(]", member)[0]
            assert re.search(rf"`{name}\b", told), f"{task}: {name} is not in the contract's docstring"
        names = {re.split(r"[(]", member)[0] for member in members}
        assert set(contracts.OPTIONAL_MEMBERS.get(protocol.__name__, ())) <= names, task


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    found = set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t]*$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """As on a code host: relative links are to files or folders of the repository, anchors to headings."""
    lost = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"^[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors_of(file)):
            lost.append(target)
    assert lost == []


def test_links_out_of_the_docs_become_what_the_site_has(repository_pages: ModuleType) -> None:
    pages = {"README.md": "index.md", "data/mini/card.md": "cards/mini.md"}
    expected = {
        "[card](../data/mini/card.md)": "[card](cards/mini.md)",
        "[design](design.md#a)": "[design](design.md#a)",
        "[start](../README.md)": "[start](index.md)",
        "[the `a` package](../packages/hyped-core)": "the `a` package (`packages/hyped-core`)",
        "[params](../params.yaml)": "params",
        "[web](https://example.org)": "[web](https://example.org)",
        "[nowhere](../nowhere.md)": "[nowhere](../nowhere.md)",
        "\n```\n[code](../params.yaml)\n```\n": "\n```\n[code](../params.yaml)\n```\n",
    }
    text = " ".join(expected)
    links = repository_pages.site_links
    assert links(text, "docs/datasets.md", "datasets.md", pages, "", ROOT) == " ".join(expected.values())
    based = links("[card](../../params.yaml)", "docs/plugins/x.md", "plugins/x.md", {}, "https://h/b", ROOT)
    assert based == "[card](https://h/b/params.yaml)"
    source, page = "packages/hyped-core/README.md", "packages/hyped-core.md"
    assert links("[m](../../docs/metrics.md)", source, page, {}, "", ROOT) == "[m](../metrics.md)"


def test_notebook_is_stored_with_outputs_and_nothing_of_a_machine() -> None:
    path = DOCS / "notebooks" / "open_container.ipynb"
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in code)
    assert path.stat().st_size < 300_000
    assert not re.search(r"(import|from) hyped", source)
    assert {"scanpy", "zarr", "anndata", "napari"} <= set(re.findall(r"(?:import|from) (\w+)", source))
    assert sum(bool(cell["outputs"]) for cell in code) >= len(code) - 1
    assert not re.search(r'"(/home|/tmp|/root|/work|/Users)/', path.read_text())
    assert all(output["output_type"] != "error" for cell in code for output in cell["outputs"])


class Links(HTMLParser):
    """Ids of a page, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value or "")
            elif value and name in ("href", "src"):
                self.targets.append(value)


@pytest.fixture(scope="module")
def site() -> Path:
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return DOCS / "_build" / "html"


@pytest.mark.slow
def test_site_has_a_page_for_everything(site: Path) -> None:
    for page in [*DOCS.glob("*.md"), *DOCS.glob("plugins/*.md")]:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    for package in ("core", "imaging", "seq", "bench"):
        assert (site / "packages" / f"hyped-{package}.html").is_file()
        assert (site / "packages" / f"hyped-{package}-changes.html").is_file()
    for card in ROOT.glob("data/*/card.md"):
        assert (site / "cards" / f"{card.parent.name}.html").is_file()
    notebook = (site / "notebooks" / "open_container.html").read_text()
    assert notebook.count("<img") >= 3 and "schema version 1" in notebook


@pytest.mark.slow
def test_site_has_every_command_and_contract(site: Path) -> None:
    from hyped_core.plugins.compatibility import FAMILY
    from hyped_core.plugins.host import default_host

    ours = [i for i in default_host().collect("hyped_commands") if i.plugin.distribution in FAMILY]
    assert len(ours) > 40
    for item in ours:
        page = Links(site / "cli" / f"{item.spec.path[0]}.html")
        assert f"hyped-{'-'.join(item.spec.path)}" in page.ids
    api = Links(site / "api" / "hyped_core.contracts.html")
    for name in ("ExpressionPredictor.fit", "Tracker.track", "ImageMeta"):
        assert f"hyped_core.contracts.{name}" in api.ids


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    """Every local link of every page: the file is there, and so is the anchor. Nothing is loaded from the network."""
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    lost, remote = [], []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
            file = file / "index.html" if file.is_dir() else file
            anchor = unquote(parts.fragment)
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].ids):
                lost.append(f"{page.relative_to(site)} -> {target}")
        remote += re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text())
    assert lost == []
    assert remote == []
