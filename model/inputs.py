"""What a user gives us: errors in one line, strict reading of TOML tables, options of a command as one value."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

_Options = TypeVar("_Options")


class InputError(ValueError):
    """One line that names file, field, rule and value, and says what to do.

    >>> str(InputError("a.toml", "privacy.epsilon", "must be > 0", -1, "give 1.0, for example"))
    'a.toml: privacy.epsilon must be > 0, got -1; give 1.0, for example.'
    """

    def __init__(self, file: str | Path, field: str, rule: str, value: object = None, remedy: str = "") -> None:
        self.file, self.field, self.rule, self.value, self.remedy = str(file), field, rule, value, remedy
        got = "" if value is None else f", got {shown(value)}"
        todo = f"; {remedy}" if remedy else ""
        place = field if field.isprintable() and len(field) <= 300 else shown(field)
        what = f"{place} {rule}" if field else rule
        super().__init__(f"{file}: {what}{got}{todo}.")


def shown(value: object) -> str:
    """`value` on one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def read_text(path: Path) -> str:
    """A text file; raises `InputError` where it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(path, "", "does not exist", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", "cannot be read as UTF-8 text", type(error).__name__, "check the file") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; raises `InputError` where its folder does not take it."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(path, "", f"cannot be written ({error.strerror})", remedy="check the folder") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises `InputError` where it is missing, unreadable or not TOML."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML; of a number of thousands of digits; of nesting too deep
        rule = f"is not valid TOML ({' '.join(str(error).split())})"
        raise InputError(path, "", rule, remedy="mend that line") from None


def refuse_unknown(file: str | Path, where: str, table: Mapping[str, object], allowed: Iterable[str]) -> None:
    """Raises `InputError` for the first key outside `allowed`, with the nearest allowed spelling."""
    known = sorted(allowed)
    for key in table:
        if key not in known:
            near = get_close_matches(key[:100], known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "allowed: " + ", ".join(known)
            raise InputError(file, f"{where}.{key}" if where else key, "is not a known key", remedy=remedy.rstrip("?"))


def whole(file: str | Path, field: str, value: object) -> int:
    """A whole number >= 0; raises `InputError` otherwise.

    >>> whole("run configuration", "seed", 7)
    7
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(file, field, "must be a whole number >= 0", value)
    return value


def taking(kind: type[_Options]) -> Callable[[Callable[[_Options], None]], Callable[..., None]]:
    """Turns a function of one dataclass into a command whose options are the fields, each named and explained once.

    A command line reads options from a function's signature: here that is made of the fields and their annotations.

    >>> from dataclasses import make_dataclass
    >>> @taking(make_dataclass("Asked", [("name", str), ("times", int, 2)]))
    ... def greet(asked):
    ...     print(*[asked.name] * asked.times)
    >>> greet(name="hello"), str(inspect.signature(greet))
    hello hello
    (None, '(*, name: str, times: int = 2) -> None')
    """

    def wrap(act: Callable[[_Options], None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)

        def command(**given: Any) -> None:
            act(kind(**given))

        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(kind)  # type: ignore[arg-type]
        ]
        command.__name__, command.__doc__, command.__module__ = act.__name__, act.__doc__, act.__module__
        command.__annotations__ = {**hints, "return": None}
        command.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        return command

    return wrap
