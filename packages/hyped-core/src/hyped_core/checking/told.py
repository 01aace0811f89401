"""What a static check tells of a model that cannot be made is not told again by the checks of its behaviour."""

from __future__ import annotations

import re
from dataclasses import replace

from hyped_core.checking.records import CheckRecord

MAKING = ("target", "config")
"""The static checks of what an instance is made of."""
GATE = "runs"
UNMADE = ("raises PluginError: ", "raises ParamsError: ")
"""Words of a failure that is one of making an instance."""


class ToldOnce:
    """Takes note of the records of static checks, then goes through those of behaviour, in their order."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._tellers: dict[tuple[str, str], str] = {}
        self._silent: dict[str, str] = {}

    def note(self, record: CheckRecord) -> None:
        """Hear the record of a static check; of those in `MAKING` a skipped one may name another that tells of it."""
        if record.bad:
            self._failed.add(record.check)
        if record.check in MAKING:
            other = re.search(r"see the check '(\w+)'", record.reason) if record.status == "skipped" else None
            if record.bad or other:
                self._tellers[record.model, record.check] = other[1] if other else record.check

    def again(self, record: CheckRecord) -> CheckRecord:
        """The record of a check of behaviour, skipped where it came to what a static check has told."""
        known = {check: self._tellers.get((record.model, check), "") for check in MAKING}
        teller = next((name for name in known.values() if name in self._failed), "")
        if not teller:
            return record
        if record.bad:
            unmade = any(words in record.reason for words in UNMADE)
            if not unmade and not (record.check == GATE and known["target"] == teller):
                return record
            if record.check == GATE:
                self._silent[record.model] = teller
        elif record.status != "skipped" or record.model not in self._silent or repr(GATE) not in record.reason:
            return record
        reason = f"the model cannot be made: see the check {teller!r}"
        return replace(record, status="skipped", where="", reason=reason, mend="")
