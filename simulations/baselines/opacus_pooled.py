"""DP-SGD by Opacus on pooled encoded rows: what a curator with everybody's data would reach with it."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from model.descent import sigmoid
from model.scorecard import PRIOR_RATE
from privacy.noise import Csprng, poisson_batch
from simulations.baselines.rows import Fitted, Floats, Pooled

# Tuned: see `pooled_opacus`.
STEPS, BATCH, RATE, CLIP, MOMENTUM, AVERAGED = 100, 4096, 2.0, 1.0, 0.9, 50
SEARCH = 0.005  # of epsilon: how closely the noise is searched; the accountant's own error is twice that


def pooled_opacus(rows: Pooled, epsilon: float, delta: float, seed: int) -> Fitted:  # noqa: ARG001
    """Logistic regression on the encoded rows of all domains by DP-SGD, Opacus' hooks, clipping, noise and accountant.

    Its guarantee: add or remove one person's pooled row; batches are true Poisson samples. Opacus leaves its noise and
    its batches to torch's global generator, which starts every process at the same public seed; here noise has a
    generator that the operating system seeds, and batches come from the CSPRNG. Its noise is floating-point all the
    same: a comparison, never a release. The last `AVERAGED` iterates are averaged.

    Settings: tuned on uci_default at epsilon 1, on held-out persons: 18 settings, 2 runs each, .753 to .773, over 50 to
    300 steps, batches of 2,048 to everybody, rate .3 to 3, clip norm .3 to 3, none or one hidden layer of 32 (.769),
    averaged or not. Paid for, that would cost each person epsilon 7.7 (as many Gaussian mechanisms of epsilon 1,
    composed at delta 1e-5); nothing is charged, which favours this baseline.

    Source: Abadi et al. (2016), arXiv:1607.00133; Gopi, Lee & Wutschitz (2021), arXiv:2106.02848, for the accountant.
    """
    persons = int(rows.train.sum())
    probability = min(1.0, BATCH / persons)
    weights, accountant = descended(rows, noise_multiplier(epsilon, delta, probability), probability)
    odds = np.concatenate([chunk @ weights[:-1] for chunk in rows.chunks(rows.held)]) + weights[-1]
    spent = math.inf
    if math.isfinite(epsilon):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the accountant's own RDP bound may want more orders
            spent = accountant.get_epsilon(delta, eps_error=2 * SEARCH * epsilon)
    return Fitted(sigmoid(odds.astype(np.float64)), spent, "add or remove one pooled row; floating-point noise")


def descended(rows: Pooled, noise: float, probability: float) -> tuple[Floats, Any]:
    """The weights after all steps, the constant last, and the accountant that saw every step.

    Args:
        noise: its standard deviation over the clip norm.
        probability: with which a person is in a batch.
    """
    import torch
    from opacus.accountants import PRVAccountant
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    persons = np.flatnonzero(rows.train)
    private = GradSampleModule(_model(rows.matrix(persons[:0]).shape[1]), loss_reduction="sum")
    plain = torch.optim.SGD(private.parameters(), lr=RATE / (probability * len(persons)), momentum=MOMENTUM)
    optimiser = DPOptimizer(
        plain,
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        expected_batch_size=None,
        loss_reduction="sum",
        generator=unseeded(),
    )
    accountant = PRVAccountant()
    optimiser.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=probability))
    rng, iterates = Csprng(), []
    for _ in range(STEPS):
        batch = persons[poisson_batch(rng, len(persons), probability)]
        _step(private, optimiser, rows.matrix(batch), rows.labels[batch].astype(np.float32))
        iterates.append(np.concatenate([p.detach().numpy().ravel() for p in private.parameters()]))
    return np.mean(iterates[-AVERAGED:], axis=0, dtype=np.float64), accountant


@lru_cache
def noise_multiplier(epsilon: float, delta: float, probability: float) -> float:
    """Noise over clip norm that keeps all steps within epsilon by Opacus' accountant; 0 without privacy."""
    from opacus.accountants.utils import get_noise_multiplier

    if math.isinf(epsilon):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its search begins at noise so small that numbers overflow
        found = get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=probability,
            steps=STEPS,
            accountant="prv",
            epsilon_tolerance=SEARCH * epsilon,
            eps_error=2 * SEARCH * epsilon,
        )
    return float(found)


def unseeded() -> Any:
    """A torch generator seeded by the operating system: torch's own default starts every process alike."""
    import torch

    generator = torch.Generator()
    generator.seed()
    return generator


def _model(columns: int) -> Any:
    """No feature counts, the constant is the prior rate's log-odds: nothing is drawn."""
    import torch

    model = torch.nn.Linear(columns, 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.constant_(model.bias, math.log(PRIOR_RATE / (1 - PRIOR_RATE)))
    return model


def _step(private: Any, optimiser: Any, matrix: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """One step on one batch, which may be empty: per-person gradients, clipped, summed, noised."""
    import torch

    optimiser.zero_grad()
    # Inputs that want a gradient spare torch's warning that hooks fire without one.
    odds = private(torch.from_numpy(matrix).requires_grad_())[:, 0]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, torch.from_numpy(labels), reduction="sum")
    torch.autograd.backward(loss)
    optimiser.step()
