"""Canaries through the joint fit: second moments and gradients with one worst-case person and without.

The person has its longest row at every holder and has defaulted. Rows, links and tables are the production code's, and
both worlds' gradients are taken at one fit, to moments that hold the person. The noise is one whole part of
`noise_share`: that is what a claim rests on, however many parties add to it. A draw of the matrix's noise is long, so
`DRAWS` of them serve all scores: each is projected onto the person's direction and onto others at right angles to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.binned import Binned, bins_of
from model.denoising import Moments, normal_equations
from model.encoding import Codes, Encoding
from model.inputs import InputError
from model.joint import first_fit, refined
from model.link import SCALE, STEPS, Link
from model.moments import UNIT, Layout, symmetric, upper
from model.refinement import link_of, points_of
from privacy.audit import Transcript
from privacy.mechanisms import noise_share
from privacy.noise import Csprng
from privacy.plan import Release
from privacy.roles import MOMENTS, REFINE
from simulations.canaries import Subject, worst_canary
from simulations.synthetic import Population

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DRAWS = 64  # of the matrix's noise at least
_FITS = 3e7  # of fits' columns cubed: bounds the steps that are followed, the others get the last one's sums


def joint_transcripts(subject: Subject, drawn: Population) -> dict[str, tuple[Release, Transcript]]:
    """The lines of a joint fit and their transcripts; none where blocks are not fitted together.

    Raises:
        InputError: where the run's lines are not those of its contracts.
    """
    lines = {line.name: line for line in subject.lines if isinstance(line, Release)}
    if subject.engine != "moments" or not {MOMENTS, REFINE} <= set(lines):
        return {}
    persons = Persons.of(drawn, subject.own)
    layout, matrix, step = persons.layout, lines[MOMENTS], lines[REFINE]
    if (matrix.size, step.size) != (layout.size, layout.width - 1):
        raise InputError("report.json", "releases", "are not those of the bundle's contracts", matrix.size)
    sums = persons.moments()
    gradients = _gradients(persons, sums[0], matrix, step)
    found = {}
    for line, pair, unit, draws in ((matrix, sums[:, None], UNIT * UNIT, DRAWS), (step, gradients, UNIT * SCALE, 1)):
        inside, outside = pair / unit
        found[line.name] = line, Transcript(line.mechanism, inside, outside, line.count, unit, draws)
    return found


@dataclass(frozen=True)
class Persons:
    """A population with the canary as its last person.

    Attributes:
        own: the lender's own domain, if it has one.
        codes: by domain, shape (parts, n + 1).
        present: by domain, shape (n + 1,).
        labels: shape (n + 1,).
    """

    encodings: Mapping[str, Encoding]
    own: str | None
    codes: Mapping[str, Codes]
    present: Mapping[str, NDArray[np.bool_]]
    labels: NDArray[np.int8]

    @classmethod
    def of(cls, drawn: Population, own: str | None) -> Persons:
        """The population and a person whose rows are the longest, of about equally long ones the safest."""
        codes = {}
        for domain, encoding in drawn.encodings.items():
            bases = Layout(None, {domain: encoding}).blocks[domain].bases
            squares = np.concatenate([np.square(basis / UNIT).sum(axis=1) for basis in bases])
            canary = worst_canary(encoding, drawn.effects[domain], np.round(squares, 2))
            codes[domain] = np.concatenate([drawn.codes[domain], canary], axis=1)
        present = {domain: np.append(here, True) for domain, here in drawn.present.items()}
        return cls(drawn.encodings, own, codes, present, np.append(drawn.labels, 1).astype(np.int8))

    @property
    def layout(self) -> Layout:
        """Everybody's columns."""
        partners = {domain: encoding for domain, encoding in self.encodings.items() if domain != self.own}
        return Layout(self.encodings[self.own] if self.own else None, partners)

    @cached_property
    def _all(self) -> Binned:
        """Everybody's bins, the canary's among them."""
        found = {}
        for name, block in self.layout.blocks.items():
            domain, everybody = name or self.own, np.ones(len(self.labels), dtype=bool)
            codes = self.codes[domain] if domain else np.zeros((0, len(self.labels)), np.uint16)
            here = self.present[name] if name else everybody
            found[name] = bins_of(block, codes, here, None if name else self.labels)
        return Binned(self.layout, found)

    @cached_property
    def _canary(self) -> Integers:
        """The canary's row, shape (1, width)."""
        return self.rows(self.layout, len(self.labels) - 1, len(self.labels))

    def moments(self) -> Integers:
        """The upper triangle of all rows' second moments with the canary and without, shape (2, size), in steps."""
        inside = upper(self._all.moments())
        return np.stack([inside, inside - upper(self._canary.T @ self._canary)])

    def gradient(self, link: Link, points: Mapping[str, Floats]) -> Integers:
        """The gradient with the canary and without, shape (2, width - 1), in steps."""
        residuals = link.table()[self._sums(link, points) % STEPS] - self._all.labels * SCALE
        inside = self._all.gradient(residuals)
        return np.delete(np.stack([inside, inside - residuals[-1] * self._canary[0]]), 1, axis=1)

    def rows(self, layout: Layout, start: int, stop: int) -> Integers:
        """All blocks' rows of some persons, shape (n, width): zero in a block where a person is not there."""
        columns, labels = [], self.labels[start:stop]
        for name, block in layout.blocks.items():
            domain = name or self.own
            codes = self.codes[domain][:, start:stop] if domain else np.zeros((0, len(labels)), np.uint16)
            rows = block.rows(codes, None if name else labels)
            if name:
                rows[~self.present[name][start:stop]] = 0
            columns.append(rows)
        return np.concatenate(columns, axis=1)

    def _sums(self, link: Link, points: Mapping[str, Floats]) -> Integers:
        """Everybody's log-odds in whole steps."""
        total = np.zeros(len(self.labels), dtype=np.int64)
        for name, block in self.layout.blocks.items():
            odds = np.full(len(total), points[name][0])
            if block.encoding:
                packed = block.encoding.packed(self.codes[name or str(self.own)])
                odds = block.encoding.gather(packed, float(points[name][0]), points[name][1:])
            total += link.part(name, odds) * (self.present[name] if name else 1)
        return total


def _gradients(persons: Persons, moments: Integers, matrix: Release, step: Release) -> Integers:
    """Gradients with the canary and without along a noisy fit to the moments, shape (2, steps, width - 1), in steps."""
    layout, rng, found = persons.layout, Csprng(), []
    noisy = (moments + noise_share(matrix.mechanism, UNIT * UNIT, 1, rng)) / UNIT**2
    released = Moments(layout, symmetric(noisy, layout.width), matrix.mechanism.noise_stddev, len(persons.labels))
    normal = normal_equations(released)
    fit, steps = first_fit(normal), min(step.count, max(1, int(_FITS / layout.width**3)))
    for number in range(steps):
        found.append(persons.gradient(link_of(layout, normal, fit), points_of(layout, fit)))
        if number + 1 < steps:
            noise = noise_share(step.mechanism, UNIT * SCALE, 1, rng)
            fit = refined(fit, (found[-1][0] + noise) / (UNIT * SCALE), step.mechanism.noise_stddev**2)
    return np.stack(found, axis=1)
