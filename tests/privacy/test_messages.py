"""The signed header of a message: nothing but what its sender signed is ever read as a header."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from privacy.envelope import SealBroken
from privacy.messages import LONGEST, VERSION, Header, digest, opened, signed
from privacy.signing import announcement, new_signing_key, sign, verify_key

KEY = new_signing_key()
LOG = {"checkpoint": {"size": 3}, "proofs": {"2": ["AA=="]}}
HEADER = Header("4711", 2, "train.block", "coordinator", "pay-1", 9, "ab" * 32, "cd" * 32, LOG)


def _signed(text: str) -> bytes:
    """The signature that the sender would put under any text."""
    return sign(KEY, text.encode(), "message-1")


def test_a_signed_header_opens_as_it_was() -> None:
    assert opened(HEADER.text(), signed(HEADER, KEY), verify_key(KEY)) == HEADER


def test_every_bit_of_header_signature_and_key_counts() -> None:
    text, signature, verify = HEADER.text(), signed(HEADER, KEY), verify_key(KEY)
    accepted = []
    for place in range(len(text)):
        for bit in range(7):
            changed = text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
            accepted += [changed for _ in _tried(changed, signature, verify)]
    for part in (0, 1):
        for place in range(8 * len((signature, verify)[part])):
            bits = [bytearray(signature), bytearray(verify)]
            bits[part][place // 8] ^= 1 << place % 8
            accepted += [text for _ in _tried(text, bytes(bits[0]), bytes(bits[1]))]
    assert accepted == []


def _tried(text: str, signature: bytes, verify: bytes) -> list[Header]:
    try:
        return [opened(text, signature, verify)]
    except SealBroken:
        return []


@pytest.mark.parametrize("field", [f.name for f in fields(Header)])
def test_every_field_is_in_what_is_signed(field: str) -> None:
    value: Any = getattr(HEADER, field)
    other = value + 1 if isinstance(value, int) else {} if isinstance(value, dict) else value + "x"
    changed = replace(HEADER, **{field: other})
    assert digest(changed.text()) != digest(HEADER.text())
    with pytest.raises(SealBroken):
        opened(changed.text(), signed(HEADER, KEY), verify_key(KEY))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda told: told.update(version=VERSION + 1), id="another version"),
        pytest.param(lambda told: told.pop("version"), id="no version"),
        pytest.param(lambda told: told.pop("sequence"), id="a field missing"),
        pytest.param(lambda told: told.update(more=1), id="a field more"),
        pytest.param(lambda told: told.update(sequence=True), id="a flag for a number"),
        pytest.param(lambda told: told.update(sequence=1.0), id="a fraction"),
        pytest.param(lambda told: told.update(run=7), id="a number for a text"),
        pytest.param(lambda told: told.update(log=[]), id="a list for the log"),
    ],
)
def test_even_a_signed_text_must_be_a_header_of_this_version(change: Any) -> None:
    told = json.loads(HEADER.text())
    change(told)
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    with pytest.raises(SealBroken):
        opened(text, _signed(text), verify_key(KEY))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 5000, '{"run": "\ud800"}'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(SealBroken):
        Header.of(text)


def test_a_header_has_one_form_only() -> None:
    text = HEADER.text().replace(",", ", ", 1)
    assert json.loads(text) == json.loads(HEADER.text())
    with pytest.raises(SealBroken, match="canonical"):
        opened(text, _signed(text), verify_key(KEY))


def test_an_oversized_header_is_refused_before_its_signature_is_looked_at() -> None:
    with pytest.raises(SealBroken, match="1,000,000 characters"):
        opened(" " * (LONGEST + 1), b"", b"")


def test_a_signature_for_another_use_signs_no_message() -> None:
    """What a holder signs of its sealing key, under the same key, is no header's signature."""
    told = announcement(HEADER.text(), KEY, KEY)
    for context in ("", "fedscore-key|", "fedscore-packet|", "checkpoint-1"):
        with pytest.raises(SealBroken):
            opened(HEADER.text(), sign(KEY, HEADER.text().encode(), context), verify_key(KEY))
    assert told["bound"]
