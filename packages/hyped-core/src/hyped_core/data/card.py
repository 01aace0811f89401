"""A dataset's card: a datasheet in Markdown, made from its manifest and from what its containers hold."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.cli.tables import about_text, size_text
from hyped_core.data.card_facts import ContainerFacts, FileFacts, container_facts, file_facts
from hyped_core.data.croissant import croissant

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.data.manifest import Manifest

CARD, METADATA = "card.md", "croissant.json"
_LISTED = 20
"""More files than these are summed up by their first folder; the manifest and the metadata list them all."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card and what belongs to it.

    Attributes
    ----------
    markdown : the card.
    metadata : the Croissant document.
    tables : name of a CSV file -> its text, which the document's record sets refer to.
    facts : what was counted, as plain data.
    unknown : ``section/question`` without an answer.
    """

    markdown: str
    metadata: dict[str, Any]
    tables: dict[str, str]
    facts: dict[str, Any]
    unknown: list[str]

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``card.md``, ``croissant.json`` and the tables: the same inputs give the same bytes."""
        from hyped_core.io.atomic import write_json, write_text

        folder = Path(folder)
        write_text(folder / CARD, self.markdown)
        write_json(folder / METADATA, self.metadata)
        for name, text in self.tables.items():
            write_text(folder / name, text)
        return [folder / name for name in (CARD, METADATA, *self.tables)]


def make_card(
    manifest: Manifest, containers: Sequence[str | Path] = (), *, fetched: str | Path | None = None
) -> Card:
    """The card of a dataset.

    Parameters
    ----------
    manifest
        Its manifest, whose ``datasheet`` answers what cannot be counted.
    containers
        Containers to count; without any the card says what the manifest says, whatever data are on this machine.
    fetched
        Folder of a fetch, whose receipt has the sizes and hashes the manifest does not know.

    Raises
    ------
    InvalidDataError
        A container or the receipt cannot be read; two containers have one name.
    """
    from hyped_core.errors import InvalidDataError

    files = file_facts(manifest, Path(fetched) if fetched is not None else None)
    held = [container_facts(path) for path in containers]
    names = [facts.name for facts in held]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidDataError(f"two containers are named {twice[0]!r}", where="--container", mend="give one of them")
    tables: dict[str, tuple[pd.DataFrame, str]] = {}
    texts = {}
    for facts in held:
        for kind, table in (("scenes", facts.scenes), ("cells", facts.cells)):
            if table is not None:
                name = f"{facts.name}-{kind}.csv"
                texts[name] = table.to_csv(index=False, lineterminator="\n", float_format="%.9g")
                tables[name] = (table, hashlib.sha256(texts[name].encode()).hexdigest())
    return Card(
        markdown=_markdown(manifest, files, held),
        metadata=croissant(manifest, files, held, tables),
        tables=texts,
        facts=_facts(files, held),
        unknown=manifest.datasheet.unknown(),
    )


def manifest_of_container(path: str | Path) -> Manifest:
    """A manifest for a container nobody wrote one for: its name, and nothing said of what is not known."""
    from hyped_core.container.manifest import read_manifest
    from hyped_core.data.manifest import Manifest as Dataset

    found = read_manifest(path)
    description = " ".join((found.design.description or "").split())
    description += " So its design says; whether the data were measured or simulated, the container does not say."
    return Dataset(name=found.name, title="a HYPED container", description=description, licence="not stated")


def _facts(files: Sequence[FileFacts], held: Sequence[ContainerFacts]) -> dict[str, Any]:
    return {
        "files": {
            "n": len(files),
            "bytes": sum(file.n_bytes or 0 for file in files),
            "without_size": sum(file.n_bytes is None for file in files),
            "without_sha256": sum(file.sha256 is None for file in files),
        },
        "containers": {
            facts.name: {
                "bytes": facts.summary["n_bytes"],
                "manifest_sha256": facts.manifest_sha256,
                "scenes": len(facts.summary["scenes"]),
                "frames": 0 if facts.scenes is None else int(facts.scenes["frames"].sum()),
                "tables": facts.summary["tables"],
                "counts": facts.counts,
            }
            for facts in held
        },
    }


def _markdown(manifest: Manifest, files: Sequence[FileFacts], held: Sequence[ContainerFacts]) -> str:
    sheet = manifest.datasheet
    lines = [f"# {manifest.name}: {manifest.title}", ""]
    if sheet.research_only:
        lines += [f"> **{sheet.research_only}**", ""]
    if manifest.description:
        lines += [" ".join(manifest.description.split()), ""]
    lines += [*_head(manifest, files), ""]
    for facts in held:
        lines += [*_container(facts), ""]
    for section, rows in sheet.sections():
        lines += [f"## {section.capitalize()}", ""]
        for _, question, answer in rows:
            if answer is not None:
                lines += [f"**{question}**", *_answer(answer), ""]
        if unknown := [question for _, question, answer in rows if answer is None]:
            lines += [f"Not known: {' '.join(unknown)}", ""]
    if sheet.parts:
        lines += ["## Parts", "", "| part | good for |", "| --- | --- |"]
        lines += [f"| `{path}` | {_cell(about)} |" for path, about in sheet.parts.items()] + [""]
    if files:
        lines += [*_files(files), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(manifest: Manifest, files: Sequence[FileFacts]) -> list[str]:
    get = f"`{manifest.made_by}` makes it" if manifest.made_by else f"`hyped data fetch {manifest.name}`"
    rows = [("Licence", manifest.licence), ("Cite", manifest.citation or "not known")]
    if manifest.homepage:
        rows.append(("Source", f"<{manifest.homepage}>"))
    if manifest.release is not None:
        get += "" if manifest.release.handle else " with `--handle OWNER/NAME[/versions/N]`, or `--from FOLDER`"
    if manifest.files or manifest.release is not None or manifest.made_by:
        rows.append(("Get it", get))
    if files:
        rows.append(("Size", _size(files)))
    elif manifest.release is not None:
        rows.append(("Size", "not known before it is fetched; sizes and sha256 are then recorded and held to"))
    listed = ", with address and hash of every file whose hash is known" if files else ""
    rows.append(("Metadata", f"[Croissant]({METADATA}){listed}"))
    return ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows)]


def _size(files: Sequence[FileFacts]) -> str:
    known = [file.n_bytes for file in files if file.n_bytes is not None]
    about = [file.about for file in files if file.about is not None]
    said = []
    if known:
        said.append(f"{_count(len(known), 'file')} of {size_text(sum(known))}")
    if about:
        said.append(f"{_count(len(about), 'file')} of {about_text(sum(about))}, as far as is known beforehand")
    if rest := len(files) - len(known) - len(about):
        said.append(f"{_count(rest, 'file')} of unknown size")
    return "; ".join(said)


def _files(files: Sequence[FileFacts]) -> list[str]:
    if len(files) <= _LISTED:
        lines = ["## Files", "", "| file | size | sha256 | licence |", "| --- | --- | --- | --- |"]
        for file in files:
            size = size_text(file.n_bytes) if file.about is None else about_text(file.about)
            sha256 = f"`{file.sha256}`" if file.sha256 else "recorded at the first fetch"
            lines.append(f"| `{file.path}` | {size} | {sha256} | {_cell(file.licence)} |")
        return lines
    groups: dict[str, list[FileFacts]] = defaultdict(list)
    for file in files:
        groups[file.path.partition("/")[0] + "/" if "/" in file.path else file.path].append(file)
    lines = ["## Files", "", "| folder | files | size | licences |", "| --- | --- | --- | --- |"]
    for name, held in sorted(groups.items()):
        licences = ", ".join(sorted({_cell(file.licence) for file in held}))
        lines.append(f"| `{name}` | {len(held)} | {_size(held).partition(' of ')[2]} | {licences} |")
    return [*lines, "", "Each file with its address, size, sha256 and licence: `manifest.yaml`."]


def _container(facts: ContainerFacts) -> list[str]:
    """What was counted in a container."""
    summary = facts.summary
    design = summary["design"]
    lines = [f"## Counted in `{facts.folder}`", "", "| | |", "| --- | --- |"]
    rows = [("Conditions", ", ".join(design["conditions"]) or "none")]
    if design["sorted_conditions"]:
        rows.append(("Phases set by sorting in", ", ".join(design["sorted_conditions"])))
    if design["confounded"]:
        pairs = "; ".join(" and ".join(pair) for pair in design["confounded"])
        rows.append(("By its design, cannot be told apart", pairs))
    if facts.scenes is not None:
        rows += _movies(facts.scenes)
    for name, table in summary["tables"].items():
        what = "rows" if name in ("nuclei", "tracks") else "cells"
        of = f" x {table['n_vars']:,} {'tags' if name == 'hto' else 'features'}" if what == "cells" else ""
        rows.append((f"Table `{name}`", f"{table['n_obs']:,} {what}{of}"))
    for column, counts in facts.counts.items():
        unknown = counts.get("", 0)
        said = [f"{value} {count:,}" for value, count in counts.items() if value]
        if len(said) > 12:
            said = [*said[:12], f"and {len(said) - 12} more"]
        rows.append((f"Cells by {column}", ", ".join([*said, *([f"unknown {unknown:,}"] if unknown else [])])))
    if summary["absent"]:
        rows.append(("Absent", ", ".join(summary["absent"])))
    rows.append(("Size", f"{size_text(summary['n_bytes'])} in {_count(len(facts.parts), 'part')}"))
    rows.append(("sha256 of its manifest", f"`{facts.manifest_sha256}`"))
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows]
    lines += ["", "| part | size | files | sha256 |", "| --- | --- | --- | --- |"]
    for part in facts.parts:
        lines.append(f"| `{part['path']}` | {size_text(part['n_bytes'])} | {part['n_files']} | `{part['sha256']}` |")
    return lines


def _movies(scenes: pd.DataFrame) -> list[tuple[str, str]]:
    by = scenes.groupby("condition", sort=True).size()
    said = ", ".join(f"{name or 'unknown'} {count}" for name, count in by.items())
    sizes = sorted({f"{row.height_px} x {row.width_px}" for row in scenes.itertuples()})
    rows = [
        ("Scenes", f"{len(scenes)} ({said})"),
        ("Frames", f"{int(scenes['frames'].sum()):,}, missing {int(scenes['frames_missing'].sum()):,}"),
        ("Pixels of a frame", ", ".join(sizes)),
    ]
    if channels := sorted({text for text in scenes["channels"] if text}):
        rows.append(("Channels", "; ".join(text.replace(" ", ", ") for text in channels)))
    if scenes["first_h"].notna().any():
        rows.append(("Hours", f"{scenes['first_h'].min():.2f} to {scenes['last_h'].max():.2f}"))
    return rows


def _answer(answer: str | tuple[str, ...]) -> list[str]:
    if isinstance(answer, str):
        return [answer]
    return ["", *(f"- {point}" for point in answer)]


def _cell(text: str) -> str:
    """Text for one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
