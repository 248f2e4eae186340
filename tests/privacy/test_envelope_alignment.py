"""Sealing that refuses every altered byte, and aligning by tokens against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.alignment import hash_fraction, positions, tokens
from privacy.envelope import SealBroken, new_key, public_key, seal, unseal

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=80, database=None)
KEY = new_key()
WORDS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 30), max_size=40)


@DERANDOMIZED
@given(message=st.binary(max_size=2000), context=st.text(max_size=30))
def test_what_is_sealed_is_unsealed(message: bytes, context: str) -> None:
    sealed = seal(public_key(KEY), message, context)
    assert unseal(KEY, sealed, context) == message
    assert len(sealed) == len(message) + 48
    assert message not in sealed or len(message) < 8


def test_one_message_is_never_sealed_alike_twice() -> None:
    sealed = {seal(public_key(KEY), b"sub-scores", "run-1") for _ in range(20)}
    assert len(sealed) == 20
    assert len({s[:32] for s in sealed}) == 20


def test_every_flipped_bit_is_refused() -> None:
    """The top bit of the sender's key, which X25519 ignores, among them."""
    sealed = seal(public_key(KEY), b"sub-scores", "run-1")
    for place in range(len(sealed)):
        for bit in (0, 7):
            altered = bytearray(sealed)
            altered[place] ^= 1 << bit
            with pytest.raises(SealBroken):
                unseal(KEY, bytes(altered), "run-1")


@pytest.mark.parametrize("cut", [0, 1, 31, 47, 48, 57])
def test_a_cut_message_is_refused(cut: int) -> None:
    with pytest.raises(SealBroken):
        unseal(KEY, seal(public_key(KEY), b"sub-scores", "run-1")[:cut], "run-1")


def test_a_longer_message_and_a_null_key_are_refused() -> None:
    sealed = seal(public_key(KEY), b"sub-scores", "run-1")
    for forged in (sealed + b"\0", bytes(32) + sealed[32:]):
        with pytest.raises(SealBroken):
            unseal(KEY, forged, "run-1")


def test_another_context_or_receiver_is_refused() -> None:
    sealed = seal(public_key(KEY), b"sub-scores", "run-1")
    for key, context in ((KEY, "run-2"), (KEY, ""), (new_key(), "run-1")):
        with pytest.raises(SealBroken, match="cannot be opened"):
            unseal(key, sealed, context)


def test_keys_are_fresh_and_of_thirty_two_bytes() -> None:
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert {len(k) for k in keys} == {len(public_key(k)) for k in keys} == {32}


# --- alignment


@DERANDOMIZED
@given(cohort=WORDS, own=WORDS.map(lambda w: list(dict.fromkeys(w))))
def test_positions_are_those_of_a_dictionary(cohort: list[int], own: list[int]) -> None:
    where = {token: i for i, token in enumerate(own)}
    found = positions(np.array(cohort, dtype=np.uint64), np.array(own, dtype=np.uint64))
    assert found.tolist() == [where.pop(token, -1) for token in cohort]  # each row once
    assert found.dtype == np.int64


def test_a_hundred_thousand_ids_have_tokens_of_their_own() -> None:
    drawn = tokens([str(i) for i in range(100_000)], b"key")
    assert len(np.unique(drawn)) == 100_000
    assert abs(float((drawn >> np.uint64(63)).mean()) - 0.5) < 0.01


def test_a_token_depends_on_id_and_key_only() -> None:
    ids = ["1", "01", "é", "名", " 1", ""]
    assert len(set(tokens(ids, b"key").tolist())) == len(ids)
    assert tokens(ids[::-1], b"key").tolist() == tokens(ids, b"key").tolist()[::-1]
    assert tokens([], b"key").shape == (0,)


def test_tokens_under_different_keys_cannot_be_linked() -> None:
    ids = [str(i) for i in range(2000)]
    one, other = tokens(ids, b"key one"), tokens(ids, b"key two")
    assert not set(one.tolist()) & set(other.tolist())
    differing = np.unpackbits((one ^ other).view(np.uint8)).mean()
    assert abs(differing - 0.5) < 5 * 0.5 / np.sqrt(64 * 2000)
    assert abs(np.corrcoef(one.astype(float), other.astype(float))[0, 1]) < 0.12


def test_two_holders_find_the_same_persons_in_one_cohort() -> None:
    cohort = [f"p{i}" for i in range(50)]
    shop = [f"p{i}" for i in range(0, 80, 3)]
    key = new_key()
    rows = positions(tokens(cohort, key), tokens(shop, key))
    assert [shop[r] if r >= 0 else None for r in rows] == [p if p in shop else None for p in cohort]


def test_hash_fractions_are_uniform_and_fixed_by_id_and_salt() -> None:
    ids = [str(i) for i in range(20_000)]
    drawn = hash_fraction(ids, "split-0")
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), abs=230)
    assert hash_fraction(ids[::-1], "split-0").tolist() == drawn.tolist()[::-1]
    assert abs(np.corrcoef(drawn, hash_fraction(ids, "split-1"))[0, 1]) < 0.04


def test_a_cohort_that_repeats_a_person_does_not_make_its_row_count_twice() -> None:
    cohort = np.array([7, 3, 7, 7, 9, 3], dtype=np.uint64)
    rows = positions(cohort, np.array([3, 7], dtype=np.uint64))
    assert rows.tolist() == [1, 0, -1, -1, -1, -1]
