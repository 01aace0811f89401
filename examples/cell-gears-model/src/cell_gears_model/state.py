"""A trained network as safetensors and JSON; cell-gears itself saves pickles, which nobody should load from others."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyped_core.errors import CorruptFileError, HypedError, MissingFileError

GRAPHS = ("G_coexpress", "G_coexpress_weight", "G_go", "G_go_weight")
TENSORS, FACTS = "network.safetensors", "network.json"
FORMAT = 1


@dataclass
class Network:
    """What `predict` needs.

    Attributes
    ----------
    genes : measured genes, in the network's order.
    perturbed : genes that can be perturbed, in the order of the graph.
    seen : those of them that training cells showed perturbed.
    options : arguments of the network other than its graphs.
    tensors : parameters under ``model.<name>`` and the graphs, on the CPU.
    """

    genes: list[str]
    perturbed: list[str]
    seen: list[str]
    options: dict[str, Any]
    tensors: dict[str, Any] = field(repr=False)

    def build(self, device: str) -> Any:
        """The library's own network with these parameters, for prediction.

        Raises
        ------
        CorruptFileError
            Parameters are missing or of another shape.
        """
        from gears.model import GEARS_Model

        graphs = {name: self.tensors[name] for name in GRAPHS}
        model = GEARS_Model({**self.options, **graphs, "device": device})
        parameters = {k.removeprefix("model."): v for k, v in self.tensors.items() if k.startswith("model.")}
        try:
            model.load_state_dict(parameters)
        except RuntimeError as error:
            raise CorruptFileError(f"parameters do not fit the network: {error}", where=TENSORS) from error
        return model.to(device).eval()

    def write(self, folder: Path) -> None:
        """Write both files."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {"format": FORMAT, "genes": self.genes, "perturbed": self.perturbed, "seen": self.seen}
        facts |= {"options": self.options, "tensors": sorted(self.tensors)}
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, folder / TENSORS)
        (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def read_network(folder: Path) -> Network:
    """Read what `Network.write` wrote.

    Raises
    ------
    MissingFileError, CorruptFileError
        A file is not there, is damaged, or does not belong to the other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (TENSORS, FACTS):
        if not (folder / name).is_file():
            raise MissingFileError("no network was saved here", where=folder / name, mend="give the folder of save()")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.pop("format") != FORMAT:
            raise CorruptFileError("of another format", where=folder / FACTS, mend="use the version that saved it")
        tensors = load_file(folder / TENSORS)
        if facts.pop("tensors") != sorted(tensors):
            raise CorruptFileError("the two files do not belong together", where=folder)
        network = Network(**facts, tensors=tensors)
        network.build("cpu")
    except HypedError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=folder) from error
    return network
