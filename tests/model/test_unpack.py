"""Arrays that somebody made up: read, or refused by one kind of error, and never larger than what they came in."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from model.wire import pack, unpack

PLAIN = pack(items=np.zeros((16, 32), np.uint8))
ENTRY, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def _at(mark: bytes, offset: int, value: int) -> bytes:
    raw = bytearray(PLAIN)
    raw[raw.find(mark) + offset] = value
    return bytes(raw)


def _zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def _header(text: str, content: bytes = b"") -> bytes:
    told = text.encode() + b"\n"
    return _zipped(("a.npy", b"\x93NUMPY\x01\x00" + len(told).to_bytes(2, "little") + told + content))


def _saved(write: Callable[..., None], array: np.ndarray) -> bytes:
    file = io.BytesIO()
    write(file, a=array)
    return file.getvalue()


def _overlapping() -> bytes:
    """Fifty entries of one and the same megabyte."""
    raw = pack(a=np.zeros(1 << 20, np.uint8))
    start, end = raw.find(ENTRY), raw.find(b"PK\x05\x06")
    closing = bytearray(raw[end:])
    closing[8:10] = closing[10:12] = (50).to_bytes(2, "little")
    closing[12:16] = (50 * (end - start)).to_bytes(4, "little")
    return raw[:start] + raw[start:end] * 50 + bytes(closing)


BROKEN = {
    "nothing": b"",
    "no archive": b"x" * 100,
    "encrypted": _at(ENTRY, 8, 1),
    "of another method": _at(ENTRY, 10, 97),
    "of a later version": _at(ENTRY, 6, 99),
    "cut": PLAIN[: len(PLAIN) // 2],
    "no array": _zipped(("a.npy", b"x" * 100)),
    "empty array": _zipped(("a.npy", b"")),
    "compressed": _saved(np.savez_compressed, np.zeros(10)),
    "overlapping": _overlapping(),
    "of objects": _saved(np.savez, np.array([None])),
    "of records": _saved(np.savez, np.zeros(3, [("a", "i4")])),
    "huge": _header("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,)}"),
    "beyond numbers": _header("{'descr': '<f8', 'fortran_order': False, 'shape': (%s,)}" % ("9" * 40)),
    "of nothing, often": _header("{'descr': '<U0', 'fortran_order': False, 'shape': (1099511627776,)}"),
    "negative": _header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -4)}", b"abcd"),
    "of a truth": _header("{'descr': '|u1', 'fortran_order': False, 'shape': (True,)}", b"a"),
    "too long": _header("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", b"abcd"),
    "no header": _header("[" * 5000),
    "a list": _header("[]"),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_honest_array_is_refused_by_one_kind_of_error(raw: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^(?!$)"):
            unpack(raw)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20


def test_no_changed_byte_raises_anything_else() -> None:
    refused = 0
    for place in range(len(PLAIN)):
        for value in (0x00, 0x01, 0xFF):
            try:
                unpack(PLAIN[:place] + bytes([PLAIN[place] ^ value]) + PLAIN[place + 1 :])
            except ValueError:
                refused += 1
    assert refused > len(PLAIN)


def test_what_is_packed_comes_out_as_it_was() -> None:
    given = {
        "numbers": np.arange(6.0).reshape(2, 3).T,
        "text": np.array("数字"),
        "empty": np.zeros((0, 33), np.uint8),
        "no text": np.array(""),
        "one": np.array(7, np.int64),
    }
    found = unpack(pack(**given))
    assert list(found) == list(given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
