"""A trained U-Net with the units it works in: denoising planes of any size, and its files (safetensors and JSON)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, HypedError, MissingFileError

TENSORS, FACTS = "unet.safetensors", "unet.json"
FORMAT = 1
TILE = 512
"""Largest edge of what goes through the network at once, its margin left out."""
REACH = 9
"""A pixel depends on those up to so many pixels of the coarsest level away: 2 of its own convolutions, less than 7 of
the finer levels' convolutions, pooling and interpolation."""


@dataclass
class Network:
    """What denoising needs.

    Attributes
    ----------
    mean, std : of the pixels it learned from, in camera units.
    options : arguments of CAREamics' U-Net.
    tensors : its parameters by name, on the CPU.
    """

    mean: float
    std: float
    options: dict[str, Any]
    tensors: dict[str, Any] = field(repr=False)

    def build(self, device: str) -> Any:
        """CAREamics' U-Net with these parameters, for prediction."""
        from careamics.models.unet import UNet

        net = UNet(**self.options)
        try:
            net.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise CorruptFileError(f"parameters do not fit the network: {error}", where=TENSORS) from error
        return net.to(device).eval()

    def denoise(self, plane: npt.NDArray[np.float32], net: Any, device: str) -> npt.NDArray[np.float32]:
        """(y, x) in camera units, tile by tile; each has around it what its pixels depend on."""
        import torch

        step = 2 ** int(self.options["depth"])
        margin = REACH * step
        height, width = plane.shape
        tall, wide = (-(-n // step) * step for n in plane.shape)
        edges = ((margin, margin + tall - height), (margin, margin + wide - width))
        scaled = np.pad((plane - self.mean) / self.std, edges, mode="reflect").astype(np.float32)
        out = np.empty((tall, wide), np.float32)
        with torch.no_grad():
            for y in range(0, tall, TILE):
                for x in range(0, wide, TILE):
                    rows, columns = min(TILE, tall - y), min(TILE, wide - x)
                    part = scaled[y : y + rows + 2 * margin, x : x + columns + 2 * margin]
                    given = torch.from_numpy(np.ascontiguousarray(part))[None, None].to(device)
                    found = net(given)[0, 0].cpu().numpy()
                    out[y : y + rows, x : x + columns] = found[margin : margin + rows, margin : margin + columns]
        return out[:height, :width] * np.float32(self.std) + np.float32(self.mean)

    def write(self, folder: Path) -> None:
        """Write both files."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        facts = {"format": FORMAT, "mean": self.mean, "std": self.std, "options": self.options}
        facts["tensors"] = sorted(self.tensors)
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
