"""What a message holds, by duck typing: its digest, its envelope and its size. No flwr here.

A message's content is a RecordDict, which has `array_records`, `config_records` and `metric_records`, each by name.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from model.wire import CONFIG, HEADER, JSON, SIGNATURE, SIGNED, VERIFY

LARGEST = 1 << 30  # bytes of a message's content; a larger one is not read
LONGEST = 1 << 26  # characters of its JSON text


def content_digest(content: Any) -> str:
    """SHA-256 of everything in a message but its envelope, 64 hexadecimal digits.

    Names, types, shapes and bytes count, each with its length; the order in which a message lists them does not.

    Raises:
        TypeError: where it holds anything else.
    """
    arrays, plain, metrics = content.array_records, content.config_records, content.metric_records
    total = hashlib.sha256()
    for kind, records in (("arrays", arrays), ("plain", plain), ("metrics", metrics)):
        for name in sorted(set(records) - {SIGNED} if kind == "plain" else records):
            total.update(_told(kind.encode()) + _told(name.encode()))
            total.update(_arrays(records[name]) if kind == "arrays" else _values(records[name]))
    return total.hexdigest()


def _arrays(record: Mapping[str, Any]) -> bytes:
    found = hashlib.sha256()
    for name in sorted(record):
        array = record[name]
        shape = b"".join(_told(str(int(size)).encode()) for size in array.shape)
        about = (name.encode(), str(array.dtype).encode(), str(array.stype).encode(), shape)
        found.update(b"".join(_told(part) for part in about) + len(array.data).to_bytes(8, "big"))
        found.update(array.data)
    return found.digest()


def _values(record: Mapping[str, Any]) -> bytes:
    found = hashlib.sha256()
    for name in sorted(record):
        found.update(_told(name.encode()) + _told(_value(record[name])))
    return found.digest()


def _value(value: Any) -> bytes:
    """One plain value, told apart by its type."""
    if isinstance(value, list):
        return b"list" + b"".join(_told(_value(one)) for one in value)
    if isinstance(value, bool):
        return b"bool" + bytes([value])
    if isinstance(value, int):
        return b"int" + str(value).encode()
    if isinstance(value, float):
        return b"float" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"text" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"bytes" + value
    raise TypeError("a message holds a value of no known type")


def _told(part: bytes) -> bytes:
    """A part with its length in front, so that no two lists of parts are one text."""
    return len(part).to_bytes(8, "big") + part


def round_of(data: Mapping[str, Any]) -> int:
    """The round that the plain data of an order names; 0 where it names none."""
    number = data.get("round", data.get("step", 0))
    return number if type(number) is int else 0


def enveloped(content: Any) -> tuple[str, bytes, bytes]:
    """The text of a message's header, its signature and the key that it is said to be of; nothing is checked.

    Raises:
        KeyError, TypeError, ValueError: where the message has no envelope of that form.
    """
    record = content.config_records[SIGNED]
    text, signature, verify = (record[name] for name in (HEADER, SIGNATURE, VERIFY))
    if not isinstance(text, str) or not isinstance(signature, bytes) or not isinstance(verify, bytes):
        raise TypeError("an envelope holds a text and two byte strings")
    if len(record) != 3:
        raise ValueError("an envelope holds nothing else")
    return text, signature, verify


def check_size(content: Any) -> None:
    """Raises `ValueError` where a message is too large to be read; nothing of it is parsed before."""
    arrays = sum(len(a.data) for record in content.array_records.values() for a in record.values())
    values = [value for record in content.config_records.values() for value in record.values()]
    texts = sum(len(value) for value in values if isinstance(value, str | bytes))
    record = content.config_records.get(CONFIG, {})
    if arrays + texts > LARGEST or len(str(record.get(JSON, ""))) > LONGEST:
        raise ValueError("a message is larger than any honest one")
