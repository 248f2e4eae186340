"""How good a score is: AUC, KS, Brier and calibration by band. Exact, hence for simulations and held-out tests.

The errors are standard errors over samples of persons: they say nothing of the noise of a training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auc(labels: Floats, risk: Floats) -> float | None:
    """P(a defaulter's risk > a good payer's), ties one half; None where one class is absent.

    >>> auc(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    bad, good = _counts_by_risk(labels, risk)
    if not bad.sum() or not good.sum():
        return None
    below = np.cumsum(good) - good
    return float((bad * (below + 0.5 * good)).sum() / (bad.sum() * good.sum()))


def weighted_aucs(labels: Floats, risk: Floats, weights: Iterable[Floats]) -> Iterator[float | None]:
    """`auc` with every person counted as often as its weight, of each array of weights in turn.

    Args:
        labels: 1 of a defaulter, else 0; shape (n,).
        risk: shape (n,); persons are put in its order once, whatever the number of weights.
        weights: arrays of shape (n,), at least 0; taken one by one.

    >>> list(weighted_aucs(np.array([0.0, 0.0, 1.0]), np.array([1.0, 3.0, 2.0]), [np.ones(3), np.array([2.0, 1, 1])]))
    [0.5, 0.6666666666666666]
    """
    order = np.argsort(risk)
    ranked, bad = risk[order], np.flatnonzero(labels[order])
    below, upto = (np.searchsorted(ranked, ranked[bad], side) for side in ("left", "right"))
    good = np.zeros(len(order) + 1)  # weight of the good payers among the first so many
    for weight in weights:
        good[1:] = weight[order]
        mine = good[1:][bad]
        good[1:][bad] = 0.0
        np.cumsum(good, out=good)
        pairs = float(mine.sum() * good[-1])
        yield float(mine @ (good[below] + good[upto])) / (2.0 * pairs) if pairs else None


def auc_error(labels: Floats, risk: Floats) -> float | None:
    """Standard error of `auc`; None with fewer than two persons of a class.

    Source: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44, 837-845, by midranks as in Sun & Xu (2014).

    >>> round(auc_error(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 3.0, 2.0, 4.0])), 6)
    0.353553
    """
    bad, good = _counts_by_risk(labels, risk)
    if min(bad.sum(), good.sum()) < 2:
        return None
    safer = (np.cumsum(good) - 0.5 * good) / good.sum()  # of a defaulter: the share of good payers below
    riskier = 1.0 - (np.cumsum(bad) - 0.5 * bad) / bad.sum()
    return math.sqrt(_variance(safer, bad) / bad.sum() + _variance(riskier, good) / good.sum())


def ks(labels: Floats, risk: Floats) -> float | None:
    """The largest distance between the two classes' distributions of risk; perfect separation gives 1.

    >>> ks(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    1.0
    """
    bad, good = _counts_by_risk(labels, risk)
    if not bad.sum() or not good.sum():
        return None
    return float(np.abs(np.cumsum(bad) / bad.sum() - np.cumsum(good) / good.sum()).max())


def ks_error(labels: Floats, risk: Floats) -> float | None:
    """Standard error of `ks`: that of two shares at the cut where they are farthest apart; None if a class is absent.

    Source: Raghavachari (1973), Annals of Statistics 1, 67-73: where the cut is unique, that it was searched for does
    not count in the limit. Of a score without power it is too small.

    >>> round(ks_error(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 3.0, 2.0, 4.0])), 6)
    0.353553
    """
    bad, good = _counts_by_risk(labels, risk)
    if not bad.sum() or not good.sum():
        return None
    shares = np.stack([np.cumsum(bad) / bad.sum(), np.cumsum(good) / good.sum()])
    cut = shares[:, np.abs(shares[0] - shares[1]).argmax()]
    return math.sqrt(float((cut * (1.0 - cut) / [bad.sum(), good.sum()]).sum()))


def brier(labels: Floats, pd: Floats) -> float:
    """Mean squared error of the predicted probability of default.

    >>> brier(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.25
    """
    return float(np.mean((pd - labels) ** 2))


def brier_error(labels: Floats, pd: Floats) -> float | None:
    """Standard error of `brier`; None of fewer than two persons.

    >>> brier_error(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.0
    """
    squares = (pd - labels) ** 2
    return float(squares.std(ddof=1) / math.sqrt(len(squares))) if len(squares) > 1 else None


def log_loss(labels: Floats, pd: Floats) -> float:
    """Mean negative log-likelihood of what happened, in nats; a PD is held 1e-12 away from 0 and 1.

    >>> round(log_loss(np.array([0.0, 1.0]), np.array([0.5, 0.5])), 6)
    0.693147
    """
    right = np.clip(np.where(labels > 0, pd, 1.0 - pd), 1e-12, 1.0)
    return float(-np.log(right).mean())


def calibration(labels: Floats, pd: Floats, bands: int = 10) -> list[dict[str, Any]]:
    """Predicted and observed default rate in `bands` groups of equal size, safest first.

    >>> calibration(np.array([0.0, 1.0]), np.array([0.2, 0.7]), bands=1)
    [{'persons': 2, 'predicted': 0.45, 'observed': 0.5}]
    """
    order = np.argsort(pd, kind="stable")
    return [
        {
            "persons": len(group),
            "predicted": round(float(pd[group].mean()), 6),
            "observed": round(float(labels[group].mean()), 6),
        }
        for group in np.array_split(order, bands)
        if len(group)
    ]


def _counts_by_risk(labels: Floats, risk: Floats) -> tuple[Floats, Floats]:
    """Defaulters and good payers at each distinct risk, rising."""
    _, place = np.unique(risk, return_inverse=True)
    bad = np.bincount(place, weights=labels)
    return np.asarray(bad, dtype=np.float64), np.asarray(np.bincount(place) - bad, dtype=np.float64)


def _variance(values: Floats, counts: Floats) -> float:
    """The sample variance of values that occur so often."""
    mean = float(values @ counts / counts.sum())
    return float((values - mean) ** 2 @ counts / (counts.sum() - 1.0))
