"""The journal of commands that do all steps: what is done again, what a hand changed, which folder is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyped_core.errors import UsageError
from hyped_core.process.journal import FILE, Journal, Step, check_edits, file_stamps, open_journal


class Work:
    """A chain of two steps: ``a`` writes ``a.txt`` from a number, ``b`` writes ``b.txt`` from what ``a.txt`` holds."""

    def __init__(self, folder: Path, number: int = 1, guarded: bool = True) -> None:
        self.journal = open_journal(folder, ["source"], "hyped test")
        self.done: list[str] = []
        self.a, self.b, self.more = folder / "a.txt", folder / "b.txt", folder / "more.txt"
        self.number = number
        self.chain = [
            Step("a", lambda: {"number": self.number}, [self.a], self._write_a, [self.more]),
            Step("b", lambda: {"a": self.journal.hash(self.a)}, [self.b], self._write_b, guarded=guarded),
        ]

    def _write_a(self) -> None:
        self.done.append("a")
        self.a.write_text(f"{self.number}")
        if self.number > 1:
            self.more.write_text("more")

    def _write_b(self) -> None:
        self.done.append("b")
        self.b.write_text(self.a.read_text() + " again")

    def run(self) -> list[str]:
        check_edits(self.journal, self.chain)
        for step in self.chain:
            self.journal.run(step.name, step.facts(), step.outputs, step.action, step.optional)
        return self.done


def test_a_step_is_done_once_and_again_for_other_facts(tmp_path: Path):
    assert Work(tmp_path / "out").run() == ["a", "b"]
    assert Work(tmp_path / "out").run() == []
    assert Work(tmp_path / "out", number=2).run() == ["a", "b"]
    assert (tmp_path / "out" / "b.txt").read_text() == "2 again"


def test_a_step_whose_result_is_the_same_does_not_make_the_next_one_again(tmp_path: Path):
    work = Work(tmp_path / "out")
    work.run()
    again = Work(tmp_path / "out")
    again.chain[0] = Step("a", lambda: {"number": 1, "version": 2}, [again.a], again._write_a)
    assert again.run() == ["a"]


@pytest.mark.parametrize("lost", ["a.txt", "b.txt", "more.txt"])
def test_a_file_that_is_gone_is_made_again(tmp_path: Path, lost: str):
    Work(tmp_path / "out", number=2).run()
    (tmp_path / "out" / lost).unlink()
    assert Work(tmp_path / "out", number=2).run()
    assert (tmp_path / "out" / lost).exists(), "also one that only some inputs give"


def test_what_a_hand_changed_is_followed_and_never_written_over(tmp_path: Path):
    Work(tmp_path / "out").run()
    (tmp_path / "out" / "a.txt").write_text("mine")
    assert Work(tmp_path / "out").run() == ["b"]
    assert (tmp_path / "out" / "b.txt").read_text() == "mine again"
    refused = Work(tmp_path / "out", number=5)
    with pytest.raises(UsageError, match="changed by hand") as caught:
        refused.run()
    assert caught.value.where.endswith("a.txt") and refused.done == []
    assert [path.name for path in refused.journal.edited("a")] == ["a.txt"]


def test_two_edits_in_a_chain_are_both_kept(tmp_path: Path):
    Work(tmp_path / "out").run()
    (tmp_path / "out" / "a.txt").write_text("mine")
    (tmp_path / "out" / "b.txt").write_text("mine too")
    with pytest.raises(UsageError) as caught:
        Work(tmp_path / "out").run()
    assert caught.value.where.endswith("b.txt") and (tmp_path / "out" / "b.txt").read_text() == "mine too"
    assert Work(tmp_path / "out", guarded=False).run() == ["b"], "a step that sets edits aside itself is not asked"


def test_a_step_that_fails_leaves_what_was_done(tmp_path: Path):
    broken = Work(tmp_path / "out")
    broken.chain[1] = Step("b", broken.chain[1].facts, [broken.b], lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.run()
    assert Work(tmp_path / "out").run() == ["b"]


def test_results_outside_the_folder_are_watched_too(tmp_path: Path):
    journal = open_journal(tmp_path / "steps", ["x"], "hyped test")
    result = tmp_path / "result.txt"
    journal.run("make", {}, [result], lambda: result.write_text("made") and None)
    assert Journal(tmp_path / "steps").edited("make") == []
    result.write_text("other")
    edited = Journal(tmp_path / "steps").edited("make")
    assert [path.resolve() for path in edited] == [result]
    result.unlink()
    assert Journal(tmp_path / "steps").stale("make", {})


def test_only_an_empty_folder_or_its_own_is_taken(tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("")
    open_journal(tmp_path / "mine", ["one"], "hyped test")
    for folder, source in (("file", "one"), ("other", "one"), ("mine", "two")):
        with pytest.raises(UsageError, match="folder" if folder == "file" else "hyped test|made from one"):
            open_journal(tmp_path / folder, [source], "hyped test")
    (tmp_path / "mine" / FILE).write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        open_journal(tmp_path / "mine", ["one"], "hyped test")


def test_stamps_tell_a_file_that_changed(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("one")
    before = file_stamps([path])
    path.write_text("more")
    assert file_stamps([path]) != before and file_stamps([path])[0][:2] == ["x", 4]
