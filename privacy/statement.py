"""The privacy statement of a programme: who sees what, and which epsilon covers it."""

from __future__ import annotations

import math
from typing import Any

from privacy.accounting import shown
from privacy.plan import Plan

UNIT = "the person, over all partners and all releases of the programme"
RELATION = "zero-out: one person's rows at every holder become null rows; the cohort's size is public"
NOT_COVERED = (
    "labels of the training persons, which the lender hands to its partners by declared agreement",
    "sub-scores, who has a relationship with which partner, and up to two reason families a person with amounts in "
    "steps of 0.05 against the holder's average, which partners hand to the lender by declared agreement",
    "presence in the alignment: who holds a token's key can test whether an id that it guesses is in the cohort",
    "a coordinator that deviates from the protocol: swaps the keys it relays, chooses the cohort, or asks holders for "
    "more than the plan; each holder's own ledger then bounds that holder, and nobody the sum",
    "several holders or the coordinator pooling what each was given by agreement",
    "what the population teaches about anybody, whether a holder's files can be read, and how long a holder takes",
)


def statement(plan: Plan, persons: int) -> dict[str, Any]:
    """The statement as plain data, to be published with every model.

    Args:
        plan: the priced plan, after which nothing else is released under this budget.
        persons: size of the training cohort, a public number.
    """
    total = plan.spent()
    rows = [
        (
            "coordinator",
            "noisy weights of every round, the fusion table, the cohort's size, error codes, ciphertexts",
            total,
        ),
        ("partners", "the published model; tokens, order and training labels of the cohort (not covered)", total),
        ("lender", "the published model; sub-scores and reason families of each person (not covered)", total),
        ("outsiders", "the published model", total),
        (
            "coordinator + a partner",
            "what each sees; that partner's rows and the training labels (not covered)",
            total,
        ),
        ("coordinator + lender", "what each sees; sub-scores and reason families (not covered)", total),
        ("lender + a partner", "what each sees; that partner's rows of the lender's persons (not covered)", total),
        ("two partners", "what each sees; their own rows of common persons (not covered)", total),
    ]
    holders = sorted({r.holder for r in plan.releases})
    return {
        "epsilon": _plain(total),
        "epsilon_shown": shown(total),
        "delta": plan.delta,
        "discrete_noise_slack": {"epsilon": plan.slack[0], "delta": plan.slack[1]},
        "persons_times_delta": persons * plan.delta,
        "unit": UNIT,
        "relation": RELATION,
        "accounting": "closed form of the Gaussian" if _closed(plan) else "privacy loss distributions (PLD)",
        "observers": [{"observer": who, "sees": what, "epsilon": shown(e)} for who, what, e in rows],
        "by_holder": {h: shown(plan.spent([r.name for r in plan.releases if r.holder == h])) for h in holders},
        "not_covered": list(NOT_COVERED),
    }


def _closed(plan: Plan) -> bool:
    return all(r.probability == 1.0 for r in plan.releases)


def _plain(epsilon: float) -> float | str:
    return "inf" if math.isinf(epsilon) else math.ceil(epsilon * 1e6 - 1e-6) / 1e6
