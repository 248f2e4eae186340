"""What a partner has answered: once a person and version, in one roster, so many a year, kept before it leaves."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import answers
from clients.answers import Answered, Compared, Version, admit, compare, once, versions
from model.inputs import InputError
from privacy.envelope import new_key, public_key
from privacy.score_masks import Masker, ScoreRoster, summed

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


def _version(name: str = "v1", roster: str = "", **changes: Any) -> Version:
    return Version(**{"name": name, "roster": roster, "most": 3, "answers": 100, "now": NOW, **changes})


def _ask(folder: Path, version: Version, persons: list[str], reply: bytes = b"first") -> list[Answered]:
    return once(folder, version, [(p, f"r-{p}") for p in persons], lambda new: [reply + bytes([i]) for i in new])


def test_a_person_is_answered_once_a_version_and_then_the_same_for_ever(tmp_path: Path) -> None:
    first = _ask(tmp_path, _version(), ["a", "b"])
    later = _ask(tmp_path, _version(now=NOW + timedelta(days=900)), ["b", "c", "a"], b"other")
    assert later == [first[1], Answered("r-c", b"other\x01"), first[0]]
    assert _ask(tmp_path, _version("v2"), ["a"], b"second") == [Answered("r-a", b"second\x00")]


def test_what_was_answered_is_told_under_its_first_request(tmp_path: Path) -> None:
    """Masks are bound to the request: whoever asks again under another one learns which to ask the others for."""
    first = once(tmp_path, _version(), [("a", "r-1")], lambda new: [b"x"])
    assert once(tmp_path, _version(), [("a", "r-2")], lambda new: [b"y"]) == first == [Answered("r-1", b"x")]


def test_one_person_twice_in_a_batch_gets_one_answer(tmp_path: Path) -> None:
    found = _ask(tmp_path, _version(), ["a", "a"])
    assert found[0] == found[1]


def test_a_second_roster_is_refused(tmp_path: Path) -> None:
    """A sum over three and one over two of them would show the third by subtraction."""
    _ask(tmp_path, _version(roster="abc"), ["a"])
    for roster in ("ab", ""):
        with pytest.raises(InputError, match="answered in first"):
            _ask(tmp_path, _version(roster=roster), ["b"])
    assert len(_ask(tmp_path, _version("v2", "ab"), ["a"])) == 1


def test_versions_are_counted_by_the_year(tmp_path: Path) -> None:
    for day, name in enumerate(("v1", "v2", "v3")):
        _ask(tmp_path, _version(name, now=NOW + timedelta(days=day)), ["a"])
    with pytest.raises(InputError, match=r"limits\.max-models is reached for this year, got 3"):
        _ask(tmp_path, _version("v4", now=NOW + timedelta(days=3)), ["a"])
    _ask(tmp_path, _version("v1", now=NOW + timedelta(days=3)), ["b"])
    _ask(tmp_path, _version("v4", now=NOW + timedelta(days=366)), ["a"])
    assert versions(tmp_path) == ["v1", "v2", "v3", "v4"]


def test_answers_are_counted_by_the_year_and_repeats_are_free(tmp_path: Path) -> None:
    few = {"answers": 3}
    _ask(tmp_path, _version(**few), ["a", "b"])
    with pytest.raises(InputError, match="max-applicants"):
        _ask(tmp_path, _version("v2", **few), ["a", "b"])
    _ask(tmp_path, _version(**few), ["a", "b", "c"])
    _ask(tmp_path, _version(**few), ["c"])
    assert len(_ask(tmp_path, _version("v2", **few, now=NOW + timedelta(days=366)), ["a", "b"])) == 2


def test_a_version_of_a_run_counts_once_with_those_of_new_persons(tmp_path: Path) -> None:
    admit(tmp_path, _version(most=1))
    admit(tmp_path, _version(most=1))
    _ask(tmp_path, _version(most=1), ["a"])
    with pytest.raises(InputError, match="max-models"):
        admit(tmp_path, _version("v2", most=1))


def test_lists_that_are_compared_count_as_a_whole_and_once(tmp_path: Path) -> None:
    """Whoever is not found tells as much: ids that are tried must not be free."""

    def show(digest: str, counted: int, party: str = "lender", days: int = 0) -> None:
        compare(tmp_path, Compared(party, digest, counted, "max-applicants", 10, NOW + timedelta(days=days)))

    show("one", 6)
    show("one", 6, days=3)
    with pytest.raises(InputError, match=r"limits\.max-applicants is reached for this year, got 10"):
        show("two", 5, days=3)
    show("three", 4, days=3)
    show("two", 5, party="another", days=3)
    show("one", 6, days=300)
    show("two", 5, days=366)


def test_nothing_is_kept_of_a_batch_whose_answers_could_not_be_made(tmp_path: Path) -> None:
    def fail(new: list[int]) -> list[bytes]:
        raise ValueError(new)

    with pytest.raises(ValueError, match=r"\[0\]"):
        once(tmp_path, _version(), [("a", "r")], fail)
    assert versions(tmp_path) == []
    assert _ask(tmp_path, _version(), ["a"]) == [Answered("r-a", b"first\x00")]


def test_an_answer_is_on_disk_before_it_is_given_and_for_its_owner_only(tmp_path: Path) -> None:
    _ask(tmp_path, _version(), ["a"])
    path = tmp_path / answers.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"first" in path.read_bytes()
    assert b'"a"' not in path.read_bytes()


def test_masked_answers_that_are_repeated_still_add_up_and_another_roster_gets_none(tmp_path: Path) -> None:
    """T18: each partner keeps its masked answer; the lender that asks again gets the same bytes from everybody."""
    keys = {name: new_key() for name in ("pay-1", "shop-1", "tax-1")}
    roster = ScoreRoster("v1", {name: public_key(key) for name, key in keys.items()})
    values = {"pay-1": -1_250_000, "shop-1": 300_000, "tax-1": 42}

    def answer(name: str, among: ScoreRoster, value: int) -> Answered:
        (tmp_path / name).mkdir(exist_ok=True)
        masker = Masker(among, name, keys[name])

        def make(new: list[int]) -> list[bytes]:
            assert new == [0]
            return [masker.masked("r-1", np.array([value])).tobytes()]

        version = _version("v1", among.digest.hex())
        return once(tmp_path / name, version, [("person", "r-1")], make)[0]

    first = {name: answer(name, roster, value) for name, value in values.items()}
    again = {name: answer(name, roster, value + 7) for name, value in values.items()}  # their data changed since
    assert again == first
    words = {name: np.frombuffer(told.reply, dtype="<u8").astype(np.uint64) for name, told in again.items()}
    assert summed(roster, words).tolist() == [sum(values.values())]
    keys["tel-1"] = new_key()
    other = ScoreRoster("v1", {name: public_key(keys[name]) for name in ("pay-1", "shop-1", "tel-1")})
    with pytest.raises(InputError, match="answered in first"):
        answer("pay-1", other, 0)
