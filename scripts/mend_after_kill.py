"""Mends what DVC leaves half-written where it is killed while it writes: ``dvc.lock`` and its table of readers.

Run before ``dvc repro``. A ``dvc.lock`` that is cut short gives way to the committed one (or to none); DVC then finds
what was finished in the workspace and in its run cache, so nothing is computed twice for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

LOCK = Path("dvc.lock")
READERS = Path(".dvc/tmp/rwlock")


def whole(text: str) -> bool:
    """Whether a lock file's text is YAML with a command in every stage, as DVC asks of it."""
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    stages = content.get("stages") if isinstance(content, dict) else None
    return isinstance(stages, dict) and all(
        isinstance(stage, dict)
        and "cmd" in stage
        and all({"path", "md5"} <= set(item) for part in ("deps", "outs") for item in stage.get(part) or ())
        for stage in stages.values()
    )


def mend() -> None:
    """Mend both files, and say so on stderr."""
    if LOCK.is_file() and not whole(LOCK.read_text(errors="replace")):
        kept = subprocess.run(["git", "show", f"HEAD:{LOCK}"], capture_output=True, text=True, check=False)
        if kept.returncode == 0 and whole(kept.stdout):
            LOCK.write_text(kept.stdout)
            said = "the committed one is taken"
        else:
            LOCK.unlink()
            said = "it is made anew"
        sys.stderr.write(f"{LOCK} was cut short by a killed run; {said}, finished stages are found in the cache\n")
    if READERS.is_file():
        try:
            json.loads(READERS.read_text())
        except ValueError:
            READERS.unlink()
            sys.stderr.write(f"{READERS} was cut short by a killed run and is made anew\n")


if __name__ == "__main__":
    mend()
