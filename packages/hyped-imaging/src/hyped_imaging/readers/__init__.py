"""Readers of microscope files: the structure of a CZI, its pixels by either CZI library, its times and
names."""

from hyped_imaging.readers.czi import CziFile, SceneInfo, open_czi

__all__ = ["CziFile", "SceneInfo", "open_czi"]
