"""The decision service as one object: the store, the writer, what decides, who may ask, and the clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from model.inputs import InputError
from model.limits.schema import Policy
from model.limits.table import DecisionBundle
from server.decisions import chain, registry
from server.decisions.api_keys import ApiKeys
from server.decisions.database import begin, checkpoint, snapshot
from server.decisions.deciding import Unit
from server.decisions.metrics import Metrics
from server.decisions.problems import Refused
from server.decisions.refreshing import expire, overdue
from server.decisions.registry import Registry
from server.decisions.store import Store
from server.decisions.writer import Writer

log = logging.getLogger("fedscore.decisions")
T = TypeVar("T")
SWEEP_S, CHECKPOINT_S = 15.0, 1.0


def utc_now() -> datetime:
    """The clock of a service."""
    return datetime.now(UTC)


def failed(error: BaseException, where: str) -> None:
    """Logs what nobody expected; its words may quote a row, so only the kind is told."""
    log.error("failed", extra={"fields": {"error": type(error).__name__, "where": where}})


class Service:
    """What the HTTP interface stands on. `write` runs a job alone in its order; `read` sees one state.

    Args:
        store: database and vault, opened.
        bundle: the model that decides from now on.
        policy: the first policy of a new database, or the successor of an expired one.
        clock: what time it is.

    Raises:
        NotInForce: no policy holds now.
        InputError: another policy than the given one is active.
    """

    def __init__(
        self,
        store: Store,
        bundle: DecisionBundle,
        policy: Policy | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        with begin(store.engine) as connection:
            chain.lock(connection)  # of two first starts at once, the second finds what the first began with
            registry.begin_with(connection, store.vault, policy, clock())
            registry.install(connection, store.vault, bundle)
        self.store, self.clock = store, clock
        self.metrics = Metrics()
        self.registry = Registry(store.vault)
        self.keys = ApiKeys(store.engine)
        self.writer = Writer(store.engine, self.metrics.committed)
        self.in_flight: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        repeated = (("sweeper", SWEEP_S, self.sweep), ("checkpoints", CHECKPOINT_S, partial(checkpoint, store.engine)))
        self._repeaters = [
            threading.Thread(target=self._repeat, args=work, name=work[0], daemon=True) for work in repeated
        ]
        for thread in self._repeaters:
            thread.start()
        self.threads = [self.writer.thread, *self._repeaters]  # without one of them the service is not ready

    def write(self, job: Callable[[Unit], T]) -> Future[T]:
        """What the job returns, once it is durable; it may run twice, and must refuse before it writes."""
        return self.writer.submit(lambda connection: job(self._unit(connection)))

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """A unit that only reads."""
        with snapshot(self.store.engine) as connection:
            yield self._unit(connection)

    def ready(self) -> str:
        """Why the service cannot decide now; empty where it can."""
        ended = [thread.name for thread in self.threads if not thread.is_alive()]
        if ended:
            return f"a thread has ended ({', '.join(ended)}); start the service again"
        try:
            with self.read() as unit:
                registry.holds(self.registry.active(unit.connection), self.clock())
        except (Refused, InputError) as error:
            return str(error)
        except Exception as error:  # whatever the database says, it is not ready; its words may quote a row
            return f"the database does not answer ({type(error).__name__})"
        return ""

    def close(self) -> None:
        """Takes no more work and returns when what was taken is durable."""
        self._stop.set()
        for thread in self._repeaters:
            thread.join()
        self.writer.close()
        self.store.close()

    def sweep(self) -> int:
        """Decides for those whose waiting has ended; returns for how many."""
        with self.read() as unit:
            due = overdue(unit.connection, self.clock())
        waits = [self.write(partial(expire, subject=subject)) for subject in due]
        return sum(done.exception() is None and done.result() is not None for done in waits)

    def _unit(self, connection: Connection) -> Unit:
        return Unit(connection, self.store.vault, self.registry, self.clock())

    def _repeat(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        while not self._stop.wait(seconds):
            try:
                work()
            except Exception as error:  # whatever it is, the next round tries again
                failed(error, name)
