"""What accuracy a joint fit may expect, on synthetic persons: production rows, bounds, noise and fit in one process."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.denoising import Moments
from model.link import SCALE, Link
from model.moments import LABEL, UNIT, Layout, symmetric, upper
from model.refinement import fit
from privacy.mechanisms import noise_share
from privacy.noise import Csprng
from privacy.plan import Release
from privacy.roles import MOMENTS, REFINE
from server.planning import RunPlan
from simulations.synthetic import Population

Floats = NDArray[np.float64]


def joint_auc(plan: RunPlan, drawn: Population, own: str | None, train: int, noisy: bool) -> float:
    """Held-out AUC of one joint fit on the first `train` synthetic persons."""
    domains = {name: e for name, e in drawn.encodings.items() if name != own}
    layout = Layout(drawn.encodings[own] if own else None, domains)
    rows = _rows(layout, drawn, own)
    held = np.delete(rows[train:], 1, axis=1) / UNIT
    rows = rows[:train]
    secure = plan.joint is not None and plan.joint.trust == "secure"
    shares = plan.joint.noise_shares if plan.joint and secure else 1
    parts = shares + 1 if secure else 1

    def released(exact: NDArray[np.int64], name: str, unit: int) -> Floats:
        line = plan.line(name)
        if line is None or not noisy:
            return np.asarray(exact / unit)
        drawn_parts = [noise_share(line.mechanism, unit, shares, Csprng()) for _ in range(parts)]
        return np.asarray((exact + np.sum(drawn_parts, axis=0)) / unit)

    def gradient(step: int, link: Link, points: Mapping[str, Floats]) -> Floats:
        del step
        sums = _sums(layout, drawn, own, link, points)[:train]
        residuals = link.table()[sums % len(link.table())] - rows[:, 1] * (SCALE // (LABEL * UNIT))
        return released(np.delete(residuals @ rows, 1), REFINE, UNIT * SCALE)

    exact = rows.astype(np.float64)
    triangle = upper(exact.T @ exact).astype(np.int64)
    matrix = symmetric(released(triangle, MOMENTS, UNIT * UNIT), layout.width)
    line, step_line = plan.line(MOMENTS), plan.line(REFINE)
    moments = Moments(layout, matrix, _stddev(line, parts / shares) if noisy else 0.0, train)
    steps = step_line.count if step_line else 0
    _, found = fit(moments, steps, _stddev(step_line, parts / shares) if noisy else 0.0, gradient)
    return metrics.auc(drawn.labels[train:], held @ found.beta) or 0.5


def _stddev(line: Release | None, parts: float) -> float:
    return line.mechanism.noise_stddev * math.sqrt(parts) if line else 0.0


def _rows(layout: Layout, drawn: Population, own: str | None) -> NDArray[np.int64]:
    labels, columns = drawn.labels.astype(np.int8), []
    for name, block in layout.blocks.items():
        if name == "":
            codes = drawn.codes[own] if own else np.zeros((0, len(labels)), dtype=np.uint16)
            columns.append(block.rows(codes, labels))
        else:
            columns.append(block.rows(drawn.codes[name]) * drawn.present[name][:, None])
    return np.concatenate(columns, axis=1)


def _sums(
    layout: Layout, drawn: Population, own: str | None, link: Link, points: Mapping[str, Floats]
) -> NDArray[np.int64]:
    total = np.zeros(len(drawn.labels), dtype=np.int64)
    for name, block in layout.blocks.items():
        constant, bins = float(points[name][0]), points[name][1:]
        odds = np.full(len(total), constant)
        if block.encoding is not None:
            codes = drawn.codes[name or own or ""]
            odds = block.encoding.gather(block.encoding.packed(codes), constant, bins)
        parts = link.part(name, odds)
        total += parts if name == "" else parts * drawn.present[name]
    return total
