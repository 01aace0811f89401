"""Splits: what a model learns from and what it is scored on, saved with hashes and held to by a leak test."""

from hyped_bench.splits.cells import FoldCells, RowFold, TimeSplit, fold_cells, replicate_split, time_split
from hyped_bench.splits.files import SavedSplit, load_split, make_split, save_split, verify_split
from hyped_bench.splits.folds import (
    GEARS_KINDS,
    Fold,
    SplitParams,
    genes_of,
    make_folds,
    split_record,
)
from hyped_bench.splits.leaks import Leak, LeakError, check_no_leak, find_leaks

__all__ = [
    "GEARS_KINDS",
    "Fold",
    "FoldCells",
    "Leak",
    "LeakError",
    "RowFold",
    "SavedSplit",
    "SplitParams",
    "TimeSplit",
    "check_no_leak",
    "find_leaks",
    "fold_cells",
    "genes_of",
    "load_split",
    "make_folds",
    "make_split",
    "replicate_split",
    "save_split",
    "split_record",
    "time_split",
    "verify_split",
]
