"""Segmenters: find nuclei in one frame; measure them into the nuclei table."""
