"""The step ``track``: a table of nuclei in, the same table with tracks out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.contracts import Tracker
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io.atomic import atomic_path

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.context import RunContext


def read_table(path: str | Path) -> pd.DataFrame:
    """A parquet or CSV table.

    Raises
    ------
    MissingFileError, CorruptFileError
        Naming the file.
    """
    import pandas as pd

    path = Path(path)
    if path.is_dir():
        there = sorted(p.name for p in path.iterdir() if p.suffix in {".parquet", ".csv"})
        raise InvalidDataError(
            f"is a folder{', with ' + ', '.join(there[:5]) if there else ' without tables'}; one table is needed",
            where=path,
            mend=f"give {path / there[0]}" if there else "give the table that `hyped imaging segment` wrote",
        )
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="give the table that the step before wrote")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise many types for a broken file
        raise CorruptFileError(
            f"cannot be read as a table: {type(error).__name__}: {error}", where=path, mend="write it again"
        ) from error


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write parquet (CSV where the name says so), whole or not at all."""
    with atomic_path(path) as part:
        if Path(path).suffix == ".csv":
            table.to_csv(part, index=False, lineterminator="\n")
        else:
            table.to_parquet(part, index=False)


def track_table(objects: pd.DataFrame, model: Tracker, *, context: RunContext) -> pd.DataFrame:
    """Track scene by scene; the columns are checked afterwards: every object has a track or a reason.

    Raises
    ------
    InvalidDataError
        The tracker lost, added or reordered objects, or left one without track and reason.
    """
    import pandas as pd

    parts = []
    scenes = (
        [objects] if "scene" not in objects.columns else [g for _, g in objects.groupby("scene", sort=True)]
    )
    for objects_of_scene in scenes:
        given = objects_of_scene.reset_index(drop=True)
        tracked = model.track(given, None, context=context)
        parts.append(checked(tracked, given))
    if not parts:
        return checked(model.track(objects, None, context=context), objects)
    return pd.concat(parts, ignore_index=True)


def checked(tracked: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """A tracker's answer, if it is what the contract says."""
    for name in ("track_id", "parent_id"):
        if name not in tracked.columns:
            raise InvalidDataError(f"the tracker gave no {name}", where="track", mend="correct the tracker")
    keys = ["frame", "label"]
    if len(tracked) != len(given) or (tracked[keys].to_numpy() != given[keys].to_numpy()).any():
        raise InvalidDataError(
            "the tracker lost, added or reordered objects", where="track", mend="correct the tracker"
        )
    left = tracked["track_id"].to_numpy() <= 0
    if "unassigned_reason" not in tracked.columns:
        tracked = tracked.assign(unassigned_reason="")
    silent = left & (tracked["unassigned_reason"].fillna("") == "")
    tracked = tracked.assign(
        unassigned_reason=tracked["unassigned_reason"].mask(
            silent, "left out by the tracker without a reason"
        )
    )
    twice = tracked.loc[~left].duplicated(["track_id", "frame"])
    if twice.any():
        raise InvalidDataError(
            f"{int(twice.sum())} track(s) hold two objects of one frame",
            where="track",
            mend="correct the tracker",
        )
    return tracked.astype({"track_id": "int64", "parent_id": "int64"})


def summary(tracked: pd.DataFrame) -> dict[str, int]:
    """Numbers of objects, tracks, divisions and unassigned objects, over all scenes."""
    scene = ["scene"] if "scene" in tracked.columns else []

    def distinct(column: str) -> int:
        named = tracked.loc[tracked[column] > 0, [*scene, column]]
        return len(named.drop_duplicates())

    return {
        "objects": len(tracked),
        "tracks": distinct("track_id"),
        "divisions": distinct("parent_id"),
        "unassigned": int((tracked["track_id"] == 0).sum()),
    }
