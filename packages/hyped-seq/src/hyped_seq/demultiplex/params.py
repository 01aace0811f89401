"""Parameters of `hyped seq demultiplex`."""

from __future__ import annotations

from typing import Any

from hyped_core.params import Params


class DemultiplexParams(Params):
    """Which demultiplexer runs, with which settings."""

    model: str = "hashed"
    """Name of a registered demultiplexer, or ``distribution:name``."""
    config: dict[str, Any] = {}
    """The model's own settings (`hyped models info demultiplex/NAME`)."""
