"""The joint fit at the coordinator: one noisy matrix, a few noisy gradients, and everything else for nothing."""

from __future__ import annotations

import math

from model.coherent import Published, published
from model.denoising import Moments
from model.moments import Layout
from model.refinement import fit
from privacy.roles import MOMENTS, REFINE
from server.joint import CuratorFit, SecureFit
from server.table import Table


def fit_jointly(table: Table, layout: Layout, own: str | None) -> tuple[Moments, Published]:
    """Fits all blocks together: the release that everything rests on, and the fit ready to publish.

    Args:
        layout: everybody's columns, private bins cut.
        own: the name of the lender's block, if it has one.

    Raises:
        RunFailed: where a holder is lost; nothing was opened, or its bytes are kept for a new attempt.
    """
    fitting = SecureFit(table) if table.joint.trust == "secure" else CuratorFit(table, layout)
    try:
        moments = Moments(layout, fitting.moments(), noise_stddev(table, MOMENTS), table.plan.sizes["train"])
        steps, stddev = table.line(REFINE).count, noise_stddev(table, REFINE)
        normal, found = fit(moments, steps, stddev, fitting.gradient)
    finally:
        fitting.close()
    return moments, published(layout, normal, found, own)


def noise_stddev(table: Table, name: str) -> float:
    """Standard deviation of all the noise on each number of a release: the parts that holders add sum to more than one.

    The claim rests on what one of them does not know; the fit sees all of it.
    """
    shares = table.joint.noise_shares
    parts = (shares + 1) / shares if table.joint.trust == "secure" else 1.0
    return table.line(name).mechanism.noise_stddev * math.sqrt(parts)
