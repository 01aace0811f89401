"""Putting a container together: parts first, ``manifest.json`` last, nothing half-written in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.container.data import HypedData
from hyped_core.container.labels import Labels
from hyped_core.container.manifest import (
    CELL_TABLES,
    MANIFEST,
    SPATIAL,
    SUFFIX,
    TABLES,
    Manifest,
    TableInfo,
    make_part,
    write_manifest,
)
from hyped_core.container.movies import Movie
from hyped_core.container.nuclei import nuclei_table, tracks_table
from hyped_core.container.spatial import annotate, build, frame_elements, key_frames, write_store
from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError
from hyped_core.io.atomic import remove, replace
from hyped_core.io.tables import read_h5ad, read_parquet
from hyped_core.provenance import container_provenance

if TYPE_CHECKING:
    from anndata import AnnData


def assemble(
    out: str | Path,
    *,
    design: Design,
    name: str | None = None,
    movies: str | Path | None = None,
    labels: str | Path | None = None,
    nuclei: Sequence[str | Path] = (),
    cells: str | Path | None = None,
    tables: Mapping[str, AnnData] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> HypedData:
    """Make ``<out>`` a container: tables and key frames into ``spatial.zarr``, then the manifest.

    Parameters
    ----------
    out
        The ``<name>.hyped`` folder; it may hold ``movies/`` and ``labels/`` of earlier steps.
    design, name
        The experiment's design; the dataset's name (by default the folder's).
    movies, labels
        Folders of ``<scene>.zarr``. None: those in ``out``, where there are any. From elsewhere they are
        copied.
    nuclei
        Parquet tables of nuclei (of the phases step, or an earlier one), a file a scene.
    cells
        Folder with any of ``rna.h5ad``, ``isoform.h5ad``, ``hto.h5ad``.
    tables
        The same as AnnData in memory; wins over ``cells`` and ``nuclei``.
    provenance
        JSON-able notes for the manifest.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        An input is absent or damaged. ``out`` is left as it was.
    """
    out = Path(out)
    held: dict[str, AnnData] = dict(tables or {})
    sources = {"movies": _scenes(movies, out / "movies"), "labels": _scenes(labels, out / "labels")}
    opened = {s: Movie.open(p) for s, p in sources["movies"].items()}
    masks = {s: Labels.open(p) for s, p in sources["labels"].items()}
    kept = {s: key_frames(opened.get(s) or masks[s], design) for s in sorted({*opened, *masks})}
    if cells is not None:
        held = {**_cells(Path(cells)), **held}
    if nuclei and "nuclei" not in held:
        held["nuclei"] = nuclei_table(
            [read_parquet(path) for path in sorted(map(Path, nuclei))], design, kept
        )
    if "nuclei" in held and "tracks" not in held:
        derived = tracks_table(held["nuclei"])
        if derived is not None:
            held["tracks"] = derived
    if not held and not opened and not masks:
        raise InvalidDataError(
            "there is nothing to assemble", where=out, mend="give movies, labels, nuclei tables or cells"
        )
    return _commit(out, design, name or out.stem, held, sources, opened, masks, kept, provenance)


def _scenes(given: str | Path | None, default: Path) -> dict[str, Path]:
    """Scene -> folder of every ``<scene>.zarr`` in the given folder, or in the default one."""
    folder = default if given is None else Path(given)
    if given is not None and not folder.is_dir():
        raise MissingFileError(
            "there is no such folder", where=folder, mend="give the folder of <scene>.zarr"
        )
    found = {p.stem: p for p in sorted(folder.glob(f"*{SUFFIX}"))} if folder.is_dir() else {}
    if given is not None and not found:
        raise MissingFileError("holds no <scene>.zarr", where=folder, mend="run the step that writes them")
    return found


def _cells(folder: Path) -> dict[str, AnnData]:
    found = {name: folder / f"{name}.h5ad" for name in CELL_TABLES}
    present = {name: read_h5ad(path) for name, path in found.items() if path.is_file()}
    if not present:
        expected = ", ".join(path.name for path in found.values())
        raise MissingFileError(
            f"holds none of {expected}",
            where=folder,
            mend="run `hyped seq annotate`, or give the right folder",
        )
    return present


def _commit(
    out: Path,
    design: Design,
    name: str,
    tables: Mapping[str, AnnData],
    sources: Mapping[str, Mapping[str, Path]],
    movies: Mapping[str, Movie],
    labels: Mapping[str, Labels],
    kept: Mapping[str, tuple[int, ...]],
    provenance: Mapping[str, Any] | None,
) -> HypedData:
    fresh = not out.exists()
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", where=out, mend="give a folder named <name>.hyped")
    for left_over in [*out.glob(".*.part"), *out.glob(".*.old")]:  # of a run that was killed
        remove(left_over)
    try:
        with ExitStack() as stack:
            steps = [_place(stack, out / kind, folder) for kind, folder in sources.items()]
            stored = {n: _plain(tables[n]) for n in TABLES if n in tables}
            if stored or kept:
                temporary = stack.enter_context(_temporary(out / SPATIAL))
                _write_spatial(temporary, stored, movies, labels, kept)
                steps.append(_mover(temporary, out / SPATIAL))
            else:
                steps.append(lambda: remove(out / SPATIAL))
            remove(out / MANIFEST)
            for step in steps:
                if step is not None:
                    step()
        parts = [make_part(out, f"movies/{s}{SUFFIX}", "movie") for s in sorted(movies)]
        parts += [make_part(out, f"labels/{s}{SUFFIX}", "labels") for s in sorted(labels)]
        if stored or kept:
            parts.append(make_part(out, SPATIAL, "spatialdata"))
        manifest = Manifest(
            name=name,
            design=design,
            provenance={**container_provenance(), **(provenance or {})},
            parts=tuple(parts),
            tables={
                n: TableInfo(n_obs=t.n_obs, n_vars=t.n_vars, layers=tuple(sorted(t.layers)))
                for n, t in stored.items()
            },
            key_frames=dict(kept),
        )
        write_manifest(out, manifest)
    except BaseException:
        if fresh:
            remove(out)
        raise
    return HypedData.read(out)


class _temporary:
    """A sibling to write to that is removed in the end, moved or not."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path = target.with_name(f".{target.name}.{os.getpid()}.part")

    def __enter__(self) -> Path:
        remove(self.path)
        return self.path

    def __exit__(self, *_: object) -> None:
        remove(self.path)


def _mover(source: Path, target: Path) -> Callable[[], None]:
    return lambda: replace(source, target)


def _place(stack: ExitStack, target: Path, scenes: Mapping[str, Path]) -> Callable[[], None] | None:
    """Copy scenes that lie elsewhere beside their target; the returned step moves them into place."""
    if not scenes or all(_same(path.parent, target) for path in scenes.values()):
        return None
    temporary = stack.enter_context(_temporary(target))
    for scene, path in scenes.items():
        shutil.copytree(path, temporary / f"{scene}{SUFFIX}")
    return _mover(temporary, target)


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _plain(table: AnnData) -> AnnData:
    """The same table with text as sorted categories, sharing its arrays; the given object stays as it is.

    Names that SpatialData does not allow (``mean_T PMT``) get underscores by its own rule.
    """
    import anndata
    from spatialdata import sanitize_table

    copy = anndata.AnnData(
        X=table.X,
        obs=table.obs.copy(),
        var=table.var.copy(),
        layers=dict(table.layers),
        obsm=dict(table.obsm),
        varm=dict(table.varm),
        obsp=dict(table.obsp),
        varp=dict(table.varp),
        uns={key: value for key, value in table.uns.items()},
    )
    copy.obs.index.name = copy.var.index.name = None
    copy.strings_to_categoricals()
    sanitize_table(copy)
    return copy


def _write_spatial(
    path: Path,
    tables: Mapping[str, AnnData],
    movies: Mapping[str, Movie],
    labels: Mapping[str, Labels],
    kept: Mapping[str, Iterable[int]],
) -> None:
    images: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for scene, frames in kept.items():
        for index in frames:
            new_images, new_masks = frame_elements(scene, index, movies.get(scene), labels.get(scene))
            images.update(new_images)
            masks.update(new_masks)
    if "nuclei" in tables and "region" in tables["nuclei"].obs:
        annotate(tables["nuclei"], masks)
    write_store(path, build(images, masks, tables))


def write_container(hd: HypedData, path: Path) -> HypedData:
    """Write a container in memory, or a view, to ``path``; see `HypedData.write`."""
    if hd.path is not None and path.exists() and path.samefile(hd.path):
        raise UsageError("a container cannot be written over itself", where=path, mend="give another folder")
    for kind in ("movies", "labels"):
        if not getattr(hd, kind) and (path / kind).exists():
            raise UsageError(
                f"holds {kind} that are not of this container", where=path, mend="give a new folder"
            )
    sources = {
        "movies": {scene: hd.movies.path(scene) for scene in hd.movies},
        "labels": {scene: hd.labels.path(scene) for scene in hd.labels},
    }
    kept = {
        s: key_frames(hd.movies[s] if s in hd.movies else hd.labels[s], hd.design)
        for s in sorted({*hd.movies, *hd.labels})
    }
    tables = {name: hd.table(name) for name in hd.table_names}
    return _commit(
        path, hd.design, hd.name, tables, sources, dict(hd.movies), dict(hd.labels), kept, hd.provenance
    )
