"""A trained classifier of phases as a JSON file, for experiments that have no sorted cells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.annotate.cycle_genes import names_in
from hyped_seq.annotate.phase_ring import RingModel

FORMAT = "hyped phase classifier 1"
ARRAYS = ("log_rate", "weight", "membership", "label", "density")


@dataclass(frozen=True, slots=True)
class PhaseClassifier:
    """A `RingModel` with the names that make it usable elsewhere.

    Attributes
    ----------
    genes : symbols of the model's genes; ``phases`` the names of its phases.
    temperature : divisor of the log likelihood.
    held_out_accuracy : on the sorted cells it was trained on, each left out in turn.
    """

    genes: tuple[str, ...]
    phases: tuple[str, ...]
    model: RingModel
    temperature: float
    held_out_accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, to be read again by `read_classifier`; numbers with 6 significant digits."""
        arrays = {name: _rounded(getattr(self.model, name)) for name in ARRAYS}
        return {
            "format": FORMAT,
            "genes": list(self.genes),
            "phases": list(self.phases),
            "temperature": self.temperature,
            "loudness": self.model.loudness,
            "held_out_accuracy": self.held_out_accuracy,
            **arrays,
        }

    def among(self, symbols: list[str]) -> tuple[PhaseClassifier, list[str]]:
        """The classifier of the genes that ``symbols`` hold (current or retired names), and their names there."""
        pairs = [(i, name) for i, name in enumerate(names_in(self.genes, symbols)) if name is not None]
        rows = [i for i, _ in pairs]
        model = RingModel(
            self.model.log_rate[:, rows],
            self.model.weight[rows],
            self.model.membership,
            self.model.label,
            self.model.density,
            self.model.loudness,
        )
        genes = tuple(self.genes[i] for i in rows)
        found = PhaseClassifier(genes, self.phases, model, self.temperature, self.held_out_accuracy)
        return found, [name for _, name in pairs]


def read_classifier(path: str | Path, phases: tuple[str, ...]) -> PhaseClassifier:
    """Read what `PhaseClassifier.to_json` gave; its phases have to be among ``phases``.

    Raises
    ------
    MissingFileError, InvalidDataError
        No such file, or it is no classifier of phases.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="give a phase_classifier.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidDataError(f"is not JSON ({error})", where=path, mend="give a phase_classifier.json") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InvalidDataError(f"is not a {FORMAT!r}", where=path, mend="give a phase_classifier.json")
    try:
        arrays = {name: np.array(values[name], dtype=np.float64) for name in ARRAYS}
        genes, names = tuple(map(str, values["genes"])), tuple(map(str, values["phases"]))
        temperature, accuracy = float(values["temperature"]), float(values["held_out_accuracy"])
        loudness = float(values["loudness"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidDataError(f"is damaged ({error})", where=path, mend="make it again") from error
    k, g, p = len(arrays["density"]), len(genes), len(names)
    shapes = {"log_rate": (k, g), "weight": (g,), "membership": (k, p), "label": (p, p), "density": (k,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise InvalidDataError(f"{name} is not {shape} finite numbers", where=path, mend="make it again")
    if not set(names) <= set(phases) or p < 2:
        raise InvalidDataError(f"has phases {names}", where=path, mend=f"phases are {', '.join(phases)}")
    if not (0 < temperature < np.inf and 0 <= loudness < np.inf):
        raise InvalidDataError("temperature or loudness is out of bounds", where=path, mend="make it again")
    return PhaseClassifier(genes, names, RingModel(**arrays, loudness=loudness), temperature, accuracy)


def _rounded(values: np.ndarray) -> Any:
    """Nested lists of numbers with 6 significant digits."""
    return [_rounded(row) for row in values] if values.ndim > 1 else [float(f"{value:.6g}") for value in values]
