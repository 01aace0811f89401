"""The check of what a model says of itself for the record of a run: its ``facts``."""

from __future__ import annotations

import json

from hyped_core.checking.behaviour.working import observed
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Subject

MEND = "let facts be a dict of plain numbers, text, lists and dicts: float(x), array.tolist(), str(path); None for NaN"


def facts_are_plain(subject: Subject) -> None:
    """``facts``, read after the model has worked, is a dict that JSON can hold."""
    facts = getattr(observed(subject).model, "facts", None)
    if facts is None:
        raise CheckSkipped("the model states no facts")
    if not hasattr(facts, "keys"):
        raise CheckFailed(f"is {type(facts).__name__}, expected a dict", where="facts", mend=MEND)
    try:
        json.dumps(dict(facts), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"cannot be written as JSON: {error}", where="facts", mend=MEND) from error


FACTS_ARE_PLAIN = Check(
    "facts_are_plain",
    ("expression", "embedding"),
    "Facts that cannot be written end a benchmark after all its work is done.",
    facts_are_plain,
)
