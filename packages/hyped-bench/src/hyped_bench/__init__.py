"""hyped-bench: see README.md of the package."""

__version__ = "0.1.0"
