"""The lender's view of a population, the truth beside it, and what stays out of every feature table on purpose."""

from __future__ import annotations

import numpy as np
import polars as pl

from model.descent import sigmoid
from simulations.population.people import FAIRNESS, FLIPS, OUTCOMES, People
from simulations.population.traits import Floats, Ints
from simulations.population.world import FIRST_MONTH, Chunk, World

_FLIPPED = 0.015  # of the labels, where labels are noisy
_REJECTED_BELOW = -0.5  # of the lender's own glance, whose spread is about one
_HALF = 10**6  # an id is two numbers below this
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)
_REGIONS = ("central", "east", "northeast", "west")
_REGION_SHARES = np.array([0.27, 0.40, 0.08, 0.25])
_REGION_PULLS = np.array([[-0.1, 0.0], [0.3, 0.1], [-0.1, -0.2], [-0.25, 0.0]])  # of A, of S


def ids(world: World, number: Ints) -> pl.Series:
    """Pseudonymous ids, all different: a keyed shuffle of the persons' numbers, such as P004211907363.

    Four rounds of a Feistel network over pairs of numbers below a million map all pairs one to one.

    >>> ids(World(), np.arange(1000)).n_unique()
    1000
    """
    left, right = number // _HALF, number % _HALF
    for turn in range(4):
        mixed = (right.astype(np.uint64) + np.uint64((world.seed * 5 + turn) % 2**32)) * np.uint64(_MIX[0])
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(_MIX[1])
        added = (mixed >> np.uint64(33)) % np.uint64(_HALF)
        left, right = right, (left + added.astype(np.int64)) % _HALF
    digits = pl.Series("id", left * _HALF + right).cast(pl.String).str.zfill(12)
    return digits.str.replace("^", "P")


def labels(world: World, chunk: Chunk, people: People) -> pl.DataFrame:
    """Label, day and split, a row a person; the last part of the months is held out."""
    luck = world.stream(chunk.place, FLIPS).random(len(people))
    flipped = (luck < _FLIPPED) & ("label-noise" in world.shifts)
    label = pl.Series("label", (people.defaulted ^ flipped).astype(np.int8))
    split = np.where(people.month < world.cut, "train", "test")
    if "feedback" in world.drift:  # only who was lent to can have defaulted
        rejected = _glance(people) < _REJECTED_BELOW
        split = np.where(rejected, "drop", split)
        label = label.set(pl.Series(rejected), None)
    days = pl.Series("date", np.datetime64(FIRST_MONTH, "D") + people.day)
    return pl.DataFrame([label, days.cast(pl.Date), pl.Series("split", split)])


def _glance(people: People) -> Floats:
    """How the lender's old rule, on the form alone, likes them."""
    form = people.form
    income, employed = form["declared_income_cny"] - 8.65, form["employment_months"] - 3.4
    liking: Floats = 0.8 * income + 0.5 * employed - 0.3 * (form["city_tier"] - 3)
    return liking


def outcomes(world: World, chunk: Chunk, people: People) -> pl.DataFrame:
    """How the loans went, a row a person: for policy simulations, and an early stand-in for the label."""
    rng, n, who = world.stream(chunk.place, OUTCOMES), len(people), people.who
    bad = people.defaulted
    month = np.where(people.fraud, 3, 3 + np.minimum(9, rng.geometric(0.16, n) - 1))
    early = rng.random(n) < np.where(bad, np.where(month <= 4, 0.95, 0.30), 0.008)
    late = rng.poisson(np.exp(-1.6 - 0.5 * who.W + 0.4 * who.P)) + bad * 3
    frame = pl.DataFrame(
        {
            "default_month": np.where(bad, month, -1).astype(np.int8),
            "early_bad_4m": (early | people.fraud).astype(np.int8),
            "times_late_12m": np.minimum(late, 12).astype(np.int8),
            "exposure_share": np.round(sigmoid(1.2 + 0.35 * who.P + rng.normal(0, 0.8, n) + 2 * people.fraud), 4),
            "recovery_share": np.round(sigmoid(-1.4 + 0.3 * who.A + rng.normal(0, 0.9, n) - 3 * people.fraud), 4),
        }
    )
    of_bad = ("default_month", "exposure_share", "recovery_share")
    return frame.with_columns(pl.when(pl.lit(pl.Series(bad))).then(pl.col(name)).alias(name) for name in of_bad)


def fairness(world: World, chunk: Chunk, people: People) -> pl.DataFrame:
    """Sex and region, both tied to ability and stability, for checks of fairness alone."""
    rng, who = world.stream(chunk.place, FAIRNESS), people.who
    gender = np.where(rng.random(len(people)) < sigmoid(-0.1 - 0.20 * who.A + 0.15 * who.S), "female", "male")
    pull = np.log(_REGION_SHARES) + np.stack([who.A, who.S], axis=1) @ _REGION_PULLS.T
    region = np.array(_REGIONS)[np.argmax(pull + rng.gumbel(size=pull.shape), axis=1)]
    return pl.DataFrame({"gender": gender, "region": region})


def truth(people: People) -> pl.DataFrame:
    """What nobody knows: the traits and the true risk, for evaluation alone."""
    who = people.who
    traits = {"ability": who.A, "willingness": who.W, "stability": who.S, "pressure": who.P, "business": who.B}
    names = ("willingness_ecommerce", "willingness_payments", "willingness_tax_business")
    return pl.DataFrame(
        {
            **traits,
            **dict(zip(names, who.facets, strict=True)),
            "income_cny": np.round(who.income, 2),
            "pd": sigmoid(people.logit_pd),
            "defaulted": people.defaulted.astype(np.int8),
            "fraud": people.fraud.astype(np.int8),
        }
    )
