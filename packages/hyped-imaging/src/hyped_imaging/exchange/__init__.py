"""Tracks to and from other programs: GEFF graphs and Cell Tracking Challenge folders."""
