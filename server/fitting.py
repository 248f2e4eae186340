"""The joint fit at the coordinator: one noisy matrix, a few noisy gradients, and everything else for nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model.coherent import Published, published
from model.denoising import Moments, Normal, normal_equations
from model.joint import Fit, first_fit, refined, settled
from model.link import Link
from model.moments import Layout
from server.joint import CuratorFit, SecureFit
from server.joint_planning import MOMENTS, REFINE
from server.table import Table

Floats = NDArray[np.float64]


def fit_jointly(table: Table, layout: Layout, own: str | None) -> tuple[Moments, Published]:
    """Fits all blocks together: the release that everything rests on, and the fit ready to publish.

    Args:
        layout: everybody's columns, private bins cut.
        own: the name of the lender's block, if it has one.

    Raises:
        RunFailed: where a holder is lost; nothing was opened, or its bytes are kept for a new attempt.
    """
    fitting = SecureFit(table) if table.joint.trust == "secure" else CuratorFit(table)
    try:
        moments = Moments(layout, fitting.moments(), noise_stddev(table, MOMENTS), table.plan.sizes["train"])
        normal = normal_equations(moments)
        fit = first_fit(normal)
        for step in range(table.line(REFINE).count):
            link = link_of(layout, normal, fit)
            gradient = fitting.gradient(step, link, points_of(layout, fit))
            fit = refined(fit, gradient, noise_stddev(table, REFINE) ** 2)
    finally:
        fitting.close()
    return moments, published(layout, normal, settled(fit, normal), own)


def noise_stddev(table: Table, name: str) -> float:
    """Standard deviation of all the noise on each number of a release: the parts that holders add sum to more than one.

    The claim rests on what one of them does not know; the fit sees all of it.
    """
    shares = table.joint.noise_shares
    parts = (shares + 1) / shares if table.joint.trust == "secure" else 1.0
    return table.line(name).mechanism.noise_stddev * math.sqrt(parts)


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
