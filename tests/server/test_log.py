"""The coordinator's log: signed, on disk before anything follows, and no change to it goes unnoticed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from privacy.checkpoints import Checkpoint, LogRefused, proof_of
from privacy.envelope import SealBroken
from privacy.logfile import CHECKPOINT, ENTRIES, LogBroken, Witness, read_log
from privacy.logproof import prove, proven
from privacy.signing import new_signing_key, verify_key
from server.failures import RunFailed
from server.identity import Coordinator, lasting_key, numbers
from server.log import Log, append

KEY, HOLDER = new_signing_key(), new_signing_key()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of six entries, cosigned by pay-1 when it had four."""
    log = Log(tmp_path / "log", KEY)
    for number in range(3):
        log.append("asked", {"stage": "train.block", "round": number, "orders": {"pay-1": "ab" * 32}})
    log.witnessed("pay-1", _witness(log.checkpoint))
    log.append("published", {"model": "cd" * 32})
    log.append("run", {"run": "5"})
    return tmp_path / "log"


def _witness(checkpoint: Checkpoint) -> Witness:
    return Witness(checkpoint, base64.b64encode(verify_key(HOLDER)).decode(), checkpoint.cosign("pay-1", HOLDER))


def test_a_log_is_what_was_appended_and_checks_as_a_whole(folder: Path) -> None:
    kept = read_log(folder, verify_key(KEY))
    assert [e.kind for e in kept.entries] == ["opened", "asked", "asked", "asked", "published", "run"]
    assert [e.number for e in kept.entries] == list(range(6))
    assert kept.checkpoint.size == 6
    assert kept.witnesses["pay-1"].checkpoint.size == 4
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}


def test_a_log_that_is_opened_again_goes_on(folder: Path) -> None:
    before = read_log(folder).checkpoint
    append(folder, KEY, "enrolled", {"name": "shop-1"})
    kept = read_log(folder)
    assert [e.kind for e in kept.entries][-2:] == ["run", "enrolled"]
    kept.holds(before, "before")
    assert kept.witnesses["pay-1"].checkpoint.size == 4


def test_two_writers_do_not_lose_each_others_entries(folder: Path) -> None:
    one, other = Log(folder, KEY), Log(folder, KEY)
    for number in range(4):
        (one, other)[number % 2].append("asked", {"round": number})
    assert [e.body["round"] for e in read_log(folder).entries[-4:]] == [0, 1, 2, 3]


def test_no_byte_of_entries_or_checkpoint_can_be_changed(tmp_path: Path) -> None:
    folder, unnoticed = tmp_path / "log", []
    log = Log(folder, KEY)
    log.witnessed("pay-1", _witness(log.checkpoint))
    log.append("run", {"run": "5"})
    for name in (ENTRIES, CHECKPOINT):
        whole = (folder / name).read_bytes()
        for place, byte in enumerate(whole):
            (folder / name).write_bytes(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])
            try:
                read_log(folder, verify_key(KEY))
            except LogBroken:
                continue
            unnoticed.append((name, place, whole[max(place - 20, 0) : place + 1]))
        (folder / name).write_bytes(whole)
    assert unnoticed == []
    read_log(folder, verify_key(KEY))


def test_no_end_can_be_cut_off(folder: Path) -> None:
    """Cut behind a whole line with an older checkpoint put back, it shows against what a witness holds."""
    whole = (folder / ENTRIES).read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for length in {0, *range(ends[-2] - 2, len(whole)), *ends[:-1], *(end - 1 for end in ends)}:
        (folder / ENTRIES).write_bytes(whole[:length])
        with pytest.raises(LogBroken):
            read_log(folder)
    (folder / ENTRIES).write_bytes(whole)
    held = read_log(folder).checkpoint
    fork = Log(folder.with_name("fork"), KEY)
    lines = whole.splitlines(keepends=True)
    (fork.folder / ENTRIES).write_bytes(b"".join(lines[:4]))  # type: ignore[operator]
    old = read_log(folder).witnesses["pay-1"].checkpoint
    (fork.folder / CHECKPOINT).write_text(json.dumps({"checkpoint": old.to_dict(), "witnesses": {}}))  # type: ignore[operator]
    rolled_back = read_log(fork.folder)  # type: ignore[arg-type]
    with pytest.raises(LogBroken, match="was cut: lender keeps a checkpoint of 6"):
        rolled_back.holds(held, "lender")


def test_a_fork_shows_against_a_witness_of_the_other_branch(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in (ENTRIES, CHECKPOINT):
        (other / name).write_bytes((folder / name).read_bytes())
    append(folder, KEY, "published", {"model": "aa" * 32})
    append(other, KEY, "published", {"model": "bb" * 32})
    one, two = read_log(folder), read_log(other)
    with pytest.raises(LogBroken, match="rewritten, or shown in two forms"):
        one.holds(two.checkpoint, "shop-1")
    with pytest.raises(LogBroken, match="of another log"):
        one.holds(Log(None, KEY).checkpoint, "shop-1")
    with pytest.raises(LogBroken, match="not signed by the log's key"):
        one.holds(Checkpoint(two.checkpoint.origin, 7, two.checkpoint.root).signed(HOLDER), "shop-1")


def test_entries_moved_or_left_out_show(folder: Path) -> None:
    lines = (folder / ENTRIES).read_bytes().splitlines(keepends=True)
    for other in ([*lines[:2], lines[3], lines[2], *lines[4:]], [*lines[:2], *lines[3:]], [*lines, lines[-1]], []):
        (folder / ENTRIES).write_bytes(b"".join(other))
        with pytest.raises(LogBroken):
            read_log(folder)


def test_a_log_under_another_key_is_refused(folder: Path) -> None:
    with pytest.raises(LogBroken, match="another key"):
        read_log(folder, verify_key(HOLDER))
    with pytest.raises(RunFailed, match="another key"):
        append(folder, HOLDER, "run", {})


def test_a_key_is_changed_by_an_entry_that_the_old_one_signed(folder: Path) -> None:
    new = new_signing_key()
    Log(folder, KEY).rotate(new)
    append(folder, new, "run", {"run": "6"})
    assert read_log(folder, verify_key(new)).keys == (verify_key(KEY), verify_key(new))
    with pytest.raises(LogBroken):
        read_log(folder, verify_key(KEY))
    with pytest.raises(RunFailed):
        append(folder, KEY, "run", {"run": "7"})


# --- proofs


def test_consistency_proofs_lead_from_every_size_to_the_last(folder: Path) -> None:
    log = Log(None, KEY)
    held = [log.checkpoint]
    for number in range(20):
        log.append("asked", {"round": number})
        proofs = log.proofs({c.size for c in held} | {0, 99})
        assert set(proofs) == {str(c.size) for c in held}
        for checkpoint in held:
            log.checkpoint.extends(checkpoint, proof_of(proofs[str(checkpoint.size)]))
            if checkpoint.size > 1:
                with pytest.raises(LogRefused) as refused:
                    log.checkpoint.extends(checkpoint, proof_of(proofs["1"]))
                assert refused.value.held == checkpoint.size
        held.append(log.checkpoint)


def test_an_entry_is_proven_without_the_log_and_no_other(folder: Path) -> None:
    kept = read_log(folder)
    for number in range(6):
        told = json.loads(json.dumps(prove(kept, number)))
        found = proven(told, verify_key(KEY))
        assert found.entry == kept.entries[number]
        assert set(found.witnesses) == ({"pay-1"} if number < 4 else set())
        spoilt: list[Any] = [told | {"entry": kept.entries[number - 1].line().decode()}, told | {"number": number - 1}]
        spoilt += [
            told | {"checkpoints": []},
            told | {"keys": []},
            {**told, "more": 1},
            [],
            "x",
            told | {"entry": "{}"},
        ]
        for other in spoilt:
            with pytest.raises(LogBroken):
                proven(other)
    with pytest.raises(LogBroken, match="another key"):
        proven(told, verify_key(HOLDER))
    with pytest.raises(ValueError, match="entries 0 to 5"):
        prove(kept, 6)


def test_a_proof_with_anothers_cosignature_is_refused(folder: Path) -> None:
    told = prove(read_log(folder), 0)
    told["witnesses"]["pay-1"]["verify"] = base64.b64encode(verify_key(KEY)).decode()
    with pytest.raises(LogBroken, match="cosignature of pay-1"):
        proven(told)


@pytest.mark.parametrize(
    "change",
    [{"size": -1}, {"size": True}, {"size": 0}, {"origin": "x\ny"}, {"root": "AA=="}, {"root": "*"}, {"more": 1}],
)
def test_what_is_no_checkpoint_is_refused(folder: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SealBroken):
        Checkpoint.of(read_log(folder).checkpoint.to_dict() | change)


# --- what a crash or a full disk leaves


@pytest.mark.parametrize("length", [1, 40, 200])
def test_half_an_entry_is_mended_at_the_next_start(folder: Path, length: int) -> None:
    with (folder / ENTRIES).open("ab") as file:
        file.write(b'{"body":{"round":9},"kind":"asked"' * 8)
        file.truncate(file.tell() - 272 + length)
    with pytest.raises(LogBroken, match="half an entry"):
        read_log(folder)
    append(folder, KEY, "run", {"run": "6"})
    assert [e.kind for e in read_log(folder).entries][-2:] == ["run", "run"]


def test_an_entry_without_its_checkpoint_is_taken_up(folder: Path) -> None:
    """The process died between the two writes: the entry is signed, and nobody saw a checkpoint without it."""
    before = (folder / CHECKPOINT).read_bytes()
    append(folder, KEY, "asked", {"round": 9})
    (folder / CHECKPOINT).write_bytes(before)
    append(folder, KEY, "run", {"run": "6"})
    assert [e.kind for e in read_log(folder).entries][-2:] == ["asked", "run"]


def test_a_disk_that_is_full_stops_what_was_to_be_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, whole = Log(folder, KEY), (folder / ENTRIES).read_bytes()
    real = os.write
    with monkeypatch.context() as full:
        full.setattr("server.log.os.write", lambda place, data: real(place, data[: len(data) // 2]))
        with pytest.raises(RunFailed, match=r"No space left on device.*nothing is released"):
            log.append("published", {"model": "ee" * 32})
    assert (folder / ENTRIES).read_bytes() == whole
    log.append("stopped", {"why": "RunFailed"})
    assert read_log(folder).entries[-1].kind == "stopped"


KILLED = """
import sys
from pathlib import Path
from server.log import Log
log = Log(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]))
while True:
    log.append("asked", {"round": len(log._tree)})
    print(len(log._tree), flush=True)
"""


def test_a_process_that_is_killed_leaves_a_log_that_goes_on(folder: Path) -> None:
    told = 0
    for lines in (1, 3, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), KEY.hex()], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with process:
            for _ in range(lines):
                told = int(process.stdout.readline())  # type: ignore[union-attr]
            process.kill()
        append(folder, KEY, "run", {"run": "next"})
        assert len(read_log(folder).entries) > told  # what was told to be on disk is there


# --- the coordinator's key and its orders' numbers


def test_the_numbers_of_orders_rise_over_restarts(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(4):
        made = numbers(tmp_path)
        seen += [next(made) for _ in range(3)]
    assert seen == sorted(set(seen))
    made, other = numbers(tmp_path), numbers(tmp_path)
    assert not {next(made) for _ in range(2500)} & {next(other) for _ in range(2500)}
    assert [next(made) for made in [numbers(None)] for _ in range(3)] == [n for n, _ in zip(count(1), range(3))]


@pytest.mark.parametrize("text", ["", "{}", '{"next": null}', "[1]"])
def test_numbers_that_cannot_be_read_are_not_begun_anew(tmp_path: Path, text: str) -> None:
    next(numbers(tmp_path))
    (tmp_path / "keys" / "orders.json").write_text(text)
    with pytest.raises(RunFailed, match="restore it"):
        next(numbers(tmp_path))


def test_the_lasting_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = lasting_key(tmp_path)
    assert key == lasting_key(tmp_path) != lasting_key(None) != lasting_key(None)
    assert (tmp_path / "keys" / "sign.key").stat().st_mode & 0o777 == 0o600
    assert Coordinator.fresh(key).sign_key == key
    (tmp_path / "keys" / "sign.key").write_bytes(b"short")
    with pytest.raises(RunFailed, match="32 bytes"):
        lasting_key(tmp_path)
