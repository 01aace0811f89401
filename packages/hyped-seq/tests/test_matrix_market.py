"""Matrix Market files: every form that holds counts is read, every other is refused with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.errors import CorruptFileError, HypedError, InvalidDataError, MissingFileError
from hyped_seq.readers import matrix_market
from hyped_seq.readers.matrix_market import read_matrix_market
from hyped_seq.readers.mex import read_mex

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def written(draw):
    """A shape and entries in the order of the file: any order, with repeats, zeros, and empty rows and columns."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    entry = st.tuples(st.integers(1, rows), st.integers(1, columns), st.integers(0, 2**31 - 1) | st.integers(0, 3))
    entries = draw(st.lists(entry, max_size=min(40, rows * columns * 2)))
    if draw(st.booleans()):
        entries.sort(key=lambda item: (item[1], item[0]))
    return rows, columns, entries


def text_of(rows, columns, entries, end="\n", space=" ", kind="integer", number=str, last_end=True):
    lines = [f"%%MatrixMarket matrix coordinate {kind} general", "%", f"{rows} {columns} {len(entries)}"]
    lines += [f"{i}{space}{j}{space}{number(v)}" for i, j, v in entries]
    return (end.join(lines) + (end if last_end else "")).encode()


def put(folder: Path, text: bytes, name: str = "matrix.mtx") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text, 1) if name.endswith(".gz") else text)
    return path


@quick
@given(
    matrix=written(),
    gz=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    space=st.sampled_from([" ", "\t", "  "]),
    last_end=st.booleans(),
    kind=st.sampled_from([("integer", str), ("real", lambda v: f"{v}.0"), ("real", lambda v: f"{v:.10e}")]),
    chunk=st.sampled_from([17, 64, 4 << 20]),
)
def test_what_was_written_is_read(matrix, gz, end, space, last_end, kind, chunk, tmp_path, monkeypatch):
    rows, columns, entries = matrix
    monkeypatch.setattr(matrix_market, "_CHUNK", chunk)
    text = text_of(rows, columns, entries, end, space, kind[0], kind[1], last_end)
    path = put(tmp_path, text, "matrix.mtx.gz" if gz else "matrix.mtx")
    dense = np.zeros((columns, rows), dtype=np.int64)
    for i, j, value in entries:
        dense[j - 1, i - 1] += value
    if dense.max() > 2**31 - 1:
        with pytest.raises(InvalidDataError, match="sum to more than 2147483647"):
            read_matrix_market(path)
        return
    read = read_matrix_market(path)
    assert (read.toarray() == dense).all() and read.dtype == np.int32
    check = read.copy()
    check.check_format(full_check=True)
    assert sp.csr_matrix((check.data, check.indices, check.indptr), shape=check.shape).has_canonical_format
    assert (read.data > 0).all(), "no zero is stored"


@quick
@given(matrix=written(), gz=st.booleans())
def test_scipy_reads_the_same(matrix, gz, tmp_path):
    rows, columns, entries = matrix
    entries = [(i, j, value % 1000) for i, j, value in entries]
    path = put(tmp_path, text_of(rows, columns, entries), "matrix.mtx.gz" if gz else "matrix.mtx")
    theirs = sp.coo_matrix(scipy.io.mmread(path))
    assert (read_matrix_market(path).toarray() == theirs.toarray().T).all()


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_a_gz_cut_anywhere(name, tmp_path, mex_writer):
    rng = np.random.default_rng(0)
    mex_writer(
        tmp_path, rng.integers(0, 9, (12, 7)), [f"cell{i}" for i in range(7)], [f"id{i}\tG{i}" for i in range(12)]
    )
    whole = (tmp_path / name).read_bytes()
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises((CorruptFileError, MissingFileError), match=name):
            read_mex(tmp_path)


@quick
@given(
    matrix=written(), at=st.integers(0, 200), what=st.binary(min_size=1, max_size=3), gz=st.booleans(), data=st.data()
)
def test_damage_is_a_typed_error_or_harmless(matrix, at, what, gz, data, tmp_path):
    whole = text_of(*matrix)
    if gz:
        whole = gzip.compress(whole, mtime=0)
    at %= len(whole)
    path = tmp_path / ("matrix.mtx.gz" if gz else "matrix.mtx")
    path.write_bytes(whole[:at] + what + whole[at + data.draw(st.integers(0, 3)) :])
    try:
        read = read_matrix_market(path)
    except HypedError as error:
        assert path.name in str(error)
    else:
        read.check_format(full_check=True)


HEAD = b"%%MatrixMarket matrix coordinate integer general\n%\n3 2 "


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b"", CorruptFileError, "line 1 has no %%MatrixMarket"),
        (b"\x00\x01\x02", CorruptFileError, "line 1 has no %%MatrixMarket"),
        (b"gene,cell\n1,2\n", CorruptFileError, "line 1 has no %%MatrixMarket"),
        (b"%%MatrixMarket matrix array real general\n1 1\n1\n", CorruptFileError, "line 1 says 'matrix array"),
        (b"%%MatrixMarket matrix coordinate pattern general\n", CorruptFileError, "line 1 says.*pattern"),
        (b"%%MatrixMarket matrix coordinate integer symmetric\n", CorruptFileError, "line 1 says.*symmetric"),
        (b"%%MatrixMarket matrix coordinate integer general\n", CorruptFileError, "line 1 does not say rows"),
        (HEAD + b"\n1 1 1\n", CorruptFileError, "line 3 does not say rows, columns and entries"),
        (HEAD + b"99999\n1 1 1\n", CorruptFileError, "line 3 says 99999 entries, more than the file has room"),
        (HEAD.replace(b"3 2", b"3 3000000000") + b"1\n1 1 1\n", CorruptFileError, "line 3 says more rows or col"),
        (HEAD + b"2\n1 1 1\n\n\n\n", CorruptFileError, "ends at line 7 after 1 entries, its header says 2"),
        (HEAD + b"1\n1 1 1\n\n2 1 1\n", CorruptFileError, "line 6 is one entry more than the 1 of its header"),
        (HEAD + b"2\n1 1 1\n4 2 1\n", CorruptFileError, r"line 5 \('4 2 1'\) is outside the 3 x 2"),
        (HEAD + b"2\n1 1 1\n1 3 1\n", CorruptFileError, "line 5 .*outside"),
        (HEAD + b"2\n1 1 1\n0 2 1\n", CorruptFileError, "line 5 .*outside"),
        (HEAD + b"2\n1 1 1\n\n% note\n2 1\n2 2 2\n", CorruptFileError, "line 7 is no entry: '2 1'"),
        (HEAD + b"1\n1 1 1 1\n", CorruptFileError, "line 4 is no entry"),
        (HEAD + b"1\n1 1 1_0\n", CorruptFileError, "line 4 is no entry"),
        (HEAD + b"1\n1 1 0x1\n", CorruptFileError, "line 4 is no entry"),
        (HEAD + b"1\n1 99999999999999999999 1\n", CorruptFileError, "line 4 .*outside"),
        (HEAD + b"2\n1 1 1\n2 1 -3\n", InvalidDataError, "line 5 has a count that is negative: '2 1 -3'"),
        (HEAD + b"2\n1 1 1\n2 1 0.5\n", InvalidDataError, "line 5 has a count that is not a whole number"),
        (HEAD + b"1\n1 1 nan\n", InvalidDataError, "line 4 .* not finite"),
        (HEAD + b"1\n1 1 -inf\n", InvalidDataError, "line 4 .* not finite"),
        (HEAD + b"1\n1 1 2147483648\n", InvalidDataError, "line 4 has a count that is above 2147483647"),
        (HEAD + b"1\n1 1 99999999999999\n", InvalidDataError, "line 4 has a count that is above 2147483647"),
        (HEAD + b"1\n1 1 " + b"1" * 6000 + b"\n", CorruptFileError, "line 4 is no entry"),
        (HEAD + b"1\n1 1 1..2\n", CorruptFileError, "line 4 is no entry"),
        (HEAD + b"1\n1 1 " + b"1" * 6000, CorruptFileError, "line 4 does not end"),
    ],
)
@pytest.mark.parametrize("name", ["matrix.mtx", "matrix.mtx.gz"])
def test_what_is_refused(text, kind, message, name, tmp_path):
    path = put(tmp_path, text, name)
    with pytest.raises(kind, match=message) as caught:
        read_matrix_market(path)
    assert str(path) in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingFileError, match="matrix.mtx"):
        read_matrix_market(tmp_path / "matrix.mtx")


def test_two_gzip_members_are_one_file(tmp_path):
    text = text_of(3, 2, [(1, 1, 4), (3, 2, 5)])
    path = tmp_path / "matrix.mtx.gz"
    path.write_bytes(gzip.compress(text[:60]) + gzip.compress(text[60:]))
    assert read_matrix_market(path).toarray().tolist() == [[4, 0, 0], [0, 0, 5]]
