"""What a loan costs: the schedule of equal instalments, and the table of all costs that the applicant is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from model.limits.offers import annuity_e6
from model.limits.schema import Policy

_YEAR_BP = 120_000


@dataclass(frozen=True, slots=True)
class CostRow:
    """One kind of cost, in both languages.

    `total_fen` is what it comes to when the whole amount is drawn at once and paid back in equal instalments, None for
    a contingent one, which is due only if what its name says happens.
    """

    code: str
    zh: str
    en: str
    payee: str
    annual_bp: int
    total_fen: int | None
    contingent: bool


@dataclass(frozen=True, slots=True)
class Instalment:
    """One month's payment, in fen."""

    principal_fen: int
    interest_fen: int


@lru_cache(maxsize=4096)
def schedule(amount_fen: int, apr_bp: int, months: int) -> tuple[Instalment, ...]:
    """Equal monthly instalments; the last takes the remainder, so that the principals sum to the amount exactly.

    Args:
        amount_fen: what is drawn, > 0.
        apr_bp: nominal annual rate; interest of a month is floor(balance x rate / 12).
        months: number of instalments, >= 1.

    >>> plan = schedule(100_000, 1800, 3)
    >>> [(p.principal_fen, p.interest_fen) for p in plan], sum(p.principal_fen for p in plan)
    ([(32839, 1500), (33332, 1007), (33829, 507)], 100000)
    """
    level = -(-amount_fen * 10**6 // annuity_e6(apr_bp, months))
    balance, plan = amount_fen, []
    for month in range(months):
        interest = balance * apr_bp // _YEAR_BP
        principal = balance if month == months - 1 else min(level - interest, balance)
        plan.append(Instalment(principal, interest))
        balance -= principal
    return tuple(plan)


def cost_table(policy: Policy, amount_fen: int, apr_bp: int, months: int) -> tuple[CostRow, ...]:
    """Interest first, then the policy's fees; nothing else may be charged.

    A fee that is not contingent is a rate on what is owed, as interest is: so the price and the fees are, together, the
    annual rate of all that is paid, and the lint that holds their sum below the legal cap holds the true cost below it.

    >>> from model.limits.policy import load_policy
    >>> [(row.code, row.annual_bp, row.total_fen) for row in cost_table(load_policy(), 1_000_000, 1500, 12)]
    [('interest', 1500, 83094), ('late', 2000, None)]
    """
    interest, owed = _totals(amount_fen, apr_bp, months)
    rows = [CostRow("interest", "利息", "Interest", "lender", apr_bp, interest, False)]
    for fee in policy.fee:
        total = None if fee.contingent else owed * fee.annual_bp // _YEAR_BP
        rows.append(CostRow(fee.code, fee.zh, fee.en, fee.payee, fee.annual_bp, total, fee.contingent))
    return tuple(rows)


@lru_cache(maxsize=4096)
def _totals(amount_fen: int, apr_bp: int, months: int) -> tuple[int, int]:
    """The interest in all, and what is owed, for a month each."""
    plan = schedule(amount_fen, apr_bp, months)
    return sum(p.interest_fen for p in plan), sum(p.principal_fen * month for month, p in enumerate(plan, 1))
