"""The manifest of a dataset: its files with size, sha256, source and licence, and what people know of it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import yaml
from pydantic import Field, field_validator
from pydantic import ValidationError as PydanticError

from hyped_core.data.datasheet import Datasheet
from hyped_core.errors import MissingFileError, ParamsError, PluginError, Problem, ValidationError
from hyped_core.params import Params, problems_of

if TYPE_CHECKING:
    from hyped_core.plugins.host import PluginHost


class UrlSource(Params):
    """A file behind a plain address."""

    kind: Literal["url"]
    url: str

    @field_validator("url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
            raise ValueError("must be an http or https address")
        return value

    def address(self) -> str:
        """Where to download it."""
        return self.url


class GithubSource(Params):
    """A file of a GitHub repository at one commit."""

    kind: Literal["github"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    commit: str = Field(pattern="^[0-9a-f]{40}$")
    path: str

    def address(self) -> str:
        """Where to download it."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(self.path)}"


class HuggingFaceSource(Params):
    """A file of a HuggingFace repository at one revision."""

    kind: Literal["huggingface"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = "main"
    path: str

    def address(self) -> str:
        """Where to download it without ``huggingface_hub``."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{quote(self.path)}"


class DataverseSource(Params):
    """A file of a Dataverse repository by its number."""

    kind: Literal["dataverse"]
    file_id: int
    server: str = "https://dataverse.harvard.edu"

    def address(self) -> str:
        """Where to download it."""
        return f"{self.server}/api/access/datafile/{self.file_id}"


class KaggleRelease(Params):
    """A Kaggle dataset whose files are not listed here: what comes is recorded with its sha256."""

    kind: Literal["kaggle"]
    handle: str | None = None
    """``owner/name`` or ``owner/name/versions/N``; None where the user has to give it."""


Source = Annotated[
    UrlSource | GithubSource | HuggingFaceSource | DataverseSource, Field(discriminator="kind")
]


class ManifestFile(Params):
    """One file of a dataset."""

    path: str
    """Where it goes, relative to the dataset's raw folder, with slashes."""
    bytes: int | None = Field(None, ge=0)
    """Size; None where it is not known before the first fetch."""
    approx_bytes: int | None = Field(None, ge=0)
    """About the size, where ``bytes`` is not known: shown before a fetch, never held to."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """None where it is not known: then it is recorded at the first fetch and held to afterwards."""
    source: Source
    licence: str = ""
    """Licence of this file where it is not the dataset's."""
    note: str = ""

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not parts or value.startswith("/") or ".." in parts or "\\" in value:
            raise ValueError("must be a relative path without '..'")
        return value


class Manifest(Params):
    """A dataset's manifest."""

    name: str
    title: str
    description: str = ""
    licence: str
    citation: str = ""
    homepage: str = ""
    card: str = ""
    """Path of its card in the project's repository."""
    files: tuple[ManifestFile, ...] = ()
    release: KaggleRelease | None = None
    """Set where the files are not known one by one."""
    made_by: str = ""
    """Set for a simulated dataset: the command that makes it."""
    datasheet: Datasheet = Datasheet()
    """What its card says beside what can be counted."""

    @field_validator("files")
    @classmethod
    def _once_each(cls, value: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
        seen: set[str] = set()
        for file in value:
            if file.path.lower() in seen:
                raise ValueError(f"{file.path!r} is listed more than once")
            seen.add(file.path.lower())
        return value

    def licences(self) -> dict[str, int]:
        """Licence -> number of files under it."""
        counts: dict[str, int] = {}
        for file in self.files:
            licence = file.licence or self.licence
            counts[licence] = counts.get(licence, 0) + 1
        return dict(sorted(counts.items())) or {self.licence: 0}


def parse_manifest(values: Any, where: object) -> Manifest:
    """A manifest from plain data; every problem is raised at once."""
    try:
        return Manifest.model_validate(values)
    except PydanticError as error:
        raise ValidationError(
            "the manifest is not valid", problems_of(error, Manifest), where=where
        ) from error


def read_manifest(name: str, host: PluginHost | None = None) -> Manifest:
    """The manifest of a registered dataset, from inside the package that registers it.

    Raises
    ------
    UnknownNameError
        No such dataset.
    PluginError, ParamsError, ValidationError
        The package lacks the file, or the file is not a manifest.
    """
    from hyped_core.plugins.registry import datasets

    spec = datasets(host).get(name)
    package, _, path = spec.manifest.partition(":")
    try:
        text = files(package).joinpath(path).read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise PluginError(
            f"its manifest cannot be read: {error}", where=spec.manifest, mend=f"reinstall {package}"
        ) from error
    return _parse_text(text, spec.manifest)


def read_manifest_file(path: Path) -> Manifest:
    """The manifest in a YAML file.

    Raises
    ------
    MissingFileError, ParamsError, ValidationError
        There is no such file, it cannot be read, or it is no manifest.
    """
    if not path.is_file():
        raise MissingFileError("there is no such file", where=path, mend="give the path of a manifest.yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"cannot be read: {error}", where=path) from error
    return _parse_text(text, path)


def find_manifest(
    name: str, folder: Path = Path(), host: PluginHost | None = None
) -> tuple[Manifest, str]:
    """The manifest of a dataset and where it was found.

    ``folder/data/NAME/manifest.yaml`` where there is one (in a checkout, a copy that may be edited), else the
    one inside the package that registers the dataset (`read_manifest`).

    Raises
    ------
    UnknownNameError
        No such dataset.
    PluginError, ParamsError, ValidationError
        The manifest cannot be read, is none, or is another dataset's.
    """
    from hyped_core.plugins.registry import datasets

    spec = datasets(host).get(name)
    bare = name.rpartition(":")[2]
    path = folder / "data" / bare / "manifest.yaml"
    if not path.is_file():
        return read_manifest(name, host), spec.manifest
    found = read_manifest_file(path)
    if found.name != bare:
        mend = f"write name: {bare}, or take the file away to use the one of the package"
        raise ValidationError(
            "the manifest is another dataset's",
            [Problem("name", f"expected {bare!r}, found {found.name!r}", mend)],
            where=path,
        )
    return found, path.as_posix()


def _parse_text(text: str, where: object) -> Manifest:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        values = yaml.load(text, Loader=loader)  # a safe loader, in C where PyYAML has it
    except yaml.YAMLError as error:
        raise ParamsError(f"not valid YAML: {error}", where=where) from error
    return parse_manifest(values, where=where)
