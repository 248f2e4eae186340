"""Strict reading of plain data (JSON, TOML) into frozen dataclasses, and canonical bytes back.

Policy, request, state and fusion table are all read by the same rule: every key known, every number a whole number in
its range, every instant with an offset. Whatever is wrong raises `model.inputs.InputError` with the field's path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from model.inputs import InputError, refuse_unknown

T = TypeVar("T")
Source = str | Path
_SIMPLE = frozenset({type(None), bool, int, str})
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_Reader = Callable[[Any], Any]  # raises InputError with the path inside the value
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
    try:
        return cast(T, _reader(annotation)(data))
    except InputError as error:
        raise _inside(where, error, source) from None


def plain(value: object) -> Any:
    """Dataclasses, instants and tuples as what `json` can write; a float is a programming error.

    >>> plain({"a": (1, Text("x", "y"))})
    {'a': [1, {'pattern': 'x', 'rule': 'y'}]}
    """
    kind: Any = type(value)
    if kind in _SIMPLE:
        return value
    if kind is dict:
        items = cast(dict[str, Any], value).items()
        return {key: item if type(item) in _SIMPLE else plain(item) for key, item in items}
    if kind is tuple or kind is list:
        return [plain(item) for item in cast(Sequence[Any], value)]
    if is_dataclass(value):
        return {
            name: item if type(item := getattr(value, name)) in _SIMPLE else plain(item) for name in _names_of(kind)
        }
    if kind is datetime:
        return cast(datetime, value).isoformat()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(f"{kind.__name__} has no canonical form")


def canonical(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, no floats, UTF-8.

    >>> canonical({"b": 1, "a": "分"}).decode()
    '{"a":"分","b":1}'
    """
    return _encode(plain(value)).encode()


def joined(parts: Mapping[str, bytes]) -> bytes:
    """The canonical JSON of a table whose values are canonical JSON already.

    >>> joined({"b": canonical([1]), "a": b"null"})
    b'{"a":null,"b":[1]}'
    """
    return b"{" + b",".join(_member(name) + parts[name] for name in sorted(parts)) + b"}"


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON.

    >>> digest({})[:8]
    '44136fa3'
    """
    return sha256(canonical(value)).hexdigest()


@lru_cache(maxsize=1024)
def _member(name: str) -> bytes:
    return _encode(name).encode() + b":"


@cache
def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


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

    known = readers.keys()

    def call(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise InputError("", "", "must be a table of named fields", value)
        if not value.keys() <= known:
            refuse_unknown("", "", value, readers)
        for name in needed:
            if name not in value:
                raise InputError("", name, "is missing")
        found = {}
        for name, item in value.items():
            try:
                found[name] = readers[name](item)
            except InputError as error:
                raise _inside(name, error) from None
        return kind(**found)

    return call


def _whole(rule: Whole) -> _Reader:
    low, high = rule.low, rule.high

    def call(value: Any) -> int:
        if not isinstance(value, int) or value is True or value is False:
            raise InputError("", "", "must be a whole number, never a fraction", value)
        if not low <= value <= high:
            raise InputError("", "", f"must be from {low} to {high}", value)
        return value

    return call


def _text(rule: Text) -> _Reader:
    matches = re.compile(rule.pattern).fullmatch

    def call(value: Any) -> str:
        if not isinstance(value, str) or not matches(value):
            raise InputError("", "", rule.rule, value)
        return value

    return call


def _choice(allowed: tuple[str, ...]) -> _Reader:
    def call(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise InputError("", "", "must be one of " + ", ".join(allowed), value)
        return value

    return call


def _optional(inner: _Reader) -> _Reader:
    return lambda value: None if value is None else inner(value)


def _sequence(inner: _Reader) -> _Reader:
    def call(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise InputError("", "", "must be a list", value)
        try:
            return tuple(map(inner, value))
        except InputError:
            return tuple(_item(inner, item, f"[{at}]") for at, item in enumerate(value))

    return call


def _mapping(key: _Reader, inner: _Reader) -> _Reader:
    def call(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise InputError("", "", "must be a table", value)
        return {_item(key, k, str(k)): _item(inner, value[k], str(k)) for k in value}

    return call


def _item(inner: _Reader, value: Any, name: str) -> Any:
    try:
        return inner(value)
    except InputError as error:
        raise _inside(name, error) from None


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError("", "", "must be true or false", value)
    return value


def _instant(value: Any) -> datetime:
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InputError("", "", "is no date and time of the calendar", value) from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InputError("", "", "must be an instant with its offset", value, "write 2026-11-23T09:00:00+08:00")
    if not 2000 <= value.year <= 2200:
        raise InputError("", "", "must lie in the years 2000 to 2200", value.isoformat())
    return value


def _inside(name: str, error: InputError, source: Source = "") -> InputError:
    """The error of a part, told of the whole: `name` comes before its path."""
    join = "." if name and error.field and not error.field.startswith("[") else ""
    return InputError(source, f"{name}{join}{error.field}", error.rule, error.value, error.remedy)
