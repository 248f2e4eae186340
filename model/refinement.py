"""The joint fit as a whole: moments first, then a few gradients at points that the fit asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from model.denoising import Moments, Normal, normal_equations
from model.joint import Fit, first_fit, refined, settled
from model.link import Link
from model.moments import Layout

Floats = NDArray[np.float64]
Gradient = Callable[[int, Link, Mapping[str, Floats]], Floats]
"""From the step, its link, and by block the constant and every bin's log-odds: the noisy gradient, shape (p,)."""


def fit(moments: Moments, steps: int, stddev: float, gradient: Gradient) -> tuple[Normal, Fit]:
    """Fits all blocks from a released matrix and `steps` released gradients; everything else is post-processing.

    Args:
        stddev: of the noise on each number of a gradient.
    """
    normal = normal_equations(moments)
    found = first_fit(normal)
    for step in range(steps):
        link = link_of(moments.layout, normal, found)
        found = refined(found, gradient(step, link, points_of(moments.layout, found)), stddev**2)
    return normal, settled(found, normal)


def points_of(layout: Layout, fit: Fit) -> dict[str, Floats]:
    """By block the constant and every bin's log-odds, as a step's order tells them."""
    full, found = np.insert(fit.beta, 1, 0.0), {}
    for name, block in layout.blocks.items():
        constant, points = block.points(full[layout.slices[name]])
        found[name] = np.concatenate([[constant], points])
    return found


def link_of(layout: Layout, normal: Normal, fit: Fit) -> Link:
    """The link for a step, from the noisy means and spreads of the blocks' log-odds over all persons."""
    means, spreads, persons = {}, {}, max(normal.persons, 1)
    for name, columns in layout.slices.items():
        start, stop = (0, columns.stop - 1) if name == "" else (columns.start - 1, columns.stop - 1)
        beta = np.zeros_like(fit.beta)
        beta[start:stop] = fit.beta[start:stop]
        means[name] = float(np.clip(normal.gram[0] @ beta / persons, -8.0, 8.0))
        square = float(beta @ normal.gram @ beta) / persons - means[name] ** 2
        spreads[name] = math.sqrt(min(max(square, 0.0), 4.0))
    return Link.of(means, spreads)
