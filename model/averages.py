"""The averages that a block's reasons are measured against: one small noisy sum over its training persons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.encoding import Encoding

Floats = NDArray[np.float64]

RANGE = 3.0  # log-odds: a person's parts by family are scaled by this and bounded to norm 1
BOUND = math.sqrt(2.0)  # of a person's vector: the bounded parts, and a 1 that counts it


def families_of(encoding: Encoding) -> tuple[str, ...]:
    """The reason families of a block's contract, sorted; public."""
    return tuple(sorted({p.feature.group for p in encoding.parts}))


def sums(parts: Mapping[str, Floats], families: Sequence[str], persons: int) -> Floats:
    """Over `persons` the sum of [parts by family, bounded; 1], shape (families + 1,).

    Sensitivity: leaving out one person moves it by at most `BOUND` in L2.

    Args:
        parts: each family's part of the sub-score in log-odds, shape (persons,).
    """
    if not persons:
        return np.zeros(len(families) + 1)
    rows = np.stack([parts[name] for name in families], axis=1) / RANGE
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    return np.append(rows.sum(axis=0), float(persons))


def averages(noisy: Floats) -> Floats:
    """The average part of each family in log-odds, from the noisy sums."""
    return np.asarray(np.clip(noisy[:-1] / max(noisy[-1], 1.0), -1.0, 1.0) * RANGE)
