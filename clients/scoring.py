"""Scoring at one holder: sub-scores and the families behind them, for the lender's eyes only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.cohort import Aligned, aligned, table_of
from clients.config import Node
from model.blocks import Block
from model.inputs import InputError
from model.limits.table import MICRO
from model.wire import ABSENT, HELD_OUT, TRAIN_ROWS, pack, unpack

Floats = NDArray[np.float64]

BUCKET_E6 = 50_000  # reasons are told in steps of 0.05 log-odds
CLAMP = 20.0  # log-odds
FAMILIES = 2  # a person, at most


@dataclass(frozen=True)
class Evidence:
    """What one holder says of the cohort.

    Attributes:
        subscores: micro-logit, `ABSENT` where there is no relationship, shape (n,).
        families: index into `names` of the families that hurt most, -1 for none, shape (held out, FAMILIES).
        shortfalls: how much, in steps of `BUCKET_E6`, same shape.
        names: the block's reason families, sorted.
    """

    subscores: NDArray[np.int32]
    families: NDArray[np.int8]
    shortfalls: NDArray[np.int16]
    names: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Packed for sealing; its length depends on the cohort's size alone."""
        return pack(subscores=self.subscores, families=self.families, shortfalls=self.shortfalls)

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...]) -> Evidence:
        """The evidence that `to_bytes` packed."""
        arrays = unpack(data)
        return cls(
            arrays["subscores"].astype(np.int32),
            arrays["families"].astype(np.int8),
            arrays["shortfalls"].astype(np.int16),
            names,
        )


def score(node: Node, name: str, engine: str, weights: Floats) -> Evidence:
    """Sub-scores of the whole cohort by this holder's rows.

    They are per-person values for the lender, by declared agreement; epsilon does not cover them.
    """
    table, cohort = table_of(node, name), aligned(node, name)
    if table.encoding is None:
        raise InputError("order", "block", "is not this holder's", name)
    block = Block.finished(engine, table.encoding, weights)
    here = cohort.rows >= 0
    values = np.full(len(cohort.rows), ABSENT, dtype=np.int32)
    scored = np.clip(block.subscores(table.codes[:, cohort.rows[here]]), -CLAMP, CLAMP)
    values[here] = np.rint(scored * MICRO)
    names = families_of(block)
    families, shortfalls = _families(block, table.codes, cohort, names)
    return Evidence(values, families, shortfalls, names)


def families_of(block: Block) -> tuple[str, ...]:
    """The reason families of a block's contract, sorted; public."""
    return tuple(sorted({p.feature.group for p in block.encoding.parts}))


def _families(
    block: Block, codes: NDArray[np.uint16], cohort: Aligned, names: tuple[str, ...]
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """For each held-out person the families that raise its risk most above this holder's average trained person."""
    held = cohort.rows[cohort.group == HELD_OUT]
    families = np.full((len(held), FAMILIES), -1, dtype=np.int8)
    shortfalls = np.zeros((len(held), FAMILIES), dtype=np.int16)
    trained = cohort.rows[(cohort.group == TRAIN_ROWS) & (cohort.rows >= 0)]
    here = held >= 0
    parts = block.by_group(codes[:, held[here]])
    if not parts or not here.any() or not len(trained):
        return families, shortfalls
    average = block.by_group(codes[:, trained])
    excess = np.stack([parts[name] - average[name].mean() for name in names], axis=1)
    steps = np.floor(excess * (MICRO / BUCKET_E6)).astype(np.int16)
    worst = np.argsort(-steps, axis=1, kind="stable")[:, :FAMILIES]
    amounts = np.take_along_axis(steps, worst, axis=1)
    rows, width = np.flatnonzero(here), worst.shape[1]
    families[rows, :width] = np.where(amounts > 0, worst, -1)
    shortfalls[rows, :width] = np.maximum(amounts, 0)
    return families, shortfalls
