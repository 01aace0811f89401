"""Helpers for tests of plugins: environments of ``dist-info`` folders, and hosts that see only them."""

from hyped_core.testing.plugins import isolated_host, make_distribution

__all__ = ["isolated_host", "make_distribution"]
