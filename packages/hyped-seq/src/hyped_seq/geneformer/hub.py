"""Where weights lie: a local folder, the published ones by name, or a HuggingFace repository kept in a user cache.

``geneformer/V1-10M`` is a model of the dataset ``geneformer``; ``owner/name[/subfolder][@revision]`` is a repository.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from hyped_core.data.download import MIRROR_VARIABLE
from hyped_core.data.fetch import fetch, read_receipt
from hyped_core.data.manifest import HuggingFaceSource, Manifest, ManifestFile, find_manifest
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, NetworkError

ENDPOINT_VARIABLE = "HF_ENDPOINT"
"""Address of a server with HuggingFace's paths, as its own client knows it."""

_DATASET = "geneformer"
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)((?:/[\w-][\w.-]*)*)(?:@([\w-][\w./-]*))?")
_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
CONFIG, TENSORS = "config.json", "model.safetensors"
INDEX, PICKLED = "model.safetensors.index.json", "pytorch_model.bin"
_FORMS = (TENSORS, INDEX, PICKLED)
_MEND = f"hyped models fetch {_DATASET}, then give data/{_DATASET}/raw/V1-10M (or V2-104M, V2-316M)"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/hyped/weights``, or ``~/.cache/hyped/weights``."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "hyped" / "weights"


def resolve(source: str | Path) -> Path:
    """The local folder of ``source``, fetched where it is not here yet; a folder of that name goes first.

    What was fetched once is used without a network. A branch (``main``) is not looked at again: take the folder
    below `cache_folder` away to fetch it anew.

    Raises
    ------
    MissingFileError
        No such folder, and no name of published weights or of a repository; what begins with a folder that is here,
        or with ``data/.../raw``, where ``hyped models fetch`` puts weights, is taken for a path.
    NetworkError
        The repository cannot be reached, or lacks the files of a model.
    ValidationError
        A file of the published weights is not what the manifest says.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise MissingFileError("is a file", where=source, mend=f"give the folder that it is in: {folder.parent}")
    text = "" if isinstance(source, Path) else source.strip()
    published = _published(text)
    if published is not None:
        return published
    found = _HUB_ID.fullmatch(text)
    if found is None or text.startswith(f"{_DATASET}/") or _is_path(text):
        raise MissingFileError("there is no such folder", where=source, mend=_MEND)
    return _from_hub(found[1], found[2].strip("/"), found[3] or "main", text)


def _is_path(text: str) -> bool:
    """Whether what could be a hub id is meant as a path: its first part is a folder, or it is ``data/.../raw/...``."""
    first, *rest = text.split("/")
    return Path(first).is_dir() or (first == "data" and "raw" in rest)


def dictionaries_folder(folder: str | Path) -> Path:
    """Where the dictionaries of the weights in ``folder`` lie.

    The folder itself; where it holds none and lies as the dataset ``geneformer`` has it, ``dictionaries/V1`` or
    ``dictionaries/V2`` beside it.
    """
    folder = Path(folder)
    beside = folder.parent / "dictionaries" / folder.name.partition("-")[0]
    own = any(folder.glob("*dictionar*.json")) or any(folder.glob("*dictionar*.pkl"))
    return beside if not own and beside.is_dir() else folder


def _published(name: str) -> Path | None:
    """Folder of ``geneformer/<model>``, with the series' dictionaries beside it, or None where it is no such name."""
    dataset, _, model = name.partition("/")
    if dataset != _DATASET or not model or "/" in model:
        return None
    manifest, _ = find_manifest(_DATASET)
    files = [file.path for file in manifest.files]
    if f"{model}/{CONFIG}" not in files:
        return None
    wanted = [path for path in files if path.startswith((f"{model}/", f"dictionaries/{model.partition('-')[0]}/"))]
    here = Path("data") / _DATASET / "raw"
    if all((here / path).is_file() for path in wanted):
        return here / model
    root = cache_folder() / _DATASET
    if not _held(root, {file.path: file.bytes for file in manifest.files if file.path in wanted}):
        fetch(manifest, root, only=wanted)
    return root / model


def _from_hub(repository: str, subfolder: str, revision: str, name: str) -> Path:
    """Folder in the cache with the configuration and the tensors, in the first form that the repository has."""
    root = cache_folder() / "hub" / f"{repository.replace('/', '--')}@{revision.replace('/', '--')}"
    folder = root / subfolder
    here = [form for form in _FORMS if (folder / form).is_file()]
    mend = (
        "no folder here has this name: check it, or owner/name/subfolder@revision and the network; the published "
        f"weights: {_MEND}"
    )

    def get(*names: str) -> None:
        paths = [f"{subfolder}/{file}" if subfolder else file for file in names]
        if not _held(root, dict.fromkeys(paths)):
            _download(root, repository, revision, paths)

    try:
        get(CONFIG)
    except NetworkError as error:
        raise NetworkError(error.message, where=name, mend=mend) from error
    lost = []
    for form in here[:1] or _FORMS:
        try:
            get(form)
        except NetworkError as error:
            lost.append(error)
            continue
        if form == INDEX:
            get(*_shards(folder / INDEX))
        return folder
    raise NetworkError("\n".join(error.message for error in lost), where=name, mend=mend) from lost[0]


def _held(root: Path, sizes: Mapping[str, int | None]) -> bool:
    """Whether every file is there with its size: the one given, or the one recorded when it was fetched."""
    receipt = read_receipt(root)
    for path, size in sizes.items():
        expected = receipt.get(path, {}).get("bytes") if size is None else size
        if not (root / path).is_file() or (root / path).stat().st_size != expected:
            return False
    return True


def _download(root: Path, repository: str, revision: str, paths: Sequence[str]) -> None:
    files = [
        ManifestFile(
            path=path,
            bytes=None,
            source=HuggingFaceSource(kind="huggingface", repository=repository, revision=revision, path=path),
        )
        for path in paths
    ]
    manifest = Manifest(
        name=f"{repository}/resolve/{quote(revision, safe='')}", title=repository, licence="", files=tuple(files)
    )
    fetch(manifest, root, mirror=os.environ.get(MIRROR_VARIABLE) or os.environ.get(ENDPOINT_VARIABLE) or None)


def _shards(index: Path) -> list[str]:
    """Names of the files an index of shards points to, those that lie beside it."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError("has no weight_map of keys to files", where=index, mend=f"rm {index}") from error
    wrong = sorted(str(name) for name in names if not isinstance(name, str) or not _SHARD.fullmatch(name))
    if wrong:
        raise InvalidDataError(f"names {wrong[0]!r}, which is no safetensors file beside it", where=index)
    return sorted(names)
