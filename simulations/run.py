"""`simulate`: a whole federation on one machine, from partners' files to scores, decisions and a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

from clients.config import Node
from model.inputs import InputError
from server.failures import RunFailed
from simulations import preflight
from simulations.folders import new_folder
from simulations.gate import pass_gate
from simulations.loopback import LoopbackGrid, Value
from simulations.report import add_audit, write_report
from simulations.settings import Settings

__all__ = ["Result", "Settings", "simulate"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A finished simulation: its folder, its report (what `report.json` says), and warnings as whole sentences."""

    out: Path
    report: dict[str, Any]
    notes: tuple[str, ...]


def simulate(settings: Settings, say: Say = lambda text: None) -> Result:
    """Runs a federation's files through private training to scores and decisions, and writes `settings.out`.

    All that the command `fedscore simulate` does, and nothing else; `Settings` has its options as fields.

    Everything is written to a temporary folder beside `out` and renamed at the end: a run that fails leaves nothing.

    Args:
        settings: what to run.
        say: is told the phase that begins, in plain words.

    Raises:
        InputError: bad input, naming file, field, rule and value.
        BudgetExceeded: the plan would pass the budget; nothing was released.
        RunFailed: the run stopped, with the reason; or its audit refuted what it claims.
    """
    began = time.monotonic()
    if settings.out.exists() and not settings.force:
        raise InputError(settings.out, "", "exists already", remedy="give another --out, or --force to replace it")
    if settings.ledger and settings.ledger.resolve().is_relative_to(settings.out.resolve()):
        raise InputError("command line", "--ledger", "must not lie in --out, which a run replaces", settings.ledger)
    say("reading the holders' files")
    with TemporaryDirectory(prefix="fedscore-") as scratch:
        notes = tuple(preflight.check(preflight.node_of(settings, Path(scratch)), settings))
    with new_folder(settings.out) as part:
        node = preflight.node_of(settings, part)
        loaded = time.monotonic() - began
        with _phases_told(say):
            (_flower if settings.backend == "flower" else _played)(settings, node, part)
        say("deciding and reporting")
        report = write_report(part, node, settings, notes, {"load": loaded})
        say("auditing")
        add_audit(part, report, pass_gate(part))
    return Result(settings.out, report, notes)


def _played(settings: Settings, node: Node, out: Path) -> None:
    from server.app import app as server_app

    config = settings.run_config(out)
    count = len(node.federation.holders)
    nodes = [{"partition-id": i, "num-partitions": count} for i in range(count)]
    context = Context(run_id=preflight.RUN_ID, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with _grid(settings, nodes, config, node) as grid:
        server_app(grid, context)


@contextmanager
def _grid(
    settings: Settings, nodes: Sequence[Mapping[str, Value]], config: Mapping[str, Value], node: Node
) -> Iterator[Grid]:
    """The grid of a backend, over these nodes."""
    if settings.backend == "ray":
        from simulations.ray_grid import playing

        with playing(settings.address, nodes, config, node) as grid:
            yield grid
    else:
        from clients.app import app as client_app

        yield LoopbackGrid(client_app, nodes, config, run_id=preflight.RUN_ID)


def _flower(settings: Settings, node: Node, out: Path) -> None:
    from simulations.flower import flower_run

    failure = flower_run(settings.run_config(out), len(node.federation.holders))
    if failure is not None:
        raise RunFailed(failure)


@contextmanager
def _phases_told(say: Say) -> Iterator[None]:
    """Passes the coordinator's phases on to `say`, and keeps Flower's own log to warnings."""
    server, flower = logging.getLogger("fedscore.server"), logging.getLogger("flwr")
    handler = _Teller(say)
    before = (server.level, flower.level)
    server.addHandler(handler)
    server.setLevel(logging.INFO)
    flower.setLevel(logging.WARNING)
    try:
        yield
    finally:
        server.removeHandler(handler)
        server.setLevel(before[0])
        flower.setLevel(before[1])


class _Teller(logging.Handler):
    """Tells the phases and the failures of a run in plain words."""

    _WORDS = {
        "describe": "asking the holders who they are",
        "align": "aligning the persons",
        "plan": "pricing every release",
        "train": "training the blocks",
        "fuse": "fusing and calibrating at the lender",
        "publish": "publishing the model",
    }

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("phase "):
            self._say(self._WORDS.get(text.removeprefix("phase "), text))
        elif record.levelno >= logging.WARNING:
            self._say(text)
