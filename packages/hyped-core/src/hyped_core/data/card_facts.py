"""What can be counted for a dataset's card: its files by the manifest, and what its containers hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.data import HypedData
    from hyped_core.data.manifest import Manifest

CELL_COLUMNS = ("condition", "perturbation", "pool", "phase", "hashtag_kind", "n_counts", "n_genes")
"""Columns of ``obs`` that go into the table of cells, where they are there."""
COUNTED = ("condition", "perturbation", "pool", "phase")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of a dataset.

    Attributes
    ----------
    n_bytes, sha256 : None where neither the manifest nor a receipt has them.
    about : approximate size, where ``n_bytes`` is not known.
    """

    path: str
    address: str
    licence: str
    n_bytes: int | None
    about: int | None
    sha256: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What one container holds.

    Attributes
    ----------
    summary : `HypedData.summary`.
    parts : path, kind, sha256, bytes and number of files of each part.
    manifest_sha256, manifest_bytes : of its ``manifest.json``, which names the parts' hashes.
    counts : column of ``obs`` -> value -> number of cells (empty text: unknown).
    scenes, cells : tables, a row a scene (or cell); None where it has none.
    """

    name: str
    folder: str
    summary: dict[str, Any]
    parts: tuple[dict[str, Any], ...]
    manifest_sha256: str
    manifest_bytes: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    scenes: pd.DataFrame | None = None
    cells: pd.DataFrame | None = None


def file_facts(manifest: Manifest, fetched: Path | None = None) -> list[FileFacts]:
    """Files of a manifest, sorted by path, and those that only the receipt of a fetch names.

    Parameters
    ----------
    fetched
        Folder of a fetch: sizes and hashes that the manifest does not know are taken from its receipt.

    Raises
    ------
    InvalidDataError
        The folder has no receipt, or one that contradicts the manifest.
    """
    receipt: dict[str, Any] = {}
    if fetched is not None:
        from hyped_core.data.fetch import RECEIPT, read_receipt

        if not (fetched / RECEIPT).is_file():
            raise InvalidDataError(
                f"has no {RECEIPT}", where=fetched, mend=f"give the folder of `hyped data fetch {manifest.name}`"
            )
        receipt = read_receipt(fetched)
    facts = []
    for file in manifest.files:
        came = receipt.pop(file.path, {})
        if file.sha256 and came.get("sha256", file.sha256) != file.sha256:
            raise InvalidDataError(
                "the receipt has another sha256 than the manifest", where=file.path, mend="fetch the file again"
            )
        size = file.bytes if file.bytes is not None else came.get("bytes")
        facts.append(
            FileFacts(
                file.path,
                file.source.address(),
                file.licence or manifest.licence,
                size,
                None if size is not None else file.approx_bytes,
                file.sha256 or came.get("sha256"),
                file.note,
            )
        )
    for path, came in receipt.items():
        facts.append(FileFacts(path, "", manifest.licence, came["bytes"], None, came["sha256"]))
    return sorted(facts, key=lambda file: file.path)


def container_facts(path: str | Path) -> ContainerFacts:
    """Count what a container holds; no movie and no matrix is read.

    Raises
    ------
    MissingFileError, CorruptFileError
        There is no such container, or it was never finished.
    """
    from hyped_core.container.data import HypedData
    from hyped_core.container.manifest import MANIFEST
    from hyped_core.io.hashing import sha256_file

    root = Path(path)
    hd = HypedData.read(root)
    if hd.manifest is None:
        raise InvalidDataError("holds no manifest", where=root, mend="finish it with `hyped data assemble`")
    cells = _cells(hd, root)
    counts = {}
    for column in COUNTED:
        if cells is not None and column in cells and cells[column].ne("").any():
            counts[column] = dict(sorted(Counter(cells[column].tolist()).items()))
    if not set(counts.get("perturbation", ())) - {"", CONTROL}:
        counts.pop("perturbation", None)  # nothing is perturbed
    if counts.get("condition") == counts.get("perturbation"):
        counts.pop("condition", None)  # a screen, whose conditions are its perturbations
    parts = [part.model_dump(mode="json") for part in sorted(hd.manifest.parts, key=lambda part: part.path)]
    return ContainerFacts(
        name=hd.name,
        folder=root.resolve().name,
        summary=hd.summary(),
        parts=tuple(parts),
        manifest_sha256=sha256_file(root / MANIFEST),
        manifest_bytes=(root / MANIFEST).stat().st_size,
        counts=counts,
        scenes=_scenes(hd),
        cells=cells,
    )


def _cells(hd: HypedData, root: Path) -> pd.DataFrame | None:
    """``obs`` of the cells; matrices stay unread."""
    import pandas as pd
    from anndata.io import read_elem

    from hyped_core.container.manifest import SPATIAL
    from hyped_core.io.zarrs import open_zarr

    name = next((table for table in ("rna", "hto", "isoform") if table in hd.table_names), None)
    if name is None:
        return None
    obs = read_elem(open_zarr(root / SPATIAL / "tables" / name)["obs"])
    table = pd.DataFrame({"cell": obs.index.astype(str)})
    for column in CELL_COLUMNS:
        if column not in obs:
            continue
        values = obs[column]
        if pd.api.types.is_numeric_dtype(values):
            table[column] = values.to_numpy()
        else:
            table[column] = values.astype(object).where(values.notna(), "").astype(str).to_numpy()
    return table


def _scenes(hd: HypedData) -> pd.DataFrame | None:
    import pandas as pd

    rows = []
    for name, scene in hd.summary()["scenes"].items():
        frames = scene.get("movie") or scene.get("labels")
        if frames is None:
            continue
        first, last = frames.get("time_h") or (None, None)
        rows.append(
            {
                "scene": name,
                "condition": scene["condition"] or "",
                "replicate": scene["replicate"],
                "frames": frames["frames"],
                "frames_missing": len(frames.get("frames_missing", {})),
                "height_px": frames["shape"][-2],
                "width_px": frames["shape"][-1],
                "channels": " ".join(frames.get("channels", ())),
                "pixel_size_um": frames["pixel_size_um"],
                "first_h": first,
                "last_h": last,
            }
        )
    if not rows:
        return None
    table = pd.DataFrame(rows)
    table["replicate"] = table["replicate"].astype("Int64")
    return table
