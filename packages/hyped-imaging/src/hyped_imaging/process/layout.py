"""Where everything lies in the output folder of ``hyped imaging process``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths below ``out``, by scene."""

    out: Path

    @property
    def container(self) -> Path:
        """The container: the one that is there, else one named as the folder."""
        there = sorted(self.out.glob("*.hyped")) if self.out.is_dir() else []
        return there[0] if len(there) == 1 else self.out / f"{self.out.resolve().name}.hyped"

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
