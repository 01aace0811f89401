"""A trained SCVI as parameters by name: made into scvi-tools' own model to embed, and written without pickles."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy import sparse

from hyped_core.errors import CorruptFileError, HypedError, MissingFileError

TENSORS, FACTS = "scvi.safetensors", "scvi.json"
FORMAT = 1


@dataclass
class Network:
    """What embedding needs.

    Attributes
    ----------
    genes : names, in the network's order.
    options : arguments of scvi-tools' SCVI.
    high : (genes,) counts of activated genes.
    tensors : parameters by name, on the CPU.
    """

    genes: list[str]
    options: dict[str, Any]
    high: npt.NDArray[np.float32] = field(repr=False)
    tensors: dict[str, Any] = field(repr=False)

    def build(self) -> Any:
        """scvi-tools' SCVI with these parameters."""
        model = made(anndata_of(sparse.csr_matrix(np.ones((8, len(self.genes)), np.float32)), self.genes), self.options)
        try:
            model.module.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise CorruptFileError(f"parameters do not fit the network: {error}", where=TENSORS) from error
        model.is_trained_ = True
        model.module.eval()
        return model

    def embed(self, counts: sparse.csr_matrix, device: str) -> npt.NDArray[np.float32]:
        """(cells, d) float32: the mean of the latent distribution; NaN for a cell without counts."""
        found = np.full((counts.shape[0], int(self.options["n_latent"])), np.nan, np.float32)
        usable = np.asarray(counts.sum(axis=1)).ravel() > 0
        if usable.any():
            model = self.build()
            model.to_device(device)
            cells = anndata_of(sparse.csr_matrix(counts[usable]), self.genes)
            found[usable] = model.get_latent_representation(cells)
        return found

    def write(self, folder: Path) -> None:
        """Write both files."""
        import torch
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.contiguous() for k, v in self.tensors.items()} | {"high": torch.from_numpy(self.high)}
        facts = {"format": FORMAT, "genes": self.genes, "options": self.options, "tensors": sorted(tensors)}
        save_file(tensors, folder / TENSORS)
        (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def made(cells: AnnData, options: dict[str, Any]) -> Any:
    """A new SCVI for cells with these genes."""
    from scvi.model import SCVI

    SCVI.setup_anndata(cells)
    return SCVI(cells, **options)


def anndata_of(counts: sparse.csr_matrix, genes: list[str]) -> AnnData:
    """Cells with nothing but counts."""
    names = pd.Index([f"c{i}" for i in range(counts.shape[0])])
    return AnnData(counts, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=pd.Index(genes)))


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
        if facts["format"] != FORMAT:
            raise CorruptFileError("of another format", where=folder / FACTS, mend="use the version that saved it")
        tensors = load_file(folder / TENSORS)
        if facts["tensors"] != sorted(tensors):
            raise CorruptFileError("the two files do not belong together", where=folder)
        high = tensors.pop("high").numpy()
        network = Network(facts["genes"], facts["options"], high, tensors)
        network.build()
    except HypedError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=folder) from error
    return network
