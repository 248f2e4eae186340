"""T12: the ledger under kill -9, a full disk, races, a damaged or old file, and a wrong clock."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from privacy import custody
from privacy.accounting import gaussian_mu
from privacy.ledger import Ledger, LedgerCorrupt, Terms
from privacy.plan import BudgetExceeded, Release

ROOT = Path(__file__).parents[2]
FIT = 20  # so many plans of the line below fit under epsilon = 1, and no more
NOISE = math.sqrt(FIT) / gaussian_mu(1.0, 1e-5) * 1.001
ONE = Release("payments/pay-1", "pay-1", bound=2.0, size=10, count=1, share=1.0, noise_multiplier=NOISE)
TERMS = Terms("programme", "pay-1", ceiling=1.0, total=1.0, delta=1e-5)
PREAMBLE = """
import json, os, resource, signal, sys, time
from pathlib import Path
from privacy.ledger import Ledger, LedgerCorrupt, Terms
from privacy.plan import BudgetExceeded, line_of
path, line = Path(sys.argv[1]), line_of(json.loads(sys.argv[2]))
terms = Terms("programme", "pay-1", 1.0, 1.0, 1e-5)
"""


def started(code: str, path: Path, *arguments: object, line: Release = ONE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREAMBLE + code, str(path), json.dumps(line.to_dict()), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out.split("\n")[:-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


KILLED = """
released = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for life, moment in enumerate(json.loads(sys.argv[4])):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with Ledger(path, terms) as book:
            for i in range(10_000):
                plan = f"{life}-{i}"
                os.write(told, b"x")
                book.reserve(plan, [line])
                key = book.claim(plan, line)
                reply = os.urandom(8).hex()  # the noise
                book.store(key, reply.encode())
                os.write(released, f"{plan} {reply}\\n".encode())
        os._exit(0)
    os.close(told)
    for _ in range(life % 5 + 1): os.read(ready, 1)  # so many plans are begun, however slow the machine
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0), os.close(ready)
    Ledger(path, terms).close()  # the chain holds after every life
"""


def killed(path: Path, lives: int, noise: float) -> tuple[int, int]:
    """Lives that each end by kill -9 at a random moment; returns how many plans were charged and released."""
    out = path.with_name("released")
    moments = json.dumps([random.uniform(0.0, 0.06) for _ in range(lives)])
    line = replace(ONE, noise_multiplier=noise)
    ended(started(KILLED, path, out, moments, line=line))
    custody.read(path)
    released = dict(row.split() for row in out.read_text().splitlines()) if out.exists() else {}
    with Ledger(path, TERMS) as book:
        charged = book.plans()
        assert released.keys() <= charged.keys()
        assert all(book.stored(book.key(plan, line.name)) == reply.encode() for plan, reply in released.items())
        assert book.spent() <= 1.0
        for plan in charged.keys() - released.keys():  # lost ones are never drawn twice
            if book.chain.get(book.key(plan, line.name)) is not None:
                with pytest.raises(BudgetExceeded, match="not kept"):
                    book.claim(plan, line)
    assert len(charged) - len(released) <= lives  # a life loses at most the one it was killed in
    return len(charged), len(released)


def test_nothing_is_released_uncharged_when_the_process_is_killed(path: Path) -> None:
    charged, _ = killed(path, 10, 1e3)
    assert charged > 10


@pytest.mark.statistical
def test_nor_in_two_hundred_lives(path: Path) -> None:
    charged, released = killed(path, 200, 1e3)
    assert 30 < released <= charged


@pytest.mark.statistical
def test_nor_where_the_budget_ends_on_the_way(path: Path) -> None:
    charged, _ = killed(path, 40, NOISE)
    assert charged == FIT


FULL = """
with Ledger(path, terms) as book:
    book.reserve("first", [line])
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails with EFBIG, as with ENOSPC on a full disk
    try:
        for i in range(1000):
            plan, step = f"plan-{i}", "reserve"
            book.reserve(plan, [line])
            step = "claim"
            key = book.claim(plan, line)
            print("drawn", plan, flush=True)
            step = "store"
            book.store(key, os.urandom(int(sys.argv[4])))
            print("released", plan, flush=True)
    except LedgerCorrupt as error:
        print("stopped", step, error, flush=True)
"""


@pytest.mark.parametrize(("limit", "reply"), [(60_000, 10), (120_000, 200_000)])
def test_a_full_disk_stops_it_before_anything_is_released(path: Path, limit: int, reply: int) -> None:
    out = ended(started(FULL, path, limit, reply, line=replace(ONE, noise_multiplier=1e4)))
    drawn, released = ({row.split()[1] for row in out if row.startswith(word)} for word in ("drawn", "released"))
    last = out[-1]
    assert last.startswith("stopped")
    assert str(path) in last
    assert "nothing is released" in last
    with Ledger(path, TERMS) as book:  # and with room again it goes on
        claimed = {plan for plan, _ in custody.Contents.of(custody.read(path)).claims}
        assert released <= drawn <= claimed <= book.plans().keys()
        assert all(book.stored(book.key(plan, ONE.name)) is not None for plan in released)
        assert book.reserve("later", [ONE])


RACER = """
start = time.time() + 0.3
for name in range(8):
    if os.fork() == 0:
        granted = 0
        time.sleep(max(0.0, start - time.time()))
        with Ledger(path, terms) as book:
            for i in range(6):
                try:
                    granted += book.reserve(f"{name}-{i}", [line])
                except BudgetExceeded:
                    pass
        os.write(1, f"{granted}\\n".encode())
        os._exit(0)
print(*{os.wait()[1] for _ in range(8)})
"""


def test_eight_processes_together_are_granted_what_one_is(path: Path) -> None:
    *granted, codes = ended(started(RACER, path))
    assert (len(granted), codes) == (8, "0")
    assert sum(map(int, granted)) == FIT
    with Ledger(path, TERMS) as book:
        assert len(book.plans()) == FIT
        with pytest.raises(BudgetExceeded):
            book.reserve("more", [ONE])


CLOCK = """
reals = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")}
for shift in (-366 * 86_400, 0, 366 * 86_400):
    for name, real in reals.items():
        setattr(time, name, lambda real=real: real() + shift)
    with Ledger(path / f"{shift}.db", terms) as book:
        for plan in ("a", "b"):
            book.reserve(plan, [line])
            book.store(book.claim(plan, line), b"reply")
"""


def test_a_clock_that_is_a_year_off_changes_no_byte(tmp_path: Path) -> None:
    ended(started(CLOCK, tmp_path))
    paths = list(tmp_path.glob("*.db"))
    assert len(paths) == 3
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({custody.export(path) for path in paths}) == 1


def opened(path: Path) -> Ledger:
    """A ledger with two plans that is still in use, so that its rows are in the journal."""
    book = Ledger(path, TERMS)
    for plan in ("a", "b"):
        book.reserve(plan, [ONE])
        book.store(book.claim(plan, ONE), b"reply")
    return book


def crashed(path: Path, folder: Path) -> Path:
    """The files as a crash would leave them."""
    folder.mkdir()
    with opened(path) as book:
        book.chain._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        book.reserve("c", [ONE])
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", folder / f"{path.name}{end}")
    return folder / path.name


def test_a_journal_left_by_a_crash_is_read_and_without_it_a_witness_sees_the_gap(path: Path, tmp_path: Path) -> None:
    left = crashed(path, tmp_path / "crash")
    head = custody.head(custody.read(left))
    assert head[0] == 6
    left.with_name(left.name + "-wal").unlink()
    with pytest.raises(LedgerCorrupt, match="a rollback"):
        Ledger(left, TERMS, head)
    with Ledger(left, TERMS) as book:
        assert list(book.plans()) == ["a", "b"]


def test_an_old_copy_that_is_put_back_is_seen_by_a_witness(path: Path, tmp_path: Path) -> None:
    opened(path).close()
    shutil.copy(path, tmp_path / "old.db")
    with Ledger(path, TERMS) as book:
        book.reserve("c", [ONE])
        head = book.head()
    shutil.copy(tmp_path / "old.db", path)
    with pytest.raises(LedgerCorrupt, match="a rollback"):
        Ledger(path, TERMS, head)
    with Ledger(path, TERMS) as book:
        book.reserve("other", [ONE])  # and having gone on does not help
    with pytest.raises(LedgerCorrupt, match="a rollback"):
        Ledger(path, TERMS, head)


@pytest.mark.parametrize("keep", [1, 100, 4096, 5000, 12_288, -4096, -1])
def test_a_file_that_was_cut_short_is_not_opened_with_fewer_rows(path: Path, keep: int) -> None:
    opened(path).close()
    rows = len(custody.read(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    found = 0
    with suppress(LedgerCorrupt), Ledger(path, TERMS) as book:
        found = book.head()[0]
    assert found in (0, rows)  # all, where the page that was cut held nothing


def test_an_empty_file_is_a_rollback_to_a_witness(path: Path) -> None:
    with opened(path) as book:
        head = book.head()
    path.write_bytes(b"")
    with pytest.raises(LedgerCorrupt, match="a rollback"):
        Ledger(path, TERMS, head)


def test_any_flipped_byte_is_seen_or_changes_nothing(path: Path) -> None:
    opened(path).close()
    whole, expected = path.read_bytes(), custody.export(path)
    used, seen = [place for place in range(len(whole)) if whole[place]], 0
    for place in random.sample(used, min(len(used), 300)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << random.randrange(8))]) + whole[place + 1 :])
        try:
            assert custody.export(path) == expected
        except LedgerCorrupt:
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("ruin", [lambda p: p.write_bytes(b"x" * 5000), lambda p: p.chmod(0), lambda p: p.mkdir()])
def test_a_file_that_cannot_be_used_stops_with_one_line(path: Path, ruin: Callable[[Path], object]) -> None:
    if ruin.__code__.co_names != ("mkdir",):
        opened(path).close()
    ruin(path)
    if os.geteuid() == 0 and path.stat().st_mode & 0o777 == 0:
        pytest.skip("root reads everything")
    with pytest.raises(LedgerCorrupt, match="nothing is released") as stopped:
        Ledger(path, TERMS)
    assert "\n" not in str(stopped.value)


def test_two_programmes_have_two_ledgers_with_a_budget_each(tmp_path: Path) -> None:
    books = [Ledger(tmp_path / name, replace(TERMS, programme=name)) for name in ("a", "b")]
    for book in books:
        assert [book.reserve(f"{i}", [ONE]) for i in range(FIT)] == [True] * FIT
        with pytest.raises(BudgetExceeded):
            book.reserve("more", [ONE])
        book.close()
    with pytest.raises(ValueError, match="programme: must be 'a'"):
        Ledger(tmp_path / "a", replace(TERMS, programme="b"))
