"""JSON text, read strictly: what is refused, where it is found, and that nothing else is."""

from __future__ import annotations

import json
import random

import pytest

from model.inputs import InputError
from model.limits.strict_json import MAX_BYTES, MAX_DEPTH, loads


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**53), 2**63 - 1, "", '分\\"{[', [], {}, [[1], {"a": [None, {"b": "}"}]}]],
    ids=repr,
)
def test_what_json_can_say_without_fractions_comes_back(value: object) -> None:
    assert loads(json.dumps(value), "f") == value
    assert loads(json.dumps(value, ensure_ascii=False, indent=2).encode(), "f") == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 1}', "f: a is given twice."),
        ('{"a": [0, {"b": {"c": 1, "d": 2, "c": 3}}]}', "f: a[1].b.c is given twice."),
        ('{"a": NaN}', "f: a must be a finite number, got 'NaN'."),
        ("[1, -Infinity]", "f: [1] must be a finite number, got '-Infinity'."),
        ('{"a": {"b": 1e999}}', "f: a.b must be a whole number, never a fraction, got '1e999'."),
        ('{"a": 500.0}', "f: a must be a whole number, never a fraction, got '500.0'."),
        ('{"a": 12345678901234567890}', "f: a must have at most 19 digits, got '12345678901234567890'."),
        ('{"a": {"b\\n": 1}}', "f: a must have names of at most 100 printable characters, got 'b\\n'."),
        ('{"a": [{"b": "\\ud800"}]}', "f: a[0].b must not hold half of a surrogate pair."),
        ('["\\uDFFF\\uD83D"]', "f: [0] must not hold half of a surrogate pair."),
        ('"\\udbff"', "f: must not hold half of a surrogate pair."),
        ('"\ud800"', "f: is not UTF-8 text; write it as UTF-8."),
        ('{"\\ud800": 1, "\\ud800": 1}', "f: must have names of at most 100 printable characters, got '\\ud800'."),
        ('{"\\ud800": 1}', "f: must have names of at most 100 printable characters, got '\\ud800'."),
        ("{", "f: is not valid JSON (Expecting property name enclosed in double quotes, column 2); mend it."),
        ('{"a":\n1,}', "f: is not valid JSON (Expecting property name enclosed in double quotes, line 2 column 3)"),
        ('{"a": NaN, "b"}', "f: is not valid JSON (Expecting ':' delimiter, column 15); mend it."),
        ("{} {}", "f: is not valid JSON (Extra data, column 4); mend it."),
        ("\ufeff{}", "f: is not valid JSON"),
        (" \n", "f: is empty."),
        (b"", "f: is empty."),
        (b'{"a": "\xff"}', "f: is not UTF-8 text; write it as UTF-8."),
        ("[" * 10**6, f"f: must not be nested deeper than {MAX_DEPTH} levels."),
        ('{"a":' * 5000 + "1" + "}" * 5000, f"f: must not be nested deeper than {MAX_DEPTH} levels."),
        (" " * (MAX_BYTES + 1), f"f: must be at most {MAX_BYTES} bytes, got {MAX_BYTES + 1}."),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_is_refused_is_named_with_its_place(text: str | bytes, told: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(text, "f")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_a_number_of_very_many_digits_is_refused_at_once(digits: int) -> None:
    with pytest.raises(InputError, match=r"^f: a must have at most 19 digits, got '999"):
        loads(f'{{"a": {"9" * digits}}}', "f")


def test_depth_counts_brackets_outside_of_texts_only() -> None:
    deep = '{"a": "' + "[{" * 100 + '\\"[", "b": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"
    assert set(loads(deep, "f")) == {"a", "b"}  # type: ignore[call-overload]


def test_bytes_at_random_never_end_otherwise_than_the_standard_reader_or_a_refusal() -> None:
    draw = random.Random(11)
    signs = ['{"', '":', "[", "]", "}", ",", "1", "-", '"', "\\", "e5", "NaN", " ", "a", "\\u00", "null", "分"]
    read, refusals = 0, []
    for _ in range(20_000):
        text = "".join(draw.choices(signs, k=draw.randrange(1, 12)))
        try:
            value = loads(text, "f")
        except InputError as error:
            refusals.append(str(error))
            continue
        read += 1
        assert value == json.loads(text)
    assert read > 100
    assert not [told for told in refusals if "\n" in told]
