"""The bounded sum: sensitivity with rounding, noise from the mechanism's own sensitivity, and the slack's bound."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import log_ndtr

from privacy import mechanisms, noise
from privacy.mechanisms import GRID, TAIL, GaussianSum
from privacy.noise import SAMPLER_ERROR, Csprng

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=150, database=None)
Floats = NDArray[np.float64]


def released(mechanism: GaussianSum, total: Floats, steps: Floats) -> Floats:
    """What is released when the noise happens to be `steps` grid steps."""
    with mock.patch.object(mechanisms, "discrete_gaussian", return_value=steps.astype(np.int64)):
        return mechanism.release(total, Csprng())


def moved(mechanism: GaussianSum, total: Floats, person: Floats) -> float:
    """How far the released value moves when the person's vector becomes zero and the noise stays."""
    nothing = np.zeros(mechanism.size)
    return float(np.linalg.norm(released(mechanism, total + person, nothing) - released(mechanism, total, nothing)))


@DERANDOMIZED
@given(
    size=st.integers(1, 400),
    bound=st.floats(1e-6, 100.0),
    scale=st.sampled_from([1e-12, 1.0, 1e3, 1e6]),
    norm=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_person_moves_the_sum_by_at_most_the_sensitivity(
    size: int, bound: float, scale: float, norm: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(size)
    person = bound * norm * direction / np.linalg.norm(direction)
    mechanism = GaussianSum(bound, size, 1.0)
    assert moved(mechanism, scale * rng.standard_normal(size), person) <= mechanism.sensitivity * (1 + 1e-12)


@pytest.mark.parametrize("size", [1, 4, 100, 2500])
def test_the_rounding_part_of_the_sensitivity_is_used_up_by_an_adversary(size: int) -> None:
    """Every coordinate sits just below a rounding edge and a tiny vector pushes them all over it."""
    edge = np.full(size, (0.5 - 1e-6) / GRID)
    push = np.full(size, 2e-6 / GRID)
    mechanism = GaussianSum(float(np.linalg.norm(push)), size, 1.0)
    distance = moved(mechanism, edge, push)
    assert distance == math.sqrt(size) / GRID
    assert 0.99 * mechanism.sensitivity < distance <= mechanism.sensitivity


def test_the_sensitivity_is_the_bound_and_a_grid_step_a_coordinate() -> None:
    assert GaussianSum(3.0, 9, 1.0).sensitivity == 3.0 + 3.0 / GRID
    assert GaussianSum(3.0, 9, 7.0).noise_stddev == 7.0 * (3.0 + 3.0 / GRID)


@pytest.mark.parametrize(("claimed", "accepted"), [(1.0, True), (0.95, False), (1.05, False)])
def test_noise_has_the_stddev_of_the_mechanisms_own_sensitivity(claimed: float, accepted: bool) -> None:
    size = 20_000
    drawn = GaussianSum(bound=2.5, size=size, noise_multiplier=1.7).release(np.zeros(size), Csprng())
    scale = claimed * 1.7 * (2.5 + math.sqrt(size) / GRID)
    outlying = ((drawn / scale) ** 2).sum() / size - 1
    assert (abs(outlying) < 5 * math.sqrt(2 / size)) == accepted  # 5 sigma; 5 % of scale is 10


def test_noise_is_asked_for_in_grid_steps_for_every_coordinate() -> None:
    asked = mock.Mock(return_value=np.array([1, -2, 3]))
    mechanism = GaussianSum(bound=2.0, size=3, noise_multiplier=4.0)
    with mock.patch.object(mechanisms, "discrete_gaussian", asked):
        out = mechanism.release(np.array([0.25, -1.0, 7.0]), Csprng())
    assert asked.call_args.args[1:] == (4.0 * (2.0 + math.sqrt(3) / GRID) * GRID, 3)
    assert (out * GRID).tolist() == [0.25 * GRID + 1, -1.0 * GRID - 2, 7.0 * GRID + 3]


def test_every_released_value_lies_on_the_grid() -> None:
    total = np.random.default_rng(1).standard_normal(500) * 1e3
    out = GaussianSum(1.0, 500, 2.0).release(total, Csprng()) * GRID
    assert np.array_equal(out, np.rint(out))
    assert not np.array_equal(out, np.rint(total * GRID))


def test_two_releases_of_one_sum_differ() -> None:
    mechanism, rng = GaussianSum(1.0, 8, 1.0), Csprng()
    first, second = (mechanism.release(np.zeros(8), rng) for _ in range(2))
    assert not np.array_equal(first, second)


def test_without_noise_the_sum_itself_is_released() -> None:
    total = np.array([1.0 / 3.0, 1e-9])
    assert GaussianSum(1.0, 2, 0.0).release(total, Csprng()).tolist() == total.tolist()


@pytest.mark.parametrize("noise_multiplier", [0.0, 1.0])
@pytest.mark.parametrize(
    "total",
    [np.array([1.0]), np.zeros((2, 1)), np.array(1.0)],
    ids=["short", "matrix", "scalar"],
)
def test_a_misshapen_sum_is_refused(total: Floats, noise_multiplier: float) -> None:
    with pytest.raises(ValueError, match="nothing is released"):
        GaussianSum(1.0, 2, noise_multiplier).release(total, Csprng())


@pytest.mark.parametrize(
    ("attempt", "named"),
    [
        (lambda: GaussianSum(0.0, 1, 1.0), "bound"),
        (lambda: GaussianSum(-1.0, 1, 1.0), "bound"),
        (lambda: GaussianSum(math.nan, 1, 1.0), "bound"),
        (lambda: GaussianSum(math.inf, 1, 1.0), "bound"),
        (lambda: GaussianSum(1.0, 0, 1.0), "size"),
        (lambda: GaussianSum(1.0, 1, -1.0), "noise_multiplier"),
        (lambda: GaussianSum(1.0, 1, math.nan), "noise_multiplier"),
        (lambda: GaussianSum(1.0, 1, math.inf), "noise_multiplier"),
    ],
)
def test_a_mechanism_without_meaning_is_refused(attempt: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} must be .* got"):
        attempt()


def log_ratios(stddev: float) -> Floats:
    """Exactly: ln of discrete Gaussian over continuous Gaussian rounded to the integers, within `TAIL` stddev."""
    x = np.arange(0, math.floor(TAIL * stddev) + 1)
    support = np.arange(-math.ceil(40 * stddev), math.ceil(40 * stddev) + 1)
    discrete = -(x**2) / (2 * stddev**2) - math.log(np.exp(-(support**2) / (2 * stddev**2)).sum())
    nearer, further = log_ndtr(-(x - 0.5) / stddev), log_ndtr(-(x + 0.5) / stddev)
    return np.asarray(discrete - nearer - np.log1p(-np.exp(further - nearer)))


@pytest.mark.parametrize("stddev", [1.0, 1.5, 2.0, 4.0, 10.0, 100.0, 1000.0])
@pytest.mark.parametrize("size", [1, 7])
def test_the_slack_bounds_the_exact_distance_from_the_continuous_gaussian(stddev: float, size: int) -> None:
    mechanism = GaussianSum(1.0, size, stddev / (1.0 + math.sqrt(size) / GRID) / GRID)
    assert mechanism.noise_stddev * GRID == pytest.approx(stddev)
    exact = size * np.abs(log_ratios(stddev)).max()
    ratio, tail = mechanism.slack
    assert exact <= ratio
    assert ratio < 4 * exact  # and it is no bound of any size
    assert size * stats.norm.sf(TAIL) * 2 == pytest.approx(tail, rel=1e-6)


def test_only_a_release_without_noise_has_no_slack() -> None:
    assert GaussianSum(1.0, 4, 0.0).slack == (0.0, 0.0)
    ratio, tail = GaussianSum(1.0, 4, 50.0).slack
    assert 4 * SAMPLER_ERROR < ratio < 1e-12
    assert 0.0 < tail < 1e-20


def test_nothing_here_takes_a_seed() -> None:
    for module in (mechanisms, noise):
        members = [m for _, m in inspect.getmembers(module) if inspect.isfunction(m) or inspect.isclass(m)]
        ours = [m for m in members if m.__module__ == module.__name__]
        own = [m for m in ours if not (inspect.isclass(m) and issubclass(m, Exception))]  # those have no signature
        methods = [f for c in own if inspect.isclass(c) for _, f in inspect.getmembers(c, inspect.isfunction)]
        assert own
        for function in [*own, *methods]:
            names = [p.lower() for p in inspect.signature(function).parameters]
            assert not [p for p in names if "seed" in p or "random_state" in p], function


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_is_noised_like_any_other_and_never_fails(broken: float) -> None:
    """A failure that depends on persons would be a release of its own."""
    mechanism = GaussianSum(1.0, 2, 1.0)
    noisy = np.array([mechanism.release(np.array([broken, 5.0]), Csprng()) for _ in range(400)])
    assert np.isfinite(noisy).all()
    assert abs(noisy[:, 0].mean()) < 0.3
    assert abs(noisy[:, 0].std() - mechanism.noise_stddev) < 0.3
