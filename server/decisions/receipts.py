"""Sub-scores as partners send them: signed receipts, and the evidence of a block that the newest of them makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from model.inputs import InputError
from model.limits.fields import Label, Logit, Name, Spread, Text, Whole, canonical, plain, read
from model.limits.request import BlockEvidence, Contribution, Improvement, Pseudonym, Quality, check_block

Signature = Annotated[str, Text("[0-9a-f]{128}", "must be an Ed25519 signature of 128 hexadecimal digits")]
SKEW = timedelta(minutes=2)


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


def signed(receipt: Receipt, private_key: bytes) -> Receipt:
    """The receipt with its signature, as a partner makes it; `private_key`: Ed25519, 32 bytes."""
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(receipt.signed_bytes())
    return replace(receipt, sig=signature.hex())


def check_receipt(data: object, public_key: str, now: datetime) -> Receipt:
    """A receipt of plain JSON data, if it is well formed, signed by `public_key`, and not from the future.

    Raises:
        InputError: names the field.
    """
    source = "receipt"
    receipt = read(Receipt, data, source)
    check_block(receipt, "", source)
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(receipt.sig), receipt.signed_bytes())
    except InvalidSignature:
        remedy = "sign the canonical JSON of the other fields with the registered key"
        raise InputError(source, "sig", "does not fit the receipt", remedy=remedy) from None
    if receipt.as_of > now + SKEW:
        raise InputError(source, "as_of", "must not lie in the future", receipt.as_of.isoformat(), "set the clock")
    if receipt.consent_until is not None and receipt.consent_until <= now:
        raise InputError(source, "consent_until", "has passed", receipt.consent_until.isoformat(), "renew the consent")
    return receipt


def newest_of(receipts: Iterable[Receipt]) -> Receipt | None:
    """Of several partners of one domain the one that has known the person longest; on a tie the first by name."""
    return min(receipts, key=lambda receipt: (-receipt.tenure_months, receipt.partner), default=None)
