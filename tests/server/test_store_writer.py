"""The one writer: what it answered is durable, whatever fails fails alone, and nobody waits for ever."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from model.inputs import InputError
from server.decisions import chain
from server.decisions.chain import Head
from server.decisions.database import snapshot
from server.decisions.problems import Refused
from server.decisions.store import Store
from server.decisions.tables import audit
from server.decisions.writer import GROUP, StoreUnavailable, Writer

Job = Callable[[Connection], chain.Record]


class Watch:
    """The sizes of the groups that were committed."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    def __call__(self, jobs: int, seconds: float) -> None:
        assert seconds > 0
        self.groups.append(jobs)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def writer(store: Store, watch: Watch) -> Iterator[Writer]:
    running = Writer(store.engine, watch)
    yield running
    running.close()


@pytest.fixture
def note(store: Store) -> Callable[..., Job]:
    """A job that appends a record about person n."""

    def make(number: int, size: int = 0) -> Job:
        body = {"n": number, "filling": "f" * size}
        return lambda connection: chain.append(connection, store.vault, "event", f"{number:064x}", body)

    return make


def held(writer: Writer) -> tuple[threading.Event, Future[None]]:
    """Keeps the writer busy until the event is set, so that what is submitted meanwhile makes one group."""
    begun, release = threading.Event(), threading.Event()

    def job(connection: Connection) -> None:
        begun.set()
        release.wait(60)

    future = writer.submit(job)
    assert begun.wait(60)
    return release, future


def together(writer: Writer, *jobs: Callable[[Connection], Any]) -> list[Future[Any]]:
    """Submits jobs that are run as one group, and waits for them."""
    release, first = held(writer)
    futures = [writer.submit(job) for job in jobs]
    release.set()
    first.result(60)
    for future in futures:
        future.exception(60)
    return futures


def test_fifty_threads_share_commits_and_each_gets_its_own_record(
    store: Store, writer: Writer, watch: Watch, note: Any, verified: Any
) -> None:
    with ThreadPoolExecutor(50) as pool:
        records = list(pool.map(lambda n: (n, writer.submit(note(n)).result(60)), range(500)))
    assert sorted(record.seq for _, record in records) == list(range(2, 502))
    with snapshot(store.engine) as connection:
        stored = {record.seq: record for record in chain.records(connection, store.vault)}
    assert all(stored[record.seq].body["n"] == n for n, record in records)
    assert sum(watch.groups) == 500
    assert len(watch.groups) < 250, "fifty submitters share commits"
    assert verified(store).count == 501


def test_a_group_is_at_most_256_jobs(writer: Writer, watch: Watch, note: Any) -> None:
    together(writer, *[note(n) for n in range(600)])
    assert watch.groups == [1, GROUP, GROUP, 600 - 2 * GROUP]


@pytest.mark.parametrize("error", [InputError("request", "amount", "must be >= 0"), Refused(409, "in_flight", "wait")])
def test_a_job_that_refuses_fails_alone_and_runs_once(
    store: Store, writer: Writer, watch: Watch, note: Any, verified: Any, error: Exception
) -> None:
    runs = Counter[str]()

    def refuses(connection: Connection) -> None:
        runs["refuses"] += 1
        raise error

    first, refused, last = together(writer, note(1), refuses, note(2))
    assert refused.exception() is error
    assert (first.result().seq, last.result().seq) == (2, 3)
    assert (runs["refuses"], watch.groups) == (1, [1, 3])
    assert verified(store).count == 3


@pytest.mark.parametrize("expected", [False, True], ids=["unexpected error", "refusal after a write"])
def test_a_job_that_breaks_off_after_a_write_is_undone_and_the_others_are_done(
    store: Store, writer: Writer, watch: Watch, note: Any, verified: Any, expected: bool
) -> None:
    error = InputError("x", "", "is late") if expected else ZeroDivisionError()

    def breaks(connection: Connection) -> None:
        note(7)(connection)
        raise error

    first, broken, last = together(writer, note(1), breaks, note(2))
    assert broken.exception() is error
    assert [first.result().seq, last.result().seq] == [2, 3]
    assert watch.groups == [1, 1, 1]
    with snapshot(store.engine) as connection:
        assert [r.body["n"] for r in chain.records(connection, store.vault, after=1)] == [1, 2]
    assert verified(store).count == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_no_error_of_a_job_ends_the_writer(writer: Writer, note: Any, error: BaseException) -> None:
    def breaks(connection: Connection) -> None:
        raise error

    assert writer.submit(breaks).exception(60) is error
    assert writer.submit(note(1)).result(60).seq == 2


def test_what_ends_the_thread_all_the_same_lets_nobody_wait(
    writer: Writer, note: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda ended: None)  # it is told of by pytest otherwise

    def ends(connection: Connection) -> None:
        raise GeneratorExit

    futures = together(writer, ends, note(1))
    assert {type(future.exception(60)) for future in futures} == {StoreUnavailable}
    writer.thread.join(60)
    with pytest.raises(StoreUnavailable):
        writer.submit(note(2))


def test_a_commit_that_fails_answers_nobody(
    store: Store, writer: Writer, watch: Watch, note: Any, verified: Any
) -> None:
    """A reference to nothing that is only checked at the commit."""

    def fails_at_commit(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        else:
            connection.execute(text("ALTER TABLE bundle ALTER CONSTRAINT fk_bundle_seq DEFERRABLE INITIALLY DEFERRED"))
        connection.execute(text("INSERT INTO bundle (sha256, bundle_id, at, seq) VALUES ('a', 'b', 'c', 999)"))

    futures = together(writer, note(1), fails_at_commit, note(2))
    for future in futures:
        assert isinstance(future.exception(), StoreUnavailable)
        assert "999" not in str(future.exception())
    assert (verified(store).count, watch.groups) == (1, [1])
    assert writer.submit(note(3)).result(60).seq == 2


def test_a_full_disk_answers_nobody_and_the_writer_goes_on_when_there_is_room(
    sqlite_store: Store, verified: Any
) -> None:
    """The system refuses to let the file grow, as it does on a full disk."""
    writer = Writer(sqlite_store.engine)

    def big(connection: Connection) -> chain.Record:
        return chain.append(connection, sqlite_store.vault, "event", None, {"filling": "f" * 300_000})

    before = writer.submit(big).result(60)
    wal = Path(f"{sqlite_store.engine.url.database}-wal").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 100_000, limits[1]))
    try:
        futures = together(writer, big, big, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(isinstance(future.exception(), StoreUnavailable) for future in futures)
    assert verified(sqlite_store).head == Head(before.seq, before.record_sha256)
    assert writer.submit(big).result(60).seq == before.seq + 1
    writer.close()
    assert verified(sqlite_store).count == before.seq + 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_lost_connection_answers_nobody_and_the_writer_comes_back(
    store: Store, writer: Writer, note: Any, verified: Any
) -> None:
    def cuts(connection: Connection) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    first, cut, last = together(writer, note(1), cuts, note(2))
    assert isinstance(cut.exception(), StoreUnavailable)
    assert [first.result().seq, last.result().seq] == [2, 3], "they were run again, each by itself"
    assert verified(store).count == 3


def test_closing_finishes_what_was_taken_and_takes_no_more(store: Store, note: Any, verified: Any) -> None:
    writer = Writer(store.engine)
    futures = [writer.submit(note(n)) for n in range(300)]
    writer.close()
    assert all(future.done() for future in futures)
    assert verified(store).count == 301
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.submit(note(1))
    writer.close()


def test_a_job_that_was_cancelled_before_it_began_leaves_nothing(
    store: Store, writer: Writer, note: Any, verified: Any
) -> None:
    release, first = held(writer)
    cancelled, kept = writer.submit(note(1)), writer.submit(note(2))
    assert writer.waiting() == 2
    assert cancelled.cancel()
    release.set()
    assert kept.result(60).seq == 2
    assert not first.cancel()
    assert verified(store).count == 2


def test_two_writers_on_one_database_make_one_chain(store: Store, tmp_path: Path, note: Any, verified: Any) -> None:
    other = Store.open(store.engine.url.render_as_string(hide_password=False), tmp_path / "limits.vault")
    writers = [Writer(store.engine), Writer(other.engine)]
    futures = [writers[n % 2].submit(note(n)) for n in range(200)]
    assert sorted(future.result(60).seq for future in futures) == list(range(2, 202))
    for writer in writers:
        writer.close()
    other.close()
    assert verified(store).count == 201


WRITES = """
import os, sys, threading
from pathlib import Path
from server.decisions import chain
from server.decisions.store import Store
from server.decisions.writer import Writer
store = Store.open(sys.argv[1], Path(sys.argv[2]))
writer = Writer(store.engine)
def write(thread):
    for n in range(10**6):
        job = lambda c: chain.append(c, store.vault, "event", f"{n % 50:064x}", {"n": n, "thread": thread})
        os.write(1, f"{writer.submit(job).result().seq}:{n}:{thread}\\n".encode())
for thread in range(8):
    threading.Thread(target=write, args=(thread,)).start()
"""


def test_a_killed_writer_leaves_every_record_that_it_answered(store: Store, tmp_path: Path, verified: Any) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    told: list[list[str]] = []
    for lines in (1, 50, 300):
        command = [sys.executable, "-c", WRITES, url, str(tmp_path / "limits.vault")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
        assert process.stdout is not None
        heard = [process.stdout.readline() for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        heard += process.stdout.readlines()
        process.stdout.close()
        assert process.wait(60) == -signal.SIGKILL
        told += [line.strip().split(":") for line in heard]
    with snapshot(store.engine) as connection:
        stored = {record.seq: record.body for record in chain.records(connection, store.vault, after=1)}
        count = len(connection.execute(select(audit.c.seq)).all())
    assert len(told) >= 351
    assert all(stored[int(seq)] == {"n": int(n), "thread": int(thread)} for seq, n, thread in told)
    assert verified(store).count == count
