"""Looking at every holder's files before a simulation starts: errors in plain words, warnings said once."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from clients.cohort import cohort_of, persons_of, table_of
from clients.config import Node
from clients.files import read_columns
from model.federation import LENDER, Federation, Holder
from model.inputs import InputError
from model.limits.policy import load_policy
from model.wire import HELD_OUT, TRAIN_ROWS
from simulations.availability import notes_of
from simulations.settings import Settings

WARN_PERSONS_DELTA = 0.1
RUN_ID = 1


def node_of(settings: Settings, out: Path) -> Node:
    """One node that plays every holder of the simulation, as its in-process nodes see their files."""
    return Node.of({"partition-id": 0, "num-partitions": 1}, settings.run_config(out), RUN_ID)


def check(node: Node, settings: Settings) -> list[str]:
    """Loads every holder's table and the policy; returns warnings.

    Raises:
        InputError: for the first holder whose file cannot be used.
    """
    federation = node.federation
    _protect_input(federation, settings)
    load_policy(settings.policy)
    for holder in federation.holders:
        _check_bins(federation, holder)
    _check_amounts(federation)
    if ":" in settings.engine:
        from simulations.rehearsal import rehearse  # late: it loads what audits need

        rehearse(settings.engine, [h.contract for h in federation.holders if h.contract])
    cohort = cohort_of(node)
    held_out = cohort.ids.filter(pl.Series(cohort.group == HELD_OUT))
    notes = [f"{LENDER}: {note}" for note in notes_of(federation, held_out)]
    known = set(persons_of(node, LENDER))
    for holder in federation.holders:
        table = table_of(node, holder.name)
        notes += [f"{holder.name}: {note}" for note in table.notes]
        if holder.name == LENDER:
            continue
        strangers = sum(person not in known for person in persons_of(node, holder.name))
        if strangers:
            notes.append(f"{holder.name}: {strangers} of {table.ids.len()} ids are not in the cohort and are ignored")
        if strangers == table.ids.len():
            rule = "shares no id with the lender's cohort"
            raise InputError(holder.data[0], federation.id, rule, remedy="check that both files write ids alike")
    persons = int((cohort.group == TRAIN_ROWS).sum())
    if persons * node.delta > WARN_PERSONS_DELTA:
        notes.append(
            f"persons x delta = {persons} x {node.delta:g} = {persons * node.delta:.3g} is above {WARN_PERSONS_DELTA}: "
            "choose a smaller delta"
        )
    return notes


def _protect_input(federation: Federation, settings: Settings) -> None:
    """Refuses an output folder that holds any of the run's own files: `--force` would delete them."""
    files = [federation.path, *(path for h in federation.holders for path in h.data)]
    files += [settings.policy] if settings.policy else []
    out = settings.out.resolve()
    for file in files:
        if out in file.resolve().parents:
            raise InputError(settings.out, "", f"holds {file.name}, which this run reads", remedy="give another --out")


def _check_amounts(federation: Federation) -> None:
    """The columns of income and requested amount exist."""
    for name, column in (("income", federation.income), ("requested", federation.requested)):
        if column and not any(column in read_columns(p, federation.id, [column]) for p in federation.lender.data):
            raise InputError(federation.path, f"lender.{name}", "is not a column of the lender's files", column)


def _check_bins(federation: Federation, holder: Holder) -> None:
    """A domain whose every value falls into one bin can tell nobody apart."""
    from model.encoding import Encoding

    if holder.contract is None:
        return
    bins = sum(len(p.labels) - (1 if p.feature.kind == "numeric" else 2) for p in Encoding.of(holder.contract).features)
    if bins < 2:
        raise InputError(
            federation.path, f"{holder.name}.contract", "has fewer than 2 bins", bins, "add values, edges or features"
        )
