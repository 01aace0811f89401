"""A trained network in a folder: weights as safetensors, and a JSON of what they need to be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io.atomic import write_json
from hyped_imaging.denoise.fm2s.constants import Constants
from hyped_imaging.denoise.fm2s.estimate import Scaling
from hyped_imaging.denoise.fm2s.network import make_network

FORMAT = "hyped-fm2s-1"
WEIGHTS, FACTS = "weights.safetensors", "fm2s.json"


def save_weights(folder: Path, network: nn.Module, constants: Constants, scaling: Scaling) -> None:
    """Write both files into ``folder``, which is made where it is missing."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, folder / WEIGHTS)
    facts = {
        "format": FORMAT,
        "constants": constants.as_dict(),
        "scaling": {"zero": scaling.zero, "unit": scaling.unit, "limits": list(scaling.limits)},
    }
    write_json(folder / FACTS, facts)


def load_weights(folder: Path) -> tuple[nn.Sequential, Constants, Scaling]:
    """Network (on the CPU), constants and scaling as `save_weights` wrote them.

    Raises
    ------
    MissingFileError
        No such folder, or one of its files is missing.
    CorruptFileError
        A file is not what it has to be, or the two do not fit each other.
    InvalidDataError
        A format this version does not know.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    mend = "give a folder that `save` (or hyped imaging denoise --save-weights) wrote"
    for name in (FACTS, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingFileError(f"holds no {name}", where=folder, mend=mend)
    facts = _facts(folder / FACTS, mend)
    try:
        constants = Constants(**facts["constants"])
        values = facts["scaling"]
        low, high = map(float, values["limits"])
        scaling = Scaling(float(values["zero"]), float(values["unit"]), (low, high))
        network = make_network(int(constants.channels), torch.Generator())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"constants or scaling are wrong: {error}", where=folder / FACTS, mend=mend) from error
    if not scaling.unit > 0:
        raise CorruptFileError(f"unit is {scaling.unit}, must be above 0", where=folder / FACTS, mend=mend)
    try:
        state = load_file(folder / WEIGHTS)
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        where = folder / WEIGHTS
        message = f"not the weights of a network of {constants.channels} channels: {error}"
        raise CorruptFileError(message, where=where, mend=mend) from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CorruptFileError("holds weights that are not finite", where=folder / WEIGHTS, mend=mend)
    return network, constants, scaling


def _facts(path: Path, mend: str) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptFileError(f"not JSON: {error}", where=path, mend=mend) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise InvalidDataError(f"format is {found!r}, expected {FORMAT!r}", where=path, mend=mend)
    return facts
