"""Strict reading of JSON text: the one rule for requests from a file, a batch or a service.

Refused, with the field's path: a name given twice, fractions, NaN and Infinity, numbers of more digits than any field
takes, names that are no short line, half of a surrogate pair. Refused as a whole: what is not UTF-8, not JSON, too
large or nested too deeply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from model.inputs import InputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 19
MAX_NAME = 100
_HALF = "must not hold half of a surrogate pair"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)


class _Refused(ValueError):
    """What is wrong with a value, or with the named one inside it; the path is found by `_place` where it is needed."""

    def __init__(self, name: str, rule: str, value: object = None) -> None:
        self.name, self.rule, self.value = name, rule, value


def loads(text: bytes | str, source: str | Path) -> object:
    """The value of one JSON text.

    Args:
        text: UTF-8, at most `MAX_BYTES` long and `MAX_DEPTH` deep.
        source: file or sender, for the message.

    Raises:
        InputError: names the rule, and the field where there is one.

    >>> loads('{"a": [1, {"b": 2}]}', "ask.json")
    {'a': [1, {'b': 2}]}
    >>> loads('{"a": [1, {"b": 2, "b": 3}]}', "ask.json")
    Traceback (most recent call last):
    model.inputs.InputError: ask.json: a[1].b is given twice.
    """
    if len(text) > MAX_BYTES:
        raise InputError(source, "", f"must be at most {MAX_BYTES} bytes", len(text))
    try:
        decoded = text if isinstance(text, str) else text.decode()
        if isinstance(text, str):
            text.encode()
    except UnicodeError:
        raise InputError(source, "", "is not UTF-8 text", remedy="write it as UTF-8") from None
    if not decoded.strip():
        raise InputError(source, "", "is empty")
    if decoded.count("{") + decoded.count("[") > MAX_DEPTH and _too_deep(decoded):
        raise InputError(source, "", f"must not be nested deeper than {MAX_DEPTH} levels")
    try:
        value: object = _STRICT.decode(decoded)
        if "\\u" in decoded and not _encodes(value):  # only an escape can write half a pair
            raise _Refused("", _HALF)
        return value
    except (json.JSONDecodeError, _Refused):
        raise _located(decoded, source) from None


def _located(text: str, source: str | Path) -> InputError:
    """What is wrong with a text that was refused, and where."""
    try:
        where, refused = _place(_MARKING.decode(text))
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        rule = f"is not valid JSON ({error.msg}, {line}column {error.colno})"
        return InputError(source, "", rule, remedy="mend it")
    return InputError(source, where, refused.rule, refused.value)


def _encodes(value: object) -> bool:
    """Whether all texts in a value can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(text: str) -> bool:
    """Whether brackets outside of strings are nested deeper than `MAX_DEPTH`."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    together = "".join(table)
    if not together.isprintable() or len(together) > MAX_NAME:  # then one of them may be: look at each
        for name in table:
            if len(name) > MAX_NAME or not name.isprintable():
                raise _Refused("", f"must have names of at most {MAX_NAME} printable characters", name)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(next(name for name in names if names.count(name) > 1), "is given twice")
    return table


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused("", f"must have at most {MAX_DIGITS} digits", digits)
    return int(digits)


def _fraction(digits: str) -> object:
    raise _Refused("", "must be a whole number, never a fraction", digits)


def _constant(name: str) -> object:
    raise _Refused("", "must be a finite number", name)


def _or_mark(hook: Callable[[Any], object], value: object) -> object:
    """What the hook gives, or what it refuses: left in place, to be found."""
    try:
        return hook(value)
    except _Refused as refused:
        return refused


def _place(value: object, where: str = "") -> tuple[str, _Refused]:
    """The path of the first refused value, and why it is; the value holds one, and is not deep."""
    if isinstance(value, _Refused):
        return (f"{where}.{value.name}" if where and value.name else where or value.name), value
    if isinstance(value, str) and not _encodes(value):
        return where, _Refused("", _HALF)
    parts = [(f"{where}.{k}" if where else k, v) for k, v in value.items()] if isinstance(value, dict) else []
    parts += [(f"{where}[{at}]", v) for at, v in enumerate(value)] if isinstance(value, list) else []
    found = (_place(item, path) for path, item in parts)
    return next((place for place in found if place[1].rule), (where, _NOTHING))


def _decoder(wrap: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=wrap(_table),
        parse_int=wrap(_whole),
        parse_float=wrap(_fraction),
        parse_constant=wrap(_constant),
    )


_NOTHING = _Refused("", "")
_STRICT = _decoder(lambda hook: hook)
_MARKING = _decoder(lambda hook: partial(_or_mark, hook))
