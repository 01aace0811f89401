"""Checks of plugins: `static` looks at the package, `behaviour` puts its models to work on tiny data, `run` runs them.

``hyped plugins check`` and the kit in `hyped_core.testing` run the same checks. Imports nothing heavy.
"""

from hyped_core.checking.records import Check, CheckFailed, CheckRecord, CheckSkipped, Exercise, Subject

__all__ = ["Check", "CheckFailed", "CheckRecord", "CheckSkipped", "Exercise", "Subject"]
