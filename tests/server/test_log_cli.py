"""`fedscore log`: what a person sees of a coordinator's log, and that whatever was done to it shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy.enrolment import fingerprint
from privacy.logfile import CHECKPOINT, ENTRIES, Entry, LogBroken, Witness, read_log
from privacy.logproof import prove, proven
from privacy.signing import new_signing_key, verify_key
from server.failures import RunFailed
from server.log import Log, append

KEY, HOLDER = new_signing_key(), new_signing_key()
VERIFY, WITNESS = (base64.b64encode(verify_key(key)).decode() for key in (KEY, HOLDER))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A coordinator's folder with a log of four entries, of which pay-1 cosigned three."""
    log = Log(tmp_path / "hub" / "log", KEY)
    log.append("run", {"run": "5"})
    log.append("published", {"model": "ab" * 32, "run": "5"})
    checkpoint = log.checkpoint
    log.witnessed("pay-1", Witness(checkpoint, WITNESS, checkpoint.cosign("pay-1", HOLDER)))
    (tmp_path / "held.json").write_text(json.dumps(checkpoint.to_dict()))
    log.append("run", {"run": "6"})
    return tmp_path / "hub"


def test_verify_says_what_holds_and_who_cosigned(hub: Path, run_cli: Callable[..., Any]) -> None:
    for path in (hub, hub / "log"):
        ended = run_cli("log", "verify", path)
        assert ended.code == 0, ended.err
        root = read_log(hub / "log").checkpoint.root.hex()
        assert ended.out.splitlines() == [
            f"{path}: sound, 4 entries, root {root}",
            f"signed by the key with fingerprint {fingerprint(VERIFY)}: compare it, or give --key",
            f"cosigned by pay-1 at 3 ({fingerprint(WITNESS)})",
            "an end that was cut off shows only against a --witness",
        ]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(VERIFY, id="base64"),
        pytest.param(fingerprint(VERIFY), id="fingerprint"),
        pytest.param(fingerprint(VERIFY).replace(" ", "").upper(), id="fingerprint in one word"),
    ],
)
def test_a_key_is_given_whole_or_as_its_fingerprint(hub: Path, run_cli: Callable[..., Any], key: str) -> None:
    ended = run_cli("log", "verify", hub, "--key", key)
    assert (ended.code, "compare it" in ended.out) == (0, False)
    for other in (WITNESS, fingerprint(WITNESS), "x", fingerprint(VERIFY)[:-5]):
        ended = run_cli("log", "verify", hub, "--key", other)
        assert (ended.code, len(ended.lines)) == (1, 1)
        assert "another key than the one given" in ended.err


def test_a_witness_shows_that_the_end_was_cut_off(hub: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    held = tmp_path / "held.json"
    assert run_cli("log", "verify", hub, "--witness", held).out.endswith(f"it has all that {held} has\n")
    lines = (hub / "log" / ENTRIES).read_bytes().splitlines(keepends=True)
    for file in (hub / "log").iterdir():
        file.unlink()
    (hub / "log" / ENTRIES).write_bytes(b"".join(lines[:1]))
    append(hub / "log", KEY, "run", {"run": "5"})
    assert run_cli("log", "verify", hub).code == 0
    ended = run_cli("log", "verify", hub, "--witness", held)
    assert (ended.code, len(ended.lines)) == (1, 1)
    assert "the log was cut" in ended.err
    append(hub / "log", KEY, "published", {"model": "cd" * 32})
    assert "rewritten, or shown in two forms" in run_cli("log", "verify", hub, "--witness", held).err


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text.replace(b"abab", b"abac", 1), id="a changed digest"),
        pytest.param(lambda text: b"".join(text.splitlines(keepends=True)[::2]), id="entries left out"),
        pytest.param(lambda text: text[:-9], id="half an entry"),
        pytest.param(lambda text: b"", id="empty"),
        pytest.param(lambda text: b"\xff" + text, id="no text"),
    ],
)
def test_a_log_that_was_changed_is_one_line_and_code_1(hub: Path, run_cli: Callable[..., Any], spoil: Any) -> None:
    path = hub / "log" / ENTRIES
    path.write_bytes(spoil(path.read_bytes()))
    for command in (("verify", hub), ("show", hub), ("prove", hub, 0)):
        ended = run_cli("log", *command)
        assert (ended.code, len(ended.lines)) == (1, 1), ended.err
        assert str(hub) in ended.err


def test_an_entry_that_somebody_added_without_the_key_is_refused(hub: Path, run_cli: Callable[..., Any]) -> None:
    """No checkpoint covers it yet: its signature alone tells it from one whose writer died."""
    name = read_log(hub / "log").checkpoint.origin
    forged = Entry(name, 4, "2026-01-01T00:00:00+00:00", "published", {"model": "ee" * 32}).signed(HOLDER)
    with (hub / "log" / ENTRIES).open("ab") as file:
        file.write(forged.line() + b"\n")
    ended = run_cli("log", "verify", hub)
    assert (ended.code, len(ended.lines)) == (1, 1)
    assert "entry 4 is not signed by the log's key" in ended.err
    with pytest.raises(RunFailed, match="entry 4 is not signed"):
        append(hub / "log", KEY, "run", {"run": "7"})


def test_show_lists_entries_and_chooses_by_kind(hub: Path, run_cli: Callable[..., Any]) -> None:
    assert [kind in run_cli("log", "show", hub).out for kind in ("opened", "run", "published")] == [True] * 3
    ended = run_cli("log", "show", hub, "--kind", "published")
    assert "model abababababab, run 5" in ended.out
    assert "opened" not in ended.out


def test_an_entry_is_proven_to_somebody_without_the_log(hub: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    proof = tmp_path / "proof.json"
    assert run_cli("log", "prove", hub, 2, "--out", proof).code == 0
    assert json.loads(run_cli("log", "prove", hub, 2).out) == json.loads(proof.read_text())
    ended = run_cli("log", "verify", proof, "--key", fingerprint(VERIFY))
    assert ended.code == 0, ended.err
    assert "entry 2 is in the log: published, model abababababab, run 5" in ended.out
    assert "cosigned by pay-1 at 3" in ended.out
    ended = run_cli("log", "verify", proof, "--key", WITNESS)
    assert (ended.code, len(ended.lines)) == (1, 1)


def test_no_byte_of_a_proof_can_be_changed(hub: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:

    text = json.dumps(prove(read_log(hub / "log"), 1)).encode()
    unnoticed = []
    for place in range(len(text)):
        try:
            told = json.loads(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        except ValueError:
            continue
        try:
            proven(told, verify_key(KEY))
        except LogBroken:
            continue
        unnoticed.append(text[max(place - 30, 0) : place + 1])
    assert unnoticed == []


def test_bad_input_is_one_line_and_code_2(hub: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").mkdir()
    for command in (
        ("verify", tmp_path / "empty"),
        ("verify", tmp_path / "nowhere"),
        ("show", tmp_path / "text"),
        ("prove", hub, 4),
        ("prove", hub, 0, "--out", tmp_path / "text"),
        ("verify", tmp_path / "text"),
        ("verify", hub, "--witness", tmp_path / "text"),
        ("verify", hub, "--witness", tmp_path / "nowhere"),
    ):
        ended = run_cli("log", *command)
        assert (ended.code, len(ended.lines)) == (2, 1), (command, ended.err)
    assert CHECKPOINT in {p.name for p in (hub / "log").iterdir()}


@pytest.mark.parametrize("name", ["\x1b[2A\r\x1b[2Ksound", "pay-1 at 4 (0f3a 91bc), tax-1", "x" * 65])
def test_no_witness_and_no_entry_writes_over_what_is_told(
    tmp_path: Path, run_cli: Callable[..., Any], name: str
) -> None:
    log = Log(tmp_path / "log", KEY)
    log.append("run", {"run": "\x1b[2A5", "\x1b[1mbold": "6"})
    checkpoint = log.checkpoint
    log.witnessed(name, Witness(checkpoint, WITNESS, checkpoint.cosign(name, HOLDER)))
    log.append("run", {"run": "6"})
    shown = run_cli("log", "verify", tmp_path)
    assert f"cosigned by {name!r} at" in shown.out
    run_cli("log", "prove", tmp_path, "1", "--out", tmp_path / "proof.json")
    told = [shown, run_cli("log", "show", tmp_path), run_cli("log", "verify", tmp_path / "proof.json")]
    assert [ended.code for ended in told] == [0, 0, 0]
    assert "\\x1b[2A5" in told[1].out
    assert not [ended.out for ended in told if "\x1b" in ended.out or "\r" in ended.out]
