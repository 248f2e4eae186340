"""Whether a known person's data can be had when it is needed: a layer apart from who knows whom.

Deliveries fail for hours, registers are late in the first half of a month, records look abnormal, persons refuse or
withdraw consent. Who is not listed is available.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from simulations.population.people import AVAILABILITY, People
from simulations.population.traits import Bools, Floats, Ints
from simulations.population.world import FIRST_MONTH, Chunk, Partner, World

_OUTAGE_HOURS = (2, 48)
_LATE_FILING, _LATE_UNTIL = 0.03, 15  # share, and the last day of a month on which a filing may still be missing
_ABNORMAL, _REFUSED, _WITHDRAWN_A_MONTH = 0.003, 0.08, 0.005
_FOLLOWED_MONTHS = 24
_OUTAGES = 1_000_000  # the stream of what belongs to no chunk


def outages(world: World) -> pl.DataFrame:
    """When the partners' deliveries failed: a row an outage, in hours from the start of the first day."""
    first = np.datetime64(FIRST_MONTH, "M")
    days = int(((first + world.months).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64))
    rows = []
    for place, partner in enumerate(world.partners):
        rng = world.stream(_OUTAGES, place)
        struck = np.flatnonzero(rng.random(days) < world.outages)
        begins = 24 * struck + rng.integers(0, 24, len(struck))
        hours = rng.integers(_OUTAGE_HOURS[0], _OUTAGE_HOURS[1] + 1, len(struck))
        rows += [(partner.name, int(begin), int(length)) for begin, length in zip(begins, hours, strict=True)]
    schema = {"partner": pl.String, "begins": pl.Int32, "hours": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def states(world: World, chunk: Chunk, people: People, failures: pl.DataFrame) -> pl.DataFrame:
    """A row for each person and partner whose data is not simply there; `row` is the person's place in the chunk."""
    rng = world.stream(chunk.place, AVAILABILITY)
    hour = 24 * people.day + rng.integers(0, 24, len(people))
    found = []
    for place, partner in enumerate(world.partners):
        rows = np.flatnonzero(people.members[:, place])
        luck = rng.random((4, len(rows)))
        months = rng.geometric(_WITHDRAWN_A_MONTH, len(rows))
        refused = luck[0] < _REFUSED
        withdrawn = ~refused & (months <= _FOLLOWED_MONTHS)
        wait = _wait(failures.filter(pl.col("partner") == partner.name), hour[rows])
        found.append(_listed(partner, "consent_refused", rows, refused, 0 * months, None))
        found.append(_listed(partner, "consent_withdrawn", rows, withdrawn, 30 * months, None))
        found.append(_listed(partner, "abnormal", rows, luck[1] < _ABNORMAL, 0 * months, None))
        found.append(_listed(partner, "delayed", rows, wait > 0, 0 * months, wait))
        if partner.domain == "tax_business":
            today = _day_of_month(people.day[rows])
            late = (today <= _LATE_UNTIL) & (luck[2] < _LATE_FILING)
            found.append(_listed(partner, "late_filing", rows, late, 0 * months, 24 * (_LATE_UNTIL + 1 - today)))
    return pl.concat(found).sort("row", "partner", "state")


def _wait(failures: pl.DataFrame, hour: Ints) -> Ints:
    """Hours from each application to the end of the outage that it falls into; 0 where it falls into none."""
    wait = np.zeros(len(hour), dtype=np.int64)
    for begins, length in zip(failures["begins"], failures["hours"], strict=True):
        wait = np.maximum(wait, np.where((hour >= begins) & (hour < begins + length), begins + length - hour, 0))
    return wait


def _listed(partner: Partner, state: str, rows: Ints, here: Bools, day: Ints, hours: Ints | None) -> pl.DataFrame:
    lasting = np.full(len(rows), np.nan) if hours is None else hours.astype(np.float64)
    columns: dict[str, Ints | Floats] = {"row": rows[here], "from_day": day[here], "hours": lasting[here]}
    frame = pl.DataFrame(columns, nan_to_null=True)
    named = (pl.lit(partner.name).alias("partner"), pl.lit(state).alias("state"))
    return frame.select("row", *named, pl.col("from_day").cast(pl.Int32), pl.col("hours").cast(pl.Int32))


def _day_of_month(day: Ints) -> Ints:
    """1 to 31."""
    when = np.datetime64(FIRST_MONTH, "D") + day
    return np.asarray((when - when.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1)
