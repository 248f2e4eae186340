"""How good a score is: AUC, KS, Brier and calibration by band. Exact, hence for simulations and held-out tests."""

from __future__ import annotations

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


def ks(labels: Floats, risk: Floats) -> float | None:
    """The largest distance between the two classes' distributions of risk; perfect separation gives 1.

    >>> ks(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    1.0
    """
    bad, good = _counts_by_risk(labels, risk)
    if not bad.sum() or not good.sum():
        return None
    return float(np.abs(np.cumsum(bad) / bad.sum() - np.cumsum(good) / good.sum()).max())


def brier(labels: Floats, pd: Floats) -> float:
    """Mean squared error of the predicted probability of default.

    >>> brier(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.25
    """
    return float(np.mean((pd - labels) ** 2))


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
