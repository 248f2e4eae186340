"""What one joint fit means for every subset of blocks: weights to publish, a fusion table, reasons, standard errors.

All of it is post-processing of the matrix that was released and costs no budget. A domain without a relationship adds
nothing: the fit has a column for the relationship itself. A domain that is late, though the relationship exists, is
foreseen from the sub-scores at hand, whose second moments follow from the matrix; what stays unknown flattens the
score (`model/late.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.averages import families_of
from model.denoising import Normal
from model.encoding import Codes
from model.fusion import MAX_PATTERN_DOMAINS
from model.joint import Fit
from model.late import ScoreMoments, patterns
from model.limits.table import MICRO, Default, Entry, FusionTable
from model.moments import UNIT, BlockRows, Layout

Floats = NDArray[np.float64]

LARGEST = 100.0  # log-odds of an intercept: beyond it is noise, and the table has a range
HEAVIEST = 10.0  # weight of a sub-score
_TINY = 1e-9
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Published:
    """A joint fit, ready for partners, the lender and the limit decision.

    Blocks go by the domain's name, the lender's own by the name that was given for it.

    Attributes:
        layout: columns of the matrix.
        normal: its normal equations.
        fit: coefficients on the log-odds scale.
        own: name of the lender's own block; None where it has none.
    """

    layout: Layout
    normal: Normal
    fit: Fit
    own: str | None

    def __post_init__(self) -> None:
        if (self.own is None) != (self.layout.own is None) or self.own in self.layout.domains:
            raise ValueError(f"own must name the lender's block if and only if it has one, and no domain: {self.own}")

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Each block's columns among those without the label; the lender's begin with the constant."""
        slices = {name: slice(max(s.start - 1, 0), s.stop - 1) for name, s in self.layout.slices.items()}
        lender = slices.pop("")
        return slices if self.own is None else {**slices, self.own: lender}

    @cached_property
    def weights(self) -> dict[str, tuple[float, Floats]]:
        """The constant of each block and the log-odds of all its bins; the global constant is in the table."""
        found = {}
        for name, columns in self.columns.items():
            beta = self.fit.beta[columns]
            if name == self.own:
                beta = np.concatenate([[0.0, 0.0], beta[1:]])  # neither the constant nor the label
            found[name] = self._rows(name).points(beta)
        return found

    def related(self, block: str) -> float:
        """How many persons have the relationship, by the noisy matrix: at least 1, at most all."""
        lead = self.columns[block].start
        if block == self.own or self.normal.gram[lead, lead] == 0.0:  # left out, for about everybody is there
            return float(self.normal.persons)
        return float(np.clip(2.0 * self.normal.gram[0, lead], 1.0, max(self.normal.persons, 1)))

    def families(self, block: str) -> Floats:
        """The average part of each reason family (`averages.families_of`) over the related persons, shape (families,).

        In log-odds. Each feature's average is kept within its points' range, where it must lie.
        """
        rows, columns = self._rows(block), self.columns[block]
        if rows.encoding is None:
            return np.zeros(0)
        sums: dict[str, float] = dict.fromkeys(families_of(rows.encoding), 0.0)
        at = columns.start + 1
        for part, basis in zip(rows.encoding.parts, rows.bases, strict=True):
            here = slice(at, at + basis.shape[1])
            points = basis @ self.fit.beta[here] / UNIT
            mean = float(self.normal.gram[0, here] @ self.fit.beta[here]) / self.related(block)
            sums[part.feature.group] += float(np.clip(mean, points.min(), points.max()))
            at = here.stop
        return np.array(list(sums.values()))

    @cached_property
    def centres(self) -> dict[str, float]:
        """The mean sub-score of those who have the relationship, in log-odds."""
        return {name: self.weights[name][0] + float(self.families(name).sum()) for name in self.columns}

    @cached_property
    def factor(self) -> float:
        """c, with which c times the sum of the blocks' own variances is on average the whole score's variance.

        Within (0, blocks]: by the Cauchy-Schwarz inequality the whole is at most blocks times that sum.
        """
        values, vectors = np.linalg.eigh((self.normal.gram + self.normal.gram.T) / 2)
        positive = (vectors * np.maximum(values, 0.0)) @ vectors.T
        own = sum(float((self.fit.covariance[c, c] * positive[c, c]).sum()) for c in self._own_columns())
        whole = float((self.fit.covariance * positive).sum())
        return float(np.clip(whole / max(own, 1e-300), _TINY, max(len(self.columns), 1)))

    def block_covariance(self, block: str) -> Floats:
        """`factor` times the block's part of the fit's covariance, shape (width, width) without the label's column.

        What `variances` takes. A person's standard error is the root of the sum of their blocks' variances.
        """
        columns = self.columns[block]
        return np.asarray(self.factor * self.fit.covariance[columns, columns])

    @cached_property
    def table(self) -> FusionTable:
        """One coherent model for every pair of patterns; above `MAX_PATTERN_DOMAINS` late domains count as average."""
        domains = tuple(sorted(self.layout.domains))
        constant = float(self.fit.beta[0])
        if len(domains) > MAX_PATTERN_DOMAINS:
            late = {d: _micro(self.centres[d], LARGEST) for d in domains}
            rule = Default(
                _micro(constant, LARGEST), dict.fromkeys(self.columns, MICRO), dict.fromkeys(domains, 0), late
            )
            return FusionTable(domains, self.own, {}, rule)
        moments, entries = self._moments(), {}
        for related, available in patterns(domains):
            intercept, weights = moments.foreseen(constant, related, available)
            micro = {block: _micro(w, HEAVIEST) for block, w in weights.items()}
            entries[f"{'+'.join(related)}|{'+'.join(available)}"] = Entry(_micro(intercept, LARGEST), micro)
        return FusionTable(domains, self.own, entries)

    def _moments(self) -> ScoreMoments:
        """Of relationships and sub-scores: a small congruence of the matrix, and the noise on its numbers."""
        size, gram, persons = len(self.columns), self.normal.gram, float(max(self.normal.persons, 1))
        maps = np.zeros((len(gram), 2 * size))  # relationships, then sub-scores
        for i, (name, columns) in enumerate(self.columns.items()):
            lead = columns.start
            if name == self.own or gram[lead, lead] == 0.0:
                maps[0, i] = 1.0
            else:
                maps[lead, i] = 2.0
            maps[columns, size + i] = self.fit.beta[columns]
        if self.own is not None:
            maps[0, -1] = 0.0
        lengths = np.linalg.norm(maps, axis=0)
        noise = self.normal.gram_noise * np.outer(lengths, lengths) / persons
        means = np.array([self.centres[name] for name in self.columns])
        return ScoreMoments.of(tuple(self.columns), self.own, maps.T @ gram @ maps / persons, noise, means, persons)

    def _rows(self, block: str) -> BlockRows:
        return self.layout.blocks["" if block == self.own else block]

    def _own_columns(self) -> list[slice]:
        return list(self.columns.values()) or [slice(0, 1)]


def published(layout: Layout, normal: Normal, fit: Fit, own: str | None) -> Published:
    """What is published of a fit.

    Args:
        own: the lender's own block's name; None where the layout has none.

    Raises:
        ValueError: `own` and the layout disagree.
    """
    return Published(layout, normal, fit, own)


def variances(rows: BlockRows, covariance: Floats, codes: Codes) -> Floats:
    """A block's part x' V x of each person's variance, in log-odds squared, shape (n,).

    Args:
        covariance: V, of `Published.block_covariance`.
        codes: bins of persons with the relationship, shape (parts, n).
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    tables, at = [], 1
    for basis in rows.bases:
        tables.append(basis @ root[at : at + basis.shape[1]] / UNIT)
        at += basis.shape[1]
    out = np.empty(codes.shape[1])
    for first in range(0, codes.shape[1], _CHUNK):
        chunk = codes[:, first : first + _CHUNK]
        total = np.tile(root[0] * (1.0 if rows.lender else 0.5), (chunk.shape[1], 1))
        for table, bins in zip(tables, chunk, strict=True):
            total += table[bins]
        out[first : first + _CHUNK] = (total * total).sum(axis=1)
    return out


def standard_errors_e6(total: Floats) -> NDArray[np.int64]:
    """Standard errors in micro-logit from the sums of the blocks' variances.

    >>> standard_errors_e6(np.array([0.0, 0.04])).tolist()
    [0, 200000]
    """
    micro = np.ceil(np.sqrt(np.clip(total, 0.0, LARGEST**2)) * MICRO)
    return np.asarray(micro, dtype=np.int64)


def _micro(value: float, largest: float) -> int:
    return round(float(np.clip(value, -largest, largest)) * MICRO)
