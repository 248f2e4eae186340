"""Whose data could not be had when they applied: a lender's `availability.parquet`, for a simulation's decisions alone.

A row says in which `state` a person's data at a `partner` is from the day `from_day` after the application, and for how
many `hours`; without hours, until somebody acts. Who is not listed is available. What begins later is not known at the
application and binds nothing there: a consent that will be withdrawn still stands.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl

from clients.cohort import aligned, cohort_of
from clients.config import Node
from clients.files import scan, text
from clients.ids import written_alike
from model.federation import Federation
from model.inputs import InputError

AVAILABILITY = "availability.parquet"
LATE, NO_CONSENT = ("delayed", "late_filing"), ("consent_withdrawn", "consent_refused")
STATES = (*LATE, "abnormal", *NO_CONSENT)  # of several the last counts, as in the limit core
_DAY, _HOURS = (pl.col(name).cast(pl.Int64, strict=False) for name in ("from_day", "hours"))
_TOLD = 5  # names
_TIME = "must be a whole number >= 0"


def beside(federation: Federation) -> Path:
    """Where the file would lie: beside the lender's first data file."""
    return federation.lender.data[0].parent / AVAILABILITY


def unavailable(federation: Federation) -> pl.DataFrame:
    """What binds at the application: `id` as the federation compares them, `partner`, and the one `state` of both.

    Persons and partners may be there whom the federation lacks: one may try it without a partner.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a value that is none.
    """
    path = beside(federation)
    if not path.exists():
        return pl.DataFrame(schema=dict.fromkeys(("id", "partner", "state"), pl.String))
    table = _read(path, federation.id)
    for column, right, rule in (
        ("id", pl.col("id").is_not_null(), "must not be empty"),
        ("partner", pl.col("partner").is_not_null(), "must not be empty"),
        ("state", pl.col("state").is_in(STATES), "must be " + " | ".join(STATES)),
        ("from_day", _DAY >= 0, _TIME),
        ("hours", pl.col("hours").is_null() | (_HOURS >= 0).fill_null(False), _TIME + ", or empty"),
    ):
        wrong = table.filter(~right.fill_null(False))
        if wrong.height:
            name = federation.id if column == "id" else column
            raise InputError(path, name, rule, wrong[column][0] or "nothing", "mend it, or drop the row")
    now = table.filter(_DAY == 0, (_HOURS > 0).fill_null(True))
    worst = now.select(_alike(now["id"], federation), "partner", pl.col("state").cast(pl.Enum(STATES))).sort(
        "state", descending=True
    )
    return worst.unique(["id", "partner"], keep="first").with_columns(pl.col("state").cast(pl.String))


def notes_of(federation: Federation, held_out: pl.Series) -> list[str]:
    """What to tell before a simulation: for how many decisions data are away, and which names are no partner's.

    Args:
        federation: whose file it is.
        held_out: ids of the persons who may be decided for.

    Raises:
        InputError: as `unavailable`.
    """
    listed, names = unavailable(federation), {partner.name for partner in federation.partners}
    if listed.is_empty():
        return []
    ours, strangers = listed.filter(pl.col("partner").is_in(names)), sorted(set(listed["partner"]) - names)
    away = ours["id"].unique().is_in(_alike(held_out, federation).implode()).sum()
    notes = [f"{AVAILABILITY}: names {away} of the {len(held_out)} held-out persons"]
    if strangers:
        told = ", ".join(strangers[:_TOLD]) + (", …" if len(strangers) > _TOLD else "")
        notes.append(f"{AVAILABILITY}: rows of no partner of this federation are ignored ({told})")
    return notes


def states_of(node: Node, persons: pl.Series, present: Collection[str]) -> dict[tuple[int, str], str]:
    """By the place of a person and a domain the state that keeps the sub-score away at the application, if one does.

    A sub-score is that of the domain's first partner, in the federation file's order, who knows the person: what the
    file says of the domain's other partners changes nothing.

    Args:
        node: of a run that was fused, for the holders' views of the cohort.
        persons: ids of the lender's cohort.
        present: names of the partners whose sub-scores were fused.
    """
    listed, partners = unavailable(node.federation), [p for p in node.federation.partners if p.name in present]
    if listed.is_empty() or not partners:
        return {}
    cohort = cohort_of(node).ids.to_frame("id").with_row_index("row")
    rows = persons.to_frame("id").join(cohort, on="id", how="left", maintain_order="left")["row"].to_numpy()
    known = [
        pl.DataFrame({"at": np.flatnonzero(aligned(node, partner.name).rows[rows] >= 0)}).with_columns(
            domain=pl.lit(partner.domain), partner=pl.lit(partner.name)
        )
        for partner in partners
    ]
    speaking = pl.concat(known).unique(["at", "domain"], keep="first", maintain_order=True)
    alike = _alike(persons, node.federation)
    away = speaking.with_columns(alike.gather(speaking["at"])).join(listed, on=["id", "partner"])
    return {(at, domain): state for at, domain, state in away.select("at", "domain", "state").iter_rows()}


def _alike(ids: pl.Series, federation: Federation) -> pl.Series:
    return pl.Series("id", [written_alike(person, federation.id_form) for person in ids], dtype=pl.String)


def _read(path: Path, id_column: str) -> pl.DataFrame:
    """The file's columns as texts, the ids' as `id`."""
    frame = scan(path)
    names = frame.collect_schema().names()
    wanted = {"id": id_column, **{name: name for name in ("partner", "state", "from_day", "hours")}}
    for name in wanted.values():
        if name not in names:
            raise InputError(path, name, "is not a column of this file", remedy="columns: " + ", ".join(names[:12]))
    try:
        return frame.select(text(pl.col(column)).alias(name) for name, column in wanted.items()).collect()
    except (pl.exceptions.PolarsError, OSError) as error:  # its text may quote a person's value
        rule = f"cannot be read ({type(error).__name__})"
        raise InputError(path, "", rule, remedy="write the file again") from None
