"""What the policy did with the held-out persons of a cell, by the policy's own economics, and what came true.

Realised figures put 1 or 0, as it happened, where the model's PD stands in the expected ones; all else is the same. An
outcome is known for everybody here, also for those who got no offer: only a simulation has that.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from model.limits.schema import Economics
from model.points import pd_e8
from server.backtesting import Tally
from server.comparing import DECISIONS, OFFERS
from simulations.sweep.points import Point, point

FEN = 100
_CERTAIN = 10**8  # a PD of one, in 1e-8


def outcomes(decisions: pl.DataFrame, persons: pl.DataFrame) -> pl.DataFrame:
    """The decisions with each person's `z_e6` and `label`, and whether there was an `offer`.

    Args:
        decisions: a run's `decisions.parquet`.
        persons: the held-out persons' `id`, `z_e6` and `label`; those not decided for are left out.
    """
    offer = pl.col("decision").is_in(OFFERS)
    return decisions.join(persons, on="id", how="inner", maintain_order="left").with_columns(offer=offer)


def business(decided: pl.DataFrame, costs: Economics) -> tuple[dict[str, Any], list[Point]]:
    """Shares, amounts, loss and profit of the persons decided for: columns of a result, and the curve `decisions`.

    Amounts are in currency units an applicant, losses and profits in currency units a year and applicant.
    """
    count = decided.height
    if not count:
        return {"decided": 0}, []
    offers = decided.filter("offer").select("amount_fen", "apr_bp", "z_e6", "label").rows()
    expected, realised = Tally(count), Tally(count)
    for amount, price, z, label in offers:
        expected.add_offer(amount, price, pd_e8(z), costs)
        realised.add_offer(amount, price, int(label) * _CERTAIN, costs)
    before, after = expected.to_dict(costs), realised.to_dict(costs)
    found = Counter(decided["decision"].to_list())
    result = {
        "decided": count,
        "approval": sum(found[name] for name in OFFERS) / count,
        "amount_mean": before["amount_fen"] / FEN / count,
        "expected_loss": before["expected_loss_fen"] / FEN / count,
        "profit_expected": before["profit_fen"] / FEN / count,
        "realised_loss": after["expected_loss_fen"] / FEN / count,
        "profit_realised": after["profit_fen"] / FEN / count,
    }
    return result, [point("decisions", name, value=found[name] / count, weight=found[name]) for name in DECISIONS]
