"""What makes torch repeat itself: flags for processes that load it, none that loads it here."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

VARIABLE = "HYPED_DETERMINISTIC"
"""Set to 1 where determinism was asked for; processes started from here inherit it."""
ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NVIDIA_TF32_OVERRIDE": "0", VARIABLE: "1"}
"""Read by cuBLAS when it makes its first handle (a workspace of fixed size, as NVIDIA's manual of cuBLAS asks for
reproducible results), and by NVIDIA's libraries (no TF32)."""


def make_deterministic() -> None:
    """Set the flags in this process, for torch at once where it is loaded, else when it is first imported.

    An operation that has no deterministic form then raises in torch: the model fails and says which, instead of
    giving a number that nobody can repeat.
    """
    os.environ.update(ENVIRONMENT)
    if "torch" in sys.modules:
        _set_flags(sys.modules["torch"])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _set_flags(torch: Any) -> None:
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def determinism_record() -> dict[str, Any]:
    """The flags as they stand, for a record: variables that are set, and torch's own where it is loaded."""
    found: dict[str, Any] = {name: os.environ[name] for name in sorted(ENVIRONMENT) if name in os.environ}
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "are_deterministic_algorithms_enabled"):
        found["torch"] = {
            "deterministic_algorithms": bool(torch.are_deterministic_algorithms_enabled()),
            "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
            "tf32": bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
        }
    return found


class _Finder(importlib.abc.MetaPathFinder):
    """Finds torch where the other finders do, and has the flags set once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of torch with a loader that sets the flags; None of any other module."""
        if fullname != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if self in sys.meta_path:  # not before: asking whether torch is installed comes here too
                sys.meta_path.remove(self)
            load(module)
            _set_flags(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
