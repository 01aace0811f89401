"""Parameters of ``hyped imaging process``: a section for each step, all of them with defaults."""

from __future__ import annotations

from hyped_core.params import Params
from hyped_imaging.modelstep import ModelStep
from hyped_imaging.movies.params import ExportParams, ImportParams
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.stitch.params import StitchParams

DEFAULT_SEGMENTER = "fast"
DEFAULT_TRACKER = "lap"


class ProcessParams(Params):
    """One section a step, each as the step's own command reads it."""

    stitch: StitchParams = StitchParams()
    """For CZI files."""
    import_movie: ImportParams = ImportParams()
    """For everything else."""
    segment: ModelStep = ModelStep()
    track: ModelStep = ModelStep()
    phases: PhaseParams = PhaseParams()
    export: ExportParams = ExportParams()
    """For ``--release``."""

    def section(self, step: str) -> Params:
        """The step's own parameters; models by their default names where none is given."""
        if step == "segment":
            return self.segment.model_copy(update={"model": self.segment.model or DEFAULT_SEGMENTER})
        if step == "track":
            return self.track.model_copy(update={"model": self.track.model or DEFAULT_TRACKER})
        return getattr(self, step)
