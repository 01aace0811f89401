"""Movies in and out: TIFF, HDF5 frames and OME-NGFF to HYPED's movie, and a movie to the HDF5 release."""

from hyped_imaging.movies.params import ExportParams, ImportParams
from hyped_imaging.movies.source import MovieSource

__all__ = ["ExportParams", "ImportParams", "MovieSource"]
