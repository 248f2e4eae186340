"""What a limit decision answers: the record `limit-decision/1` and its canonical bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from model.limits.costs import CostRow
from model.limits.fields import canonical
from model.limits.offers import Kind, Verdict
from model.limits.reasons import Reason
from model.limits.states import BlockState

ENGINE_VERSION = "2.0.0"


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
class LadderNote:
    """Where an account stands on the way to its standard limit.

    `rung` counts from 0 and is None for a strong thin file's start, which has none; `needed` clean cycles since the
    last step make the next one, not before `earliest`.
    """

    rung: int | None
    clean_cycles: int
    needed: int
    earliest: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer. The same inputs give the same bytes; amounts in fen, rates and PD in basis points.

    Attributes:
        decision: APPROVE, TRIAL (a rung of the ladder), DECLINE, DEFER (to wait for late data), REFER (to a person).
        kind: STANDARD, SEASONING (a strong thin file's start) or TRIAL (a rung); None without an offer.
        amount_fen: 0 unless APPROVE or TRIAL.
        available_fen: what of it is not drawn yet.
        apr_bp, price_tier: the annual rate after points, and which price of the policy it is; None without an offer.
        costs: all that the amount costs if drawn at once and paid back in equal instalments.
        score, band: of z alone; uncertainty moves only the limit.
        confidence: A to D, by the margin.
        pd_bp, pd_upper_bp: the PD at z and at z plus margin, rounded half to even; for the lender only.
        thin: whether the file is thin.
        blocks: the state of every partner domain.
        caps: of the best offer, also where it stayed too small; empty where none was open or none was looked for.
        reasons: at most four, the most important first.
        valid_until: how long the answer stands; for DEFER, not longer than it can wait.
        retry_after, defer_deadline: DEFER only.
        ladder: for TRIAL and SEASONING.
    """

    request_id: str
    decision: Verdict
    kind: Kind | None
    amount_fen: int
    available_fen: int
    apr_bp: int | None
    price_tier: int | None
    costs: tuple[CostRow, ...]
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
    ladder: LadderNote | None
    versions: Versions
    schema: Literal["limit-decision/1"] = "limit-decision/1"

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, integers only, UTF-8."""
        return canonical(self)
