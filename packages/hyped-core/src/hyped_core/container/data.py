"""`HypedData`: one experiment in memory, its parts loaded when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hyped_core.container.extras import need
from hyped_core.container.labels import Labels
from hyped_core.container.manifest import CELL_TABLES, REMAKE, SPATIAL, TABLES, Manifest, read_manifest
from hyped_core.container.movies import Movie
from hyped_core.container.selection import Selection
from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, MissingFileError

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from spatialdata import SpatialData

    from hyped_core.container.links import Link

F = TypeVar("F", Movie, Labels)


class Scenes(Mapping[str, F], Generic[F]):
    """Scene name -> movie or labels, each opened when it is asked for."""

    def __init__(self, kind: type[F], paths: Mapping[str, Path], where: str) -> None:
        self._kind: type[F] = kind
        self._paths = dict(sorted(paths.items()))
        self._opened: dict[str, F] = {}
        self._where = where

    def __getitem__(self, scene: str) -> F:
        if scene not in self._paths:
            known = ", ".join(self._paths) or "none"
            raise InvalidDataError(
                f"there is no {self._kind.kind} of scene {scene!r}",
                where=self._where,
                mend=f"scenes there: {known}",
            )
        if scene not in self._opened:
            self._opened[scene] = self._kind.open(self._paths[scene])
        return self._opened[scene]

    def get(self, scene: str, default: Any = None) -> Any:  # type: ignore[override]
        """The movie or labels of a scene, ``default`` where there are none."""
        return self[scene] if scene in self._paths else default

    def __contains__(self, scene: object) -> bool:
        return scene in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Scenes({', '.join(self._paths)})"

    def path(self, scene: str) -> Path:
        """The folder of a scene; nothing is opened."""
        return self._paths[scene]

    def only(self, scenes: set[str]) -> Scenes[F]:
        """The same for some of the scenes."""
        return Scenes(self._kind, {s: p for s, p in self._paths.items() if s in scenes}, self._where)


class HypedData:
    """A perturbation experiment: design, movies, labels and tables, any subset of them.

    Read one with `HypedData.read`, or make one from AnnData objects and folders of movies and write it.
    Cells of the two modalities are never paired: `links` says by what they may be compared.

    Attributes
    ----------
    design : the experiment's `Design`.
    name : of the dataset.
    movies, labels : scene -> `Movie`, `Labels`, opened when asked for.
    provenance : how the container was made.

    Examples
    --------
    >>> hd = HypedData.read("mini.hyped")                              # doctest: +SKIP
    >>> hd.select(condition="mmMYOD1", time=(24, 48)).table("nuclei")  # doctest: +SKIP
    """

    def __init__(
        self,
        design: Design,
        *,
        name: str = "",
        tables: Mapping[str, AnnData] | None = None,
        movies: Mapping[str, str | Path] | None = None,
        labels: Mapping[str, str | Path] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        unknown = sorted(set(tables or {}) - set(TABLES))
        if unknown:
            raise InvalidDataError(f"there is no table {unknown[0]!r}", mend=f"tables: {', '.join(TABLES)}")
        self.design = design
        self.name = name or design.name
        self.provenance = dict(provenance or {})
        self.path: Path | None = None
        self.manifest: Manifest | None = None
        where = name or "container"
        self.movies: Scenes[Movie] = Scenes(Movie, {s: Path(p) for s, p in (movies or {}).items()}, where)
        self.labels: Scenes[Labels] = Scenes(Labels, {s: Path(p) for s, p in (labels or {}).items()}, where)
        self._tables: dict[str, AnnData] = dict(tables or {})
        self._stored: tuple[str, ...] = ()
        self._base: HypedData | None = None
        self.selection = Selection()

    @classmethod
    def read(cls, path: str | Path) -> HypedData:
        """Open a container; movies and tables are read when they are asked for.

        Raises
        ------
        MissingFileError, CorruptFileError, UnsupportedDataError, ValidationError
            No container, never finished or damaged, a part of it removed, written by a newer HYPED.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for part in manifest.parts:
            if not (path / part.path).exists():
                raise MissingFileError("a part of the container is gone", where=path / part.path, mend=REMAKE)
        hd = cls(
            manifest.design,
            name=manifest.name,
            movies={s: path / p.path for s, p in manifest.of_kind("movie").items()},
            labels={s: path / p.path for s, p in manifest.of_kind("labels").items()},
            provenance=manifest.provenance,
        )
        hd.path, hd.manifest = path, manifest
        hd._stored = tuple(manifest.tables)
        return hd

    def __repr__(self) -> str:
        parts = [f"{len(self.movies)} movies", f"{len(self.labels)} labels", *self.table_names]
        return f"HypedData({self.name!r}: {', '.join(parts)})"

    # ------------------------------------------------------------------ tables
    @property
    def table_names(self) -> tuple[str, ...]:
        """Tables that are there, in the order rna, isoform, hto, nuclei, tracks."""
        if self._base is not None:
            return tuple(n for n in self._base.table_names if n not in self.left_out)
        return tuple(n for n in TABLES if n in self._tables or n in self._stored)

    def table(self, name: str) -> AnnData:
        """One table, read with anndata alone; the same object every time.

        Raises
        ------
        InvalidDataError
            The container (or the selection) has no such table.
        """
        if name not in self.table_names:
            why = self.left_out.get(name)
            raise InvalidDataError(
                f"has no table {name!r}" + (f" under this selection: {why}" if why else ""),
                where=self.path or self.name,
                mend=f"tables there: {', '.join(self.table_names) or 'none'}",
            )
        if name not in self._tables:
            self._tables[name] = self._load(name)
        return self._tables[name]

    def _load(self, name: str) -> AnnData:
        if self._base is None:
            from hyped_core.io.tables import read_table_zarr

            return read_table_zarr(Path(self.path or "") / SPATIAL / "tables" / name)
        source = self._base.table(name)
        mask = self.selection.rows(name, source.obs, self.design.timeline.time_of("harvest"))
        return source[mask].copy()

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Tables that a selection leaves out whole, and why (empty where nothing was selected)."""
        if self._base is None:
            return {}
        found = dict(self._base.left_out)
        harvest = self.design.timeline.time_of("harvest")
        for name in self._base.table_names:
            outcome = self.selection.rows(name, self._base.table(name).obs, harvest)
            if isinstance(outcome, str):
                found[name] = outcome
        return found

    # ------------------------------------------------------------------ views by scverse
    @cached_property
    def sdata(self) -> SpatialData:
        """Tables and key frames as SpatialData; its tables are the objects that `table` gives."""
        from hyped_core.container.spatial import annotate, build, frame_elements, key_frames, read_rasters

        images: dict[str, Any] = {}
        labels: dict[str, Any] = {}
        if self._base is not None:
            wanted = self._elements()
            source = self._base.sdata
            images = {k: v for k, v in source.images.items() if k in wanted}
            labels = {k: v for k, v in source.labels.items() if k in wanted}
        elif self.path is not None and (self.path / SPATIAL).exists():
            stored = read_rasters(self.path / SPATIAL)
            images, labels = dict(stored.images), dict(stored.labels)
        else:
            for scene in sorted({*self.movies, *self.labels}):
                movie, mask = self.movies.get(scene), self.labels.get(scene)
                for index in key_frames(movie or mask, self.design):  # type: ignore[arg-type]
                    new_images, new_labels = frame_elements(scene, index, movie, mask)
                    images.update(new_images)
                    labels.update(new_labels)
        tables = {name: self.table(name) for name in self.table_names}
        if "nuclei" in tables and "region" in tables["nuclei"].obs:
            annotate(tables["nuclei"], labels)
        return build(images, labels, tables)

    def _elements(self) -> set[str]:
        """Names of the key frames that the selection keeps."""
        from hyped_core.container.nuclei import element_name
        from hyped_core.container.spatial import key_frames

        names = set()
        for scene in {*self.movies, *self.labels}:
            source = self.movies.get(scene) or self.labels.get(scene)
            for index in set(self.frames(scene)) & set(key_frames(source, self.design)):  # type: ignore[arg-type]
                names |= {element_name(scene, index), element_name(scene, index, labels=True)}
        return names

    @cached_property
    def mdata(self) -> MuData:
        """The tables as MuData: the same AnnData objects, no copies, no columns pulled between them."""
        mudata = need("mudata", "a MuData view")
        with mudata.set_options(pull_on_update=False):
            return mudata.MuData({name: self.table(name) for name in self.table_names})

    # ------------------------------------------------------------------ frames
    def frames(self, scene: str) -> list[int]:
        """Indices of a scene's frames within the selected hours."""
        source: Movie | Labels = self.movies[scene] if scene in self.movies else self.labels[scene]
        return self.selection.frames(source.time_h) if source.has_times else list(range(source.n_frames))

    def frame(self, scene: str, index: int) -> SpatialData:
        """One frame as SpatialData.

        Image ``<scene>_f<frame>``, labels ``<scene>_f<frame>_labels``, and the table ``nuclei`` of the frame.
        Coordinates are micrometres. Whatever the container lacks is absent from the result.
        """
        from hyped_core.container.spatial import build, frame_elements, nuclei_of_frame

        if scene not in self.movies and scene not in self.labels:
            _ = self.movies[scene]
        movie, labels = self.movies.get(scene), self.labels.get(scene)
        images, masks = frame_elements(scene, index, movie, labels)
        tables = {}
        if "nuclei" in self.table_names:
            tables["nuclei"] = nuclei_of_frame(self.table("nuclei"), scene, index, labels=bool(masks))
        return build(images, masks, tables)

    def select(
        self,
        *,
        condition: object = None,
        replicate: object = None,
        phase: object = None,
        time: tuple[float, float] | None = None,
        coarse: bool = False,
    ) -> HypedData:
        """A light view: scenes, tables and frames of these conditions, replicates, phases and hours.

        Each of the first three is one value or several. ``phase`` names phases of the tables' own systems or,
        with ``coarse=True``, of the coarse map {G1, S_G2M} that both modalities share. ``time`` is (lowest,
        highest) in hours, both included; cells count as taken at the design's event ``harvest``. A table that
        does not know a selected factor (cells have no replicate: the wells were pooled) is left out, and
        `left_out` says why.
        """
        chosen = Selection.make(self.design, condition, replicate, phase, time, coarse)
        view = HypedData(self.design, name=self.name, provenance=self.provenance)
        scenes = {s for s in {*self.movies, *self.labels} if chosen.scene_ok(self.design, s)}
        view.path, view.manifest, view._base = self.path, self.manifest, self
        view.movies, view.labels = self.movies.only(scenes), self.labels.only(scenes)
        view.selection = self.selection.and_(chosen)
        return view

    # ------------------------------------------------------------------ what it is, and keeping it
    def links(self) -> tuple[Link, ...]:
        """By what the nuclei and the cells of this container may be compared, and what to beware of."""
        from hyped_core.container.links import links

        cells = any(name in self.table_names for name in CELL_TABLES)
        return links(self.design, nuclei="nuclei" in self.table_names, cells=cells)

    def summary(self) -> dict[str, Any]:
        """What is there and what is absent, JSON-able; reads metadata, no table of a stored container."""
        from hyped_core.container.summary import summary

        return summary(self)

    def validate(self, *, quick: bool = False, deep: bool = False) -> None:
        """Check the container on disk; every problem is raised at once as `ValidationError`.

        ``quick`` skips the hashes, ``deep`` compares the labels of every frame with the nuclei table.
        """
        from hyped_core.container.validate import validate_container

        if self.path is None:
            raise InvalidDataError("is only in memory", where=self.name, mend="write it first")
        validate_container(self.path, quick=quick, deep=deep)

    def write(self, path: str | Path) -> HypedData:
        """Write the container (of a view: what it selects, movies whole) to a new folder and read it back."""
        from hyped_core.container.assembly import write_container

        return write_container(self, Path(path))
