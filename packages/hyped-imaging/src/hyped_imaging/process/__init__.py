"""A user's own file from end to end: scenes to movies, nuclei, tracks, phases, one container and a summary."""
