"""One function over many items, on this machine's cores or on a Ray cluster; a worker that dies costs its item only."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from model.inputs import InputError

BACKENDS = ("process", "ray")
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
_GRACE = 10.0  # seconds for a worker to clean up after it was told to end

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Failed:
    """Why an item has no result.

    Attributes:
        kind: the name of what the function raised; `died` where its worker ended.
        text: what it said.
    """

    kind: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """What stands for an error that a function raised elsewhere."""
        return cls(type(error).__name__, str(error))


def spread(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    jobs: int = 0,
    backend: str = "process",
    address: str = "",
    shared: Iterable[Path] = (),
) -> Generator[tuple[Item, Value | Failed], None, None]:
    """Calls `function` with every item, each with one thread of arithmetic, and yields results as they are ready.

    Workers stay between items, so a function may keep what it loaded in its module. Items are begun in their order.
    Closing the iterator ends all workers; so does the end of this process, however it comes.

    Args:
        function: importable by its name: it runs in processes of its own.
        items: what it is called with; they and the results must pickle.
        jobs: items at a time; 0 is one a core.
        backend: `process`, or `ray`.
        address: of a Ray cluster; empty starts one on this machine and ends it.
        shared: files and folders that every machine of a cluster given by its address must see as this one does.

    Raises:
        InputError: a backend or a cluster that cannot be used; of a given cluster, once the first result is asked for.
    """
    if backend not in BACKENDS:
        raise InputError("command line", "--backend", "must be " + " | ".join(BACKENDS), backend)
    if address and backend != "ray":
        raise InputError("command line", "--address", "is of the backend ray alone", address, "add --backend ray")
    if backend == "ray":
        from simulations.ray_cluster import require_ray, spread_by_ray

        require_ray()
        return spread_by_ray(function, items, jobs, address, shared)
    return _by_processes(function, iter(items), jobs or os.cpu_count() or 1)


@dataclass(eq=False)
class _Worker(Generic[Item]):
    """A process, our end of the pipe to it, and the items that it has in hand: one or none."""

    link: Connection
    process: SpawnProcess
    held: list[Item]

    @classmethod
    def start(cls) -> _Worker[Item]:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _environment():
            process.start()
        theirs.close()  # only the worker holds its end: its death is the end of the pipe
        return cls(ours, process, [])

    def begin(self, function: Callable[[Item], Value], item: Item) -> None:
        self.held.append(item)
        with suppress(OSError):  # it died while it was idle: its end of the pipe tells so at once
            self.link.send_bytes(pickle.dumps((function, item)))

    def outcome(self) -> Value | Failed:
        """The result of the item in hand, once its pipe has something to say."""
        try:
            told: Value | Failed = pickle.loads(self.link.recv_bytes())
            return told
        except (EOFError, OSError):
            self.process.join(_GRACE)
            code = self.process.exitcode
            how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
            return Failed("died", f"its process ended {how}")

    def end(self) -> None:
        """Waits for a process that was told to end, and for no longer than it should take."""
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.link.close()


def _by_processes(
    function: Callable[[Item], Value], items: Iterator[Item], jobs: int
) -> Generator[tuple[Item, Value | Failed], None, None]:
    crew: dict[Connection, _Worker[Item]] = {}

    def begin(worker: _Worker[Item] | None) -> None:
        """Gives a worker, or a new one, the next item; a worker for which there is none stays idle."""
        for item in items:
            worker = worker or _Worker.start()
            crew[worker.link] = worker
            worker.begin(function, item)
            return

    try:
        for _ in range(jobs):
            begin(None)
        while busy := [link for link, worker in crew.items() if worker.held]:
            for link in connection.wait(busy):
                worker = crew[link]  # type: ignore[index]  # what was waited for comes back
                outcome: Value | Failed = worker.outcome()
                item = worker.held.pop()
                if isinstance(outcome, Failed) and outcome.kind == "died":
                    crew.pop(worker.link).end()
                    begin(None)
                else:
                    begin(worker)
                yield item, outcome
    finally:
        for worker in crew.values():
            worker.process.terminate()  # all at once: each may take a moment to clean up
        for worker in crew.values():
            worker.end()


@contextmanager
def _environment() -> Iterator[None]:
    """One thread a worker, told before its libraries load; this process stays as it is."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(link: Connection) -> None:
    """A worker's life: one item after another, until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches a whole group: the parent ends its workers
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            link.send_bytes(answer(link.recv_bytes()))


def answer(task: bytes) -> bytes:
    """What a worker sends for one pickled (function, item): the pickled result, or a pickled `Failed`."""
    try:
        function, item = pickle.loads(task)
        return pickle.dumps(function(item))
    except Exception as error:  # whatever it is, it is the item's result
        return pickle.dumps(Failed.of(error))


def _leave(number: int, frame: FrameType | None) -> None:
    """Leaves as a program does that is done, so that half-written folders are removed."""
    del frame
    signal.signal(number, signal.SIG_IGN)  # once is enough: cleaning up is not interrupted
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Nobody waits for the results of a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
