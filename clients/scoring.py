"""Scoring at one holder: sub-scores and the families behind them, for the lender's eyes only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.cohort import aligned, table_of
from clients.config import Node
from clients.orders import Agreement, once
from clients.published import Known, remember
from clients.scored import admit
from clients.training import places
from model import averages
from model.averages import families_of
from model.blocks import Block
from model.coherent import variances
from model.federation import LENDER
from model.inputs import InputError
from model.limits.table import MICRO
from model.moments import BlockRows
from model.wire import ABSENT, HELD_OUT, pack, unpack

Floats = NDArray[np.float64]

BUCKET_E6 = 50_000  # reasons are told in steps of 0.05 log-odds
CLAMP = 20.0  # log-odds
VARIANCE = 1e12  # log-odds squared; no honest part is near it
FAMILIES = 2  # a person, at most


@dataclass(frozen=True)
class Evidence:
    """What one holder says of the cohort.

    Attributes:
        subscores: micro-logit, `ABSENT` where there is no relationship, shape (n,).
        errors: the block's part of each sub-score's variance by noise and sample, in log-odds squared, shape (n,);
            zeros where the engine knows none.
        families: index into `names` of the families that hurt most, -1 for none, shape (held out, FAMILIES).
        shortfalls: how much, in steps of `BUCKET_E6`, same shape.
        names: the block's reason families, sorted.
    """

    subscores: NDArray[np.int32]
    errors: NDArray[np.float32]
    families: NDArray[np.int8]
    shortfalls: NDArray[np.int16]
    names: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Packed for sealing; its length depends on the cohort's size alone."""
        scores, errors = self.subscores, self.errors
        return pack(subscores=scores, errors=errors, families=self.families, shortfalls=self.shortfalls)

    def checked(self, persons: int, reasons: int | None = None) -> Evidence:
        """This evidence, if a holder can have meant it; else raises `InputError`.

        Args:
            persons: of whom it must speak.
            reasons: for how many of them it must give reasons; all where it is None.
        """
        told = (self.subscores.shape, self.errors.shape, self.families.shape, self.shortfalls.shape)
        both = (persons if reasons is None else reasons, FAMILIES)
        scores, most = self.subscores, round(CLAMP * MICRO)
        inside = ((self.families >= -1) & (self.families < max(1, len(self.names)))).all()
        inside &= ((scores == ABSENT) | ((scores >= -most) & (scores <= most))).all()
        inside &= ((self.errors >= 0) & (self.errors <= VARIANCE)).all()  # which NaN is not
        if told != ((persons,), (persons,), both, both) or not inside:
            raise InputError("order", "sub-scores", "are not of these persons")
        return self

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...]) -> Evidence:
        """The evidence that `to_bytes` packed; raises `ValueError` where it is none."""
        arrays = unpack(data)
        kinds = {"subscores": np.int32, "errors": np.float32, "families": np.int8, "shortfalls": np.int16}
        if set(arrays) != set(kinds) or any(arrays[part].dtype != kind for part, kind in kinds.items()):
            raise ValueError("is no evidence")
        scores, errors = arrays["subscores"].astype(np.int32), arrays["errors"].astype(np.float32)
        return cls(scores, errors, arrays["families"].astype(np.int8), arrays["shortfalls"].astype(np.int16), names)


@dataclass(frozen=True)
class Joined:
    """What a block of the joint fit is scored with, beside its weights: averages of families, and its covariance."""

    families: Mapping[str, float]
    covariance: Floats

    def to_bytes(self) -> bytes:
        """All of it, to be told from anything else."""
        families = json.dumps({name: float(value) for name, value in self.families.items()}, sort_keys=True)
        return families.encode() + b"|" + np.ascontiguousarray(self.covariance, dtype="<f8").tobytes()


def score(node: Node, name: str, agreement: Agreement, weights: Floats, joined: Joined | None = None) -> Evidence:
    """Sub-scores by this holder's rows: of the whole cohort, or after a joint fit of the held-out persons only.

    They are per-person values for the lender, by declared agreement; epsilon does not cover them. What reasons are
    measured against, the averages of the training persons, is a release that the plan pays for.

    Raises:
        BudgetExceeded: where the plan was not charged here.
        InputError: where these are no weights that this holder scores with under the plan (`clients.scored`).
    """
    table, cohort = table_of(node, name), aligned(node, name)
    if table.encoding is None:
        raise InputError("order", "block", "is not this holder's", name)
    block = Block.finished(agreement.engine, table.encoding, weights)
    admit(node, name, agreement, block, weights, joined.to_bytes() if joined else b"")
    here = (cohort.rows >= 0) & ((cohort.group == HELD_OUT) | (joined is None))
    values = np.full(len(cohort.rows), ABSENT, dtype=np.int32)
    scored = np.clip(block.subscores(table.codes[:, cohort.rows[here]]), -CLAMP, CLAMP)
    values[here] = np.rint(scored * MICRO)
    names = families_of(table.encoding)
    errors = np.zeros(len(cohort.rows), dtype=np.float32)
    if joined is not None:
        rows = BlockRows(table.encoding, name == LENDER)
        errors[here] = variances(rows, joined.covariance, table.codes[:, cohort.rows[here]])
        average: Floats | None = np.array([joined.families[family] for family in names])
    else:
        average = _averages(node, name, agreement, block, names)
    remember(node, name, block, Known(average, joined.covariance if joined else None))
    families, shortfalls = worst_families(block, table.codes, cohort.rows[cohort.group == HELD_OUT], average)
    return Evidence(values, errors, families, shortfalls, names)


def _averages(node: Node, name: str, agreement: Agreement, block: Block, names: tuple[str, ...]) -> Floats | None:
    """The noisy averages of the families over the training persons, shape (families,); None where none are told."""
    if not agreement.has(f"reasons/{name}"):
        return None
    line = agreement.line(f"reasons/{name}", name)
    if line.count != 1 or line.size != len(names) + 1 or line.bound < averages.BOUND or line.probability != 1.0:
        raise InputError("order", line.name, "does not pay for this release", line.to_dict())
    cohort = aligned(node, name, agreement.id)
    rows = cohort.rows[places(cohort, line)]
    sums = averages.sums(block.by_group(table_of(node, name).codes[:, rows]), names, len(rows))
    reply = once(node, agreement, line, "", lambda release: pack(sums=release(sums)))
    return averages.averages(unpack(reply)["sums"].astype(np.float64))


def worst_families(
    block: Block, codes: NDArray[np.uint16], held: NDArray[np.int64], average: Floats | None
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """For each person the families that raise its risk most above this holder's average trained person.

    `held` are the persons' rows here, -1 where there is none.
    """
    families = np.full((len(held), FAMILIES), -1, dtype=np.int8)
    shortfalls = np.zeros((len(held), FAMILIES), dtype=np.int16)
    here = held >= 0
    if average is None or not here.any():
        return families, shortfalls
    parts = block.by_group(codes[:, held[here]])
    excess = np.stack([parts[name] for name in sorted(parts)], axis=1) - average
    steps = np.floor(excess * (MICRO / BUCKET_E6)).astype(np.int16)
    worst = np.argsort(-steps, axis=1, kind="stable")[:, :FAMILIES]
    amounts = np.take_along_axis(steps, worst, axis=1)
    rows, width = np.flatnonzero(here), worst.shape[1]
    families[rows, :width] = np.where(amounts > 0, worst, -1)
    shortfalls[rows, :width] = np.maximum(amounts, 0)
    return families, shortfalls
