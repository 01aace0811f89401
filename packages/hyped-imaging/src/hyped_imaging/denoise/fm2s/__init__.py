"""FM2S: a small network trained on one image (or one movie) with noise made from its own filtered copy."""
