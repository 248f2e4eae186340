"""What changes over the months: each change by a switch, each for the month (from 0) in which a person applies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from simulations.population.signals import Signals
from simulations.population.traits import Bools, Floats, Ints

PRICES = 1.01  # a month
FADES_IN = 18  # months until what a column meant has drifted away
REDEFINED = 2.0  # times as many returns counted: at 1.5 the column's stability index stays below .25 (.11 at ec-2)
WORSE = 6.5 / 4.5  # defaults of a recession to those of other times

_THINNER = 0.6  # log-odds by which a relationship is rarer in the last month
_REDEFINED_IN = 9
_FRAUDSTERS, _FRAUD_MONTHS = 0.03, 2
_GAMERS = 0.10
_SPREADS = {"ec_orders_12m": 0.65, "ec_active_months_12m": 3.6}  # standard deviations on the signals' scales


@dataclass(frozen=True)
class Drift:
    """The changes of a population of `months` months whose first held-out month is `cut`."""

    kinds: Collection[str]
    months: int
    cut: int

    def prices(self, month: Ints) -> Floats:
        """By how much money features have grown: 1 % a month."""
        return np.power(PRICES, month * ("inflation" in self.kinds))

    def thinner(self, month: Ints) -> Floats:
        """By how much relationships are rarer, in log-odds: more and more up to the last month."""
        return _THINNER * month * ("mix" in self.kinds) / max(1, self.months - 1)

    def recession(self, month: Ints) -> Bools:
        """Whether persons default more than before: in all held-out months."""
        return (month >= self.cut) & ("recession" in self.kinds)

    def faded(self, month: Ints) -> Floats:
        """How far the meaning of single features has drifted away, from 0 to 1."""
        return np.minimum(month / FADES_IN, 1.0) * ("concept" in self.kinds)

    def redefined(self, month: Ints) -> Bools:
        """Whether the second shop, or the only one, counts returns in a new way: from month 9, or from half-time."""
        return (month >= min(_REDEFINED_IN, self.months // 2)) & ("definition" in self.kinds)

    def frauds(self, month: Ints, rng: np.random.Generator) -> Bools:
        """Who is a fraudster: 3 % in the first two held-out months."""
        wave = (month >= self.cut) & (month < self.cut + _FRAUD_MONTHS) & ("fraud" in self.kinds)
        return wave & (rng.random(len(month)) < _FRAUDSTERS)

    def game(self, record: Signals, month: Ints, rng: np.random.Generator) -> None:
        """Lets one shop's customer in ten look busier by one to two standard deviations, from half-time on."""
        gamers = (rng.random(len(month)) < _GAMERS) & (month >= self.months // 2) & ("gaming" in self.kinds)
        push = rng.uniform(1, 2, len(month)) * gamers
        for name, spread in _SPREADS.items():
            record[name] = record[name] + push * spread
        record["ec_active_months_12m"] = np.clip(np.round(record["ec_active_months_12m"]), 0, 12)
