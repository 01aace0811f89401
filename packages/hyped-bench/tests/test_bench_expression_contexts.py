"""Files that mix cell lines: said where control and perturbed cells are not of the same, and one can be kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hyped_bench.tasks.expression.contexts import mixed_contexts
from hyped_bench.tasks.expression.plain import where_of
from hyped_core.errors import UsageError


def said(control: list[str], perturbed: list[str]) -> list[str]:
    obs = pd.DataFrame({"cell_type": [*control, *perturbed], "note": "x"})
    is_control = np.arange(len(obs)) < len(control)
    return mixed_contexts(obs, is_control, ~is_control)


def test_lines_that_control_and_perturbed_cells_do_not_share_are_said():
    line = said(["K562"] * 10 + ["A549"] * 30, ["K562"] * 50)
    assert len(line) == 1 and line[0].startswith("75% of control cells are of another cell_type")
    assert "A549, K562" in line[0]


def test_the_same_lines_in_the_same_shares_are_no_matter():
    assert said(["K562"] * 10 + ["A549"] * 10, ["K562"] * 31 + ["A549"] * 29) == []
    assert said(["K562"] * 10, ["K562"] * 10) == []


def test_columns_are_kept_by_value():
    assert where_of(["cell_type=K562", "note=a=b"]) == {"cell_type": "K562", "note": "a=b"}
    for wrong in ("K562", "=K562"):
        with pytest.raises(UsageError, match="COLUMN=VALUE"):
            where_of([wrong])
