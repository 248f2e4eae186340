"""Whether a joint fit is too wide for its budget: told from public numbers before anything is released.

A symmetric matrix of independent noise has eigenvalues up to 2 stddev sqrt(columns) (Wigner's semicircle law); those
that carry the model are of the order of persons times a column's mean square. Their ratio, the *load*, says how much of
a fit drowns. Whole fits on real sets, AUC at loads: uci_default .62, 1.9, 5.2, 15: .768, .758, .732, .649 (no noise
.773); lending_club .33, 1.0, 2.8, 8.2: .692, .681, .642, .546 (.695); sba .13, .4, 1.1, 3.3: .717, .691, .670, .628.

Source: E. P. Wigner (1958), "On the distribution of the roots of certain symmetric matrices".
"""

from __future__ import annotations

import math

from model.inputs import InputError
from model.moments import UNIT, Layout

MAX_LOAD = 8.0  # beyond it next to nothing is left of a fit
_NAMED = 3  # features that an error names


def mean_square(layout: Layout) -> float:
    """A column's part of the longest row's square."""
    return sum(block.squares for block in layout.blocks.values()) / UNIT**2 / layout.width


def load(layout: Layout, persons: int, stddev: float) -> float:
    """stddev sqrt(columns) over persons times `mean_square`: 0 without noise.

    Args:
        persons: of the cohort, a public number.
        stddev: of the noise on an entry of the matrix, as planned.
    """
    return stddev * math.sqrt(layout.width) / (max(persons, 1) * mean_square(layout))


def check_width(layout: Layout, persons: int, stddev: float) -> None:
    """Refuses a matrix in whose noise the model would drown.

    Raises:
        InputError: the load is above `MAX_LOAD`; it names the widest features and how many columns would fit.
    """
    found = load(layout, persons, stddev)
    if found <= MAX_LOAD:
        return
    widths = [
        (basis.shape[1], f"{name or 'own'}.{part.feature.name}")
        for name, block in layout.blocks.items()
        if block.encoding
        for part, basis in zip(block.encoding.parts, block.bases, strict=True)
    ]
    widest = ", ".join(
        f"{feature} ({width})" for width, feature in sorted(widths, key=lambda w: (-w[0], w[1]))[:_NAMED]
    )
    fit = int(layout.width * (MAX_LOAD / found) ** 2)
    remedy = f"drop or merge values of the widest features: {widest}" if widest else "raise epsilon"
    if fit <= len(layout.blocks):
        remedy = f"too few persons for this epsilon: raise epsilon or add persons, then {remedy}"
    else:
        remedy = f"at this noise at least {fit} would fit: {remedy}; or raise epsilon or add persons"
    raise InputError("contract", "columns", f"are too many for {persons} persons at this budget", layout.width, remedy)
