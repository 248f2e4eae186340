"""Strict reading of plain data (JSON, TOML) into frozen dataclasses, and canonical bytes back.

Policy, request, state and fusion table are all read by the same rule: every key known, every number a whole number in
its range, every instant with an offset. Whatever is wrong raises `model.inputs.InputError` with the field's path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from model.inputs import InputError, refuse_unknown

T = TypeVar("T")
Source = str | Path
_Reader = Callable[[object, Source, str], Any]
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, both included; within 2^53, so that any JSON reader keeps it exact.

    >>> Whole(0).high == 2**53 - 1
    True
    """

    low: int
    high: int = 2**53 - 1


@dataclass(frozen=True)
class Text:
    """A text that `pattern` matches in full; `rule` says so in words.

    >>> Text("[a-z]+", "must be lower case").rule
    'must be lower case'
    """

    pattern: str
    rule: str


Count = Annotated[int, Whole(0)]
Fen = Annotated[int, Whole(0, 10**14)]
Bp = Annotated[int, Whole(0, 10_000)]
Logit = Annotated[int, Whole(-(10**9), 10**9)]
Spread = Annotated[int, Whole(0, 10**9)]
Name = Annotated[str, Text("[a-z][a-z0-9]*(_[a-z0-9]+)*", "must be a lower_snake_case name")]
Label = Annotated[str, Text("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "must be 1 to 100 of A-Z a-z 0-9 . _ -")]
Sha256 = Annotated[str, Text("[0-9a-f]{64}", "must be 64 lower-case hexadecimal digits")]


def read(kind: type[T], data: object, source: Source, where: str = "") -> T:
    """`data` as the frozen dataclass `kind`, each field read by its annotation.

    Args:
        kind: a dataclass whose annotations are made of the types above, `bool`, `datetime`, `Literal`, `| None`,
            `tuple[X, ...]`, `Mapping[K, X]` and such dataclasses. A field with a default may be left out.
        data: what `json.loads` or `tomllib` gave.
        source: file or sender, for the message.
        where: the path of `data` within the source.

    Raises:
        InputError: names the field, the rule and the value.

    >>> @dataclass(frozen=True)
    ... class Ask:
    ...     fen: Fen
    >>> read(Ask, {"fen": 50_000}, "ask.json")
    Ask(fen=50000)
    >>> read(Ask, {"fen": 500.0}, "ask.json")
    Traceback (most recent call last):
    model.inputs.InputError: ask.json: fen must be a whole number, never a fraction, got 500.0.
    """
    annotation: Any = kind
    return cast(T, _reader(annotation)(data, source, where))


def plain(value: object) -> Any:
    """Dataclasses, instants and tuples as what `json` can write; a float is a programming error.

    >>> plain({"a": (1, Text("x", "y"))})
    {'a': [1, {'pattern': 'x', 'rule': 'y'}]}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, no floats, UTF-8.

    >>> canonical({"b": 1, "a": "分"}).decode()
    '{"a":"分","b":1}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON.

    >>> digest({})[:8]
    '44136fa3'
    """
    return sha256(canonical(value)).hexdigest()


@cache
def _reader(kind: Any) -> _Reader:
    """The function that reads one annotation; made once for each."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _whole(arguments[1]) if arguments[0] is int else _text(arguments[1])
    if origin in (Union, UnionType):
        return _optional(_reader(arguments[0]))
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple:
        return _sequence(_reader(arguments[0]))
    if origin is Mapping:
        return _mapping(_reader(arguments[0]), _reader(arguments[1]))
    if is_dataclass(kind):
        return _table(kind)
    if kind is bool:
        return _flag
    if kind is datetime:
        return _instant
    raise TypeError(f"no rule for reading {kind}")


def _table(kind: Any) -> _Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]

    def call(value: object, source: Source, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise InputError(source, where, "must be a table of named fields", value)
        if not value.keys() <= readers.keys():
            refuse_unknown(source, where, value, readers)
        for name in needed:
            if name not in value:
                raise InputError(source, _path(where, name), "is missing")
        return kind(**{name: readers[name](item, source, _path(where, name)) for name, item in value.items()})

    return call


def _whole(rule: Whole) -> _Reader:
    def call(value: object, source: Source, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(source, where, "must be a whole number, never a fraction", value)
        if not rule.low <= value <= rule.high:
            raise InputError(source, where, f"must be from {rule.low} to {rule.high}", value)
        return value

    return call


def _text(rule: Text) -> _Reader:
    matches = re.compile(rule.pattern).fullmatch

    def call(value: object, source: Source, where: str) -> str:
        if not isinstance(value, str) or not matches(value):
            raise InputError(source, where, rule.rule, value)
        return value

    return call


def _choice(allowed: tuple[str, ...]) -> _Reader:
    def call(value: object, source: Source, where: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise InputError(source, where, "must be one of " + ", ".join(allowed), value)
        return value

    return call


def _optional(inner: _Reader) -> _Reader:
    return lambda value, source, where: None if value is None else inner(value, source, where)


def _sequence(inner: _Reader) -> _Reader:
    def call(value: object, source: Source, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise InputError(source, where, "must be a list", value)
        return tuple(inner(item, source, f"{where}[{at}]") for at, item in enumerate(value))

    return call


def _mapping(key: _Reader, inner: _Reader) -> _Reader:
    def call(value: object, source: Source, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise InputError(source, where, "must be a table", value)
        return {key(k, source, _path(where, k)): inner(value[k], source, _path(where, k)) for k in value}

    return call


def _flag(value: object, source: Source, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(source, where, "must be true or false", value)
    return value


def _instant(value: object, source: Source, where: str) -> datetime:
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InputError(source, where, "is no date and time of the calendar", value) from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InputError(source, where, "must be an instant with its offset", value, "write 2026-11-23T09:00:00+08:00")
    if not 2000 <= value.year <= 2200:
        raise InputError(source, where, "must lie in the years 2000 to 2200", value.isoformat())
    return value


def _path(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)
