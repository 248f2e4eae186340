"""The one thread that writes: it commits the jobs that wait in one transaction, then answers them.

A disk takes milliseconds to make a commit durable, however much is in it: whoever comes while one is under way shares
the next. Nothing is answered before it is durable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from model.inputs import InputError
from server.decisions import chain
from server.decisions.database import begin
from server.decisions.problems import Refused

T = TypeVar("T")
GROUP = 256  # jobs of one commit at most
ENDING = (Exception, SystemExit, KeyboardInterrupt)  # a job's own: none of them may end the thread
BUSY_S, GATHER_S, FEW = 0.005, 0.004, 3  # a commit so short ago means: busy; with few waiting, so long for others


class StoreUnavailable(RuntimeError):
    """The database did not take a write (full disk, lost server, closed writer); whoever asked may ask again."""


class _JobFailed(Exception):
    """Rolls a transaction back because of what one job raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@dataclass(frozen=True, slots=True)
class _Task:
    job: Callable[[Connection], Any]
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class _Done:
    """How a job ended: its result, or why it has none."""

    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs in groups, in a thread of its own.

    A job must raise before it writes: `InputError` and `Refused` then fail it alone. After any other exception, or
    where a job wrote before it raised, the group is rolled back and every job runs again in a transaction of its own:
    a job may run twice, and must do nothing outside its connection.

    Args:
        engine: of `database.open_database`.
        watch: told after each commit how many jobs it had and how many seconds it took; must not raise.
    """

    def __init__(self, engine: Engine, watch: Callable[[int, float], None] = lambda jobs, seconds: None) -> None:
        self._engine, self._watch = engine, watch
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._gate, self._closed = threading.Lock(), False
        self._ended = 0.0  # when the last commit did
        self.thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.thread.start()

    def submit(self, job: Callable[[Connection], T]) -> Future[T]:
        """What the job returns, once it is durable.

        Returns:
            A future that raises what the job raised, or `StoreUnavailable`. One that is cancelled before its job begins
            leaves nothing behind.

        Raises:
            StoreUnavailable: the writer is closed.
        """
        future: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise StoreUnavailable("the writer is closed")
            self._queue.put(_Task(job, future))
        return future

    def waiting(self) -> int:
        """How many jobs wait now."""
        return self._queue.qsize()

    def close(self) -> None:
        """Takes no more jobs, and returns when those that were taken are done."""
        with self._gate:
            self._closed = True
            self._queue.put(None)
        self.thread.join()

    def _run(self) -> None:
        tasks: list[_Task] = []
        try:
            while True:
                taken = self._taken()
                tasks = [task for task in taken if task and task.future.set_running_or_notify_cancel()]
                for task, done in zip(tasks, self._committed(tasks), strict=True):
                    _resolve(task.future, done)
                if taken[-1] is None:
                    return
        finally:  # whatever ended the thread, nobody waits for it
            with self._gate:
                self._closed = True
            ended = _Done(error=StoreUnavailable("the writer has ended"))
            for task in tasks:
                if not task.future.done():
                    _resolve(task.future, ended)
            while not self._queue.empty():
                left = self._queue.get()
                if left and left.future.set_running_or_notify_cancel():
                    _resolve(left.future, ended)

    def _taken(self) -> list[_Task | None]:
        """Waits for a job and takes all that are there; None comes last and ends the thread.

        While jobs come one upon the other it waits a moment for more: fewer commits leave more time for the rest.
        """
        taken = [self._queue.get()]
        if time.monotonic() - self._ended < BUSY_S and self._queue.qsize() < FEW:
            time.sleep(GATHER_S)
        while taken[-1] is not None and len(taken) < GROUP:
            try:
                taken.append(self._queue.get_nowait())
            except Empty:
                break
        return taken

    def _committed(self, tasks: list[_Task]) -> list[_Done]:
        """How each job ended, after one commit, or after one for each."""
        if not tasks:
            return []
        began = time.perf_counter()
        try:
            with begin(self._engine) as connection:
                done = [_attempt(connection, task.job) for task in tasks]
            self._ended = time.monotonic()
        except _JobFailed as failed:
            return self._one_by_one(tasks) if len(tasks) > 1 else [_Done(error=_told(failed.error))]
        except Exception as error:  # no job's: the transaction did not begin, or not commit
            return [_Done(error=_unavailable(error))] * len(tasks)
        self._watch(len(tasks), time.perf_counter() - began)
        return done

    def _one_by_one(self, tasks: list[_Task]) -> list[_Done]:
        return [done for task in tasks for done in self._committed([task])]


def _attempt(connection: Connection, job: Callable[[Connection], Any]) -> _Done:
    before = chain.lock(connection)
    try:
        return _Done(job(connection))
    except ENDING as error:
        if isinstance(error, (InputError, Refused)) and chain.lock(connection) == before:
            return _Done(error=error)
        raise _JobFailed(error) from None


def _resolve(future: Future[Any], done: _Done) -> None:
    if done.error is None:
        future.set_result(done.result)
    else:
        future.set_exception(done.error)


def _told(error: BaseException) -> BaseException:
    return _unavailable(error) if isinstance(error, (OperationalError, InterfaceError)) else error


def _unavailable(error: Exception) -> StoreUnavailable:
    """The driver's first line; those after it may quote a row."""
    cause = str(getattr(error, "orig", None) or type(error).__name__).strip()
    return StoreUnavailable(f"the database did not take it ({cause.splitlines()[0]})")
