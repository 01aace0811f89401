"""The questions of a dataset's card that only people can answer, as fields of its manifest (Gebru et al. 2021).

Gebru et al., Datasheets for Datasets, Communications of the ACM 64:86-92. What can be counted is not asked here: it is
read from files. What nobody has answered is None and is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from hyped_core.params import Params


def _said(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    parts = (value,) if isinstance(value, str) else value
    if not parts or not all(part.strip() for part in parts):
        raise ValueError("is empty: leave the key out where the answer is not known")
    return value.strip() if isinstance(value, str) else tuple(part.strip() for part in parts)


Answer = Annotated[str | tuple[str, ...], AfterValidator(_said)] | None
"""A text (Markdown), or several points; None where the answer is not known."""


class Motivation(Params):
    """Why the dataset is there."""

    purpose: Answer = None
    """What was it made for?"""
    creators: Answer = None
    """Who made it?"""
    funding: Answer = None
    """Who paid for it?"""


class Composition(Params):
    """What it consists of."""

    instances: Answer = None
    """What does one record stand for?"""
    stated: Answer = None
    """What numbers does its source state?"""
    sampling: Answer = None
    """Is it complete, or a sample of something?"""
    truth: Answer = None
    """What is known of each record (labels, truth)?"""
    missing: Answer = None
    """What is missing, and why?"""
    relations: Answer = None
    """How do records relate to one another?"""
    splits: Answer = None
    """Which splits are recommended?"""
    errors: Answer = None
    """Which errors, noise or repetitions are known?"""
    people: Answer = None
    """Does it concern people, or hold anything confidential?"""


class Collection(Params):
    """How it was acquired."""

    how: Answer = None
    """How was it measured or made?"""
    who: Answer = None
    """Who collected it?"""
    when: Answer = None
    """Over what time?"""
    consent: Answer = None
    """Which ethical review or consent was there?"""


class Preprocessing(Params):
    """What was done to it."""

    done: Answer = None
    """What was done to the raw data?"""
    raw: Answer = None
    """Are the raw data kept?"""
    software: Answer = None
    """With which software?"""


class Uses(Params):
    """What it may be used for."""

    used: Answer = None
    """What has it been used for?"""
    suited: Answer = None
    """What is it good for?"""
    unsuited: Answer = None
    """What is it not good for?"""
    limits: Answer = None
    """What can it not show?"""


class Distribution(Params):
    """How it reaches others."""

    how: Answer = None
    """How is it distributed?"""
    form: Answer = None
    """In which form?"""
    restrictions: Answer = None
    """Which restrictions of others apply?"""


class Maintenance(Params):
    """Who looks after it."""

    who: Answer = None
    """Who maintains it?"""
    contact: Answer = None
    """Where can errors be reported?"""
    updates: Answer = None
    """Will it change, and are older versions kept?"""


class Datasheet(Params):
    """Answers about a dataset; every one may be left out."""

    research_only: str = ""
    """The makers' statement that restricts the use, shown at the top of the card; empty where there is none."""
    motivation: Motivation = Motivation()
    composition: Composition = Composition()
    collection: Collection = Collection()
    preprocessing: Preprocessing = Preprocessing()
    uses: Uses = Uses()
    distribution: Distribution = Distribution()
    maintenance: Maintenance = Maintenance()
    parts: dict[str, str] = {}
    """File or folder of the dataset -> what it is good for."""

    def sections(self) -> Iterator[tuple[str, list[tuple[str, str, str | tuple[str, ...] | None]]]]:
        """Title of a section, and its (key, question, answer) in order."""
        for name in SECTIONS:
            section = getattr(self, name)
            fields = type(section).model_fields
            yield name, [(key, str(field.description), getattr(section, key)) for key, field in fields.items()]

    def unknown(self) -> list[str]:
        """``section/key`` of every question without an answer."""
        return [f"{name}/{key}" for name, rows in self.sections() for key, _, answer in rows if answer is None]


SECTIONS = ("motivation", "composition", "collection", "preprocessing", "uses", "distribution", "maintenance")
