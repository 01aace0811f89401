"""Judgement of scored models: can a metric tell, is a model better than doing nothing, and in what words."""

from hyped_bench.judgement.entries import Entry, entries_of, primary_sources, read_entries
from hyped_bench.judgement.files import Judgement, read_judgement, write_judgement
from hyped_bench.judgement.judging import declared, judge, judge_entries
from hyped_bench.judgement.rankings import Ranking, Step, rank_as_planted

__all__ = [
    "Entry", "Judgement", "Ranking", "Step", "declared", "entries_of", "judge", "judge_entries", "primary_sources",
    "rank_as_planted", "read_entries", "read_judgement", "write_judgement",
]  # fmt: skip
