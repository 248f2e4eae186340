"""What a limit decision is asked: the request `limit-request/1`, and the account's state read beside it.

Money is in fen, log-odds in micro-logit, instants carry an offset. `parse_request` and `parse_state` refuse whatever
does not fit, with the field's path. A block dated in the future is no error: its state becomes `abnormal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol

from model.inputs import InputError
from model.limits.fields import Count, Fen, Label, Logit, Name, Spread, Text, Whole, read
from model.limits.reasons import IMPROVEMENT_CODES, PARTNER_CODES
from model.limits.schema import IncomeSource, Segment

Quality = Literal["ok", "schema", "range", "drift", "dispute_open", "negative_pending"]
Stage = Literal["none", "trial", "seasoned", "standard"]
Status = Literal["open", "hold", "frozen", "referred", "closed"]
MAX_IMPROVEMENTS = 3
Uuid = Annotated[str, Text("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "must be a lower-case UUID")]
Pseudonym = Annotated[str, Text("[0-9a-f]{64}", "must be a keyed pseudonym of 64 hexadecimal digits, never an ID")]
ReasonName = Annotated[str, Text("[A-Z][0-9]{2}|[a-z][a-z0-9_]*", "must be a reason code or a feature group")]


@dataclass(frozen=True, slots=True)
class Contribution:
    """How much a part of a block moves its log-odds against the reference; positive is riskier.

    `code` is one of the catalogue's partner codes (E01) or the name of a feature group (`repayment`).
    """

    code: ReasonName
    delta_e6: Logit


@dataclass(frozen=True, slots=True)
class Improvement:
    """What a person could change in a domain, of the catalogue's list: it moves the block's log-odds after `days`."""

    code: Annotated[str, Text("[a-z][a-z0-9_]*", "must be the name of an improvement")]
    delta_e6: Annotated[int, Whole(-(10**9), -1)]
    days: Annotated[int, Whole(1, 365)]


@dataclass(frozen=True, slots=True)
class Applicant:
    """What the lender itself knows, its own block's sub-score included.

    `passed`: identity verified. `matched`: what the applicant states agrees with what was verified.
    """

    passed: bool
    age_years: Annotated[int, Whole(0, 150)]
    segment: Segment
    income_fen_month: Fen
    income_source: IncomeSource
    existing_debt_service_fen_month: Fen
    other_consumer_credit_fen: Fen
    fraud_flag: bool = False
    logit_e6: Logit | None = None
    model_se_e6: Spread = 0
    reasons: tuple[Contribution, ...] = ()
    matched: bool = True


@dataclass(frozen=True, slots=True)
class BlockEvidence:
    """What one domain says, or why it says nothing.

    `covered`: there is a relationship. `consent` ends at `consent_until`; without an end it stands until withdrawn.
    """

    covered: bool
    consent: bool
    logit_e6: Logit | None = None
    as_of: datetime | None = None
    quality: Quality = "ok"
    tenure_months: Annotated[int, Whole(0, 1200)] = 0
    model_se_e6: Spread = 0
    reasons: tuple[Contribution, ...] = ()
    consent_until: datetime | None = None
    next_steps: tuple[Improvement, ...] = ()


class Block(Protocol):
    """Whatever a data holder gives reasons for."""

    @property
    def reasons(self) -> tuple[Contribution, ...]:
        """What moved its log-odds."""
        ...


@dataclass(frozen=True, slots=True)
class Flags:
    """What the applicant asks for beside the amount: no waiting for late data; a person to look at it."""

    decide_now: bool = False
    human_review_requested: bool = False


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """One question: how much, for whom, as of when. A domain without an entry in `blocks` is not covered."""

    request_id: Uuid
    subject_ref: Pseudonym
    purpose: Literal["new", "increase", "review", "appeal"]
    as_of: datetime
    product: Label
    requested_fen: Fen | None
    term_months: Annotated[int, Whole(1, 120)]
    kyc: Applicant
    blocks: Mapping[Name, BlockEvidence | None]
    points: Count = 0
    flags: Flags = Flags()
    schema: Literal["limit-request/1"] = "limit-request/1"


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The account and the portfolio, as read once for this decision.

    Attributes:
        applications_30d: earlier applications in the last 30 days, this one not counted.
        first_deferred_at: when this application was first deferred.
        portfolio_headroom_fen: what the portfolio can still take; None is no limit.
        stage: trial (on the ladder), seasoned (a strong thin file's start), standard.
        rung: the rung of the ladder that is earned, from 0.
        days_since_increase: None where the limit was never raised.
        risk_hold: suspends what points give.
        status: hold allows no increase, frozen and closed no draw, referred waits for a person.
        clean_cycles: since the last step of the ladder.
        clean_total, lates_12m: the account's own record, clean cycles in all and late ones of 12 months.
        trials_stopped: the day's quota of small limits is used, or their breaker has tripped.
    """

    current_limit_fen: Fen = 0
    outstanding_fen: Fen = 0
    applications_30d: Count = 0
    dpd_now: Count = 0
    deferrals: Count = 0
    first_deferred_at: datetime | None = None
    portfolio_headroom_fen: Fen | None = None
    stage: Stage = "none"
    rung: Annotated[int, Whole(0, 100)] = 0
    days_since_increase: Count | None = None
    increases_365d: Count = 0
    risk_hold: bool = False
    status: Status = "open"
    clean_cycles: Count = 0
    clean_total: Count = 0
    lates_12m: Count = 0
    trials_stopped: bool = False


def parse_request(data: object, source: str | Path = "request") -> DecisionRequest:
    """The request of plain JSON data.

    Args:
        data: what `json.loads` gave.
        source: the sender or the file, for the message.

    Raises:
        InputError: names the field, the rule and the value.

    >>> parse_request({"request_id": "4711"})
    Traceback (most recent call last):
    model.inputs.InputError: request: subject_ref is missing.
    """
    request = read(DecisionRequest, data, source)
    check_block(request.kyc, "kyc.", source)
    for name, block in request.blocks.items():
        check_block(block, f"blocks.{name}.", source)
    return request


def check_block(block: Block | None, where: str, source: str | Path) -> None:
    """Refuses reasons and improvements that the catalogue does not give a data holder, or too many of them.

    Args:
        block: whose; None says nothing.
        where: the path of its fields, with its dot.
        source: the sender or the file, for the message.

    >>> check_block(BlockEvidence(True, True), "blocks.payments.", "request")
    """
    for at, part in enumerate(block.reasons if block else ()):
        if part.code[0].isupper() and part.code not in PARTNER_CODES:
            raise InputError(source, f"{where}reasons[{at}].code", "is no reason a data holder may give", part.code)
    steps = getattr(block, "next_steps", ())
    if len(steps) > MAX_IMPROVEMENTS:
        raise InputError(source, f"{where}next_steps", f"must be at most {MAX_IMPROVEMENTS}", len(steps))
    for at, step in enumerate(steps):
        if step.code not in IMPROVEMENT_CODES:
            remedy = "allowed: " + ", ".join(sorted(IMPROVEMENT_CODES))
            raise InputError(source, f"{where}next_steps[{at}].code", "is no known improvement", step.code, remedy)


def parse_state(data: object, source: str | Path = "state") -> StateSnapshot:
    """The state of plain JSON data; what is not given is that of a new customer.

    >>> parse_state({"current_limit_fen": 50_000, "rung": 1}).rung
    1
    >>> parse_state({"outstanding_fen": -1})
    Traceback (most recent call last):
    model.inputs.InputError: state: outstanding_fen must be from 0 to 100000000000000, got -1.
    """
    return read(StateSnapshot, data, source)
