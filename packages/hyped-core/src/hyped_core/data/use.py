"""Adding a dataset to the pipeline: its entries go into ``params.yaml``, and nothing else is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hyped_core.errors import MissingFileError, ParamsError
from hyped_core.io.atomic import write_text
from hyped_core.params import read_yaml

DATASETS = "datasets"
"""The group whose keys are datasets; an item of any other group says whose it is by ``dataset: NAME``."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both are safe; the one in C is ten times as fast


@dataclass(slots=True)
class Outcome:
    """What was changed and what was left as the user has it: (group, key) pairs."""

    changed: list[tuple[str, str]] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)


def use_dataset(name: str, params: Path) -> Outcome:
    """Merge ``data/NAME/pipeline.yaml`` (beside ``params``) into ``params``; idempotent, atomic.

    Raises
    ------
    MissingFileError, ParamsError
        No such file; one of the two is not a mapping of groups of items; a key belongs to another dataset.
    """
    source = params.parent / "data" / name / "pipeline.yaml"
    if not source.is_file():
        known = sorted(path.parent.name for path in params.parent.glob("data/*/pipeline.yaml"))
        raise MissingFileError(
            f"the dataset {name!r} has no stages to add",
            where=source,
            mend=f"datasets with stages: {', '.join(known) or 'none'}; run it in the project's folder",
        )
    wanted = _groups(source)
    for group, items in wanted.items():
        for key in items:
            if _owner(group, key, items[key]) != name:
                raise ParamsError(f"{group}.{key} does not say dataset: {name}", where=source)
    present = _groups(params)
    text = _read(params)
    texts = _read(source)
    outcome = Outcome()
    expected = {group: dict(items) for group, items in present.items()}
    for group, items in wanted.items():
        for key, item in items.items():
            held = present.get(group, {})
            if key in held:
                owner = _owner(group, key, held[key])
                if owner != name:
                    raise ParamsError(
                        f"{group}.{key} belongs to the dataset {owner or 'of another item'!r}",
                        where=params,
                        mend=f"rename one of the two, or hyped data use {owner or 'OTHER'} --remove",
                    )
                if held[key] != item:
                    outcome.kept.append((group, key))
                continue
            text = _insert(text, group, _entry_lines(texts, group, key))
            expected.setdefault(group, {})[key] = item
            outcome.changed.append((group, key))
    _write(params, text, expected, outcome)
    return outcome


def remove_dataset(name: str, params: Path) -> Outcome:
    """Take every entry of dataset ``name`` out of ``params``."""
    present = _groups(params)
    text = _read(params)
    outcome = Outcome()
    expected = {group: dict(items) for group, items in present.items()}
    for group, items in present.items():
        for key, item in items.items():
            if _owner(group, key, item) == name:
                text = _delete(text, group, key)
                del expected[group][key]
                outcome.changed.append((group, key))
    _write(params, text, expected, outcome)
    return outcome


def _owner(group: str, key: str, item: Any) -> str | None:
    if group == DATASETS:
        return key
    return item.get("dataset") if isinstance(item, dict) else None


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def _groups(path: Path) -> dict[str, dict[str, Any]]:
    """The file's top-level mappings (``null`` counts as an empty one)."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ParamsError("must be a mapping of groups", where=path)
    return {str(g): items or {} for g, items in content.items() if items is None or isinstance(items, dict)}


def _write(params: Path, text: str, expected: dict[str, dict[str, Any]], outcome: Outcome) -> None:
    """Write where something changed, after making sure that the text says what was meant."""
    if not outcome.changed:
        return
    try:
        got = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError:
        got = {}
    for group, items in expected.items():
        if (got.get(group) or {}) != items:
            raise ParamsError(
                f"the group {group!r} cannot be edited line by line",
                where=params,
                mend="write it in block style: one item a line, two more spaces a level, no anchors",
            )
    if "\r\n" in _read(params):
        text = text.replace("\n", "\r\n")
    write_text(params, text)


def _group_node(text: str, group: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and value nodes of a top-level group."""
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:  # an edit that did not fit, which `_write` refuses
        return None
    if not isinstance(root, yaml.MappingNode):
        return None
    return next(((key, value) for key, value in root.value if key.value == group), None)


def _last_line(node: yaml.Node, lines: list[str]) -> int:
    """Number of the last line that holds something of ``node``; trailing comments are not part of it."""
    block = isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value
    if block:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last, lines)
    end = node.end_mark.line
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        end = min(end, len(lines)) - 1 if node.end_mark.column == 0 else end
        while end > node.start_mark.line and not lines[end].strip():
            end -= 1
    return end


def _entry_lines(text: str, group: str, key: str) -> list[str]:
    """The lines of one item as they stand in its file, without the group's indent."""
    lines = text.splitlines()
    found = _group_node(text, group)
    if found is not None and isinstance(found[1], yaml.MappingNode):
        for item, value in found[1].value:
            if item.value == key and not found[1].flow_style:
                last = _last_line(value, lines)
                indent = item.start_mark.column
                own = lines[item.start_mark.line : last + 1]
                return [line[indent:] if not line[:indent].strip() else line.strip() for line in own]
    value = (yaml.safe_load(text) or {})[group][key]
    return yaml.safe_dump({key: value}, sort_keys=False, width=4096).splitlines()


def _insert(text: str, group: str, entry: list[str]) -> str:
    """``text`` with an item added at the end of a group; a group that is not there comes last in the file."""
    lines = text.splitlines()
    found = _group_node(text, group)
    if found is None:
        return "\n".join([*lines, f"{group}:", *_indented(entry, 2)]) + "\n"
    key, value = found
    if not value.value or value.tag == "tag:yaml.org,2002:null":
        head = lines[key.start_mark.line]
        comment = head[value.end_mark.column :].strip() if value.end_mark.line == key.start_mark.line else ""
        lines[key.start_mark.line] = f"{group}:" + (f"  {comment}" if comment.startswith("#") else "")
        at, indent = key.start_mark.line + 1, 2
    else:
        at, indent = _last_line(value, lines) + 1, value.value[0][0].start_mark.column
    lines[at:at] = _indented(entry, indent)
    return "\n".join(lines) + "\n"


def _delete(text: str, group: str, key: str) -> str:
    """``text`` without an item of a group; a group left empty becomes ``{}``."""
    lines = text.splitlines()
    found = _group_node(text, group)
    if found is None or not isinstance(found[1], yaml.MappingNode) or found[1].flow_style:
        return text
    for item, value in found[1].value:
        if item.value == key:
            del lines[item.start_mark.line : _last_line(value, lines) + 1]
    if len(found[1].value) == 1:
        number = found[0].start_mark.line
        head, mark, comment = lines[number].partition(":")
        lines[number] = f"{head}{mark} {{}}{comment}"
    return "\n".join(lines) + "\n"


def _indented(entry: list[str], indent: int) -> list[str]:
    return [" " * indent + line if line else "" for line in entry]
