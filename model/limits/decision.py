"""What a limit decision answers: the record `limit-decision/1` and its canonical bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from model.limits.fields import canonical
from model.limits.offers import Verdict
from model.limits.reasons import Reason
from model.limits.states import BlockState

ENGINE_VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class NextStep:
    """Something that would change the answer: found by deciding again on the changed input.

    `decision` and `amount_fen` are that second answer, all else unchanged; `by` is the instant the sentence names.
    """

    code: str
    zh: str
    en: str
    source: str
    decision: str
    amount_fen: int
    by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What the decision was made by."""

    policy_id: str
    policy_version: str
    policy_sha256: str
    bundle_id: str
    bundle_sha256: str
    engine: str = ENGINE_VERSION


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer. The same inputs give the same bytes; amounts in fen, rates and PD in basis points.

    Attributes:
        decision: APPROVE, TRIAL (a rung of the ladder), DECLINE, DEFER (to wait for late data), REFER (to a person).
        amount_fen: 0 unless APPROVE or TRIAL.
        available_fen: what of it is not drawn yet.
        apr_bp: the annual rate after points; None without an offer.
        score, band: of z alone; uncertainty moves only the limit.
        confidence: A to D, by the margin.
        pd_bp, pd_upper_bp: the PD at z and at z plus margin, rounded half to even; for the lender only.
        thin: whether the file is thin.
        blocks: the state of every partner domain.
        caps: of the best offer, also where it stayed too small; empty where none was open or none was looked for.
        reasons: at most four, the most important first.
        valid_until: how long the answer stands; for DEFER, until when it can wait.
        retry_after, defer_deadline: DEFER only.
    """

    request_id: str
    decision: Verdict
    amount_fen: int
    available_fen: int
    apr_bp: int | None
    term_months: int
    score: int
    band: str
    confidence: str
    pd_bp: int
    pd_upper_bp: int
    z_e6: int
    margin_e6: int
    thin: bool
    blocks: Mapping[str, BlockState]
    caps: Mapping[str, int]
    binding_cap: str | None
    reasons: tuple[Reason, ...]
    next_steps: tuple[NextStep, ...]
    as_of: datetime
    valid_until: datetime
    retry_after: datetime | None
    defer_deadline: datetime | None
    versions: Versions
    schema: Literal["limit-decision/1"] = "limit-decision/1"

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, integers only, UTF-8."""
        return canonical(self)
