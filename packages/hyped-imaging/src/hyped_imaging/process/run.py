"""Every step on every scene, one after the other, each of them done once; then the container and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.context import RunContext
from hyped_core.io.atomic import remove
from hyped_imaging.modelstep import make_model
from hyped_imaging.process.journal import Journal, digest
from hyped_imaging.process.params import ProcessParams
from hyped_imaging.process.source import Found

if TYPE_CHECKING:
    from hyped_core.design import Design
    from hyped_imaging.parallel import Workers


@dataclass(frozen=True)
class Layout:
    """Where everything lies in the output folder."""

    out: Path

    @property
    def container(self) -> Path:
        """The container, named as the folder is."""
        return self.out / f"{self.out.resolve().name}.hyped"

    def movie(self, scene: str) -> Path:
        """The scene's movie, in the container."""
        return self.container / "movies" / f"{scene}.zarr"

    def labels(self, scene: str) -> Path:
        """The scene's labels, in the container."""
        return self.container / "labels" / f"{scene}.zarr"

    def table(self, step: str, scene: str) -> Path:
        """What a step found in the scene: ``nuclei``, ``tracks`` or ``phases``."""
        return self.out / step / f"{scene}.parquet"

    def qc(self, scene: str) -> Path:
        """The record of stitching or importing the scene."""
        return self.out / "stitch" / f"{scene}.json"

    def geff(self, scene: str) -> Path:
        """The scene's tracks as a graph, for correcting by hand."""
        return self.out / "tracks" / f"{scene}.geff"

    def release(self, scene: str) -> Path:
        """The scene's frames as HDF5 files."""
        return self.out / "release" / scene


@dataclass
class Job:
    """One run of ``process``: what there is to do, and with what."""

    found: Found
    layout: Layout
    design: Design
    params: ProcessParams
    workers: Workers
    context: RunContext
    reader: str = "auto"
    release: bool = False

    def run(self) -> dict[str, Any]:
        """Do what is not done yet; returns the summary that is also written as ``summary.json``."""
        from hyped_imaging.process.summary import write_summary

        self.layout.out.mkdir(parents=True, exist_ok=True)
        journal = Journal(self.layout.out)
        for scene in self.found.scenes:
            self._movie(journal, scene)
            self._segment(journal, scene)
            self._track(journal, scene)
            self._phases(journal, scene)
            if self.release:
                self._release(journal, scene)
        self._finish(journal)
        return write_summary(self, journal)

    def _facts(self, step: str, scene: str, before: str | None, **more: Any) -> dict[str, Any]:
        """What decides the result of a step: its parameters, the design, our version, and its input."""
        from importlib.metadata import version

        section = self.params.section(step) if step != "finish" else None
        return {
            "step": step,
            "scene": scene,
            "before": before,
            "params": None if section is None else section.model_dump(mode="json"),
            "design": digest(self.design.model_dump(mode="json")),
            "version": version("hyped-imaging"),
            **more,
        }

    def _movie(self, journal: Journal, scene: str) -> None:
        step = "stitch" if self.found.kind == "czi" else "import_movie"
        facts = self._facts(step, scene, None, source=self.found.identity(), reader=self.reader)
        outputs = [self.layout.movie(scene), self.layout.qc(scene)]
        journal.run(f"movie/{scene}", facts, outputs, lambda: getattr(self, f"_{step}")(scene))

    def _stitch(self, scene: str) -> None:
        from hyped_imaging.readers.czi import open_czi
        from hyped_imaging.stitch import plan_scene, stitch_scene

        with open_czi(self.found.paths[0], reader=self.reader, select=self.params.stitch.select) as czi:
            plan = plan_scene(czi, self.found.scenes[scene], self.params.stitch, self.design, strict=True)
            stitch_scene(
                czi, plan, self.layout.movie(scene), self.params.stitch, qc=self.layout.qc(scene),
                progress=self.context.progress, workers=self.workers,
            )  # fmt: skip

    def _import_movie(self, scene: str) -> None:
        from hyped_core.io.atomic import write_json
        from hyped_imaging.movies.importing import import_movie

        record = import_movie(
            self.found.paths, self.layout.movie(scene), self.params.import_movie, self.design,
            workers=self.workers, progress=self.context.progress,
        )  # fmt: skip
        record = {**record, "movie": self.layout.movie(scene).name, "source": [path.name for path in self.found.paths]}
        write_json(self.layout.qc(scene), record)

    def _segment(self, journal: Journal, scene: str) -> None:
        from hyped_core.container.movies import Movie
        from hyped_imaging.segment.step import segment_movie

        def action() -> None:
            segment_movie(
                Movie.open(self.layout.movie(scene)), self.layout.labels(scene), self.layout.table("nuclei", scene),
                self.params.section("segment"), design=self.design, scene=scene, context=self.context,
                workers=self.workers,
            )  # fmt: skip

        facts = self._facts("segment", scene, journal.steps[f"movie/{scene}"]["key"])
        outputs = [self.layout.labels(scene), self.layout.table("nuclei", scene)]
        journal.run(f"segment/{scene}", facts, outputs, action)

    def _track(self, journal: Journal, scene: str) -> None:
        from hyped_imaging.track.step import read_table, track_table, write_table

        source, target = self.layout.table("nuclei", scene), self.layout.table("tracks", scene)

        def action() -> None:
            model, _, _ = make_model("track", self.params.section("track"), self.design)
            write_table(track_table(read_table(source), model, context=self.context), target)

        journal.run(f"track/{scene}", self._facts("track", scene, _hash(source)), [target], action)
        journal.run(
            f"geff/{scene}", {"tracks": _hash(target)}, [self.layout.geff(scene)],
            lambda: self._export_tracks(scene),
        )  # fmt: skip

    def _export_tracks(self, scene: str) -> None:
        from hyped_core.container.movies import Labels
        from hyped_imaging.exchange.geff import export_geff
        from hyped_imaging.track.step import read_table

        tracks = read_table(self.layout.table("tracks", scene))
        remove(self.layout.geff(scene))
        export_geff(tracks, self.layout.geff(scene), labels=Labels.open(self.layout.labels(scene)))

    def _phases(self, journal: Journal, scene: str) -> None:
        from hyped_imaging.phases.states import call_phases
        from hyped_imaging.track.step import read_table, write_table

        source, target = self.layout.table("tracks", scene), self.layout.table("phases", scene)

        def action() -> None:
            write_table(call_phases(read_table(source), self.design, self.params.phases), target)

        journal.run(f"phases/{scene}", self._facts("phases", scene, _hash(source)), [target], action)

    def _release(self, journal: Journal, scene: str) -> None:
        from hyped_core.container.movies import Movie
        from hyped_imaging.movies.release import export_frames

        def action() -> None:
            remove(self.layout.release(scene))
            movie = Movie.open(self.layout.movie(scene))
            export_frames(
                movie, self.layout.release(scene), self.params.export, workers=self.workers,
                progress=self.context.progress,
            )  # fmt: skip

        facts = self._facts("export", scene, journal.steps[f"movie/{scene}"]["key"])
        journal.run(f"release/{scene}", facts, [self.layout.release(scene)], action)

    def _finish(self, journal: Journal) -> None:
        """Fractions and durations over all scenes, and the container's tables and manifest."""
        from hyped_core.container import assemble

        tables = {scene: self.layout.table("phases", scene) for scene in self.found.scenes}
        outputs = [self.layout.container / "manifest.json", self.layout.out / "phase_fractions.csv",
                   self.layout.out / "durations.csv"]  # fmt: skip

        def action() -> None:
            self._statistics(list(tables.values()), outputs[1], outputs[2])
            assemble(self.layout.container, design=self.design, nuclei=list(tables.values()))

        hashes = {scene: _hash(path) for scene, path in tables.items()}
        movies = {scene: journal.steps[f"movie/{scene}"]["key"] for scene in tables}
        journal.run("finish", self._facts("finish", "", None, tables=hashes, movies=movies), outputs, action)

    def _statistics(self, tables: Sequence[Path], fractions: Path, durations: Path) -> None:
        import pandas as pd

        from hyped_imaging.phases.durations import durations as phase_durations
        from hyped_imaging.phases.fractions import phase_fractions
        from hyped_imaging.track.step import read_table, write_table

        nuclei = pd.concat([read_table(path) for path in tables], ignore_index=True)
        write_table(phase_fractions(nuclei, self.params.phases), fractions)
        write_table(phase_durations(nuclei, self.params.phases), durations)


def _hash(path: Path) -> str:
    from hyped_core.io.hashing import sha256_file

    return sha256_file(path)
