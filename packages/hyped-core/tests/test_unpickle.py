"""The unpickler: data comes through unchanged, programs do not run and are named."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import pickletools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io import unpickle
from hyped_core.io.unpickle import safe_load

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=3)
        | st.sets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_comes_through(value, protocol):
    assert safe_load(pickle.dumps(value, protocol), allow="plain") == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i4", ">i8", "f2", "f4", "f8", "c16", "U7", "S3"])
def test_numpy_numbers_come_through(dtype, protocol):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    given_values = {"a": array, "f": np.asfortranarray(array), "s": array[1, 2], "deep": [(array[0],)]}
    raw = pickle.dumps(given_values, protocol)
    back, by_pickle = safe_load(raw), pickle.loads(raw)
    assert type(back["a"]) is np.ndarray and back["a"].dtype == by_pickle["a"].dtype
    assert np.array_equal(back["a"], array) and np.array_equal(back["f"], array)
    assert type(back["s"]) is type(array[1, 2]) and back["s"] == array[1, 2]
    assert type(back["deep"][0][0]) is np.ndarray and np.array_equal(back["deep"][0][0], array[0])
    back["a"][0] = back["a"][1]  # writable, of its own


def test_numpy_is_not_plain():
    with pytest.raises(InvalidDataError, match="multiarray.scalar"):
        safe_load(pickle.dumps(np.float64(1)), allow="plain")


def test_ordered_dicts_and_scalars_as_keys():
    value = collections.OrderedDict([(np.int64(3), "c"), ("x", np.float32(0.5))])
    back = safe_load(pickle.dumps(value))
    assert list(back.items()) == [(3, "c"), ("x", 0.5)]


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touched(tmp_path: Path) -> str:
    return f"touch {tmp_path / 'pwned'}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("allow", ["plain", "numpy-scalars"])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, "system"),
        (subprocess.check_output, "subprocess.check_output"),
        (eval, "eval"),
        (exec, "exec"),
    ],
)
def test_programs_do_not_run(tmp_path, function, named, allow, protocol):
    code = touched(tmp_path) if named == "system" else f"__import__('os').system({touched(tmp_path)!r})"
    for value in (Runs(function, code), {"a": [1, (Runs(function, code),)]}):
        with pytest.raises(InvalidDataError, match="refused") as caught:
            safe_load(pickle.dumps(value, protocol), allow=allow)
        assert named.split(".")[-1] in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def stack_global(module: str, name: str) -> bytes:
    m, n = module.encode(), name.encode()
    return b"\x8c" + bytes([len(m)]) + m + b"\x8c" + bytes([len(n)]) + n + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "object"),
        ("builtins", "type"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("numpy", "dtype.__class__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "scalar.__class__"),
        ("numpy.testing._private.utils", "runstring"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("copyreg", "_reconstructor"),
        ("hyped_core.io.unpickle", "_Maker"),
        ("torch.storage", "_load_from_bytes"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ],
)
def test_every_way_to_more_is_refused(module, name):
    raw = b"\x80\x04" + stack_global(module, name) + b"."
    assert "STACK_GLOBAL" in {op.name for op, _, _ in pickletools.genops(raw)}
    with pytest.raises(InvalidDataError, match="refused") as caught:
        safe_load(raw)
    assert f"{module}.{name}" in str(caught.value)


MAKERS = sorted(unpickle.ALLOWED["numpy-scalars"] - {("collections", "OrderedDict")})


@pytest.mark.parametrize(("module", "name"), MAKERS)
def test_allowed_constructors_cannot_be_kept_or_changed(module, name):
    get = stack_global(module, name)
    for raw in (
        b"\x80\x04" + get + b".",  # kept as data
        b"\x80\x04" + get + b"}\x8c\x01aK\x01sb.",  # BUILD with a dict
        b"\x80\x04" + get + b"N}\x8c\x05_makeK\x01s\x86b.",  # BUILD with slots
    ):
        with pytest.raises(InvalidDataError):
            safe_load(raw)
    safe_load(pickle.dumps({"still": np.arange(3), "works": {1, 2}}))


def test_arrays_of_objects_records_and_dates_are_refused():
    for array in (
        np.array([{"a": 1}], dtype=object),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ):
        with pytest.raises(InvalidDataError, match="refused"):
            safe_load(pickle.dumps(array))


def test_an_array_that_lies_about_its_size_is_corrupt():
    raw = pickle.dumps(np.arange(4, dtype="i4"), protocol=2)
    assert raw.count(b"K\x04\x85") == 1
    with pytest.raises(CorruptFileError):
        safe_load(raw.replace(b"K\x04\x85", b"K\x7f\x85"))


def test_persistent_ids_are_refused():
    with pytest.raises(InvalidDataError, match="persistent"):
        safe_load(b"\x80\x02X\x01\x00\x00\x00aQ.")


@pytest.mark.parametrize(
    "raw", [b"", b"no pickle", pickle.dumps({"a": list(range(100))})[:-20], b"\x80\xff."]
)
def test_what_is_no_pickle_is_corrupt(raw):
    with pytest.raises(CorruptFileError):
        safe_load(raw)


def test_files_missing_and_present(tmp_path):
    with pytest.raises(MissingFileError):
        safe_load(tmp_path / "none.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.float64(2)}))
    assert safe_load(tmp_path / "a.pkl") == {"a": 2.0}
    assert safe_load(str(tmp_path / "a.pkl")) == {"a": 2.0}
    with pytest.raises(InvalidDataError, match="no allow-list"):
        safe_load(tmp_path / "a.pkl", allow="everything")


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(list(range(1000))))
    monkeypatch.setattr(unpickle, "MAX_BYTES", 100)
    with pytest.raises(CorruptFileError, match="more than"):
        safe_load(tmp_path / "a.pkl")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_never_raises_anything_else(data):
    raw = bytearray(
        pickle.dumps({"a": np.arange(3), "b": [np.float64(1), {"c": "d"}]}, data.draw(st.integers(0, 5)))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidDataError):
        safe_load(bytes(raw))


def test_the_official_dictionaries():
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", "")) / "geneformer"
    if not os.environ.get("HYPED_PUBLIC_DATA") or not folder.is_dir():
        pytest.skip("HYPED_PUBLIC_DATA names no folder with geneformer/")
    tokens = safe_load(folder / "token_dictionary.pkl")
    medians = safe_load(folder / "gene_median_dictionary.pkl")
    names = safe_load(folder / "gene_name_id_dict.pkl")
    assert len(tokens) == 25426 and tokens["<pad>"] == 0 and tokens["<mask>"] == 1
    assert medians[names["ACTB"]] > 0 and names["MYOD1"].startswith("ENSG")


def test_torch_states(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"w": torch.arange(3)}, tmp_path / "ok.pt")
    assert safe_load(tmp_path / "ok.pt", allow="torch-state")["w"].tolist() == [0, 1, 2]
    torch.save({"w": Runs(os.system, touched(tmp_path))}, tmp_path / "bad.pt")
    with pytest.raises(InvalidDataError, match="system"):
        safe_load(tmp_path / "bad.pt", allow="torch-state")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_tensors_in_plain_pickles(protocol):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    table = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    given = {
        "n": 3, "t": table, "turned": table.T, "part": table[1:, 1::2], "none": table[:0], "one": table[2, 3],
        "index": torch.tensor([[0, 1], [2, 3]]), "half": table.half(), "device": torch.device("cpu"),
        "array": np.arange(3), "deep": [(table[0],)],
    }  # fmt: skip
    back = safe_load(pickle.dumps(given, protocol), allow="torch-tensors")
    for name in ("t", "turned", "part", "none", "one", "index", "half"):
        assert back[name].dtype == given[name].dtype and torch.equal(back[name], given[name])
    assert back["n"] == 3 and back["device"] == "cpu" and back["array"].tolist() == [0, 1, 2]
    assert torch.equal(back["deep"][0][0], table[0])
    with pytest.raises(InvalidDataError, match="refused to unpickle torch"):
        safe_load(pickle.dumps(given, protocol))


def test_tensors_of_a_gpu_come_back_on_the_cpu():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    raw = pickle.dumps({"t": torch.arange(4.0)}, 4)
    inner = raw[raw.index(b"\x80\x02\x8a\n") :]
    on_gpu = inner.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0", 1)
    size = len(on_gpu) - len(inner)
    at = raw.index(inner)
    length = next(a for op, a, _ in pickletools.genops(raw) if isinstance(a, bytes) and len(a) > 100)
    old = b"B" + len(length).to_bytes(4, "little")
    moved = raw[:at].replace(old, b"B" + (len(length) + size).to_bytes(4, "little")) + on_gpu
    frame = moved.index(b"\x95") if b"\x95" in moved[:4] else None
    if frame is not None:
        count = int.from_bytes(moved[frame + 1 : frame + 9], "little") + size
        moved = moved[: frame + 1] + count.to_bytes(8, "little") + moved[frame + 9 :]
    assert b"cuda:0" in moved
    back = safe_load(moved, allow="torch-tensors")["t"]
    assert back.device.type == "cpu" and back.tolist() == [0, 1, 2, 3]


class Rebuilds:
    """Pickles as a call of the given global."""

    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


def test_programs_inside_of_tensors_do_not_run(tmp_path):
    """The bytes of a storage are a pickle within the pickle; what it mentions is refused too."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch._utils import _rebuild_tensor_v2
    from torch.storage import _load_from_bytes

    mark = tmp_path / "mark"
    evil = pickle.dumps(Rebuilds(os.system, f"touch {mark}"))
    old = []
    for new in (True, False):
        path = tmp_path / "evil.pt"
        torch.save({"w": Rebuilds(os.system, f"touch {mark}")}, path, _use_new_zipfile_serialization=new)
        old.append(path.read_bytes())
    for inner in (evil, *old):
        with pytest.raises(InvalidDataError):
            safe_load(pickle.dumps({"t": Rebuilds(_load_from_bytes, inner)}), allow="torch-tensors")
    storage = torch.arange(6.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    for args, kind in (
        ((typed, 0, (1000,), (1,), False, None), CorruptFileError),
        ((typed, 3, (4,), (1,), False, None), CorruptFileError),
        ((typed, 0, (2, 2), (100, 1), False, None), CorruptFileError),
        ((typed, 0, (1 << 40, 1 << 40), (0, 0), False, None), CorruptFileError),
        ((typed, -1, (2,), (1,), False, None), CorruptFileError),
        ((typed, 0, (2,), (1, 1), False, None), CorruptFileError),
        (("file", 0, (2,), (1,), False, None), InvalidDataError),
    ):
        with pytest.raises(kind):
            safe_load(pickle.dumps(Rebuilds(_rebuild_tensor_v2, *args)), allow="torch-tensors")
    for lone in (typed, {"s": typed}, [typed], Rebuilds(os.system, f"touch {mark}")):
        with pytest.raises(InvalidDataError):
            safe_load(pickle.dumps(lone), allow="torch-tensors")
    good = pickle.dumps({"t": torch.arange(6.0)})
    for cut in (1, 20, len(good) // 2, len(good) - 3):
        with pytest.raises(InvalidDataError):
            safe_load(good[:cut], allow="torch-tensors")
    assert not mark.exists()
