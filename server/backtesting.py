"""What a policy would have done with a book of requests: decisions, amounts, expected loss, profit, and what came true.

Loss and profit are a year's, by the policy's own economics: exposure = ccf x limit, loss = PD x lgd x exposure, and
income = utilisation x limit x (price - funding - operating cost). Fixed costs of an account are not in the policy, and
are not counted. Sums are exact; they are divided once, in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from scipy.special import gammaincinv

from model.inputs import InputError
from model.limits.decision import Decision
from model.limits.policy import NotInForce, check_in_force
from model.limits.request import StateSnapshot
from model.limits.schema import Economics, Policy
from model.limits.table import DecisionBundle
from model.points import BANDS, pd_e8
from server.books import as_if_in_force, entries
from server.comparing import DECISIONS

_BP, _E8 = 10_000, 10**8


@dataclass
class Tally:
    """Sums over some decisions.

    Attributes:
        requests, decisions: how many, and by decision.
        amount_fen: of all offers.
        loss, loss_upper: amount x PD in 1e-8, at the PD and at the upper PD.
        income: amount x (price - costs) in bp.
        known, bad: decisions with a known outcome, and those that defaulted.
        predicted_e8: the PDs of those whose outcome is known.
    """

    requests: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    amount_fen: int = 0
    loss: int = 0
    loss_upper: int = 0
    income: int = 0
    known: int = 0
    bad: int = 0
    predicted_e8: int = 0

    def add(self, decision: Decision, costs: Economics, defaulted: bool | None) -> None:
        """Counts one decision."""
        self.requests += 1
        self.decisions[decision.decision] += 1
        pd = pd_e8(decision.z_e6)
        if decision.apr_bp is not None:
            self.add_offer(decision.amount_fen, decision.apr_bp, pd, costs)
            self.loss_upper += decision.amount_fen * pd_e8(decision.z_e6 + decision.margin_e6)
        if defaulted is not None:
            self.known, self.bad, self.predicted_e8 = self.known + 1, self.bad + defaulted, self.predicted_e8 + pd

    def add_offer(self, amount_fen: int, apr_bp: int, pd: int, costs: Economics) -> None:
        """Counts what one offer may lose and bring, at a PD in 1e-8."""
        self.amount_fen += amount_fen
        self.loss += amount_fen * pd
        self.income += amount_fen * (apr_bp - costs.fund_cost_bp - costs.opex_bp)

    def to_dict(self, costs: Economics) -> dict[str, Any]:
        """The figures, in fen and basis points; `realised` only where outcomes are known."""
        loss, upper = (part * costs.lgd_bp * costs.ccf_bp // (_BP * _BP * _E8) for part in (self.loss, self.loss_upper))
        income = self.income * costs.avg_util_bp // (_BP * _BP)
        offers = self.decisions["APPROVE"] + self.decisions["TRIAL"]
        figures: dict[str, Any] = {
            "requests": self.requests,
            "decisions": {name: self.decisions[name] for name in DECISIONS},
            "amount_fen": self.amount_fen,
            "mean_amount_fen": self.amount_fen // offers if offers else None,
            "expected_loss_fen": loss,
            "expected_loss_upper_fen": upper,
            "income_fen": income,
            "profit_fen": income - loss,
            "profit_upper_fen": income - upper,
        }
        return figures | ({"realised": self._realised()} if self.known else {})

    def _realised(self) -> dict[str, Any]:
        """Defaults against the PDs' sum, with the exact 95 % Poisson interval of their number."""
        predicted = self.predicted_e8 / _E8
        low = float(gammaincinv(self.bad, 0.025)) if self.bad else 0.0
        high = float(gammaincinv(self.bad + 1, 0.975))
        return {
            "known": self.known,
            "bad": self.bad,
            "bad_rate": round(self.bad / self.known, 6),
            "predicted": round(predicted, 3),
            "observed_to_predicted": [round(n / predicted, 4) if predicted else None for n in (self.bad, low, high)],
        }


@dataclass
class Backtest:
    """The tallies of a book, and how often each reason was given."""

    policy: Policy
    whole: Tally = field(default_factory=Tally)
    parts: dict[str, dict[str, Tally]] = field(
        default_factory=lambda: {
            "file": {name: Tally() for name in ("thin", "thick")},
            "band": {band.code: Tally() for band in BANDS},
            "decision": {name: Tally() for name in DECISIONS},
        }
    )
    reasons: Counter[str] = field(default_factory=Counter)
    outside: int = 0

    def add(self, decision: Decision, defaulted: bool | None = None) -> None:
        """Counts one decision; `defaulted` is None where its outcome is not known."""
        parts = self.parts
        file = parts["file"]["thin" if decision.thin else "thick"]
        for tally in (self.whole, file, parts["band"][decision.band], parts["decision"][decision.decision]):
            tally.add(decision, self.policy.economics, defaulted)
        self.reasons.update({reason.code for reason in decision.reasons})

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        costs, policy = self.policy.economics, self.policy
        return {
            "policy": {"id": policy.id, "version": policy.version, "sha256": policy.sha256},
            "currency": policy.currency,
            "outside": self.outside,
            "all": self.whole.to_dict(costs),
            **{f"by_{k}": {name: t.to_dict(costs) for name, t in part.items()} for k, part in self.parts.items()},
            "reasons": dict(self.reasons.most_common()),
        }


def backtest(
    policy: Policy, bundle: DecisionBundle, book: Path, outcomes: Mapping[str, bool], *, anywhen: bool = False
) -> Backtest:
    """Decides a whole book under one policy, each request at its own instant.

    Args:
        policy: the lender's rules.
        bundle: the published model.
        book: the requests; those without a state of their own are new customers'.
        outcomes: whether a request's loan defaulted, by request id.
        anywhen: decide as if the policy were in force at any instant; `outside` counts where it is not.

    Raises:
        InputError: names the row.
    """
    result, used = Backtest(policy), as_if_in_force(policy) if anywhen else policy
    for entry in entries(book, StateSnapshot()):
        try:
            check_in_force(policy, entry.request.as_of)
        except NotInForce as error:
            if not anywhen:
                rule, remedy = f"cannot be decided at: {error}", "give --as-if-in-force to ask what it would have done"
                raise InputError(entry.source, "as_of", rule, remedy=remedy) from None
            result.outside += 1
        result.add(entry.decide(used, bundle), outcomes.get(entry.request.request_id))
    return result


def read_outcomes(path: Path) -> dict[str, bool]:
    """Whether each request's loan defaulted: a CSV or Parquet file of `request_id` and `defaulted`, 0 or 1.

    Raises:
        InputError: names the file, and the row.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(path, "", "must end in .csv or .parquet")
    if not path.is_file():
        raise InputError(path, "", "does not exist", remedy="check the path")
    try:
        table = pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(path, "", "cannot be read as a table", remedy="check the file") from None
    for name in ("request_id", "defaulted"):
        if name not in table.columns:
            raise InputError(path, name, "is missing from the columns", table.columns)
    texts = table.select(pl.col("request_id", "defaulted").cast(pl.String, strict=False))
    known = {"0": False, "1": True, "false": False, "true": True}
    outcomes: dict[str, bool] = {}
    for at, (request_id, defaulted) in enumerate(texts.iter_rows(), 1):
        if defaulted not in known:
            raise InputError(f"{path} row {at}", "defaulted", "must be 0 or 1", defaulted or "nothing")
        if request_id is None or request_id in outcomes:
            raise InputError(f"{path} row {at}", "request_id", "must be given, and once", request_id)
        outcomes[request_id] = known[defaulted]
    return outcomes
