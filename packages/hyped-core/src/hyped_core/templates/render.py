"""Rendering the template of a plugin: a choice becomes the texts of its files, and these a folder, whole or not at all.

A template is a text in which ``@@word@@`` stands for a value; which files a choice has is decided here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hyped_core import __version__
from hyped_core.errors import UsageError
from hyped_core.io.atomic import scratch_path
from hyped_core.spec import TASKS
from hyped_core.templates.names import check_author, check_distribution, check_model, module_of

LICENCES = ("BSD-3-Clause", "MIT", "Apache-2.0")
CI = ("github", "none")
CAN_LEARN = ("expression", "embedding", "denoise")
"""Tasks whose contract has a `fit`: for these the template comes with and without learning."""
LEARNS_BY_DEFAULT = ("expression",)

_WORD = re.compile(r"@@(\w+)@@")
_SUMMARIES = {
    ("expression", True): "Control cells moved by the mean change of the training cells",
    ("expression", False): "Control cells in which only the perturbed genes themselves move",
    ("embedding", True): "Principal components of log counts",
    ("embedding", False): "Random projection of log counts",
    ("denoise", True): "Wiener's filter with the noise learned from the channel",
    ("denoise", False): "Mean of neighbouring frames",
    ("segment", False): "Threshold and connected components",
    ("track", False): "Nearest positions from frame to frame",
    ("demultiplex", False): "The highest hashtag where it stands clear of the second",
}
_ADVICE = {
    "expression": "put your method into `predict`",
    "embedding": "put your method into `embed` and `embed_perturbed`",
    "denoise": "put your method into `denoise`",
    "segment": "put your method into `segment`",
    "track": "put your method into `track`",
    "demultiplex": "put your method into `assign`",
}
_IMPORTS = {"expression": ("anndata", "numpy"), "embedding": ("anndata", "numpy", "scipy"),
            "denoise": ("numpy",), "segment": ("numpy", "scipy"), "track": ("numpy", "pandas", "scipy"),
            "demultiplex": ("anndata", "numpy", "pandas")}  # fmt: skip
_MORE_IMPORTS = {("expression", True): ("pandas",), ("embedding", True): ("pandas",), ("denoise", True): ("scipy",)}
_SEEDED = {("embedding", True), ("embedding", False)}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a new plugin; a wrong combination is a `UsageError`.

    Attributes
    ----------
    distribution : name of the folder and of the package (``my-model``).
    task : one of `hyped_core.spec.TASKS`.
    model : the name under which HYPED lists the model.
    author : who the licence and the citation name.
    year : of the copyright.
    licence, ci : one of `LICENCES` and of `CI`.
    learns : with `fit` of training data, `save` and `load`; for the tasks in `CAN_LEARN`.
    """

    distribution: str
    task: str
    model: str
    author: str
    year: int
    licence: str = "BSD-3-Clause"
    ci: str = "github"
    learns: bool = False

    def __post_init__(self) -> None:
        check_distribution(self.distribution)
        check_model(self.model)
        check_author(self.author)
        for what, value, known in (("task", self.task, TASKS), ("licence", self.licence, LICENCES),
                                   ("ci", self.ci, CI)):  # fmt: skip
            if value not in known:
                raise UsageError(f"there is no {what} {value!r}", where=f"--{what}", mend=f"one of {', '.join(known)}")
        if self.learns and self.task not in CAN_LEARN:
            raise UsageError(
                f"a model of the task {self.task} is given nothing to learn from: its contract has no fit",
                where="--learns",
                mend=f"leave --learns out; tasks with fit: {', '.join(CAN_LEARN)}",
            )

    @property
    def module(self) -> str:
        """Import name of the package."""
        return module_of(self.distribution)


def rendered(choice: Choice) -> dict[str, str]:
    """Path below the plugin's folder -> text of the file, sorted by path."""
    variant = f"{choice.task}-learns" if choice.learns else choice.task
    source = f"src/{choice.module}"
    templates = {
        ".gitignore": "common/gitignore",
        "CITATION.cff": "common/CITATION.cff",
        "LICENSE": f"licences/{choice.licence}",
        "README.md": "common/README.md",
        "pyproject.toml": "common/pyproject.toml",
        f"{source}/__init__.py": "common/__init__.py",
        f"{source}/model.py": f"models/{variant}.py",
        f"{source}/plugin.py": "common/plugin.py",
        "tests/test_model.py": f"tests/{variant}.py",
    }
    if choice.ci == "github":
        templates[".github/workflows/test.yml"] = "common/github-test.yml"
    values = _values(choice)
    return {place: _filled(template, values) for place, template in sorted(templates.items())}


def write_plugin(folder: Path, choice: Choice) -> list[str]:
    """Write a plugin into ``folder``, new or empty; returns the files' paths below it. Whole or not at all.

    Raises
    ------
    UsageError
        Something stands in the folder, or it cannot be a new one.
    """
    check_free(folder)
    texts = rendered(choice)
    with scratch_path(folder) as temporary:
        for place, text in texts.items():
            file = temporary / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        try:
            temporary.rename(folder)  # refused by the system where something came to stand there meanwhile
        except OSError as error:
            raise UsageError(f"cannot be made: {error.strerror}", where=folder, mend="give a new folder") from error
    return list(texts)


def check_free(folder: Path) -> None:
    """Raise `UsageError` where ``folder`` is not a new or empty folder with a name."""
    mend = "give the name of a new folder; nothing is ever overwritten"
    if folder.name in ("", ".."):
        raise UsageError("the new folder needs a name of its own", where=folder, mend=mend)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError("is there already, and is no folder", where=folder, mend=mend)
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError("is a folder with something in it", where=folder, mend=mend)
    for parent in folder.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise UsageError("is a file, no folder can be made in it", where=parent, mend=mend)
            break


def _values(choice: Choice) -> dict[str, str]:
    variant = (choice.task, choice.learns)
    summary = _SUMMARIES[variant]
    libraries = sorted({*_IMPORTS[choice.task], *_MORE_IMPORTS.get(variant, ()), "pydantic"})
    needed = [_core_range(), *libraries]
    return {
        "advice": _ADVICE[choice.task],
        "author": choice.author,
        "author_quoted": json.dumps(choice.author, ensure_ascii=False),
        "dependencies": ", ".join(json.dumps(line) for line in needed),
        "description": summary,
        "description_quoted": json.dumps(f"{summary}: a model for HYPED"),
        "distribution": choice.distribution,
        "licence": choice.licence,
        "model": choice.model,
        "module": choice.module,
        "seeded": str(variant in _SEEDED),
        "summary": summary,
        "task": choice.task,
        "title_quoted": json.dumps(f"{choice.distribution}: {summary}"),
        "year": str(choice.year),
    }


def _core_range(version: str = __version__) -> str:
    """The versions of hyped-core that the plugin is written for: up to the next that may break it."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return f"hyped-core>={major}.{minor},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def _filled(template: str, values: dict[str, str]) -> str:
    text = (files("hyped_core.templates") / "plugin" / f"{template}.tmpl").read_text(encoding="utf-8")
    return _WORD.sub(lambda found: values[found[1]], text)


__all__ = ["CAN_LEARN", "CI", "LEARNS_BY_DEFAULT", "LICENCES", "Choice", "check_free", "rendered", "write_plugin"]
