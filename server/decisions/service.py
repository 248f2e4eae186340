"""The decision service as one object: the store, the writer, what decides, who may ask, and the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from model.inputs import InputError
from model.limits.policy import NotInForce, check_in_force
from model.limits.schema import Policy
from model.limits.table import DecisionBundle
from server.decisions import registry
from server.decisions.api_keys import ApiKeys
from server.decisions.database import begin, checkpoint, snapshot
from server.decisions.deciding import Cause, Unit, overdue, refresh
from server.decisions.metrics import Metrics
from server.decisions.problems import Refused
from server.decisions.registry import Registry
from server.decisions.store import Store
from server.decisions.writer import StoreUnavailable, Writer

T = TypeVar("T")
SWEEP_S, CHECKPOINT_S = 15.0, 1.0


def utc_now() -> datetime:
    """The clock of a service."""
    return datetime.now(UTC)


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
            registry.begin_with(connection, store.vault, policy, clock())
            registry.install(connection, store.vault, bundle)
        self.store, self.clock = store, clock
        self.metrics = Metrics()
        self.registry = Registry(store.vault)
        self.keys = ApiKeys(store.engine)
        self.writer = Writer(store.engine, self.metrics.committed)
        self.in_flight: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)
        self._sweeper.start()
        self._checkpoints = threading.Thread(target=self._checkpoint, name="checkpoints", daemon=True)
        self._checkpoints.start()

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
        try:
            with self.read() as unit:
                policy = self.registry.active(unit.connection).policy
                check_in_force(policy, self.clock())
        except (Refused, NotInForce, InputError) as error:
            return str(error)
        except Exception as error:  # whatever the database says, it is not ready; its words may quote a row
            return f"the database does not answer ({type(error).__name__})"
        return ""

    def close(self) -> None:
        """Takes no more work and returns when what was taken is durable."""
        self._stop.set()
        self._sweeper.join()
        self._checkpoints.join()
        self.writer.close()
        self.store.close()

    def sweep(self) -> int:
        """Decides for those whose waiting has ended; returns for how many."""
        with self.read() as unit:
            due = overdue(unit.connection, self.clock())
        cause = Cause("refresh", "deadline")
        waits = [self.write(partial(refresh, subject=subject, cause=cause)) for subject in due]
        return sum(done.exception() is None for done in waits)

    def _unit(self, connection: Connection) -> Unit:
        return Unit(connection, self.store.vault, self.registry, self.clock())

    def _sweep(self) -> None:
        while not self._stop.wait(SWEEP_S):
            try:
                self.sweep()
            except (StoreUnavailable, Refused):
                continue  # the next round tries again

    def _checkpoint(self) -> None:
        while not self._stop.wait(CHECKPOINT_S):
            with suppress(SQLAlchemyError):  # busy: the next second tries again
                checkpoint(self.store.engine)
