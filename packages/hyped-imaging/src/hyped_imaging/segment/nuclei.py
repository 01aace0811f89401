"""The former name of the default segmenter; see `hyped_imaging.segment.fast`."""

from hyped_imaging.segment.fast import FastConfig as NucleiConfig
from hyped_imaging.segment.fast import FastSegmenter as NucleiSegmenter

__all__ = ["NucleiConfig", "NucleiSegmenter"]
