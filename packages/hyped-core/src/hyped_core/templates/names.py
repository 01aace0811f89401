"""What a new plugin may be called: its folder and distribution, its module, and the model it registers."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata

from hyped_core.errors import UsageError

LONGEST = 60
"""Letters of a name: what the generated files hold on one line."""

_DISTRIBUTION = re.compile(r"^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$")
_MODEL = re.compile(r"^[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*$")
_USED = frozenset(
    {"anndata", "click", "hyped", "numpy", "packaging", "pandas", "pip", "pluggy", "pydantic", "pytest", "rich"}
    | {"scanpy", "scipy", "setuptools", "sklearn", "tests", "torch", "wheel", "yaml", "zarr"}
)
"""Modules that a plugin or its tests import, or that every environment has: one more of the name hides one of them."""
_OWN = ("hyped_core", "hyped_imaging", "hyped_seq", "hyped_bench")


def check_distribution(name: str) -> str:
    """The name of a folder, as the name of a distribution; returns it.

    Raises
    ------
    UsageError
        Not lower-case letters and digits in words joined by ``-`` or ``_``, too long, or its module's name is taken
        by Python, by HYPED or by a library that plugins use. The closest name that will do is given.
    """
    if not _DISTRIBUTION.match(name) or len(name) > LONGEST:
        raise UsageError(
            "the folder's name becomes the package's: lower-case letters and digits, starting with a letter, words "
            f"joined by '-' or '_', at most {LONGEST}",
            where=repr(name),
            mend=f"use {suggested(name)!r}",
        )
    taken = _taken(module_of(name))
    if taken:
        raise UsageError(f"its module {module_of(name)!r} would hide {taken}", where=repr(name),
                         mend=f"use {suggested(name)!r}")  # fmt: skip
    return name


def check_model(name: str) -> str:
    """The name of a model; returns it. A wrong one is a `UsageError` with the closest that will do."""
    if not _MODEL.match(name) or len(name) > LONGEST:
        raise UsageError(
            "a model's name is lower-case letters and digits, starting with a letter, words joined by '_' or '-', "
            f"at most {LONGEST}",
            where=repr(name),
            mend=f"use {module_of(_cleaned(name))!r}",
        )
    return name


def check_author(name: str) -> str:
    """Who the licence and the citation name; returns it without blanks at its ends."""
    if not name.strip() or any(unicodedata.category(letter).startswith("C") for letter in name) or "@@" in name:
        raise UsageError("an author is a name on one line", where=repr(name), mend="--author 'A. Name'")
    return name.strip()


def module_of(distribution: str) -> str:
    """The import name of a distribution: ``my-model`` -> ``my_model``."""
    return distribution.replace("-", "_")


def suggested(name: str) -> str:
    """The closest name of a distribution that will do."""
    cleaned = _cleaned(name)
    return f"{cleaned}-model" if _taken(module_of(cleaned)) else cleaned


def _cleaned(name: str) -> str:
    """Lower-case ASCII words joined by ``-``, starting with a letter."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", plain) if word]
    joined = "-".join(words) or "my-model"
    joined = joined if joined[0].isalpha() else f"model-{joined}"
    return joined[: LONGEST - 6].rstrip("-")


def _taken(module: str) -> str:
    """Whose name ``module`` is, or an empty text."""
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        return "a word of the Python language"
    if module in sys.stdlib_module_names or module == "test":  # the one package that Python's list leaves out
        return "a module of Python's standard library"
    if module in _OWN:
        return "a package of HYPED"
    return f"the package {module}" if module in _USED else ""
