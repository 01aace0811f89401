"""The kept template of a model plugin: names, data files and the renderer behind ``hyped plugins new``."""
