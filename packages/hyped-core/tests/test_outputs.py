"""`check_output`: what is read or is not the command's own is never replaced; its own former output is."""

from __future__ import annotations

import pytest

from hyped_core.errors import UsageError
from hyped_core.io.outputs import check_output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with a file that is read, a foreign folder, a made one and an empty one."""
    work = tmp_path / "work"
    for name in ("foreign", "made", "empty", "held/below"):
        (work / name).mkdir(parents=True)
    (work / "cells.h5ad").write_text("cells")
    (work / "foreign/notes.txt").write_text("mine")
    (work / "made/tokens.json").write_text("{}")
    (work / "held/tokens.json").write_text("{}")
    (work / "held/below/cells.h5ad").write_text("cells")
    (work / "link.h5ad").symlink_to("cells.h5ad")
    (work / "linked").symlink_to("foreign")
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("cells.h5ad", "is read"),
        ("made/../cells.h5ad", "is read"),
        ("link.h5ad", "is read"),
        ("held", "holds held/below/cells.h5ad"),
        ("held/", "holds held/below/cells.h5ad"),
        (".", "you are in"),
        ("", "you are in"),
        ("..", "lies above"),
        ("/", "lies above"),
        ("made/..", "you are in"),
        ("cells.h5ad/out", "below .*cells.h5ad, which is a file"),
    ],
)
def test_what_is_read_and_where_one_is_stays(here, kind, out, said):
    with pytest.raises(UsageError, match=said) as caught:
        check_output(out, kind=kind, inputs=["cells.h5ad", "held/below/cells.h5ad"], marks=["tokens.json"])
    assert caught.value.where == out and caught.value.mend


@pytest.mark.parametrize(
    ("out", "kind", "said"),
    [
        ("cells.h5ad", "folder", "is a file"),
        ("foreign", "file", "is a folder, where a file"),
        ("made", "file", "is a folder, where a file"),
        ("empty", "file", "is a folder, where a file"),
        ("foreign", "folder", "something else in it .notes.txt"),
        ("linked", "folder", "something else in it .notes.txt"),
    ],
)
def test_what_is_of_another_kind_or_of_somebody_else_stays(here, out, kind, said):
    with pytest.raises(UsageError, match=said):
        check_output(here / out, kind=kind, marks=["tokens.json"])


def test_new_names_empty_folders_and_former_outputs_are_free(here):
    for out in ("new", "new/deeper/", "empty", "made", "foreign/new"):
        check_output(out, kind="folder", inputs=["cells.h5ad", "foreign", "hub/id"], marks=["tokens.json", "other"])
    for out in ("new.h5ad", "cells.h5ad", "foreign/notes.txt", "new/deeper/x.h5ad"):
        check_output(out, kind="file", inputs=["made", "foreign"])
