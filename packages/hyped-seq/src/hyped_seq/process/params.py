"""Parameters of ``hyped seq process``: a section for each step, all of them with defaults."""

from __future__ import annotations

from hyped_core.params import Params
from hyped_seq.annotate.params import AnnotateParams
from hyped_seq.demultiplex.params import DemultiplexParams
from hyped_seq.ingest.params import IngestParams


class ProcessParams(Params):
    """One section a step, each as the step's own command reads it."""

    ingest: IngestParams = IngestParams()
    """Matrices and hashtags."""
    demultiplex: DemultiplexParams = DemultiplexParams()
    """The model that calls hashtags."""
    annotate: AnnotateParams = AnnotateParams()
    """Quality, phases, embedding, contrasts."""
