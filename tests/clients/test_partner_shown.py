"""What `fedscore partner join` shows is what it keeps, and nothing in a welcome can paint over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.partner.folder import Folder
from clients.partner.joining import Wish, make, request_of
from privacy.enrolment import Enrolled
from privacy.envelope import new_key
from privacy.signing import announcement, new_signing_key, verify_key
from tests.partners import Hub

Run = Callable[..., Any]
PAINT = "\x1b[3A\r\x1b[2K  coordinator      0f3a 91bc\x1b[3B"  # three lines up, another fingerprint, down again


@pytest.fixture
def pay(small: Path, tmp_path: Path) -> Folder:
    return make(tmp_path / "pay-1", Wish("pay-1", "", small, ()))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def _row(name: str, domain: str) -> Enrolled:
    return Enrolled(name, domain, **announcement(name, new_key(), new_signing_key()))


@pytest.mark.parametrize("word", [PAINT, "tax\n1", "\u202etax", "tax-1 (tax): 0f3a 91bc", "x" * 65])
@pytest.mark.parametrize("place", ["name", "domain", "federation", "superlink"])
def test_no_word_of_a_welcome_writes_over_a_fingerprint(
    pay: Folder, hub: Hub, run_cli: Run, place: str, word: str
) -> None:
    own = request_of(pay).holder
    other = {"name": _row(word, "tax"), "domain": _row("tax-1", word)}.get(place, _row("tax-1", "tax"))
    plain = {"federation": "sample", "superlink": "127.0.0.1:1"}
    changes = {**plain, place: f"{word * 5}:1" if place == "superlink" else word}
    given = {name: changes[name] for name in plain}
    ended = run_cli("partner", "join", pay.root, hub.welcome(pay, roster=(own, other), **given), "--yes")
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, "")
    assert "has a name that is not of 64 letters, digits, '-', '_' and '.' at most; do not join" in ended.err
    assert word not in ended.err
    assert not pay.trust.exists()


def test_the_welcome_that_was_confirmed_is_the_one_that_is_kept(
    pay: Folder, hub: Hub, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub.welcome(pay)
    confirmed = path.read_text()
    other = replace(hub, key=new_signing_key())

    def swap(question: str) -> bool:  # while a person compares, somebody changes the shared folder
        del question
        path.write_text(other.welcome(pay).read_text())
        return True

    monkeypatch.setattr("typer.confirm", swap)
    assert run_cli("partner", "join", pay.root, path).code == 0
    assert path.read_text() != confirmed
    assert pay.trust.read_text() == confirmed
    assert pay.node.coordinator() == verify_key(hub.key)


def test_a_folder_that_was_there_for_everybody_is_its_owners_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    made = make(tmp_path / "there", Wish("pay-1", "", small, ()))
    assert made.root.stat().st_mode & 0o777 == 0o700
