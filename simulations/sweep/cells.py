"""One cell of a sweep: trained, measured and written down, in whatever process it runs."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from clients.config import Node
from model.inputs import InputError
from privacy.plan import BudgetExceeded
from server.failures import RunFailed
from simulations.extending import named
from simulations.preflight import node_of
from simulations.program import program_digest
from simulations.settings import Settings
from simulations.sweep.arms import Arm
from simulations.sweep.grid import Cell
from simulations.sweep.measure import Measured, measured, measured_baseline
from simulations.sweep.places import found, plainly, repeated
from simulations.sweep.sources import Read
from simulations.sweep.store import Store, is_full

_PACKAGES = (
    *("dp-accounting", "fedscore", "flwr", "numpy", "polars", "scipy"),
    *("interpret-core", "opacus", "scikit-learn", "torch"),
)
_ROOM = 256 * 2**20  # bytes: with less of them left, a run that failed may have failed for want of room


class DiskFull(RuntimeError):
    """There is no room for a cell; its text says which one and where."""


@dataclass(frozen=True)
class Task:
    """A cell with all that its training needs.

    Attributes:
        cell: which one.
        arm: its own.
        settings: its simulation; of a baseline, the simulation whose rows it takes. `out` is put in the folder's work.
        row: what is known of the cell before it is trained, by column of `rows.RESULTS`.
        out: the sweep's folder.
        read: the files of its set.
    """

    cell: Cell
    arm: Arm
    settings: Settings
    row: Mapping[str, Any]
    out: Path
    read: Read

    def check(self) -> None:
        """Raises `InputError` where what it is trained on, or by, is not what its row says."""
        self.read.check()
        if self.arm.ours:
            _same_engine(self.arm.learner, self.row)

    def done(self, why: str, seconds: float = 0.0) -> Done:
        """What became of it: why it has no figures, if it has none, in words that name no folder of this machine."""
        if not why:
            return Done(seconds)
        file = self.arm.learner.rpartition(":")[0]
        return Done(seconds, plainly(why, self.out, [*self.read.paths, *([Path(file)] if file else [])]))


@dataclass(frozen=True)
class Done:
    """A cell that was written down: seconds of its own, and why it has no figures, if it has none."""

    seconds: float
    error: str = ""


def run_cell(task: Task) -> Done:
    """Trains, measures and writes one cell.

    Raises:
        DiskFull: there is no room for it.
    """
    logging.getLogger("fedscore").propagate = False  # a library may give the root a handler: the row tells errors
    began, why = time.monotonic(), ""
    store = Store(task.out)
    result: dict[str, Any] = {}
    curves: list[Any] = []
    try:
        result, curves = _trained(task, store)
    except Exception as error:  # whatever a library raises on these rows: the other cells still have their figures
        _stop_if_full(task, error)
        ours = isinstance(error, RunFailed | BudgetExceeded | InputError)
        why = str(error) if ours else f"{type(error).__name__}: {error}"
        _stop_without_room(task)
    done = task.done(why, round(time.monotonic() - began, 3))
    try:
        store.write_cell(task.cell.key, _document(task, done, result, curves))
    except OSError as error:
        _stop_if_full(task, error)
        raise
    return done


def failed_cell(task: Task, done: Done) -> dict[str, Any]:
    """What is written of a cell that has no figures."""
    return _document(task, done, {}, [])


def _document(task: Task, done: Done, result: Mapping[str, Any], curves: list[Any]) -> dict[str, Any]:
    row = {**task.row, "seconds": done.seconds, **result, **vars(task.cell), "error": done.error}
    return {"result": row, "curves": curves, "took": done.seconds}


def again(row: Mapping[str, Any], sweep: Path, out: Path) -> Measured:
    """Repeats the cell of a row of results: the same training, with fresh noise where it has any.

    Args:
        row: a row of `results.parquet`.
        sweep: the folder of its sweep, from which `repeat` tells where the files are; all may have moved together.
        out: a folder that does not exist; a run of ours is written there.

    Raises:
        InputError: a file is not there, or an engine of one's own has another text.
    """
    given = found(json.loads(row["repeat"]), sweep.absolute())
    baseline = given.pop("baseline", "")
    if not baseline:
        _same_engine(given["engine"], row)
    return _figures(Settings(**{**given, "epsilon": float(given["epsilon"]), "out": out}), baseline)


def _same_engine(asked: str, row: Mapping[str, Any]) -> None:
    if named(asked) != row["learner"]:
        raise InputError(asked, "", f"is not the text of {row['learner']}")


def _trained(task: Task, store: Store) -> Measured:
    task.check()
    with tempfile.TemporaryDirectory(prefix=f"{task.cell.key}.", dir=store.work) as folder:
        settings = replace(task.settings, out=Path(folder) / "out")
        found = _figures(settings, "" if task.arm.ours else task.arm.learner)
    task.check()  # what was written meanwhile may have been read
    return found


def _figures(settings: Settings, baseline: str) -> Measured:
    node = node_of(settings, settings.out)
    if baseline:
        return _baseline(baseline, node, settings.seed)
    from simulations.run import simulate  # late: it loads flwr

    simulate(settings)
    return measured(settings.out, node, settings)


def _baseline(name: str, node: Node, seed: int) -> Measured:
    from simulations.baselines import BASELINES, pooled

    began = time.monotonic()
    fitted = BASELINES[name](pooled(node), node.epsilon, node.delta, seed)
    seconds = round(time.monotonic() - began, 3)
    result, curves = measured_baseline(fitted, node)
    return {**result, "seconds": seconds}, curves


def _stop_if_full(task: Task, why: Exception) -> None:
    if isinstance(why, OSError) and is_full(why):
        raise DiskFull(f"no room on the disk of {task.out} for the cell {task.cell.key} ({why.strerror})") from None


def _stop_without_room(task: Task) -> None:
    """A holder's node says of a failure only that it failed: with hardly any room left, that is the likely cause."""
    free = shutil.disk_usage(task.out).free
    if free < _ROOM:
        left = f"{free / 2**20:.0f} MiB are left on the disk of {task.out}"
        raise DiskFull(f"the cell {task.cell.key} failed, and only {left}")


@cache
def versions() -> str:
    """What a cell is trained with, as JSON: Python, fedscore and its source's hash, and the packages that matter."""
    found = {"python": platform.python_version(), "source": program_digest()[:12]}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


def repeat(arm: Arm, settings: Settings, sweep: Path) -> str:
    """Every setting of a cell as JSON, its paths told from the sweep's folder.

    Those of a baseline are whose rows it takes, with its name beside them.
    """
    given = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in ("out", "force")}
    texts = {**repeated(given, sweep), "epsilon": f"{settings.epsilon:.12g}"}
    return json.dumps({**({} if arm.ours else {"baseline": arm.learner}), **texts}, sort_keys=True)
