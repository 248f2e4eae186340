"""How ids are written alike before they are compared, so that two holders' files need not agree on every space.

The federation file names one form for everybody, `id-form`:

- `text`: as written, but in one width and composition (NFKC: `Ｐ００１` is `P001`), without outer spaces and invisible
  marks; `7.0` is `7`. Capitals and leading zeros count. This is the default.
- `number`: official numbers of cards, accounts and taxpayers. As `text`, then letters and digits only, in capitals:
  `11010519491231002x` is `110105-19491231-002X`.
- `phone+86`: telephone numbers, those without a country's code of country 86: `0086 138-0013-8000`, `13800138000` and
  `+86 (138) 0013 8000` are `+8613800138000`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from model.inputs import InputError

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_KEEPS_ZERO = ("39",)  # a number of Italy keeps its first 0 behind the country's code
_SHORTEST, _LONGEST, _NATIONAL = 7, 15, 10  # digits of E.164; of a national number that may stand behind a code


def written_alike(text: str, form: str) -> str:
    """An id in the one way of writing that `form` names; empty where it is none of that form.

    >>> [written_alike(" Ｐ００１\\u3000", "text"), written_alike("110105 19491231 002x", "number")]
    ['P001', '11010519491231002X']
    >>> {written_alike(t, "phone+86") for t in ("138 0013 8000", "+86-138-0013-8000", "0086（138）00138000")}
    {'+8613800138000'}
    """
    plain = text if text.isascii() else _plain(text)
    plain = plain.strip()
    if form == "text":
        whole = _WHOLE.fullmatch(plain)
        return whole[1] if whole else plain
    if form == "number":
        whole = _WHOLE.fullmatch(plain)
        return "".join(c for c in (whole[1] if whole else plain) if c.isalnum()).upper()
    return _phone(plain, form.partition("+")[2])


def persons(file: Path, column: str, ids: Iterable[str], form: str) -> list[str]:
    """A file's ids, written alike.

    Raises:
        InputError: where one is not of that form, or two rows turn out to be one person; it names rows, never ids.
    """
    found = [written_alike(text, form) for text in ids]
    first: dict[str, int] = {}
    for row, person in enumerate(found, 1):
        if not person:
            raise InputError(file, column, f"must be of the form {form!r}", f"row {row}", "mend it, or drop the row")
        if first.setdefault(person, row) != row:
            rule, rows = f"is one person in two rows, by the form {form!r}", f"rows {first[person]} and {row}"
            raise InputError(file, column, rule, rows, "aggregate the rows of a person first")
    return found


def _plain(text: str) -> str:
    """One width and composition, and no invisible marks, which spreadsheets leave behind."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")


def _phone(text: str, country: str) -> str:
    if any(c.isalpha() for c in text):
        return ""
    international = text.startswith("+")
    digits = "".join(c for c in text.replace("(0)", "") if c.isdecimal())
    if not international and digits.startswith("00"):
        international, digits = True, digits[2:]
    if not international and digits.startswith(country) and len(digits) - len(country) >= _NATIONAL:
        international = True
    if not international:
        digits = country + (digits if country in _KEEPS_ZERO else digits.removeprefix("0"))
    return f"+{digits}" if _SHORTEST <= len(digits) <= _LONGEST and not digits.startswith("0") else ""
