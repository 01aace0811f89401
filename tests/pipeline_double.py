"""A stand-in for the ``hyped`` command in tests of dvc.yaml: makes a stage's outputs from its inputs' content.

It is put on PATH as ``hyped`` in a copy of the repository. DVC tells it the stage's name; what the stage reads and
writes comes from ``stages.json``, resolved by DVC itself. So the graph is the real one and only the work is not done.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path


def digest(path: Path) -> str:
    """Hash of a file, or of everything in a folder, DVC's ignored files left out."""
    state = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if "__pycache__" not in file.parts:
            state.update(file.relative_to(path.parent).as_posix().encode())
            state.update(file.read_bytes())
    return state.hexdigest()


def main() -> None:
    name = os.environ["DVC_STAGE"]
    stages = json.loads(Path("stages.json").read_text())
    stage = stages[name]
    # the command's own parameters count as input; sources do not: they change a step, not its result, unless told so
    inputs = [p for p in stage["deps"] if not p.startswith("packages/")]
    text = " ".join(sys.argv[1:]) + "".join(digest(Path(p)) for p in inputs)
    marker = Path("behaviour") / name.split("@")[0]
    if marker.exists():
        text += marker.read_text()
    for out in stage["outs"]:
        path = Path(out)
        content = hashlib.sha256((text + out).encode()).hexdigest()
        if path.suffix in {".json", ".csv", ".parquet", ".h5ad"}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"value": int(content[:6], 16)}) if path.suffix == ".json" else content)
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / "content.txt").write_text(content)
            wanted = {dep for other in stages.values() for dep in other["deps"]}
            for inner in sorted(dep for dep in wanted if path in Path(dep).parents):
                if Path(inner).suffix:
                    Path(inner).parent.mkdir(parents=True, exist_ok=True)
                    Path(inner).write_text(content)
    with Path("ran.log").open("a") as log:
        log.write(name + "\n")


if __name__ == "__main__":
    main()
