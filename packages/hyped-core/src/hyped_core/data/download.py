"""Getting bytes from elsewhere: addresses, HuggingFace and Kaggle. Failures are `NetworkError` with mend."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import os
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from hyped_core.data.manifest import HuggingFaceSource, ManifestFile
from hyped_core.errors import InvalidDataError, MissingDependencyError, NetworkError, UsageError

MIRROR_VARIABLE = "HYPED_DATA_MIRROR"
"""Base address under which files lie as ``<dataset>/<path>``: used instead of the manifests' sources."""
TIMEOUT_S = 30.0
_BLOCK = 1 << 20


class Unreachable(NetworkError):
    """The server could not be reached at all: trying the next file is of no use."""


def hash_file(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_hashed(stream: BinaryIO, target: Path, limit: int | None = None) -> tuple[int, str]:
    """Write a stream to a file; its number of bytes and sha256. Stops past ``limit`` bytes."""
    digest = hashlib.sha256()
    count = 0
    with target.open("wb") as out:
        while block := stream.read(_BLOCK):
            out.write(block)
            digest.update(block)
            count += len(block)
            if limit is not None and count > limit:
                break
    return count, digest.hexdigest()


def download(dataset: str, file: ManifestFile, target: Path, *, mirror: str | None = None) -> tuple[int, str]:
    """Download one file of a dataset to ``target``; its number of bytes and sha256.

    Parameters
    ----------
    mirror
        Base address to use instead of the file's source (default: ``HYPED_DATA_MIRROR``).

    Raises
    ------
    NetworkError
        The server refuses, answers with an error or breaks off; `Unreachable` where there is no connection.
    """
    mirror = mirror or os.environ.get(MIRROR_VARIABLE) or None
    if mirror:
        return fetch_address(f"{mirror.rstrip('/')}/{dataset}/{quote(file.path)}", target, limit=file.bytes)
    if isinstance(file.source, HuggingFaceSource):
        return _from_hub(file.source, target)
    return fetch_address(file.source.address(), target, limit=file.bytes)


def fetch_address(url: str, target: Path, *, limit: int | None = None) -> tuple[int, str]:
    """Download ``url`` to ``target``; its number of bytes and sha256."""
    request = urllib.request.Request(url, headers={"User-Agent": "hyped-core"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            announced = answer.headers.get("Content-Length")
            count, digest = copy_hashed(answer, target, limit)
    except urllib.error.HTTPError as error:
        error.close()
        raise NetworkError(
            f"the server answered {error.code} {error.reason}",
            where=url,
            mend="the file may have moved: see the dataset's homepage, or give a copy with --from DIR",
        ) from error
    except (http.client.HTTPException, ConnectionResetError) as error:
        raise NetworkError(
            f"the download broke off: {error}", where=url, mend="run the command again"
        ) from error
    except (TimeoutError, urllib.error.URLError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(
            f"cannot be reached: {reason}",
            where=url,
            mend=f"check the network, set {MIRROR_VARIABLE}, or give a copy with --from DIR",
        ) from error
    too_long = limit is not None and count > limit
    if announced is not None and announced.isdigit() and count < int(announced) and not too_long:
        raise NetworkError(
            f"the download broke off after {count} of {announced} bytes",
            where=url,
            mend="run the command again",
        )
    return count, digest


def _from_hub(source: HuggingFaceSource, target: Path) -> tuple[int, str]:
    """Through ``huggingface_hub`` where it is installed (it knows tokens and resumes), else by address."""
    hub = _optional("huggingface_hub")
    if hub is None:
        return fetch_address(source.address(), target)
    _check_name(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    folder = target.with_name(target.name + ".hub")
    try:
        got = Path(
            hub.hf_hub_download(
                repo_id=source.repository,
                filename=source.path,
                revision=source.revision,
                local_dir=str(folder),
            )
        )
        with got.open("rb") as stream:
            return copy_hashed(stream, target)
    except Exception as error:
        raise _client_error(error, source.address(), "huggingface_hub") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_name(url: str) -> None:
    """Say at once that there is no network, where the client would retry for a minute."""
    host = urlsplit(url).hostname or ""
    if urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise Unreachable(
            f"cannot be reached: {error}",
            where=url,
            mend=f"check the network, set {MIRROR_VARIABLE}, or give a copy with --from DIR",
        ) from error


def kaggle_folder(handle: str | None, where: str) -> Path:
    """Download a Kaggle dataset through ``kagglehub`` and return the folder it put it in.

    Raises
    ------
    UsageError
        No handle, or one that is not ``owner/name`` or ``owner/name/versions/N``.
    MissingDependencyError, NetworkError
        ``kagglehub`` is not installed; the download failed.
    """
    if not handle:
        raise UsageError(
            "its handle on Kaggle is not known to HYPED",
            where=where,
            mend=f"hyped data fetch {where} --handle OWNER/NAME, or --from DIR for a folder you hold",
        )
    parts = handle.split("/")
    versioned = len(parts) == 4 and parts[2] == "versions" and parts[3].isdigit()
    if not all(parts) or not (len(parts) == 2 or versioned):
        raise UsageError(f"{handle!r} is not a Kaggle handle", where=where, mend="OWNER/NAME[/versions/N]")
    hub = _optional("kagglehub")
    if hub is None:
        raise MissingDependencyError(
            "needs kagglehub, which is not installed", where=where, mend="pip install 'hyped-core[fetch]'"
        )
    try:
        folder = Path(hub.dataset_download(handle))
    except Exception as error:
        raise _client_error(error, f"kaggle:{handle}", "kagglehub") from error
    if not folder.is_dir():
        raise InvalidDataError("kagglehub gave no folder", where=f"kaggle:{handle}")
    return folder


def _client_error(error: Exception, where: str, client: str) -> NetworkError:
    said = " ".join(str(error).split())[:300]
    signs = ("Connect", "Timeout", "LocalEntryNotFound")
    unreachable = any(sign in cls.__name__ for cls in type(error).__mro__ for sign in signs)
    kind = Unreachable if unreachable else NetworkError
    return kind(
        f"{client} could not download it: {type(error).__name__}: {said}",
        where=where,
        mend="check the network, the name and your access to it, or give a copy with --from DIR",
    )


def _optional(module: str) -> ModuleType | None:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return None
