"""Stitching: from a scene's tiles to one movie. Layout, illumination, fusion, and how well it went."""

from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan, plan_scene
from hyped_imaging.stitch.scene import stitch_scene

__all__ = ["ScenePlan", "StitchParams", "plan_scene", "stitch_scene"]
