"""Private set intersection: exact against dictionaries, nothing recognisable in what leaves, and refused lies."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import matching
from privacy.matching import POINT, SMALLEST, MatchRefused, Psi, Tokens, public_size

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
PARTNER, LENDER = Psi(b"p" * 32, "prog"), Psi(b"l" * 32, "prog")
PEOPLE = [f"P{i:05d}" for i in range(60)]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sets are filled up to little: what is tested does not depend on how much."""
    monkeypatch.setattr(matching, "SMALLEST", 16)


def _rows(own: Sequence[str], cohort: Sequence[str]) -> list[int]:
    offer = PARTNER.offer(own)
    shown, answered = LENDER.shown(cohort), LENDER.answered(cohort, offer.items)
    return list(PARTNER.rows(own, offer, shown, answered).tolist())


def _expected(own: Sequence[str], cohort: Sequence[str]) -> list[int]:
    places = {person: row for row, person in enumerate(own)}
    return [places.get(person, -1) for person in cohort]


def _on_curve(x: int) -> bool:
    """Euler's criterion: whether x**3 - 3x + b is a square."""
    return x < PRIME and pow((x**3 - 3 * x + B) % PRIME, (PRIME - 1) // 2, PRIME) == 1


@settings(derandomize=True, deadline=None, max_examples=12, database=None)
@given(st.lists(st.text(max_size=8), unique=True, max_size=12), st.data())
def test_exactly_the_shared_persons_are_found_each_in_its_row(own: list[str], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(own), unique=True)) if own else []
    others = data.draw(st.lists(st.text(max_size=8).filter(lambda t: t not in own), unique=True, max_size=6))
    cohort = data.draw(st.permutations([*some, *others]))
    assert _rows(own, cohort) == _expected(own, cohort)


@pytest.mark.parametrize("own", [[], ["a"], ["王芳", "王芬", "Ａ１", "A1", "\0", "|1", "", "😀"], PEOPLE])
def test_sets_of_nobody_one_everybody_and_odd_texts(own: list[str]) -> None:
    assert _rows(own, [*reversed(own), "somebody else"]) == _expected(own, [*reversed(own), "somebody else"])
    assert _rows(own, ["stranger"]) == [-1]
    assert _rows(own, []) == []


def test_other_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = PARTNER.offer(PEOPLE), LENDER.shown(PEOPLE)
    monkeypatch.setattr(matching, "ALONE", 40)
    monkeypatch.setattr(matching.os, "sched_getaffinity", lambda pid: {0, 1})
    spread = PARTNER.offer(PEOPLE), LENDER.shown(PEOPLE)
    np.testing.assert_array_equal(alone[0].items, spread[0].items)
    np.testing.assert_array_equal(alone[1], spread[1])
    wrong = np.concatenate([alone[0].items[:-1], np.full((1, POINT), 255, np.uint8)])
    with pytest.raises(MatchRefused, match="no point"):
        LENDER.answered(PEOPLE, wrong)


def test_an_id_goes_to_a_point_of_the_curve_that_its_programme_names() -> None:
    points = matching._points(PEOPLE, b"prog", None)
    assert all(_on_curve(int.from_bytes(x.tobytes())) for x in points)
    assert len({x.tobytes() for x in points}) == len(PEOPLE)
    label, domain = b"fedscore-match-1|", b"prog"
    tries = (hashlib.sha256(label + (4).to_bytes(4) + domain + b"P00000|%d" % i).digest() for i in range(99))
    assert points[0].tobytes() == next(x for x in tries if _on_curve(int.from_bytes(x)))
    other = matching._points(PEOPLE, b"pro", None)
    assert not {x.tobytes() for x in points} & {x.tobytes() for x in other}


def test_multiplying_commutes_and_is_that_of_the_library() -> None:
    a, b = 2**200 + 7, 2**255 - 19
    points = matching._points(PEOPLE[:5], b"prog", None)
    one = matching._raised(matching._raised(points, a), b)
    np.testing.assert_array_equal(one, matching._raised(matching._raised(points, b), a))
    key = ec.derive_private_key(a, ec.SECP256R1())
    plain = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\3" + points[0].tobytes())
    assert matching._raised(points, a)[0].tobytes() == key.exchange(ec.ECDH(), plain)


def test_the_lender_sees_a_public_size_and_points_that_all_look_alike() -> None:
    """One person more changes neither the size nor what can be told of any item: fillers are points too."""
    for people in (PEOPLE[:20], PEOPLE[:21]):
        offer = PARTNER.offer(people)
        assert offer.items.shape == (public_size(len(people)), POINT) == (24, POINT)
        assert all(_on_curve(int.from_bytes(x.tobytes())) for x in offer.items)
        listed = [x.tobytes() for x in offer.items]
        assert listed == sorted(listed)
        assert sorted(offer.rows[offer.rows >= 0].tolist()) == list(range(len(people)))


def test_the_same_set_is_the_same_bytes_and_another_set_links_to_none() -> None:
    """A retry costs nothing; two sets of one partner share no item, fillers neither, whoever is in both."""
    first, again = PARTNER.offer(PEOPLE[:20]), PARTNER.offer(PEOPLE[:20])
    assert first.digest == again.digest
    turned = PARTNER.offer(PEOPLE[:20][::-1])
    assert turned.digest == first.digest  # a file in another order is the same set
    np.testing.assert_array_equal(turned.rows[first.rows >= 0], 19 - first.rows[first.rows >= 0])
    strangers = (PARTNER.offer(PEOPLE[:21]), Psi(b"q" * 32, "prog").offer(PEOPLE[:20]))
    for other in (*strangers, Psi(b"p" * 32, "next").offer(PEOPLE[:20])):
        assert not {x.tobytes() for x in first.items} & {x.tobytes() for x in other.items}


def test_no_item_holds_an_id_or_its_hash() -> None:
    offer = PARTNER.offer(PEOPLE)
    told = offer.items.tobytes() + LENDER.shown(PEOPLE).tobytes() + LENDER.answered(PEOPLE, offer.items).tobytes()
    plain = matching._points(PEOPLE, b"prog", None)
    assert not [p for p in PEOPLE if p.encode() in told]
    assert not [x for x in plain if x.tobytes() in told]


def test_which_half_of_the_curve_a_point_lies_on_does_not_survive() -> None:
    """Of x-coordinates no bit stays: X25519 keeps one, whether x is of the curve or of its twist."""
    ids = [f"P{i}" for i in range(400)]
    before, after = matching._points(ids, b"prog", None), matching._points(ids, b"prog", 2**255 - 19)
    for place, bit in ((0, 7), (31, 0), (16, 3)):
        kept = ((before[:, place] >> bit & 1) == (after[:, place] >> bit & 1)).mean()
        assert abs(kept - 0.5) < 5 * 0.5 / 20
    assert all(_on_curve(int.from_bytes(x.tobytes())) for x in after)  # the one thing that is alike is so of all


@pytest.mark.parametrize("spoil", ["off the curve", "too large", "twice", "short", "many", "kind"])
def test_what_is_no_set_of_points_is_refused(spoil: str) -> None:
    items = PARTNER.offer(PEOPLE[:20]).items.copy()
    if spoil == "off the curve":
        items[3] = np.frombuffer(next(x.to_bytes(32) for x in range(2, 99) if not _on_curve(x)), np.uint8)
    elif spoil == "too large":
        items[3] = 255
    elif spoil == "twice":
        items[3] = items[4]
    changed = {"short": items[:, :31], "many": items[:-1], "kind": items.astype(np.int64)}.get(spoil, items)
    with pytest.raises(MatchRefused):
        LENDER.answered(PEOPLE, changed)
    if spoil != "many":  # a cohort's size is public, and not filled up
        offer = PARTNER.offer(PEOPLE[:20])
        with pytest.raises(MatchRefused):
            PARTNER.rows(PEOPLE[:20], offer, changed, LENDER.answered(PEOPLE, offer.items))


def test_an_answer_to_another_set_or_with_a_token_twice_is_refused() -> None:
    offer, shown = PARTNER.offer(PEOPLE[:20]), LENDER.shown(PEOPLE)
    answered = LENDER.answered(PEOPLE, offer.items)
    twice = answered.copy()
    twice[0] = twice[1]
    for wrong in (answered[:-1], twice, answered[:, :15], answered.astype(np.int16)):
        with pytest.raises(MatchRefused):
            PARTNER.rows(PEOPLE[:20], offer, shown, wrong)


def test_an_answer_holds_hashes_and_no_points_that_could_be_multiplied_on() -> None:
    items = PARTNER.offer(PEOPLE[:20]).items
    points = matching._raised(items, LENDER._exponent("cohort", PEOPLE))
    start = b"fedscore-match-1|token|" + (4).to_bytes(4) + b"prog"
    expected = [hashlib.sha256(start + point.tobytes()).digest()[:16] for point in points]
    assert [token.tobytes() for token in LENDER.answered(PEOPLE, items)] == expected


def test_other_peoples_tokens_match_nobody() -> None:
    offer, shown = PARTNER.offer(PEOPLE[:20]), LENDER.shown(PEOPLE)
    stranger = Psi(b"x" * 32, "prog").answered(PEOPLE, offer.items)
    assert set(PARTNER.rows(PEOPLE[:20], offer, shown, stranger).tolist()) == {-1}


@pytest.mark.parametrize("count", [0, 1, 16, 17, 24, 25, 1000, 99_999, 300_000])
def test_a_public_size_is_above_the_count_and_at_most_half_as_much_again(count: int) -> None:
    size = public_size(count)
    assert max(count, matching.SMALLEST) <= size <= max(1.5 * count, matching.SMALLEST)
    assert public_size(size) == size


def test_the_smallest_public_size_hides_a_thousand() -> None:
    assert SMALLEST == 1024


def test_tokens_find_what_the_points_find() -> None:
    own, cohort = PEOPLE[:30], PEOPLE[20:][::-1]
    engine = Tokens(b"k" * 32)
    offer = engine.offer(own)
    assert len(offer.items) == 0
    found = engine.rows(own, offer, engine.shown(cohort), engine.answered(cohort, offer.items))
    assert found.tolist() == _rows(own, cohort) == _expected(own, cohort)


def test_composed_and_decomposed_letters_are_two_ids_here() -> None:
    """Forms of writing are made one before: `clients.ids` does that."""
    name = "Zoë"
    assert _rows([unicodedata.normalize("NFC", name)], [unicodedata.normalize("NFD", name)]) == [-1]
