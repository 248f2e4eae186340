"""Sub-scores as they come: checked receipts, of which the newest of each partner makes the evidence of a block."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from model.inputs import InputError
from model.limits.fields import read
from model.limits.receipt import Receipt
from model.limits.request import check_block

SKEW = timedelta(minutes=2)


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
