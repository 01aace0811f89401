"""Every step on every scene, one after the other, each of them done once; then the container and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.context import RunContext
from hyped_core.errors import DesignError
from hyped_core.io.atomic import remove, replace
from hyped_core.process.journal import Journal, Step, check_edits, digest, open_journal
from hyped_imaging.modelstep import make_model, place_model
from hyped_imaging.process.layout import Layout
from hyped_imaging.process.params import ProcessParams
from hyped_imaging.process.source import Found

if TYPE_CHECKING:
    from hyped_core.design import Design
    from hyped_imaging.parallel import Workers


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
        """Do what is not done yet; returns the summary that is also written as ``summary.json``.

        Raises
        ------
        UsageError
            The folder holds something else, or a table that was changed by hand would have to be made again;
            nothing was done then.
        """
        from hyped_imaging.process.summary import write_summary

        self.check_design()
        journal = open_journal(self.layout.out, [path.name for path in self.found.paths], "hyped imaging process")
        chains = {scene: self._steps(scene, journal) for scene in self.found.scenes}
        for chain in chains.values():
            check_edits(journal, chain)
        for chain in chains.values():
            for step in chain:
                journal.run(step.name, step.facts(), step.outputs, step.action)
        self._finish(journal)
        return write_summary(self, journal)

    def check_design(self) -> None:
        """Refuse, before anything is done, a design that a later step would stop at.

        Raises
        ------
        DesignError
            There is nothing to find nuclei in, or one reporter without the other.
        """
        channels = ", ".join(channel.name for channel in self.design.channels) or "none"
        reporters = [self.design.reporter("G1"), self.design.reporter("S_G2M")]
        if (reporters[0] is None) != (reporters[1] is None):
            raise DesignError(
                "one reporter is named without the other", where="channels",
                mend=f"give a second channel `role: reporter`, or this one `role: other`; channels: {channels}",
            )  # fmt: skip
        if not (self.design.nuclear_channel() or reporters[0] or self.params.segment.config.get("channels")):
            raise DesignError(
                "no channel shows nuclei", where="channels",
                mend=f"give one of them `role: nuclei`; channels: {channels}",
            )  # fmt: skip

    def _steps(self, scene: str, journal: Journal) -> list[Step]:
        """The scene's steps in order."""
        lay = self.layout
        nuclei, tracks, phases = (lay.table(name, scene) for name in ("nuclei", "tracks", "phases"))

        def movie_key() -> str:
            return journal.steps.get(f"movie/{scene}", {}).get("key", "")

        chain = [
            Step(f"movie/{scene}", lambda: self._movie_facts(scene), [lay.movie(scene), lay.qc(scene)],
                 lambda: self._movie(scene)),
            Step(f"segment/{scene}", lambda: self._facts("segment", scene, movie_key()), [lay.labels(scene), nuclei],
                 lambda: self._segment(scene)),
            Step(f"track/{scene}", lambda: self._facts("track", scene, _hash(nuclei)), [tracks],
                 lambda: self._track(scene)),
            Step(f"geff/{scene}", lambda: {"tracks": _hash(tracks)}, [lay.geff(scene)], lambda: self._geff(scene),
                 guarded=False),
            Step(f"phases/{scene}", lambda: self._facts("phases", scene, _hash(tracks)), [phases],
                 lambda: self._phases(scene)),
        ]  # fmt: skip
        if self.release:
            facts = lambda: self._facts("export", scene, movie_key())  # noqa: E731
            chain.append(Step(f"release/{scene}", facts, [lay.release(scene)], lambda: self._release(scene)))
        return chain

    def _movie_facts(self, scene: str) -> dict[str, Any]:
        step = "stitch" if self.found.kind == "czi" else "import_movie"
        held = [self.found.identity(), self.found.scenes[scene], self.reader, self.design.timeline.imaging_start_h]
        return self._facts(step, scene, digest({"source": held}))

    def _facts(self, step: str, scene: str, before: str) -> dict[str, Any]:
        """What decides the result of a step: its input, parameters and model, the versions, and what it takes of
        the design (a model of another version or code, or another seed, is another result)."""
        from importlib.metadata import version

        facts: dict[str, Any] = {
            "step": step,
            "before": before,
            "params": self.params.section(step).model_dump(mode="json"),
            "versions": [version("hyped-core"), version("hyped-imaging")],
            "channels": [channel.model_dump(mode="json") for channel in self.design.channels],
        }
        if step in ("segment", "track"):
            facts |= {"model": self._models[step], "seed": self.context.seed}
        if step == "segment":
            facts["scene"] = self.design.scene(scene).model_dump(mode="json")
        return facts

    @cached_property
    def _models(self) -> dict[str, list[Any]]:
        """`_model_facts` of both models: the same for every scene, and asked for twice a step."""
        return {task: _model_facts(task, self.params, self.design) for task in ("segment", "track")}

    def _movie(self, scene: str) -> None:
        if self.found.kind == "czi":
            self._stitch(scene)
        else:
            self._import(scene)

    def _stitch(self, scene: str) -> None:
        from hyped_imaging.readers.czi import open_czi
        from hyped_imaging.stitch import plan_scene, stitch_scene

        with open_czi(self.found.paths[0], reader=self.reader, select=self.params.stitch.select) as czi:
            plan = plan_scene(czi, self.found.scenes[scene], self.params.stitch, self.design, strict=True)
            stitch_scene(
                czi, plan, self.layout.movie(scene), self.params.stitch, qc=self.layout.qc(scene),
                progress=self.context.progress, workers=self.workers,
            )  # fmt: skip

    def _import(self, scene: str) -> None:
        from hyped_core.io.atomic import write_json
        from hyped_imaging.movies.importing import import_movie

        record = import_movie(
            self.found.paths, self.layout.movie(scene), self.params.import_movie, self.design,
            workers=self.workers, progress=self.context.progress,
        )  # fmt: skip
        record = {**record, "movie": self.layout.movie(scene).name, "source": [path.name for path in self.found.paths]}
        write_json(self.layout.qc(scene), record)

    def _segment(self, scene: str) -> None:
        from hyped_core.container.movies import Movie
        from hyped_imaging.segment.step import segment_movie

        segment_movie(
            Movie.open(self.layout.movie(scene)), self.layout.labels(scene), self.layout.table("nuclei", scene),
            self.params.section("segment"), design=self.design, scene=scene, context=self.context,
            workers=self.workers,
        )  # fmt: skip

    def _track(self, scene: str) -> None:
        from hyped_imaging.track.step import read_table, track_table, write_table

        model, _, _ = make_model("track", self.params.section("track"), self.design)
        nuclei = read_table(self.layout.table("nuclei", scene))
        write_table(track_table(nuclei, model, context=self.context), self.layout.table("tracks", scene))

    def _geff(self, scene: str) -> None:
        from hyped_core.container.movies import Labels
        from hyped_imaging.exchange.geff import export_geff
        from hyped_imaging.track.step import read_table

        tracks, target = read_table(self.layout.table("tracks", scene)), self.layout.geff(scene)
        if target in Journal(self.layout.out).edited(f"geff/{scene}"):
            replace(target, target.with_name(f"{scene}.by-hand.geff"))  # read back by now, or about to be out of date
        remove(target)
        export_geff(tracks, target, labels=Labels.open(self.layout.labels(scene)))

    def _phases(self, scene: str) -> None:
        from hyped_imaging.phases.states import call_phases
        from hyped_imaging.track.step import read_table, write_table

        tracks = read_table(self.layout.table("tracks", scene))
        write_table(call_phases(tracks, self.design, self.params.phases), self.layout.table("phases", scene))

    def _release(self, scene: str) -> None:
        from hyped_core.container.movies import Movie
        from hyped_imaging.movies.release import export_frames

        remove(self.layout.release(scene))
        export_frames(
            Movie.open(self.layout.movie(scene)), self.layout.release(scene), self.params.export,
            workers=self.workers, progress=self.context.progress,
        )  # fmt: skip

    def _finish(self, journal: Journal) -> None:
        """Fractions and durations over all scenes, and the container's tables and manifest."""
        from hyped_core.container import assemble

        tables = {scene: self.layout.table("phases", scene) for scene in self.found.scenes}
        outputs = [self.layout.container / "manifest.json", self.layout.out / "phase_fractions.csv",
                   self.layout.out / "durations.csv"]  # fmt: skip

        def action() -> None:
            self._statistics(list(tables.values()), outputs[1], outputs[2])
            assemble(self.layout.container, design=self.design, nuclei=list(tables.values()))

        facts = {
            **self._facts("phases", "", ""),
            "design": self.design.model_dump(mode="json"),
            "tables": {scene: _hash(path) for scene, path in tables.items()},
            "movies": {scene: journal.steps[f"movie/{scene}"]["key"] for scene in tables},
        }
        journal.run("finish", facts, outputs, action)

    def _statistics(self, tables: Sequence[Path], fractions: Path, durations: Path) -> None:
        import pandas as pd

        from hyped_imaging.phases.durations import durations as phase_durations
        from hyped_imaging.phases.fractions import phase_fractions
        from hyped_imaging.track.step import read_table, write_table

        nuclei = pd.concat([read_table(path) for path in tables], ignore_index=True)
        write_table(phase_fractions(nuclei, self.params.phases), fractions)
        write_table(phase_durations(nuclei, self.params.phases), durations)


def _model_facts(task: str, params: ProcessParams, design: Design) -> list[Any]:
    """Name, parameters and code of a step's model."""
    from hyped_core.plugins.sources import model_modules, source_hash

    placed = place_model(task, params.section(task), design)
    placed.create()  # what it lacks is said before the first step
    return [placed.spec.key, placed.spec.target, placed.config, source_hash(model_modules(placed.spec))]


def _hash(path: Path) -> str:
    """Content of a table; empty where it is not there yet."""
    from hyped_core.io.hashing import sha256_file

    return sha256_file(path) if path.is_file() else ""
