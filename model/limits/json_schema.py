"""The JSON Schema of what `model.limits.fields.read` reads, from the same annotations: what an API documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from model.limits.fields import Whole


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of one annotation, whole in itself.

    Args:
        kind: a dataclass, or any annotation that `read` knows.

    >>> from model.limits.request import Improvement
    >>> schema_of(Improvement)["properties"]["days"]
    {'type': 'integer', 'minimum': 1, 'maximum': 365}
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        rule = arguments[1]
        if isinstance(rule, Whole):
            return {"type": "integer", "minimum": rule.low, "maximum": rule.high}
        return {"type": "string", "pattern": f"^(?:{rule.pattern})$", "description": rule.rule}
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(arguments[0]), {"type": "null"}]}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if is_dataclass(kind):
        return _table(kind)
    simple: dict[Any, dict[str, Any]] = {
        bool: {"type": "boolean"},
        str: {"type": "string"},
        int: {"type": "integer"},
        datetime: {"type": "string", "format": "date-time"},
    }
    return simple[kind]


def _table(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    properties = {field.name: schema_of(hints[field.name]) for field in fields(kind)}
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in fields(kind) if _needed(field)],
        "additionalProperties": False,
        "description": (kind.__doc__ or "").strip().split("\n")[0],
    }


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
