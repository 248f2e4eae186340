"""Regressions on pooled encoded rows: without privacy, and on labels that randomised response told."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model import scorecard
from model.descent import descend, sigmoid
from model.federation import LENDER
from privacy.mechanisms import respond
from privacy.noise import Csprng
from privacy.plan import LabelResponse
from simulations.baselines.rows import Fitted, Floats, Pooled


def logistic(rows: Pooled, epsilon: float, delta: float, seed: int) -> Fitted:  # noqa: ARG001
    """Logistic regression of scikit-learn on the encoded rows of all domains, ridge 1, without privacy."""
    from sklearn.linear_model import LogisticRegression

    matrix = np.concatenate(list(rows.chunks(rows.train)))
    model = LogisticRegression(C=1.0, max_iter=3000).fit(matrix, rows.labels[rows.train])
    odds = np.concatenate([model.decision_function(chunk) for chunk in rows.chunks(rows.held)])
    return Fitted(sigmoid(odds.astype(np.float64)), math.inf, "no privacy")


def response_only(rows: Pooled, epsilon: float, delta: float, seed: int) -> Fitted:  # noqa: ARG001
    """Each training label told once by randomised response, features in the clear, then a logistic regression.

    Epsilon covers a label against its opposite and nothing else: neither features nor who is in the cohort. Flipped
    labels are made right on average, and the descent is that of a scorecard over all domains, stopped by its public
    rule for such labels; it adds no noise.

    Sources: Warner (1965); Ghazi et al. (2021), arXiv:2102.06062, for training on such labels.
    """
    response = LabelResponse("labels", LENDER, epsilon)
    labels = rows.labels[rows.train]
    if math.isfinite(epsilon):
        told = respond(labels.astype(np.int8), response.flip, Csprng())
        labels = response.unbiased(told.astype(np.float64))
    row_norm = math.sqrt(1 + sum(block.encoding.row_norm**2 - 1 for block in rows.blocks))
    schedule = scorecard.schedule(row_norm, len(labels), math.inf, stretch=response.stretch)
    train, held = Persons(rows, rows.train), Persons(rows, rows.held)
    start = np.zeros(train.columns)
    start[0] = math.log(scorecard.PRIOR_RATE / (1 - scorecard.PRIOR_RATE))
    _, weights = descend(start, lambda w: train.gradient_sum(w, labels), lambda total: total, len(labels), schedule)
    note = "labels only: features and who is in the cohort are not covered"
    return Fitted(sigmoid(held.odds(weights)), epsilon, note)


class Persons:
    """Some persons' rows in all domains as one: the constant first, then each domain's columns; known by their bins."""

    def __init__(self, rows: Pooled, who: NDArray[np.bool_]) -> None:
        self._count = int(who.sum())
        self._encodings = [block.encoding for block in rows.blocks]
        self._places = [np.flatnonzero(block.here[who]) for block in rows.blocks]
        self._packed = [b.encoding.packed(b.codes[:, who & b.here]) for b in rows.blocks]
        self.columns = 1 + sum(encoding.columns - 1 for encoding in self._encodings)

    def odds(self, weights: Floats) -> Floats:
        """Log-odds, shape (n,)."""
        odds, at = np.full(self._count, weights[0]), 1
        for encoding, here, packed in zip(self._encodings, self._places, self._packed, strict=True):
            _, points = encoding.points(np.concatenate([[0.0], weights[at : at + encoding.columns - 1]]))
            odds[here] += encoding.gather(packed, 0.0, points)
            at += encoding.columns - 1
        return odds

    def gradient_sum(self, weights: Floats, labels: Floats) -> Floats:
        """The log-loss gradient summed over the persons, shape (columns,); `labels` may lie beyond [0, 1]."""
        residuals = sigmoid(self.odds(weights)) - labels
        parts = [np.array([residuals.sum()])]
        for encoding, here, packed in zip(self._encodings, self._places, self._packed, strict=True):
            parts.append(encoding.scatter(packed, residuals[here])[1:])
        return np.concatenate(parts)
