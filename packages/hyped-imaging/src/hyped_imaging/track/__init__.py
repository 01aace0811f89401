"""Trackers: link nuclei over time by position in micrometres and time in hours, and find divisions."""
