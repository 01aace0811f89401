"""What the host knows of a plugin, and of a contribution: whose it is, what works, what does not and what mends it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any, Literal

from hyped_core.errors import type_and_text
from hyped_core.plugins.compatibility import FAMILY
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.folder import FOLDERS_VARIABLE
from hyped_core.plugins.hookspecs import HOOKS

BLOCK_VARIABLE = "HYPED_BLOCK_PLUGINS"
PROBING_VARIABLE = "HYPED_IN_PLUGIN"
"""Set while a stranger's plugin is imported: a ``hyped`` that it starts loads no strangers, so that none starts
itself without end."""
SLOW_IMPORT_S = 0.3
"""A plugin module that takes longer than this to import is noted as slow: every command pays for it."""
_LONGEST = 500


@dataclass(slots=True)
class PluginRecord:
    """A plugin as the host sees it.

    Attributes
    ----------
    name : the entry point's name.
    distribution, version : the package that declares it.
    module : the module the entry point names.
    folder : the source folder it was read from, empty where it is installed.
    blocked : why it was left out on purpose, or empty.
    faults : what could not be used: place (``load`` or a hook's name) -> reasons. All else stays in use.
    advice : what mends a fault while the plugin stays, where there is something.
    notes : what is worth saying though it works.
    traceback : of its failures, for ``hyped plugins list --verbose``.
    load_s : seconds its import took.
    hooks : names of the hooks it implements.
    writes_stdout : it writes to stdout when it is imported or asked; it is used all the same.
    """

    name: str
    distribution: str
    version: str
    module: str
    folder: str = ""
    blocked: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    traceback: str = ""
    load_s: float = 0.0
    hooks: tuple[str, ...] = ()
    writes_stdout: bool = False

    @property
    def own(self) -> bool:
        """Whether it comes with one of HYPED's own distributions."""
        return normal_name(self.distribution) in FAMILY

    @property
    def state(self) -> Literal["active", "broken", "blocked"]:
        """``broken`` where anything of it could not be used, whichever hook was asked first."""
        if self.blocked:
            return "blocked"
        return "broken" if self.faults else "active"

    @property
    def reason(self) -> str:
        """Why it is blocked, or everything that could not be used; the same whatever was asked for first."""
        order = ["load", *HOOKS]
        places = sorted(self.faults, key=lambda place: (order.index(place) if place in order else 99, place))
        return self.blocked or "; ".join(reason for place in places for reason in self.faults[place])

    @property
    def mend(self) -> str:
        """The commands that mend a broken plugin, the last of which get rid of it."""
        if self.state != "broken":
            return ""
        return ", or ".join([*dict.fromkeys(self.advice), self.removal])

    @property
    def removal(self) -> str:
        """The commands that get rid of it."""
        remove = f"pip uninstall {self.distribution}"
        if self.folder:
            correct = f"correct it (hyped plugins check {self.folder} names all that is wrong)"
            remove = f"{correct}, or leave its folder out ({FOLDERS_VARIABLE})"
        name = self.name if self.distribution == "unknown" else self.distribution
        return f"{remove}, or set {BLOCK_VARIABLE}={name}"

    @property
    def note(self) -> str:
        """What is worth saying about a plugin that works."""
        notes = list(dict.fromkeys(self.notes))
        if self.state == "active" and not self.hooks:
            notes.append("implements no hook of HYPED")
        if self.load_s > SLOW_IMPORT_S:
            notes.append(f"slow: its import takes {self.load_s:.2f} s, which every command pays")
        return "; ".join(notes)

    def fault(self, place: str, reason: str, error: BaseException | None = None, advice: str = "") -> None:
        """Note that something of it cannot be used; the same reason is kept once."""
        reasons = self.faults.setdefault(place, [])
        if reason not in reasons:
            reasons.append(reason)
            if advice:
                self.advice.append(advice)
            if error is not None:
                self.traceback += "".join(traceback.format_exception(error))


@dataclass(frozen=True, slots=True)
class Provided:
    """One contribution and the plugin it came from."""

    spec: Any
    plugin: PluginRecord


def said(error: BaseException) -> str:
    """An error by type and text, fit to be shown."""
    return plain(type_and_text(error))


def plain(text: str) -> str:
    """Text that may be shown: no control characters but line ends, and not endless."""
    shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in text[: _LONGEST + 1])
    return shown if len(text) <= _LONGEST else f"{shown[:_LONGEST]} ..."
