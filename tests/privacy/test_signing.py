"""Packets that are signed and sealed: refused for every altered byte, and for whom, from whom and for what else."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.envelope import SealBroken, new_key, public_key, seal, unseal
from privacy.signing import (
    Keys,
    _in_context,
    announcement,
    coordinator_of,
    keys_of,
    new_signing_key,
    seal_signed,
    unseal_signed,
    verify_key,
)

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
SENDER, RECEIVER = new_signing_key(), new_key()
FROM, TO = verify_key(SENDER), public_key(RECEIVER)


def _packet(message: bytes = b"share", context: str = "run-1|share") -> bytes:
    return seal_signed(TO, SENDER, message, context)


@DERANDOMIZED
@given(message=st.binary(max_size=2000), context=st.text(max_size=30))
def test_what_is_signed_and_sealed_is_opened(message: bytes, context: str) -> None:
    sealed = seal_signed(TO, SENDER, message, context)
    assert unseal_signed(RECEIVER, FROM, sealed, context) == message
    assert len(sealed) == len(message) + 112


def test_every_flipped_bit_is_refused_in_one_line() -> None:
    sealed = _packet()
    for place in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[place] ^= 1 << bit
            with pytest.raises(SealBroken) as caught:
                unseal_signed(RECEIVER, FROM, bytes(altered), "run-1|share")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 47, 48, 111, 112, 116])
def test_a_cut_packet_is_refused(cut: int) -> None:
    with pytest.raises(SealBroken):
        unseal_signed(RECEIVER, FROM, _packet()[:cut], "run-1|share")


def test_another_sender_receiver_or_context_is_refused() -> None:
    sealed = _packet()
    other = verify_key(new_signing_key())
    for private, sender, context in (
        (RECEIVER, other, "run-1|share"),
        (new_key(), FROM, "run-1|share"),
        (RECEIVER, FROM, "run-2|share"),
        (RECEIVER, FROM, ""),
        (RECEIVER, TO, "run-1|share"),
        (RECEIVER, b"", "run-1|share"),
    ):
        with pytest.raises(SealBroken):
            unseal_signed(private, sender, sealed, context)


def test_anybody_can_seal_for_a_receiver_but_not_sign_for_a_sender() -> None:
    """The coordinator knows every public key, so what is only sealed says nothing about its sender."""
    for inside in (b"", b"share", bytes(64) + b"share", bytes(64)):
        with pytest.raises(SealBroken, match="signature"):
            unseal_signed(RECEIVER, FROM, seal(TO, inside, "run-1|share"), "run-1|share")
    with pytest.raises(SealBroken, match="signature"):
        unseal_signed(RECEIVER, FROM, seal_signed(TO, new_signing_key(), b"share", "run-1|share"), "run-1|share")


def test_a_receiver_cannot_pass_a_packet_on_as_if_it_were_for_another() -> None:
    inside = unseal(RECEIVER, _packet(), "run-1|share")
    third = new_key()
    with pytest.raises(SealBroken, match="signature"):
        unseal_signed(third, FROM, seal(public_key(third), inside, "run-1|share"), "run-1|share")


def test_a_receiver_cannot_use_a_packet_under_another_context() -> None:
    """Neither another one, nor one that takes letters from the message or gives it some."""
    inside = unseal(RECEIVER, _packet(b"share", "run-1"), "run-1")
    for forged, context in (
        (inside, "run-2"),
        (inside[:64] + inside[65:], "run-1" + chr(inside[64])),
        (inside[:64] + b"1" + inside[64:], "run-"),
    ):
        with pytest.raises(SealBroken, match="signature"):
            unseal_signed(RECEIVER, FROM, seal(TO, forged, context), context)


def test_no_two_contexts_and_messages_are_signed_as_the_same_bytes() -> None:
    assert _in_context(b"hare", "run-1s") != _in_context(b"share", "run-1")


def test_one_message_is_never_sealed_alike_twice() -> None:
    assert len({_packet() for _ in range(20)}) == 20


# --- announcements


def test_an_announcement_gives_the_keys_it_was_made_of() -> None:
    told = announcement("pay-1", RECEIVER, SENDER)
    assert set(told) == {"key", "verify", "bound"}
    assert keys_of("pay-1", told) == Keys(TO, FROM)
    assert {len(base64.b64decode(value)) for value in told.values()} == {32, 64}


def _instead(field: str, value: bytes) -> dict[str, str]:
    return {**announcement("pay-1", RECEIVER, SENDER), field: base64.b64encode(value).decode()}


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(_instead("key", public_key(new_key())), id="another sealing key"),
        pytest.param(_instead("verify", verify_key(new_signing_key())), id="another signing key"),
        pytest.param(_instead("bound", bytes(64)), id="no signature"),
        pytest.param(_instead("bound", b""), id="empty signature"),
        pytest.param(_instead("key", TO[:31]), id="short key"),
        pytest.param(_instead("verify", b""), id="no verify key"),
        pytest.param({**_instead("key", TO), "bound": "no base64!"}, id="no base64"),
        pytest.param({**_instead("key", TO), "verify": 7}, id="a number"),
        pytest.param(announcement("pay-2", RECEIVER, SENDER), id="another name's"),
    ],
)
def test_an_announcement_that_does_not_hold_together_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(SealBroken):
        keys_of("pay-1", told)


def test_a_packet_s_signature_binds_no_key() -> None:
    """A holder that signs packets whose content others choose must not thereby sign a key."""
    stolen = unseal(RECEIVER, seal_signed(TO, SENDER, b"", "pay-1"), "pay-1")[:64]
    with pytest.raises(SealBroken):
        keys_of("pay-1", _instead("bound", stolen))


def test_a_coordinator_has_another_name_in_each_run_that_no_holder_can_have() -> None:
    assert coordinator_of("plan-1") != coordinator_of("plan-2")
    assert "|" in coordinator_of("plan-1")
