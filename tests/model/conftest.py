"""Cases for the tests of the limit decision, drawn where a wrong design would break, and quickly.

Cases drawn evenly passed wrong designs. Here the lender's own log-odds is solved so that the upper PD lands within 0.06
logit of a line of the policy, and incomes are drawn so that the caps fall around the smallest limit.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.policy import Policy, load_policy
from model.limits.request import Applicant, BlockEvidence, Contribution, DecisionRequest, Flags, StateSnapshot
from model.limits.states import Case, standing_of
from model.limits.table import DecisionBundle, Default, FusionTable
from model.points import pd_e8

NOW = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
RULE = Default(
    -3_000_000,
    {"ecommerce": 700_000, "payments": 900_000, "tax_business": 600_000, "lender_kyc": 1_000_000},
    {"ecommerce": 150_000, "payments": 200_000, "tax_business": -50_000},
    {"ecommerce": 30_000, "payments": 60_000, "tax_business": 10_000},
)
TABLE = FusionTable(("ecommerce", "payments", "tax_business"), "lender_kyc", {}, RULE)
AT_THE_LINE = {"ecommerce": 300_000, "payments": 200_000, "tax_business": 100_000, "lender_kyc": 0}
BUNDLE = DecisionBundle("demo-1", "0" * 64, TABLE, "subscores", AT_THE_LINE)
RANGE = range(-10_000_000, 1)
EDGES = [timedelta(hours=h, seconds=s) for h in (1, 48, 72, 168, 336, 1080, 2640) for s in (-1, 0, 1)]
YOUNG, OLD = timedelta(hours=1), timedelta(hours=100)
PARTS = [
    (),
    (),
    (Contribution("Y01", 200_000), Contribution("repayment", -90_000)),
    (Contribution("E02", 50_000), Contribution("savings", 120_000)),
]
QUALITIES = ["ok"] * 30 + ["drift", "dispute_open", "negative_pending"]
INCOMES = [0, 13_000, 13_600, 14_200, 14_600, 15_000, 17_000, 20_000, 30_000, 60_000, 150_000, 600_000, 2_000_000] + [
    90_000
] * 4


class Near:
    """Draws cases near the lines of a policy, and changes them one field at a time."""

    def __init__(self, seed: int, policy: Policy | None = None) -> None:
        self.random = Random(seed)
        self.policy = policy or load_policy()
        pds = {tier.pd_max_bp for tier in self.policy.pricing} | {self.policy.classes.standard_pd_max_bp}
        self.lines = [RANGE[bisect_right(RANGE, bp * 10_000, key=pd_e8) - 1] for bp in sorted(pds)]

    def case(self, now_only: bool = True) -> Case:
        """One case; `now_only`: nothing waits for late data."""
        pick = self.random.choice
        blocks = {domain: self._block() for domain in TABLE.optional if pick((True, True, True, False))}
        kyc = Applicant(
            passed=True,
            age_years=30,
            segment=pick(("salaried", "gig", "other")),
            income_fen_month=pick(INCOMES),
            income_source=pick(("verified", "verified", "partner_estimated", "declared")),
            existing_debt_service_fen_month=pick((0,) * 6 + (5_000, 30_000)),
            other_consumer_credit_fen=pick((0,) * 12 + (19_940_000, 25_000_000)),
            logit_e6=0,
            model_se_e6=pick((0, 0, 0, 60_000)),
            reasons=pick(PARTS),
        )
        request = DecisionRequest(
            request_id="00000000-0000-4000-8000-000000000001",
            subject_ref="a" * 64,
            purpose=pick(("new", "new", "increase", "review")),
            as_of=NOW,
            product="consumer",
            requested_fen=pick((None,) * 8 + (49_999, 50_000, 60_000, 120_000, 123_456, 3_000_000)),
            term_months=pick((3, 12, 24)),
            kyc=kyc,
            blocks=blocks,
            points=pick((0, 599, 600, 1500)),
            flags=Flags(decide_now=now_only or pick((True, False))),
        )
        return self.on_a_line(Case(request, self.policy, BUNDLE, self._state()))

    def on_a_line(self, case: Case) -> Case:
        """The case with an own log-odds that brings its upper PD close to a line."""
        standing = standing_of(case)
        near = self.random.choice((0, 1, -1, 0, self.random.randint(-60_000, 60_000)))
        own = case.request.kyc.logit_e6 or 0
        moved = own + self.random.choice(self.lines) + near - standing.margin_e6 - standing.z_e6
        return self.kyc(case, logit_e6=moved)

    def _block(self) -> BlockEvidence:
        pick = self.random.choice
        return BlockEvidence(
            covered=pick((True,) * 19 + (False,)),
            consent=pick((True,) * 19 + (False,)),
            logit_e6=pick((self.random.randint(-500_000, 500_000),) * 19 + (None,)),
            as_of=pick(
                (NOW - YOUNG,) * 9 + (NOW - OLD, NOW - OLD, NOW - pick(EDGES), None, NOW + timedelta(seconds=1))
            ),
            quality=pick(QUALITIES),
            tenure_months=pick((0, 3, 11, 12, 40)),
            model_se_e6=pick((0, 0, 20_000, 150_000)),
            reasons=pick(PARTS),
            consent_until=pick((None,) * 9 + (NOW, NOW + timedelta(seconds=1), NOW + timedelta(days=90))),
        )

    def _state(self) -> StateSnapshot:
        pick = self.random.choice
        limit = pick((0, 0, 0, 0, 50_000, 60_000, 400_000))
        return StateSnapshot(
            current_limit_fen=limit,
            outstanding_fen=pick((0, 100_000)),
            deferrals=pick((0, 0, 1, 2)),
            first_deferred_at=pick((None, NOW, NOW - timedelta(hours=71), NOW - timedelta(hours=72))),
            portfolio_headroom_fen=pick((None,) * 6 + (10**12, 49_999, 51_000)),
            stage=pick(("trial", "seasoned", "standard")) if limit else "none",
            rung=self.random.randint(0, 5) if limit else 0,
            days_since_increase=pick((54, 55, 90)) if limit else None,
            increases_365d=pick((0, 0, 3, 4)) if limit else 0,
            risk_hold=pick((False, False, True)),
            status=pick(("open", "open", "open", "hold")) if limit else "open",
            clean_total=pick((0, 1, 12, 13)) if limit else 0,
            lates_12m=pick((0, 0, 1, 2, 3)) if limit else 0,
            trials_stopped=pick((False, False, False, True)),
        )

    @staticmethod
    def kyc(case: Case, **changes: Any) -> Case:
        """The case with other facts of the applicant."""
        return replace(case, request=replace(case.request, kyc=replace(case.request.kyc, **changes)))

    @staticmethod
    def asked(case: Case, **changes: Any) -> Case:
        """The case with another question."""
        return replace(case, request=replace(case.request, **changes))

    @staticmethod
    def state(case: Case, **changes: Any) -> Case:
        """The case with another account or portfolio."""
        return replace(case, state=replace(case.state, **changes))

    @staticmethod
    def block(case: Case, domain: str, **changes: Any) -> Case:
        """The case with other evidence of one domain."""
        evidence = replace(case.request.blocks[domain] or BlockEvidence(True, True), **changes)
        return Near.asked(case, blocks={**case.request.blocks, domain: evidence})

    @staticmethod
    def answer(case: Case, explain: bool = False) -> Decision:
        """The decision on a case."""
        return decide(case.request, case.policy, case.bundle, case.state, case.request.as_of, explain=explain)


@pytest.fixture(scope="session")
def near() -> type[Near]:
    """The class that draws cases: `near(seed)`, or `near(seed, policy)`."""
    return Near
