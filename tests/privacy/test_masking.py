"""Secure sums: exact whoever drops out, uniform on the way, and opened by a threshold of members only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.groups import GRID, Group, SumRefused, least_threshold, on_grid
from privacy.masking import Opening, Seat
from privacy.ring import from_ring
from privacy.shamir import PRIME, joined, shared
from privacy.signing import new_signing_key, verify_key

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=40, database=None)
KEYS = {f"pay-{i}": new_signing_key() for i in range(1, 10)}


@dataclass
class Session:
    """All members' seats of one session."""

    group: Group
    seats: dict[str, Seat]
    adverts: dict[str, bytes]
    shown: Mapping[str, Mapping[str, bytes]]

    def boxes(self, receiver: str) -> dict[str, bytes]:
        return {sender: box[receiver] for sender, box in self.shown.items() if sender != receiver}

    def opened(self, number: int, vectors: Mapping[str, Any], online: Iterable[str]) -> np.ndarray:
        sums = [self.seats[name].agree(number, vectors) for name in online]
        signed = dict(zip(online, sums, strict=True))
        told = {name: self.seats[name].reveal(number, signed) for name in online}
        return from_ring(Opening(self.group, self.adverts).opened(number, vectors, told))


def _session(count: int, rounds: int = 1, there: int = 0) -> Session:
    """A session whose first `there` members (all: 0) advertised and shared."""
    keys = dict(list(KEYS.items())[:count])
    group = Group("run|payments", {n: verify_key(k) for n, k in keys.items()}, rounds, least_threshold(count))
    seats = {name: Seat(group, name, key) for name, key in keys.items() if name in list(keys)[: there or count]}
    adverts = {name: seat.advert() for name, seat in seats.items()}
    session = Session(group, seats, adverts, {name: seat.share(adverts) for name, seat in seats.items()})
    for name, seat in seats.items():
        seat.receive(session.boxes(name))
    return session


@DERANDOMIZED
@given(data=st.data(), count=st.integers(2, 9), size=st.integers(1, 40))
def test_the_sum_is_exact_whoever_drops_out_as_long_as_a_threshold_stays(data: Any, count: int, size: int) -> None:
    least = least_threshold(count)
    there = data.draw(st.integers(least, count))
    session = _session(count, rounds=2, there=there)
    for number in (1, 2):
        up = data.draw(st.lists(st.sampled_from(sorted(session.seats)), min_size=least, unique=True))
        on = data.draw(st.lists(st.sampled_from(up), min_size=least, unique=True))
        room = 2**62 // count
        draws = st.lists(st.integers(-room, room), min_size=size, max_size=size)
        values = {name: np.array(data.draw(draws), dtype=np.int64) for name in up}
        sent = {name: session.seats[name].mask(number, values[name]) for name in up}
        assert session.opened(number, sent, on).tolist() == np.sum(list(values.values()), axis=0).tolist()


@DERANDOMIZED
@given(secret=st.binary(min_size=32, max_size=32), count=st.integers(1, 12), data=st.data())
def test_any_threshold_of_shares_gives_the_secret_and_one_fewer_does_not(secret: bytes, count: int, data: Any) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = shared(secret, threshold, range(1, count + 1))
    chosen = data.draw(st.permutations(sorted(shares)))
    assert joined({place: shares[place] for place in chosen[:threshold]}) == secret
    if threshold > 1:
        fewer = {place: shares[place] for place in chosen[: threshold - 1]}
        with pytest.raises(ValueError, match="too few"):
            joined(fewer)


def test_the_prime_is_the_mersenne_prime_that_shares_fit() -> None:
    assert PRIME == 2**521 - 1
    assert pow(3, PRIME - 1, PRIME) == 1


@pytest.mark.parametrize("places", [[0, 1], [1, 1], [-1, 2]])
def test_places_that_would_show_the_secret_are_refused(places: list[int]) -> None:
    with pytest.raises(ValueError, match="distinct places"):
        shared(bytes(32), 2, places)


def test_what_is_sent_is_uniform_whatever_is_inside() -> None:
    """Bytes of constant vectors: chi-square over their values, which fails by chance once in 5 * 10^7."""
    session = _session(4)
    for name, value in zip(session.seats, (0, 1, -1, 2**59), strict=True):
        sent = session.seats[name].mask(1, np.full(200_000, value, dtype=np.int64))
        counts = np.bincount(sent.view(np.uint8), minlength=256)
        assert stats.chisquare(counts).pvalue > 2e-8


def test_the_same_vector_is_masked_otherwise_in_every_round_and_session() -> None:
    first, second = _session(3, rounds=2), _session(3)
    values = np.arange(50)
    seen = [first.seats["pay-1"].mask(1, values), first.seats["pay-1"].mask(2, values)]
    seen.append(second.seats["pay-1"].mask(1, values))
    for i in range(3):
        for j in range(i):
            assert not (seen[i] == seen[j]).any()


def test_opening_one_round_opens_nothing_of_another() -> None:
    """Whatever was shown in round 2, a vector of round 1 keeps its mask: the keys are not those of round 1."""
    session = _session(4, rounds=2)
    names = sorted(session.seats)
    values = {name: np.arange(5) for name in names}
    session.opened(1, {n: session.seats[n].mask(1, values[n]) for n in names}, names)
    session.opened(2, {n: session.seats[n].mask(2, values[n]) for n in names[:3]}, names[:3])  # the last dropped out
    last = session.seats["pay-4"]
    shown = [
        session.seats[n].reveal(2, {m: session.seats[m].agree(2, names[:3]) for m in names[:3]}) for n in names[:3]
    ]
    secret = joined({i + 1: told["pay-4"] for i, told in enumerate(shown)})
    assert secret == last._pairs[1] != last._pairs[0]


def test_a_seat_goes_on_in_another_process_and_answers_the_same_again() -> None:
    session = _session(3, rounds=2)
    seat = session.seats["pay-2"]
    values = np.arange(4)
    sent, signature = seat.mask(1, values), seat.agree(1, sorted(session.seats))
    state = json.loads(json.dumps(seat.state()))
    again = Seat.from_state(session.group, "pay-2", KEYS["pay-2"], state)
    assert again.advert() == session.adverts["pay-2"]
    assert again.share(session.adverts) == session.shown["pay-2"]
    again.receive(session.boxes("pay-2"))
    assert (again.mask(1, values) == sent).all()
    assert (again.agree(1, sorted(session.seats)), again.agreed(1)) == (signature, sorted(session.seats))
    with pytest.raises(SumRefused):
        again.mask(1, values + 1)


def test_a_share_that_a_member_falsified_is_left_out_where_enough_are_right() -> None:
    session = _session(4)
    names = sorted(session.seats)
    values = {name: np.full(3, i) for i, name in enumerate(names)}
    sent = {name: session.seats[name].mask(1, values[name]) for name in names}
    signed = {name: session.seats[name].agree(1, names) for name in names}
    told = {name: dict(session.seats[name].reveal(1, signed)) for name in names}
    told["pay-1"]["pay-3"] = bytes(65) + b"\x01"
    opening = Opening(session.group, session.adverts)
    assert from_ring(opening.opened(1, sent, told)).tolist() == [6, 6, 6]
    del told["pay-2"]
    with pytest.raises(SumRefused, match="do not open"):
        opening.opened(1, sent, told)


def test_numbers_come_back_from_the_grid_within_half_a_step() -> None:
    values = np.array([0.1, -(2.0**20), 1e-12, 3.75])
    assert np.abs(on_grid(values) * GRID - values).max() <= GRID / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**21])
def test_numbers_that_no_sum_has_room_for_are_refused(bad: float) -> None:
    with pytest.raises(SumRefused, match="finite"):
        on_grid(np.array([1.0, bad]))
