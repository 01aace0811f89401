"""Denoisers of images and movies: zero-shot from the noise physics, FM2S, and the step that applies one to a movie."""
