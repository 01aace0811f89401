"""Tasks across the two modalities: composition at harvest, forecasts of movies, responses of one to the other."""

from hyped_bench.tasks.crossmodal.composition import CompositionTask
from hyped_bench.tasks.crossmodal.forecast import ForecastTask
from hyped_bench.tasks.crossmodal.response import ResponseTask

__all__ = ["CompositionTask", "ForecastTask", "ResponseTask"]
