"""Noise2Void of CAREamics for HYPED."""
