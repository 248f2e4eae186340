"""With which weights a holder scores the cohort under a plan: one version, that the plan paid for, so many a year.

Sub-scores by weights made up to fit would read features out. So a plan must be charged here and its block trained here
before it is scored, what it is scored with is kept and never changes, and new versions are counted with those of new
applicants.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from clients import answers
from clients.config import Node
from clients.orders import Agreement, ledger, noiseless
from clients.published import version_of
from model.blocks import Block
from model.descent import averaged
from model.inputs import InputError
from model.wire import MEAN, unpack
from privacy.durable import made
from privacy.ledger import Ledger
from privacy.plan import BudgetExceeded

Floats = NDArray[np.float64]

FOLDER = "scored"
_NEAR = 1e-12  # another machine's last bit


def admit(node: Node, name: str, agreement: Agreement, block: Block, told: Floats, more: bytes = b"") -> None:
    """Notes durably with what a plan's cohort is scored, before anything is; nothing in a simulation without privacy.

    Args:
        block: as it will be scored.
        told: its weights as the order has them.
        more: whatever else of the order changes what is told.

    Raises:
        BudgetExceeded: where the plan was not charged here.
        InputError: where the plan was scored with something else, these weights are not what was trained, or the
            version is one too many this year.
    """
    with ledger(node, name) as book:
        if book is None:
            return
        if agreement.id not in book.plans():
            raise BudgetExceeded("this plan was never charged at this holder: nothing is scored under it")
        if agreement.joint is None:
            _check_trained(node, name, agreement, told, book)
    folder, version = node.durable(name) / FOLDER, version_of(block)
    folder.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256(version.encode() + b"|" + more).hexdigest().encode()
    if made(folder / agreement.id, lambda: digest) != digest:
        raise InputError("order", "weights", "are not those that this plan's cohort was scored with first", name)
    limits, now = node.limits, datetime.now(UTC)
    answers.admit(node.durable(name), answers.Version(version, "", limits.max_models, limits.max_applicants, now))


def expect(node: Node, name: str, agreement: Agreement) -> None:
    """Raises `InputError` where what a plan trains could not be scored this year: before it is paid for."""
    folder, limits = node.durable(name), node.limits
    if not noiseless(node) and not (folder / FOLDER / agreement.id).exists():
        answers.room(folder, limits.max_models, datetime.now(UTC))


def _check_trained(node: Node, name: str, agreement: Agreement, told: Floats, book: Ledger) -> None:
    """Raises `InputError` where this holder did not train its block to the end, or alone trained another one."""
    domain, rounds = node.federation.holder(name).domain, agreement.rounds
    replies = [book.stored(book.key(agreement.id, f"{domain}/{name}", str(r + 1))) for r in range(rounds)]
    means = [unpack(reply)[MEAN].astype(np.float64) for reply in replies if reply is not None]
    if len(means) < rounds:
        raise InputError("order", "weights", "are of a block that this holder did not train to the end", name)
    sharing = {h.name for h in node.federation.holders if h.domain == domain and agreement.has(f"{domain}/{h.name}")}
    if sharing != {name}:  # the mean is over replies that this holder never sees
        return
    own = np.mean([mean for r, mean in enumerate(means, 1) if averaged(r, rounds)], axis=0)
    if told.shape != own.shape or not np.allclose(told, own, rtol=_NEAR, atol=_NEAR):
        raise InputError("order", "weights", "are not what this holder trained", name)
