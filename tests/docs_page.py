"""A block of a page of docs, run as its reader would type it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def typed(language: str, text: str, folder: Path) -> str:
    """What a block prints when it is run in ``folder``."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    command = {"sh": ["sh", "-e", "-c", text], "python": [sys.executable, "-c", text]}[language]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
