"""Looking at everything that a sweep will train before it begins: files, arms, budgets, and each cell's row."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.cohort import cohort_of
from model.federation import load_federation
from model.inputs import InputError
from model.wire import HELD_OUT
from simulations import preflight
from simulations.datasets import DataSet
from simulations.rehearsal import rehearse
from simulations.settings import Settings
from simulations.sweep.arms import Arm, arms_of
from simulations.sweep.cells import Task, repeat, versions
from simulations.sweep.grid import Lane, Sweep, cells_of, lanes_of, sets_of, settings_of, terms_of
from simulations.sweep.places import placed
from simulations.sweep.sources import Read, files_of, fingerprints, paths_of
from simulations.sweep.store import Store


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        tasks: by key, in the order of training.
        made: by name, federation files that are made for an arm.
        question: what is asked, as plain values: two sweeps with the same one are the same sweep.
        notes: what a reader should know.
    """

    tasks: dict[str, Task]
    made: dict[str, str]
    question: dict[str, Any]
    notes: tuple[str, ...]


def plan(asked: Sweep) -> Plan:
    """Loads every set, with every arm's own federation file, and lists the cells.

    Raises:
        InputError: whatever cannot be used; nothing was written.
    """
    arms, lanes, notes = arms_of(asked.arms), [], []
    files: dict[str, dict[str, str]] = {}
    read: dict[str, Read] = {}
    for name, data in sets_of(asked).items():
        federation = load_federation(data.federation, data.data)
        read[name] = Read.now(paths_of(federation, asked.policy).values())
        notes += [f"{name}: {note}" for note in _checked(data, asked, arms)]
        files[name] = files_of(federation, asked.policy)
        found, left_out = lanes_of(data, arms)
        lanes += found
        notes += left_out
    if not lanes:
        raise InputError("command line", "--arms", "leave nothing to train", remedy="; ".join(notes))
    rows = {id(lane): _row(lane, asked) | fingerprints(files[lane.data.name]) for lane in lanes}
    tasks, out = {}, asked.out.resolve()
    folder = Store(out).federations
    for cell, lane in cells_of(lanes, asked).items():
        settings = settings_of(cell, lane, asked, folder)
        row = {**rows[id(lane)], "repeat": repeat(lane.arm, settings, out)}
        tasks[cell.key] = Task(cell, lane.arm, settings, row, out, read[cell.set])
    question = {
        "arms": [arm.name for arm in arms],
        "epsilons": sorted(set(asked.epsilons)),
        "seeds": asked.seeds,
        "delta": asked.delta,
        "decide": asked.decide,
        "versions": json.loads(versions()),
        "notes": notes,
        "sets": files,
    }
    made = {lane.file: placed(lane.text, folder) for lane in lanes if lane.text is not None}
    return Plan(tasks, made, question, tuple(notes))


def _checked(data: DataSet, asked: Sweep, arms: Iterable[Arm]) -> list[str]:
    """What `simulate` would warn of; raises what it would refuse, and where no two models can be told apart."""
    with tempfile.TemporaryDirectory(prefix="fedscore-") as scratch:
        settings = Settings(data.federation, asked.out, data.data, delta=asked.delta, policy=asked.policy)
        node = preflight.node_of(settings, Path(scratch))
        notes = preflight.check(node, settings)
        for engine in (arm.learner for arm in arms if ":" in arm.learner):
            rehearse(engine, [holder.contract for holder in node.federation.holders if holder.contract])
        cohort = cohort_of(node)
        outcomes = set(cohort.labels[cohort.group == HELD_OUT].tolist())
    if len(outcomes) < 2:
        rule = "holds out persons of one outcome only" if outcomes else "holds nobody out to compare on"
        raise InputError(data.federation, "federation.split", rule, remedy="hold out persons of both outcomes")
    return notes


def _row(lane: Lane, asked: Sweep) -> dict[str, Any]:
    """What the rows of one arm on one set say whatever their budget and seed."""
    if lane.text is None:
        federation = load_federation(lane.data.federation, lane.data.data)
    else:
        with tempfile.TemporaryDirectory(prefix="fedscore-") as scratch:
            made = Path(scratch) / lane.file
            made.write_text(lane.text, encoding="utf-8")
            federation = load_federation(made)
    return {**terms_of(federation, lane.arm, asked), "versions": versions()}
