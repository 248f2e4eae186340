"""A sub-score as a partner sends it to the decision service: `subscore/1`, signed by the partner alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from model.limits.fields import Label, Logit, Name, Spread, Text, Whole, canonical, plain
from model.limits.request import BlockEvidence, Contribution, Improvement, Pseudonym, Quality

Signature = Annotated[str, Text("[0-9a-f]{128}", "must be an Ed25519 signature of 128 hexadecimal digits")]


@dataclass(frozen=True, slots=True)
class Receipt:
    """One partner's sub-score of one person, `subscore/1`.

    Attributes:
        as_of: of the data; a receipt that is not newer than the one before is refused, so none can be replayed.
        model: the domain model that made it.
        nonce: any number used once.
        consent_until: when the person's consent ends, where it does.
        sig: Ed25519 over the canonical JSON of all other fields, by the partner's registered key.
    """

    partner: Label
    domain: Name
    subject_ref: Pseudonym
    logit_e6: Logit | None
    as_of: datetime
    tenure_months: Annotated[int, Whole(0, 1200)]
    model: Label
    nonce: Label
    sig: Signature
    quality: Quality = "ok"
    model_se_e6: Spread = 0
    reasons: tuple[Contribution, ...] = ()
    next_steps: tuple[Improvement, ...] = ()
    consent_until: datetime | None = None
    schema: Literal["subscore/1"] = "subscore/1"

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        fields = plain(self)
        del fields["sig"]
        return b"fedscore subscore/1\n" + canonical(fields)

    def evidence(self, covered: bool, consent: bool, consent_until: datetime | None) -> BlockEvidence:
        """What a decision sees of it; the earlier of two ends of consent counts."""
        ends = [end for end in (self.consent_until, consent_until) if end is not None]
        return BlockEvidence(
            covered=covered,
            consent=consent,
            logit_e6=self.logit_e6,
            as_of=self.as_of,
            quality=self.quality,
            tenure_months=self.tenure_months,
            model_se_e6=self.model_se_e6,
            reasons=self.reasons,
            consent_until=min(ends, default=None),
            next_steps=self.next_steps,
        )
