"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def reader_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--reader``: which library decodes a CZI."""
    return click.option(
        "--reader",
        type=click.Choice(["auto", "aicspylibczi", "pylibczirw", "direct"]),
        default="auto",
        show_default=True,
        help="What decodes the CZI; auto: aicspylibczi where installed; direct: no library, quickest in long files.",
    )(command)
