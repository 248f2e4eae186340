"""One signed sub-score of one person, as `POST /v1/subscores` of the lender's decision service takes it.

The person must have asked the lender for a limit and agreed to the use of this domain: that is for the caller to know.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients import answers
from clients.applicants import evidence_of
from clients.cohort import persons_of
from clients.config import Node
from clients.fusing import reasons_of
from clients.identity import signing_key
from clients.ids import written_alike
from clients.published import version_of
from model.blocks import Block
from model.coherent import standard_errors_e6
from model.inputs import InputError
from model.limits.fields import canonical
from model.limits.receipt import Receipt
from model.limits.request import Contribution


@dataclass(frozen=True)
class Asked:
    """Of whom a sub-score is sent.

    Attributes:
        person: the id in this holder's file.
        subject_ref: the lender's pseudonym of the same person, 64 hexadecimal digits.
        as_of: of the data, with an offset; the service takes nothing that is not newer than the last.
        tenure_months: how long this holder has known the person.
        consent_until: when the person's consent ends, where it does.
    """

    person: str
    subject_ref: str
    as_of: datetime
    tenure_months: int
    consent_until: datetime | None = None


def signed(receipt: Receipt, private_key: bytes) -> Receipt:
    """The receipt with its signature; `private_key`: Ed25519, 32 bytes."""
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(receipt.signed_bytes())
    return replace(receipt, sig=signature.hex())


def subscore_message(node: Node, name: str, block: Block, asked: Asked) -> bytes | None:
    """The body of one `POST /v1/subscores`, signed by this holder's own key; None where it does not know the person.

    Asked again of the same person, model and `as_of`, it gives the same bytes.

    Args:
        block: of the published model, as `clients.applicants.block_of` makes it.

    Raises:
        InputError: where the model is none that this holder knows, or is one too many this year.
    """
    holder, ids = node.federation.holder(name), persons_of(node, name)
    person = written_alike(asked.person, node.federation.id_form)
    if person not in ids:
        return None
    if asked.as_of.tzinfo is None:
        raise InputError("sub-score", "as_of", "must carry an offset", asked.as_of.isoformat())
    limits, row = node.limits, np.array([ids.index(person)])

    def make(new: list[int]) -> list[bytes]:
        del new
        evidence = evidence_of(node, name, block, row)
        why = [part.split(":") for part in reasons_of(evidence)[0].split(";") if part]
        receipt = Receipt(
            partner=name,
            domain=holder.domain,
            subject_ref=asked.subject_ref,
            logit_e6=int(evidence.subscores[0]),
            as_of=asked.as_of,
            tenure_months=asked.tenure_months,
            model=version_of(block)[:32],
            nonce=secrets.token_hex(16),
            sig="",
            model_se_e6=int(standard_errors_e6(evidence.errors.astype(np.float64))[0]),
            reasons=tuple(Contribution(family, int(delta)) for family, delta in why),
            consent_until=asked.consent_until,
        )
        return [canonical(signed(receipt, signing_key(node, name)))]

    version = answers.Version(version_of(block), "", limits.max_models, limits.max_applicants, datetime.now(UTC))
    key = f"{person}|{asked.as_of.astimezone(UTC).isoformat()}"
    return answers.once(node.durable(name), version, [(key, asked.subject_ref)], make)[0].reply
