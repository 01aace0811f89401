"""Output folders of the sequencing steps: files are finished beside the folder and then moved in together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyped_core.errors import UsageError
from hyped_core.io.atomic import atomic_path


@contextmanager
def output_files(folder: str | Path, owned: Sequence[str]) -> Iterator[Path]:
    """Give an empty folder to write to; at the end its files replace those of an earlier run in ``folder``.

    ``owned`` are the names this step may write. Files of other names are left alone; owned ones that this run
    did not write are removed. Where the block raises, ``folder`` stays as it was.

    Raises
    ------
    UsageError
        ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file, a folder is needed", where=folder, mend="name another output folder")
    if not folder.exists():
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            yield temporary
        return
    with atomic_path(folder / ".staging") as staging:
        staging.mkdir()
        yield staging
        written = sorted(path.name for path in staging.iterdir())
        for name in written:
            (staging / name).replace(folder / name)
        for name in set(owned) - set(written):
            (folder / name).unlink(missing_ok=True)
    (folder / ".staging").rmdir()
