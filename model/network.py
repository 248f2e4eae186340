"""A small network for interactions, and the clipped sum of its per-person gradients.

The only file that uses torch: arrays go in and come out as numpy. Batches and noise are the caller's: a Poisson batch,
`clipped_sum` and Gaussian noise make one step of DP-SGD (Abadi et al. 2016). The last bits of a matrix product may
depend on who else is in the batch, so hidden units are tanh, not ReLU: no bit switches a gradient on or off.
Everything is float64: when one of 2048 rows leaves, float32 moves the sum of the others by 1e-4 clip norms, float64 by
1e-13. And rows are multiplied in blocks of one size: in a product as long as the batch, parameters chosen for it (of
1e6, all but cancelling on a known row) made the last bits 1e-3 clip norms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["LARGEST_INPUT", "LARGEST_TARGET", "Shape", "clipped_sum", "clipped_sum_opacus", "device", "init", "predict"]

LARGEST_INPUT = 1e3
"""A row with a larger entry counts as zero in training; encoded rows have norm 1 at most."""
LARGEST_TARGET = 200.0  # what the weakest randomised response that a federation may ask for needs

# Parameters are public, so to refuse large ones reveals nothing.
_LARGEST_PARAMETER = 1e6
_ROWS = 4096
_BLOCK = 512  # rows of every product in a clipped sum, whatever the batch
_Layer = tuple[torch.Tensor, torch.Tensor]
_Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """The layers of a network with one logit: `columns` inputs, then tanh layers of the widths in `hidden`.

    Parameters lie flat, layer by layer: weights (out, in) row by row, then biases, as `torch.nn.Linear` orders them.

    Args:
        columns: number of encoded features, >= 1.
        hidden: widths of the hidden layers, each >= 1; () is logistic regression.

    Raises:
        ValueError: a width is below 1.

    >>> Shape(columns=100, hidden=(32,)).size
    3265
    >>> Shape(columns=3, hidden=()).layers
    ((1, 3),)
    """

    columns: int
    hidden: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        if self.columns < 1 or any(width < 1 for width in self.hidden):
            raise ValueError(f"columns and hidden widths must be >= 1, got {self.columns} and {self.hidden}.")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of each layer, the logit's last."""
        return tuple((out, into) for into, out in pairwise((self.columns, *self.hidden, 1)))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(out * (into + 1) for out, into in self.layers)


def device() -> str:
    """The device used where none is named: "cuda" if there is one, else "cpu".

    >>> device() in ("cuda", "cpu")
    True
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def init(shape: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Start parameters, drawn without looking at data: a seed is allowed here, as it never is for noise.

    A row's norm is 1 at most, whatever its width, so first-layer weights have stddev 0.3 (not 1 / sqrt(columns)): under
    noise, 0.1 and 0.3 did better than 1 and 3. Later layers have stddev 1 / sqrt(inputs); biases and the last layer
    are 0, so everybody starts at even odds.

    Returns:
        shape (shape.size,).

    >>> init(Shape(3, (2,)), np.random.default_rng(1)).shape
    (11,)
    """
    parts: list[NDArray[np.float64]] = []
    last = len(shape.layers) - 1
    for index, (out, into) in enumerate(shape.layers):
        stddev = 0.0 if index == last else 0.3 if index == 0 else into**-0.5
        parts += [stddev * rng.standard_normal(out * into), np.zeros(out)]
    return np.concatenate(parts)


def predict(theta: NDArray[np.float64], x: NDArray[Any], shape: Shape, on: str | None = None) -> NDArray[np.float64]:
    """Logits of default, 4096 rows at a time; a row that holds NaN gets NaN.

    Args:
        theta: shape (shape.size,).
        x: shape (n, shape.columns), float32 or float64, rows of norm 1 at most.
        shape: the network.
        on: a torch device; None is `device()`.

    Returns:
        shape (n,), log-odds: `1 / (1 + exp(-logit))` is the probability of target 1.

    Raises:
        ValueError: a shape is wrong, or theta not finite or beyond 1e6.

    >>> predict(np.array([2.0, -1.0, 0.5]), np.array([[1.0, 0.0], [0.0, 1.0]]), Shape(2, ()))
    array([ 2.5, -0.5])
    """
    _check(theta, x, None, shape)
    layers = _layers(theta, shape, on)
    logits = np.empty(len(x))
    with torch.no_grad():
        for rows in _slices(len(x), _ROWS):
            chunk = torch.from_numpy(np.array(x[rows], dtype=np.float64)).to(layers[0][0].device)
            logits[rows] = _forward(chunk.T, layers)[-1][0].cpu().numpy()
    return logits


def clipped_sum(
    theta: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any], shape: Shape, clip_norm: float, on: str | None = None
) -> NDArray[np.float64]:
    """The sum over rows of each person's log-loss gradient, scaled to L2 norm at most `clip_norm`.

    Sensitivity: taking one row away, or making it count as zero, moves the result by at most
    `clip_norm * (1 + 1e-9)`. A row counts as zero, exactly and without touching the others, when its target is not
    finite or beyond `LARGEST_TARGET`, or an entry is not finite or beyond `LARGEST_INPUT`: to fail on it would reveal
    it. So an absent person is either left out or passed with target NaN, which also hides in the time taken how many
    are present. A row of zeros with a target is *not* absent: it moves the biases. No weights are taken: they would
    break the promise.

    One forward and one backward pass: a row's gradient in a layer is the outer product of delta and (activation, 1),
    hence its squared norm is |delta|^2 (|activation|^2 + 1); then one product per layer sums the scaled rows.

    Args:
        theta: shape (shape.size,), finite, each within 1e6.
        x: shape (n, shape.columns), float32 or float64; n may be 0.
        y: shape (n,): 1 is default, 0 is not; beyond [0, 1] where labels were unbiased after randomised response.
        shape: the network.
        clip_norm: L2 norm of one person's gradient, in [1e-6, 1e6].
        on: a torch device; None is `device()`.

    Returns:
        shape (shape.size,), float64.

    Raises:
        ValueError: an array's shape, theta or clip_norm is out of range (all public); never because of a row.

    Source: Abadi et al. (2016), arXiv:1607.00133, section 3.1. Norm: Goodfellow (2015), arXiv:1510.01799, and
    Rochette et al. (2019), arXiv:1912.06015.

    >>> theta = np.zeros(3)
    >>> rows, targets = np.array([[0.6, 0.8], [0.0, np.inf]]), np.array([1.0, 0.0])
    >>> clipped_sum(theta, rows, targets, Shape(2, ()), clip_norm=9.0)
    array([-0.3, -0.4, -0.5])
    """
    _check(theta, x, y, shape, clip_norm)
    layers = _layers(theta, shape, on)
    total = np.zeros(shape.size)
    with torch.no_grad():
        for chunk, target, usable in _blocks(x, y, layers[0][0].device):
            inputs, deltas = _passes(chunk.T, target, layers)
            total += _summed(inputs, deltas, usable, clip_norm).cpu().numpy()
    return total


def clipped_sum_opacus(
    theta: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any], shape: Shape, clip_norm: float, on: str | None = None
) -> NDArray[np.float64]:
    """`clipped_sum` by Opacus: the same arguments and promises, 1e-5 apart, many times slower.

    Opacus stores every person's gradient (its hooks), clips and sums it. Its faster mode without storing is never
    used: it does not clip where logits are (n, 1). Each call builds its own optimizer, so no half-done step is left.

    Source: Yousefpour et al. (2021), arXiv:2109.12298.

    >>> clipped_sum_opacus(np.zeros(3), np.array([[0.6, 0.8]]), np.array([1.0]), Shape(2, ()), clip_norm=9.0).round(6)
    array([-0.3, -0.4, -0.5])
    """
    _check(theta, x, y, shape, clip_norm)
    layers = _layers(theta, shape, on)
    total = np.zeros(shape.size)
    for chunk, target, usable in _blocks(x, y, layers[0][0].device):
        total += _opacus_block(chunk, target, usable, layers, clip_norm).cpu().numpy()
    return total


def _opacus_block(
    x: torch.Tensor, y: torch.Tensor, usable: torch.Tensor, layers: list[_Layer], clip_norm: float
) -> torch.Tensor:
    """The clipped sum of a block's usable rows, with a module and an optimizer of its own."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64, device=weight.device)
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, torch.nn.Tanh()]
    private = GradSampleModule(torch.nn.Sequential(*modules[:-1]), loss_reduction="sum")
    sgd = torch.optim.SGD(private.parameters(), lr=1.0)
    # Noise is the caller's, and so is the division by the expected batch.
    no_noise = {"noise_multiplier": 0.0, "expected_batch_size": None, "loss_reduction": "sum"}
    optimizer = DPOptimizer(sgd, max_grad_norm=clip_norm, **no_noise)
    # Inputs that want a gradient spare torch's warning that hooks fire without one.
    logits = private(x.requires_grad_()).squeeze(1)
    if logits.dim() != 1 or logits.shape != y.shape:
        raise ValueError(f"logits must have shape {tuple(y.shape)}, got {tuple(logits.shape)}.")
    losses = binary_cross_entropy_with_logits(logits, y, reduction="none")
    torch.autograd.backward((losses * usable).sum())
    optimizer.clip_and_accumulate()
    return torch.cat([parameter.summed_grad.flatten() for parameter in private.parameters()])


def _forward(x: torch.Tensor, layers: list[_Layer]) -> _Tensors:
    """The input of every layer (in, n), and the logits (1, n) last, from rows as columns: `x` (columns, n)."""
    values = [x]
    for weight, bias in layers[:-1]:
        values.append(torch.addmm(bias[:, None], weight, values[-1]).tanh_())
    weight, bias = layers[-1]
    return [*values, torch.addmm(bias[:, None], weight, values[-1])]


def _passes(x: torch.Tensor, y: torch.Tensor, layers: list[_Layer]) -> tuple[_Tensors, _Tensors]:
    """Every layer's input (in, n) and delta (out, n): the derivative of the row's own loss by the layer's output."""
    *inputs, logits = _forward(x, layers)
    deltas = [torch.sigmoid(logits) - y]
    for (weight, _), value in zip(layers[:0:-1], inputs[:0:-1], strict=True):
        back = weight.T @ deltas[-1]
        # The slope of tanh is 1 - tanh^2.
        deltas.append(torch.addcmul(back, back * value, value, value=-1.0))
    return inputs, deltas[::-1]


def _summed(inputs: _Tensors, deltas: _Tensors, usable: torch.Tensor, clip_norm: float) -> torch.Tensor:
    """The flat sum of the rows' gradients, each scaled to `clip_norm`, those not usable to zero."""
    squares = torch.zeros_like(deltas[-1][0])
    for value, delta in zip(inputs, deltas, strict=True):
        squares += (torch.linalg.vecdot(value, value, dim=0) + 1.0) * torch.linalg.vecdot(delta, delta, dim=0)
    # A gradient of zero divides to infinity, which the bound turns into 1.
    factor = (clip_norm / squares.sqrt()).clamp_(max=1.0) * usable
    parts: _Tensors = []
    for value, delta in zip(inputs, deltas, strict=True):
        scaled = delta * factor
        parts += [(scaled @ value.T).flatten(), scaled.sum(1)]
    return torch.cat(parts)


def _layers(theta: NDArray[np.float64], shape: Shape, on: str | None) -> list[_Layer]:
    """Weights (out, in) and biases (out,) of each layer, views of one copy of `theta`."""
    flat = torch.tensor(theta, dtype=torch.float64, device=on or device())
    layers: list[_Layer] = []
    start = 0
    for out, into in shape.layers:
        middle, end = start + out * into, start + out * (into + 1)
        layers.append((flat[start:middle].view(out, into), flat[middle:end]))
        start = end
    return layers


def _blocks(x: NDArray[Any], y: NDArray[Any], where: torch.device) -> Iterator[tuple[torch.Tensor, ...]]:
    """Copies of `_BLOCK` rows and targets, the last ones filled up, and which are usable; the others are zero."""
    for rows in _slices(len(x), _BLOCK):
        chunk, target = np.zeros((_BLOCK, x.shape[1])), np.full(_BLOCK, np.nan)
        chunk[: len(x[rows])], target[: len(x[rows])] = x[rows], y[rows]
        usable = (np.abs(chunk) <= LARGEST_INPUT).all(1) & (np.abs(target) <= LARGEST_TARGET)
        chunk[~usable], target[~usable] = 0.0, 0.0
        yield torch.from_numpy(chunk).to(where), torch.from_numpy(target).to(where), torch.from_numpy(usable).to(where)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _check(
    theta: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any] | None, shape: Shape, clip_norm: float = 1.0
) -> None:
    """Raises on what is public: shapes and parameters, never on a row's content."""
    if not 1e-6 <= clip_norm <= 1e6:
        raise ValueError(f"clip_norm must be in [1e-6, 1e6] (L2 norm of one person's gradient), got {clip_norm}.")
    if theta.shape != (shape.size,):
        raise ValueError(f"theta must have shape ({shape.size},) for {shape}, got {theta.shape}.")
    if x.ndim != 2 or x.shape[1] != shape.columns:
        raise ValueError(f"x must have shape (n, {shape.columns}), got {x.shape}.")
    if y is not None and y.shape != (len(x),):
        raise ValueError(f"y must have shape ({len(x)},), one target a row, got {y.shape}.")
    if not bool((np.abs(theta) <= _LARGEST_PARAMETER).all()):
        raise ValueError(f"theta must be finite and within {_LARGEST_PARAMETER:g}: training diverged, lower the rate.")
