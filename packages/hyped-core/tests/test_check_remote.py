"""The checks of a model in a process of its own say what they say of it here."""

from __future__ import annotations

import os
import re
import sys
from textwrap import dedent

import pytest

from hyped_core.checking.run import check_model
from hyped_core.plugins.host import PluginRecord
from hyped_core.plugins.registry import Provided
from hyped_core.remote.host import RemoteModel, Runner
from hyped_core.spec import ModelSpec

MODELS = """
    import json

    import numpy as np

    from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
    from hyped_core.stacks import check_stack


    class Good:
        level, facts = 0.0, {"levels": [1, 2.5]}

        def fit(self, stack, meta, *, context):
            self.level = float(np.float32(stack.mean() / 1000))

        def denoise(self, stack, meta, *, context):
            return check_stack(stack) + np.float32(self.level)

        def save(self, folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.json").write_text(json.dumps({"level": self.level}))

        def load(self, folder):
            if not (folder / "state.json").is_file():
                raise MissingFileError("no state", where=folder / "state.json")
            try:
                self.level = float(json.loads((folder / "state.json").read_text())["level"])
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptFileError("no state", where=folder / "state.json") from error


    class Bad(Good):
        "Fails in five ways."

        calls = 0

        def denoise(self, stack, meta, *, context):
            if 0 in stack.shape:
                raise IndexError("no such frame")
            if stack.shape[1:] == (61, 37):
                raise InvalidDataError("of an odd size")
            if stack.dtype == np.float32:
                stack = stack + 1
            self.calls += 1
            return (stack + self.calls) / meta.offset * 100

        def load(self, folder):
            self.level = float(json.loads((folder / "state.json").read_text())["level"])
"""
ONLY_HERE = {
    "interrupt_gets_out", "stdout_silent", "random_state_untouched", "scratch_alone_written", "network_unused",
    "process_untouched", "model_pickles", "channels_learn_apart",
}  # fmt: skip
"""Checks that look into the process of the model."""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The name of a module of models, for this process and those that it starts."""
    name = f"models_checked_far_away_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(dedent(MODELS))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def told(records):
    """Check -> state and what is said, but for the time and for the folder of the check."""
    return {
        r.check: (r.status, re.sub(r"hyped-check-\w+", "", r.reason), r.where, r.mend)
        for r in records
        if r.check not in ONLY_HERE
    }


@pytest.mark.parametrize("name", ["Good", "Bad"])
def test_a_model_gets_the_same_records_out_of_process(models, name):
    spec = ModelSpec("far", "denoise", f"{models}:{name}", seeded=False)
    here = check_model(spec)
    owner = PluginRecord("far", "far", "1", "")
    with RemoteModel("denoise", "far", Runner(), provided=Provided(spec, owner)) as remote:
        there = check_model(spec, remote.create, remote=True)
    assert told(there) == told(here)
    failed = {record.check for record in there if record.status == "failed"}
    assert {r.check for r in there if r.reason.startswith("the model runs in a process")} <= ONLY_HERE
    if name == "Good":
        assert failed == set()
    else:
        assert failed == {"calls_repeat", "damaged_state_refused", "frames_kept", "odd_sizes", "unknown_camera"}
