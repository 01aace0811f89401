"""Compiled inner loops of segmenting and measuring: arrays in, arrays out, no files and no settings."""
