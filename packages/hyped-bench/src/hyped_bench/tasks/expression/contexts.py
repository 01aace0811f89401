"""Cells of several lines or datasets in one file: said where control and perturbed cells are not of the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

COLUMNS = ("cell_type", "cell_line", "celltype", "dataset", "organism", "tissue_type")
"""Columns of ``obs`` that say where cells come from, as scPerturb and GEARS name them."""
APART = 0.1
"""Share of control cells that would have to come from elsewhere before it is said."""


def mixed_contexts(obs: pd.DataFrame, control: npt.NDArray[np.bool_], perturbed: npt.NDArray[np.bool_]) -> list[str]:
    """A line for each column in which control cells are of other kinds than the perturbed ones.

    Parameters
    ----------
    control, perturbed : masks (cells,) of the cells that are used.
    """
    said = []
    for column in (c for c in COLUMNS if c in obs):
        values = obs[column].astype(str).to_numpy()
        shares = [pd.Series(values[mask]).value_counts(normalize=True) for mask in (control, perturbed)]
        both = pd.concat(shares, axis=1).fillna(0.0)
        apart = float(both.diff(axis=1).iloc[:, 1].abs().sum() / 2)
        if apart > APART:
            said.append(
                f"{apart:.0%} of control cells are of another {column} than the perturbed ones "
                f"({', '.join(sorted(both.index))}): what tells these apart is scored as a change; keep one (`where`)"
            )
    return said
