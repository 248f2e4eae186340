"""Requests and welcomes: what was signed is what is read, and nothing else is."""

import base64
import json
from dataclasses import replace

import pytest

from privacy.enrolment import Enrolled, EnrolmentError, Request, Welcome, fingerprint
from privacy.envelope import new_key
from privacy.signing import announcement, new_signing_key, verify_key

SEAL, SIGN, OTHER = new_key(), new_signing_key(), new_signing_key()
HOLDER = Enrolled("pay-1", "payments", **announcement("pay-1", SEAL, SIGN))
REQUEST = Request(HOLDER, "ecdsa-sha2-nistp384 AAAA", "0" * 64, "-----BEGIN")
COORDINATOR = base64.b64encode(verify_key(OTHER)).decode()
WELCOME = Welcome("made", 2, "127.0.0.1:18443", "-----BEGIN", "", COORDINATOR, "f" * 64, (HOLDER,))


def test_what_was_written_is_read() -> None:
    assert Request.of(REQUEST.to_json(SIGN)) == REQUEST
    assert Welcome.of(WELCOME.to_json(OTHER)) == WELCOME


@pytest.mark.parametrize("kind", ["request", "welcome"])
def test_no_changed_character_is_read(kind: str) -> None:
    text, of = (REQUEST.to_json(SIGN), Request.of) if kind == "request" else (WELCOME.to_json(OTHER), Welcome.of)
    meaning = json.loads(text)
    for place in range(len(text)):
        for bit in (1, 4):
            changed = text[:place] + chr(ord(text[place]) ^ bit) + text[place + 1 :]
            try:
                same = json.loads(changed) == meaning  # white space between the fields says nothing
            except ValueError:
                same = False
            if not same:
                with pytest.raises(EnrolmentError):
                    of(changed)


def test_one_kind_is_not_read_as_the_other() -> None:
    with pytest.raises(EnrolmentError, match="is not a welcome"):
        Welcome.of(REQUEST.to_json(SIGN))
    with pytest.raises(EnrolmentError, match="is not a request"):
        Request.of(WELCOME.to_json(OTHER))


def test_another_key_than_the_announced_one_signs_nothing() -> None:
    with pytest.raises(EnrolmentError, match="another key"):
        REQUEST.to_json(OTHER)
    with pytest.raises(EnrolmentError, match="another key"):
        WELCOME.to_json(SIGN)


@pytest.mark.parametrize(
    "change", [{"name": "pay-2"}, {"key": base64.b64encode(bytes(32)).decode()}, {"bound": "AAAA"}]
)
def test_keys_of_another_name_are_refused_though_the_file_is_signed(change: dict[str, str]) -> None:
    with pytest.raises(EnrolmentError):
        Request.of(replace(REQUEST, holder=replace(HOLDER, **change)).to_json(SIGN))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 10_000, '{"kind": 1}', "x" * 1_000_001])
def test_what_is_no_file_of_ours_is_one_line(text: str) -> None:
    for of in (Request.of, Welcome.of):
        with pytest.raises(EnrolmentError) as refused:
            of(text)
        assert len(str(refused.value).splitlines()) == 1


def test_fingerprints_tell_keys_apart() -> None:
    assert fingerprint(HOLDER.verify) != fingerprint(COORDINATOR)
    assert len(fingerprint(COORDINATOR).split()) == 8
