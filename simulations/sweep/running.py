"""Running a sweep: cell after cell over processes, going on where an earlier call was stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.failures import RunFailed
from simulations.spread import Failed, spread
from simulations.sweep.cells import Done, Task, failed_cell, run_cell
from simulations.sweep.grid import Sweep
from simulations.sweep.planning import Plan, plan
from simulations.sweep.progress import Clock, Progress, Silent
from simulations.sweep.store import Store, is_full

__all__ = ["Outcome", "Sweep", "sweep"]

_GO_ON = "what is finished is kept: make room, and the same command goes on"


@dataclass(frozen=True)
class Outcome:
    """A finished sweep: its folder, how many cells it has, by key why some have no figures, and what to know."""

    out: Path
    cells: int
    failed: Mapping[str, str]
    notes: tuple[str, ...]


def sweep(asked: Sweep, tell: Progress | None = None) -> Outcome:
    """Trains every cell that `asked.out` lacks, and writes the tables and the report.

    A cell that fails is a row with its error, and the others go on. What is finished stays however this ends; the same
    call goes on with the rest, and tries those again that failed.

    Args:
        asked: what to compare.
        tell: is told how far it is.

    Raises:
        InputError: bad input, found before anything is trained or written.
        RunFailed: no cell has figures, or there is no room on the disk.
    """
    tell, store = tell or Silent(), Store(asked.out)
    store.refuse(asked.force)
    planned = plan(asked)
    for note in planned.notes:
        tell.note(note)
    with _room(), store.opened(planned.question, asked.force):
        for name, text in planned.made.items():
            (store.federations / name).write_text(text, encoding="utf-8")
        failed = _train(asked, planned, store, tell)
        store.write_tables(planned.tasks)
        if len(failed) == len(planned.tasks):
            key, why = next(iter(failed.items()))
            raise RunFailed(f"every cell failed; {key}: {why}")
        if asked.report:
            from simulations.sweep.report.page import write_report  # late: it loads matplotlib

            write_report(asked.out)
    return Outcome(asked.out, len(planned.tasks), failed, planned.notes)


def _train(asked: Sweep, planned: Plan, store: Store, tell: Progress) -> dict[str, str]:
    """Trains what is not finished; returns by key why cells have no figures."""
    kept = _kept(planned, store)
    left = [task for key, task in planned.tasks.items() if key not in kept]
    clock = Clock(min(asked.jobs or os.cpu_count() or 1, len(left)), [task.cell for task in left])
    for key, cell in kept.items():
        clock.finish(planned.tasks[key].cell, cell["took"])
    failed: dict[str, str] = {}
    if left:
        tell.step(len(kept), len(planned.tasks), clock.remaining())
    read = {path for task in left for path in (task.settings.federation, *task.read.paths) if path}
    shared = [store.work, *sorted(read)]
    with closing(spread(run_cell, left, asked.jobs, asked.backend, asked.address, shared)) as results:
        for task, outcome in results:
            done = _written(task, outcome, store)
            if done.error:
                failed[task.cell.key] = done.error
                tell.note(f"{task.cell.key} failed: {done.error}")
            clock.finish(task.cell, done.seconds)
            tell.step(len(planned.tasks) - len(clock.left), len(planned.tasks), clock.remaining())
    return {key: failed[key] for key in sorted(failed)}


def _kept(planned: Plan, store: Store) -> dict[str, dict[str, Any]]:
    """By key, cells that have figures; each tells where its files are now, which may have moved with or without it."""
    kept = {key: cell for key, cell in store.done(planned.tasks).items() if not cell["result"]["error"]}
    for key, cell in kept.items():
        if cell["result"].get("repeat") != (now := planned.tasks[key].row["repeat"]):
            cell["result"]["repeat"] = now
            store.write_cell(key, cell)
    return kept


def _written(task: Task, outcome: Done | Failed, store: Store) -> Done:
    """What became of a cell; one whose process died is written down as failed.

    Raises:
        RunFailed: there is no room on the disk.
    """
    if isinstance(outcome, Done):
        return outcome
    if outcome.kind == "DiskFull":
        raise RunFailed(f"{outcome.text}; {_GO_ON}")
    done = task.done(outcome.text if outcome.kind == "died" else f"{outcome.kind}: {outcome.text}")
    store.write_cell(task.cell.key, failed_cell(task, done))
    return done


@contextmanager
def _room() -> Iterator[None]:
    """A full disk met outside of a cell ends the sweep in one line too."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise RunFailed(f"no room on the disk for {error.filename or 'the tables'}; {_GO_ON}") from None
