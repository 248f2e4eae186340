"""What a sweep compares with: models by well-kept libraries on pooled rows, and the lender alone.

Each meets the Protocol `Baseline`: the same persons, the same split, the same features, the same epsilon and delta.
"""

from simulations.baselines.alone import own_block
from simulations.baselines.boosting import dp_ebm, trees
from simulations.baselines.opacus_pooled import pooled_opacus
from simulations.baselines.regression import logistic, response_only
from simulations.baselines.rows import Baseline, Fitted, Pooled, pooled

__all__ = ["BASELINES", "Baseline", "Fitted", "Pooled", "pooled"]

BASELINES: dict[str, Baseline] = {
    "own-block": own_block,
    "trees": trees,
    "logistic": logistic,
    "dp-ebm": dp_ebm,
    "pooled-opacus": pooled_opacus,
    "response-only": response_only,
}
