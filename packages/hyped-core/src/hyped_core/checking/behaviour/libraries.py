"""The check of what a model says where a library that it needs is not installed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from hyped_core.blame import said
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import MissingDependencyError


def missing_library_named(subject: Subject) -> None:
    """Without the libraries in ``needs`` the model says which is missing and how to install it."""
    needed = subject.spec.needs.modules
    if not needed:
        raise CheckSkipped("the model needs no library beyond its package's own")
    if subject.remote:
        raise CheckSkipped("the model's libraries are those of its own environment")
    top = subject.spec.target.partition(":")[0].partition(".")[0]
    for name in needed:
        with _hidden(name, top):
            try:
                subject.make()
            except MissingDependencyError as error:
                if not error.mend:
                    raise CheckFailed(
                        f"without {name} it does not say how to install it",
                        where="needs.install",
                        mend=f'raise MissingDependencyError(..., mend="pip install ..."), or leave the test to '
                        f'ModelSpec.needs=Needs(modules=("{name}",), install="pip install ...")',
                    ) from error
            except Exception as error:
                raise CheckFailed(
                    f"without {name} it {said(error)}, expected MissingDependencyError",
                    where=f"needs.modules: {name}",
                    mend=f"raise hyped_core.errors.MissingDependencyError where {name} is absent, or import it "
                    "inside the methods that use it and leave the question to ModelSpec.needs",
                ) from error
            else:
                raise CheckFailed(
                    f"needs.modules names {name}, and without it the model is made all the same",
                    where=f"needs.modules: {name}",
                    mend=f"take {name} out of ModelSpec.needs.modules if the model does without it; else import it in "
                    "__init__, so that its absence shows before hours of work",
                )


@contextlib.contextmanager
def _hidden(module: str, package: str) -> Iterator[None]:
    """``module`` cannot be imported, and ``package``, the model's own, is imported anew."""
    names = [n for n in sys.modules if n.partition(".")[0] == package or n == module or n.startswith(f"{module}.")]
    saved = {name: sys.modules.pop(name) for name in names if package != "hyped_core"}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == package and n not in saved]:
            del sys.modules[name]
        del sys.modules[module]
        sys.modules.update(saved)
