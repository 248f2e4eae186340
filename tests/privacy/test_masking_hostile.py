"""A coordinator that deviates gets nothing from a member of a secure sum: each way is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from privacy.groups import SIGNATURE, Group, SumRefused
from privacy.masking import Opening, Seat
from privacy.signing import new_signing_key, verify_key

NAMES = [f"pay-{i}" for i in range(1, 6)]
KEYS = {name: new_signing_key() for name in NAMES}
VERIFY = {name: verify_key(key) for name, key in KEYS.items()}
ZERO = np.zeros(4, dtype=np.int64)
Boxes = Mapping[str, Mapping[str, bytes]]


def _fresh(session: str = "run-1", keys: Mapping[str, bytes] = KEYS) -> tuple[dict[str, Seat], dict[str, bytes]]:
    group = Group(session, {n: verify_key(k) for n, k in keys.items()}, 1, 4)
    seats = {name: Seat(group, name, key) for name, key in keys.items()}
    return seats, {name: seat.advert() for name, seat in seats.items()}


def _received(session: str = "run-1") -> dict[str, Seat]:
    seats, adverts = _fresh(session)
    boxes = {name: seat.share(adverts) for name, seat in seats.items()}
    for name, seat in seats.items():
        seat.receive({other: boxes[other][name] for other in NAMES if other != name})
    return seats


def _sent() -> dict[str, Seat]:
    seats = _received()
    for seat in seats.values():
        seat.mask(1, ZERO)
    return seats


def swapped_key() -> None:
    seats, adverts = _fresh()
    forged, _ = _fresh(keys=KEYS | {"pay-2": new_signing_key()})
    seats["pay-1"].share(adverts | {"pay-2": forged["pay-2"].advert()})


def swapped_key_under_the_true_signature() -> None:
    seats, adverts = _fresh()
    signature = adverts["pay-2"][-SIGNATURE:]
    seats["pay-1"].share(adverts | {"pay-2": adverts["pay-3"][:-SIGNATURE] + signature})


def advert_of_another_session() -> None:
    seats, adverts = _fresh()
    _, other = _fresh("run-2")
    seats["pay-1"].share(adverts | {"pay-3": other["pay-3"]})


def advert_of_another_roster() -> None:
    seats, adverts = _fresh()
    _, other = _fresh(keys={n: KEYS[n] for n in NAMES[:4]} | {"pay-6": new_signing_key()})
    seats["pay-1"].share(adverts | {"pay-3": other["pay-3"]})


def other_adverts_after_the_shares() -> None:
    seats, adverts = _fresh()
    seats["pay-1"].share(adverts)
    seats["pay-1"].share({name: adverts[name] for name in NAMES[:4]})


def altered_box() -> None:
    seats, adverts = _fresh()
    boxes = {name: seat.share(adverts)["pay-1"] for name, seat in seats.items() if name != "pay-1"}
    seats["pay-1"].share(adverts)
    seats["pay-1"].receive(boxes | {"pay-2": boxes["pay-2"][:-1] + bytes([boxes["pay-2"][-1] ^ 1])})


def box_of_another_sender() -> None:
    seats, adverts = _fresh()
    boxes = {name: seat.share(adverts)["pay-1"] for name, seat in seats.items() if name != "pay-1"}
    seats["pay-1"].share(adverts)
    seats["pay-1"].receive(boxes | {"pay-2": boxes["pay-3"]})


def own_box_sent_back() -> None:
    """Who seals for somebody can open what that one seals for it: a box must still say its way."""
    seats, adverts = _fresh()
    made = seats["pay-1"].share(adverts)
    seats["pay-1"].receive(dict(made))


def second_vector() -> None:
    seats = _received()
    seats["pay-1"].mask(1, ZERO)
    seats["pay-1"].mask(1, ZERO + 1)


def other_boxes_after_the_first() -> None:
    seats, adverts = _fresh()
    boxes = {name: seat.share(adverts)["pay-1"] for name, seat in seats.items() if name != "pay-1"}
    seats["pay-1"].share(adverts)
    seats["pay-1"].receive(boxes)
    seats["pay-1"].receive({name: boxes[name] for name in NAMES[1:4]})


def second_survivors() -> None:
    seats = _sent()
    seats["pay-1"].agree(1, NAMES)
    seats["pay-1"].agree(1, NAMES[:4])


def split_view_of_survivors() -> None:
    seats = _sent()
    told = {"pay-1": NAMES, "pay-2": NAMES, "pay-3": NAMES, "pay-4": [n for n in NAMES if n != "pay-3"]}
    seats["pay-1"].reveal(1, {name: seats[name].agree(1, names) for name, names in told.items()})


def one_signature_for_all() -> None:
    seats = _sent()
    signature = seats["pay-1"].agree(1, NAMES)
    seats["pay-1"].reveal(1, dict.fromkeys(NAMES[:4], signature))


def too_few_signatures() -> None:
    seats = _sent()
    signed = {name: seats[name].agree(1, NAMES) for name in NAMES}
    seats["pay-1"].reveal(1, {name: signed[name] for name in NAMES[:3]})


def signatures_of_another_session() -> None:
    seats = _sent()
    seats["pay-1"].agree(1, NAMES)
    seats["pay-1"].reveal(1, {name: seat.agree(1, NAMES) for name, seat in _sent_elsewhere().items()})


def _sent_elsewhere() -> dict[str, Seat]:
    seats = _received("run-2")
    for seat in seats.values():
        seat.mask(1, ZERO)
    return seats


def shares_before_agreeing() -> None:
    _sent()["pay-1"].reveal(1, {})


def survivors_without_the_one_asked() -> None:
    _sent()["pay-1"].agree(1, NAMES[1:])


def survivors_that_never_shared() -> None:
    _sent()["pay-1"].agree(1, [*NAMES, "pay-9"])


def survivors_below_the_threshold() -> None:
    _sent()["pay-1"].agree(1, NAMES[:3])


def agreeing_before_sending() -> None:
    _received()["pay-1"].agree(1, NAMES)


def numbers_instead_of_integers() -> None:
    _received()["pay-1"].mask(1, np.array([np.nan] * 4))  # type: ignore[arg-type]


def integers_that_overflow() -> None:
    _received()["pay-1"].mask(1, np.array([2**61]))


def round_beyond_the_session() -> None:
    _received()["pay-1"].mask(2, ZERO)


def threshold_of_half() -> None:
    Group("s", {n: VERIFY[n] for n in NAMES[:4]}, 1, 2)


def roster_below_the_threshold() -> None:
    seats, adverts = _fresh()
    seats["pay-1"].share({name: adverts[name] for name in NAMES[:3]})


def boxes_below_the_threshold() -> None:
    seats, adverts = _fresh()
    boxes = {name: seat.share(adverts)["pay-1"] for name, seat in seats.items() if name != "pay-1"}
    seats["pay-1"].share(adverts)
    seats["pay-1"].receive({name: boxes[name] for name in NAMES[1:3]})


def one_member_alone() -> None:
    Group("s", {"pay-1": VERIFY["pay-1"]}, 1, 1)


def one_key_under_two_names() -> None:
    Group("s", {"pay-1": VERIFY["pay-1"], "pay-2": VERIFY["pay-1"]}, 1, 2)


def somebody_else_in_ones_seat() -> None:
    Seat(Group("s", VERIFY, 1, 4), "pay-1", KEYS["pay-2"])


def own_advert_replaced() -> None:
    seats, adverts = _fresh()
    again, _ = _fresh()
    seats["pay-1"].share(adverts | {"pay-1": again["pay-1"].advert()})


def masking_before_the_boxes() -> None:
    seats, adverts = _fresh()
    seats["pay-1"].share(adverts)
    seats["pay-1"].mask(1, ZERO)


REQUIRED = (
    swapped_key,
    advert_of_another_session,
    altered_box,
    second_vector,
    second_survivors,
    split_view_of_survivors,
    numbers_instead_of_integers,
    threshold_of_half,
    roster_below_the_threshold,
)  # the malicious-server suite of the design
MORE = tuple(
    value
    for name, value in list(globals().items())
    if callable(value) and not name.startswith("_") and value.__module__ == __name__ and value not in REQUIRED
)


def test_the_suite_is_whole() -> None:
    assert (len(REQUIRED), len(MORE)) == (9, 22)


@pytest.mark.parametrize("attack", [*REQUIRED, *MORE], ids=lambda f: f.__name__)
def test_a_coordinator_that_deviates_is_refused(attack: Callable[[], None]) -> None:
    with pytest.raises(SumRefused) as caught:
        attack()
    assert "\n" not in str(caught.value)


def test_every_altered_byte_of_an_advert_is_refused() -> None:
    seats, adverts = _fresh()
    for place in range(len(adverts["pay-2"])):
        altered = bytearray(adverts["pay-2"])
        altered[place] ^= 1
        with pytest.raises(SumRefused):
            seats["pay-1"].share(adverts | {"pay-2": bytes(altered)})
        with pytest.raises(SumRefused):
            Opening(seats["pay-1"].group, adverts | {"pay-2": bytes(altered)})


def test_what_is_shown_never_opens_both_masks_of_one_member() -> None:
    """One share a member, of one kind: the other one's threshold is never reached by honest members."""
    seats = _sent()
    survivors = NAMES[:4]
    signed = {name: seats[name].agree(1, survivors) for name in survivors}
    for name in survivors:
        shown = seats[name].reveal(1, signed)
        held = {owner: (shares[:66], shares[66:]) for owner, shares in seats[name]._held.items()}
        assert set(shown) == set(NAMES)
        for owner, share in shown.items():
            assert share == held[owner][0 if owner in survivors else 1]
