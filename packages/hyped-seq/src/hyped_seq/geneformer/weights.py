"""Weights of an encoder: read from a folder or a hub, checked key by key, and written so that HuggingFace reads them.

Tensors come from safetensors (mapped, one tensor at a time) or, where there is nothing else, from a
``pytorch_model.bin`` that may hold tensors only. Language heads and poolers are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    Problem,
    ValidationError,
)
from hyped_core.io.atomic import atomic_path, write_json
from hyped_core.io.hashing import sha256_file
from hyped_core.io.unpickle import safe_load
from hyped_seq.geneformer.architecture import Architecture
from hyped_seq.geneformer.hub import CONFIG, INDEX, PICKLED, TENSORS, resolve
from hyped_seq.geneformer.series import CLS, EOS, PAD

if TYPE_CHECKING:
    import torch

    from hyped_seq.geneformer.dictionaries import Dictionaries
    from hyped_seq.geneformer.encoder import Encoder

CARD = "geneformer.json"
"""What a model that was pretrained here is: its series and where it comes from."""

_HEADS = ("cls.", "pooler.", "classifier.", "qa_outputs.", "embeddings.position_ids")
_FLOATS = {"F64", "F32", "F16", "BF16", "torch.float64", "torch.float32", "torch.float16", "torch.bfloat16"}


@dataclass(frozen=True)
class Weights:
    """An encoder with its weights.

    Attributes
    ----------
    encoder : in ``eval`` mode.
    architecture : its sizes.
    sha256 : of the file its tensors came from (of several: over the lines ``<sha256>  <file>``, sorted by file).
    source : what was asked for: a folder or a hub id.
    folder : where the files lie.
    series : ``v1`` or ``v2`` where the folder says so, else None.
    """

    encoder: Encoder
    architecture: Architecture
    sha256: str
    source: str
    folder: Path
    series: str | None = None


@dataclass(frozen=True)
class _Stored:
    """One tensor in a file: its shape and type are known before it is read."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], torch.Tensor]


def load_weights(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Weights:
    """Load an encoder.

    Parameters
    ----------
    source
        A folder with ``config.json`` and ``model.safetensors`` (or its shards and their index, or
        ``pytorch_model.bin``), or a hub id (`hyped_seq.geneformer.hub`).
    device, dtype
        Where the weights go and as what; float32 by default.

    Raises
    ------
    MissingFileError, NetworkError
        No such folder, or a file in it is missing; a hub id that cannot be fetched.
    CorruptFileError
        A file is cut short, is not what its name says, or holds numbers that are not finite.
    UnsupportedDataError
        The configuration asks for something else than this encoder.
    ValidationError
        Keys are missing, not known, or of another shape than the configuration says: all of them, by name.
    InvalidDataError
        A pickle that mentions anything but tensors; nothing of it ran.
    """
    import torch

    from hyped_seq.geneformer.encoder import Encoder

    folder = resolve(source)
    architecture = read_config(folder)
    stored, files = _open_tensors(folder)
    with torch.device("meta"):
        encoder = Encoder(architecture)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    chosen = _match(stored, shapes, folder)
    encoder = encoder.to(dtype or torch.float32).to_empty(device=device)
    with torch.no_grad():
        for key, target in encoder.state_dict().items():
            target.copy_(_finite(chosen[key], key))
    encoder.eval()
    return Weights(encoder, architecture, _sha256(files), str(source), folder, _series(folder))


def read_config(folder: str | Path) -> Architecture:
    """The architecture that ``config.json`` in a folder of weights describes.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError, InvalidDataError
    """
    path = Path(folder) / CONFIG
    return Architecture.from_hf_config(_read_json(path), path)


def save_weights(
    folder: str | Path,
    encoder: Encoder,
    architecture: Architecture,
    head: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write ``config.json`` and ``model.safetensors``, which ``BertForMaskedLM.from_pretrained`` reads too.

    Parameters
    ----------
    head
        State of the language head under HuggingFace's names (``cls.predictions.bias``, ...). What is tied to the word
        embeddings (``cls.predictions.decoder.weight``) is left out.
    """
    import torch
    from safetensors.torch import save_file

    state = {f"bert.{key}": value for key, value in encoder.state_dict().items()}
    for key, value in (head or {}).items():
        if not key.startswith("cls."):
            raise InvalidDataError(f"a key of the head must begin with 'cls.', found {key!r}", where="head")
        if not key.startswith("cls.predictions.decoder."):
            state[key] = value
    plain = {
        key: value.detach().to("cpu", torch.float32, copy=True).contiguous() for key, value in sorted(state.items())
    }
    folder = Path(folder)
    with atomic_path(folder / TENSORS) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(plain, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)  # safetensors leaves a file that its owner alone can read
    write_json(folder / CONFIG, architecture.to_hf_config())


def check_fit(weights: Weights, dictionaries: Dictionaries, *, max_tokens: int | None = None) -> None:
    """Refuse dictionaries whose tokens mean something else to the weights, or sequences longer than they hold.

    Parameters
    ----------
    max_tokens
        Longest sequence that will be asked for; the series' own by default.

    Raises
    ------
    ValidationError
        Naming everything that does not fit.
    """
    a, series = weights.architecture, dictionaries.series
    problems = []
    if dictionaries.vocabulary != a.vocabulary:
        problems.append(
            Problem(
                "vocabulary",
                f"the dictionary has {dictionaries.vocabulary} tokens, the weights {a.vocabulary}",
                "give the dictionary that the weights were trained with",
            )
        )
    if weights.series is not None and weights.series != series.name:
        problems.append(
            Problem("series", f"the dictionary is of series {series.name}, the weights of {weights.series}")
        )
    specials = dictionaries.specials
    for token in series.specials:
        if token not in specials or not 0 <= specials[token] < a.vocabulary:
            what = "is missing" if token not in specials else f"is {specials[token]}, outside the vocabulary"
            problems.append(Problem(f"specials/{token}", f"{what}; series {series.name} needs it"))
    if not series.special and (CLS in specials or EOS in specials):
        problems.append(Problem("specials", f"holds {CLS} or {EOS}, which series {series.name} does not have"))
    if specials.get(PAD, a.pad) != a.pad:
        problems.append(Problem(f"specials/{PAD}", f"is {specials[PAD]}, for the weights {a.pad}"))
    wanted = series.max_tokens if max_tokens is None else max_tokens
    if wanted > a.positions:
        problems.append(
            Problem(
                "max_tokens",
                f"sequences of {wanted} tokens; the weights have {a.positions} positions",
                f"--max-tokens {a.positions} or less (in Python max_tokens), or weights of the dictionary's series",
            )
        )
    if problems:
        title = f"the dictionary ({dictionaries.where}) does not fit the weights ({a.label})"
        raise ValidationError(title, problems, where=weights.source)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError("there is no such file", where=path, mend="give a folder with the weights of a model")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFileError(f"is no JSON: {error}", where=path, mend="fetch the file again") from error
    if not isinstance(value, dict):
        raise CorruptFileError("holds no JSON object", where=path, mend="fetch the file again")
    return value


def _series(folder: Path) -> str | None:
    path = folder / CARD
    return _read_json(path).get("series") if path.is_file() else None


def _sha256(files: list[Path]) -> str:
    if len(files) == 1:
        return sha256_file(files[0])
    lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _open_tensors(folder: Path) -> tuple[dict[str, _Stored], list[Path]]:
    """Every tensor of a folder by its key, and the files they are in."""
    if (folder / TENSORS).is_file():
        return _open_safetensors(folder / TENSORS), [folder / TENSORS]
    if (folder / INDEX).is_file():
        return _open_shards(folder / INDEX)
    if (folder / PICKLED).is_file():
        return _open_pickled(folder / PICKLED), [folder / PICKLED]
    raise MissingFileError(
        f"holds neither {TENSORS} nor {INDEX} nor {PICKLED}", where=folder, mend="fetch the weights again"
    )


def _open_safetensors(path: Path) -> dict[str, _Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(path, framework="pt")
        slices = {key: handle.get_slice(key) for key in handle.keys()}
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(
            f"is no whole safetensors file: {error}", where=path, mend="fetch the file again"
        ) from error
    return {
        key: _Stored(path, tuple(part.get_shape()), part.get_dtype(), lambda key=key: handle.get_tensor(key))
        for key, part in slices.items()
    }


def _open_shards(index: Path) -> tuple[dict[str, _Stored], list[Path]]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CorruptFileError("has no weight_map of keys to files", where=index, mend="fetch the file again")
    shards: dict[str, dict[str, _Stored]] = {}
    for name in sorted(set(names.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidDataError(f"names {name!r}, which is no safetensors file beside it", where=index)
        if not (index.parent / name).is_file():
            raise MissingFileError(
                "there is no such file, which the index names", where=index.parent / name, mend="fetch it"
            )
        shards[name] = _open_safetensors(index.parent / name)
    problems = [
        Problem(key, f"is not in {name}, where the index has it", "fetch the files again")
        for key, name in names.items()
        if key not in shards[name]
    ]
    if problems:
        raise ValidationError("the index does not fit its files", problems, where=index)
    return {key: shards[name][key] for key, name in names.items()}, [index.parent / name for name in shards]


def _open_pickled(path: Path) -> dict[str, _Stored]:
    import torch

    state = safe_load(path, "torch-state")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CorruptFileError("holds no dictionary of tensors", where=path, mend=f"convert it to {TENSORS}")
    return {
        str(key): _Stored(path, tuple(value.shape), str(value.dtype), lambda value=value: value)
        for key, value in state.items()
    }


def _match(stored: Mapping[str, _Stored], shapes: Mapping[str, tuple[int, ...]], folder: Path) -> dict[str, _Stored]:
    """The encoder's tensors among those stored, under the encoder's names; whatever is wrong is said at once."""
    found, problems = {}, []
    for key, tensor in stored.items():
        name = key.removeprefix("bert.")
        if name in found:
            problems.append(Problem(key, "is there twice, with the prefix 'bert.' and without"))
        elif name in shapes:
            found[name] = tensor
        elif not name.startswith(_HEADS):
            problems.append(Problem(key, "is no tensor of the encoder that the configuration describes"))
    for name, shape in shapes.items():
        if name not in found:
            problems.append(Problem(f"bert.{name}", "is missing"))
        elif found[name].shape != shape:
            wide = " x ".join(map(str, shape))
            has = " x ".join(map(str, found[name].shape))
            problems.append(Problem(f"bert.{name}", f"is {has}; {CONFIG} says {wide}"))
        elif found[name].dtype not in _FLOATS:
            problems.append(Problem(f"bert.{name}", f"holds {found[name].dtype}, not floating point numbers"))
    if problems:
        shown = problems[:20]
        if len(problems) > len(shown):
            shown.append(Problem("...", f"and {len(problems) - len(shown)} more"))
        raise ValidationError(
            f"the tensors do not fit {CONFIG} ({len(problems)} of them)", shown, where=_file_of(stored, folder)
        )
    return found


def _file_of(stored: Mapping[str, _Stored], folder: Path) -> Path:
    files = {tensor.file for tensor in stored.values()}
    return files.pop() if len(files) == 1 else folder


def _finite(tensor: _Stored, key: str) -> torch.Tensor:
    """The tensor's values, once none of them is infinite or not a number."""
    import torch

    value = tensor.read()
    if not torch.stack(torch.aminmax(value)).isfinite().all():
        raise CorruptFileError(
            f"bert.{key} holds numbers that are not finite", where=tensor.file, mend="fetch the file again"
        )
    return value
