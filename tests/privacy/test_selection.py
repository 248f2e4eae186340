"""Private selection: its price against dp_accounting and against the truth, K's distribution, and its ledger line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from dp_accounting.privacy_accountant import NeighboringRelation
from scipy.special import ndtr
from scipy.stats import chi2, nbinom, poisson

from privacy.accounting import ORDERS, Event, adaptive_epsilon, epsilon_of, gaussian_epsilon, gaussian_mu
from privacy.ledger import Ledger, Terms
from privacy.noise import Csprng
from privacy.plan import EVERYBODY, HELD_OUT, TRAIN, BudgetExceeded, Release, line_of, spent_by
from privacy.selection import GEOMETRIC, POISSON, Repeated, Repeats, Selection, cheapest, mu_of_a_run

DELTA = 1e-5
FEW = ORDERS[::4]
SHAPES = (0.0, 0.5, GEOMETRIC, 3.0, POISSON)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def oracle(mu: float, mean: float, shape: float, orders: tuple[float, ...] = FEW) -> float:
    """Epsilon by dp_accounting."""
    accountant = rdp.RdpAccountant(orders, NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp_event.RepeatAndSelectDpEvent(dp_event.GaussianDpEvent(1 / mu), mean, shape))
    return float(accountant.get_epsilon(DELTA))


def selection(mu: float = 0.1, mean: float = 7.0, shape: float = POISSON, persons: str = TRAIN) -> Selection:
    return Selection(f"sweep/{persons}", EVERYBODY, mu, Repeats(mean, shape), (1e-9, 1e-20), persons)


@pytest.mark.parametrize("mean", [1.5, 10.0, 200.0])
@pytest.mark.parametrize("mu", [0.02, 0.3, 1.5])
@each_shape
def test_the_price_is_that_of_dp_accounting(mu: float, mean: float, shape: float) -> None:
    ours, theirs = epsilon_of([Repeated(mu, Repeats(mean, shape))], DELTA), oracle(mu, mean, shape)
    assert ours <= theirs * (1 + 1e-9)
    if shape != POISSON:  # there they bound the Gaussian's own delta by its Renyi divergence, and ours is exact
        assert ours >= theirs * 0.99


def test_the_reference_figures_of_several_runs() -> None:
    """A run of epsilon 1.08 by Renyi at delta 1e-6; ten and a hundred runs: shared/reference/privacy.md, section 3."""
    mu, delta = 0.2371364, 1e-6
    alone = rdp.RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)
    alone.compose(dp_event.GaussianDpEvent(1 / mu))
    assert alone.get_epsilon(delta) == pytest.approx(1.08, abs=1e-3)
    for mean, shape, expected in ((10.0, 0.0, 1.80), (10.0, GEOMETRIC, 2.15), (100.0, GEOMETRIC, 2.68)):
        assert epsilon_of([Repeated(mu, Repeats(mean, shape))], delta) == pytest.approx(expected, abs=0.006)
    assert epsilon_of([Repeated(mu, Repeats(10.0, POISSON))], delta) < 2.34  # theirs; ours has the exact delta


@each_shape
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("mu", "mean"), [(0.3, 3.0), (0.3, 40.0), (1.5, 10.0)])
def test_the_truth_is_within_the_price(mu: float, mean: float, shape: float, sign: float) -> None:
    """Runs that release N(0, 1), or N(mu, 1) where the person is there, of which the largest, or smallest, is best.

    The best has density q f'(Q), f being K's generating function: what epsilon truly leaves is one integral.
    """
    repeats = Repeats(mean, shape)
    y = np.linspace(-14, 14, 20_001)
    pmf = repeats.pmf()
    k = np.arange(len(pmf))

    def slope(u: np.ndarray) -> np.ndarray:
        if shape == POISSON:
            return mean * np.exp(mean * (u - 1))
        raw = (1 - (1 - repeats.gamma) * u) ** (-1 - shape)
        return raw * float(k @ pmf) / repeats.gamma ** (-1 - shape)  # f'(1) is the mean

    def best(at: float) -> np.ndarray:
        return np.exp(-((y - at) ** 2) / 2) / math.sqrt(2 * math.pi) * slope(ndtr(sign * (y - at)))

    here, away = best(mu), best(0.0)
    missing = float(pmf[0])
    assert np.trapezoid(here, y) == pytest.approx(1 - missing, abs=1e-6)
    for epsilon in (epsilon_of([Repeated(mu, repeats)], DELTA), epsilon_of([Repeated(mu, repeats)], 0.01)):
        delta = 0.01 if epsilon < epsilon_of([Repeated(mu, repeats)], DELTA) else DELTA
        for one, other in ((here, away), (away, here)):
            assert np.trapezoid(np.maximum(one - math.exp(epsilon) * other, 0.0), y) <= delta


def test_the_price_is_not_far_above_the_truth() -> None:
    """Else a bound that forgot nothing but was useless would pass the test above."""
    for shape in SHAPES:
        several = epsilon_of([Repeated(0.3, Repeats(10.0, shape))], DELTA)
        assert gaussian_epsilon(0.3, DELTA) < several < 3.5 * gaussian_epsilon(0.3, DELTA)


@each_shape
def test_more_signal_more_runs_and_less_delta_cost_more(shape: float) -> None:
    for values in (
        [epsilon_of([Repeated(mu, Repeats(9.0, shape))], DELTA) for mu in (0.01, 0.1, 0.5, 2.0)],
        [epsilon_of([Repeated(0.2, Repeats(mean, shape))], DELTA) for mean in (1.01, 2.0, 20.0, 400.0)],
        [epsilon_of([Repeated(0.2, Repeats(9.0, shape))], delta) for delta in (1e-3, 1e-5, 1e-9)],
        [Repeated(0.2, Repeats(9.0, shape)).renyi(order) for order in (9.0, 20.0, 50.0, 1e4)],
    ):
        assert values == sorted(values)
        assert values[0] < values[-1]


def test_one_run_costs_what_one_run_costs() -> None:
    nearly = epsilon_of([Repeated(0.3, Repeats(1 + 1e-9, GEOMETRIC))], DELTA)
    accountant = rdp.RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp_event.GaussianDpEvent(1 / 0.3))
    assert nearly == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    assert nearly > gaussian_epsilon(0.3, DELTA)


@each_shape
@pytest.mark.parametrize("mean", [1.2, 6.0, 80.0])
def test_k_has_the_distribution_of_the_theorem(mean: float, shape: float) -> None:
    repeats = Repeats(mean, shape)
    pmf = repeats.pmf()
    k = np.arange(len(pmf))
    assert pmf.sum() == pytest.approx(1.0, abs=1e-13)
    assert pmf @ k == pytest.approx(mean, rel=1e-10)
    if shape == POISSON:
        expected = poisson.pmf(k, mean)
    elif shape == 0:
        expected = np.append(0.0, (1 - repeats.gamma) ** k[1:] / (k[1:] * -math.log(repeats.gamma)))
    else:
        whole = nbinom.pmf(k, shape, repeats.gamma)
        expected = np.append(0.0, whole[1:] / (1 - whole[0]))
    assert pmf == pytest.approx(expected, rel=1e-9)
    assert repeats.drawing_error < 1e-12


@each_shape
def test_draws_of_k_follow_it(shape: float) -> None:
    """A right sampler fails once in a million million."""
    repeats, rng, draws = Repeats(4.0, shape), Csprng(), 6000
    counts = np.bincount([repeats.draw(rng) for _ in range(draws)], minlength=13)
    cells = np.append(counts[:12], counts[12:].sum())
    expected = draws * np.append(repeats.pmf()[:12], repeats.pmf()[12:].sum())
    possible = expected > 0
    assert cells[~possible].sum() == 0
    distance = ((cells - expected)[possible] ** 2 / expected[possible]).sum()
    assert distance < chi2.isf(1e-12, int(possible.sum()) - 1)


def test_two_streams_draw_different_ks() -> None:
    repeats = Repeats(300.0, POISSON)
    assert len({repeats.draw(Csprng()) for _ in range(20)}) > 5


@pytest.mark.parametrize("candidates", [2, 3, 9])
@pytest.mark.parametrize("shape", [GEOMETRIC, POISSON])
def test_each_candidate_is_tried_with_the_probability_promised(candidates: int, shape: float) -> None:
    pmf = Repeats.covering(candidates, shape).pmf()
    missed = pmf @ (1 - 1 / candidates) ** np.arange(len(pmf))
    assert 1 - missed == pytest.approx(0.9, abs=1e-9)


@pytest.mark.parametrize(("epsilon", "shape"), [(0.1, POISSON), (1.0, GEOMETRIC), (8.0, POISSON)])
def test_a_run_gets_the_largest_mu_that_the_whole_can_pay(epsilon: float, shape: float) -> None:
    repeats = Repeats.covering(4, shape)
    mu = mu_of_a_run(4, repeats, epsilon, DELTA)
    assert 0.99 * epsilon < epsilon_of([Repeated(mu, repeats)], DELTA) <= epsilon
    assert mu < gaussian_mu(epsilon, DELTA)


def test_each_candidate_once_composes() -> None:
    mu = mu_of_a_run(4, None, 2.0, DELTA)
    assert epsilon_of([Event(1 / mu, 4)], DELTA) == pytest.approx(2.0, rel=1e-9)


def test_a_random_number_is_drawn_only_where_it_is_worth_it() -> None:
    assert cheapest(3, 1.0, DELTA) is None
    many = cheapest(30, 1.0, DELTA)
    assert many is not None
    assert mu_of_a_run(30, many, 1.0, DELTA) > 1.1 * mu_of_a_run(30, None, 1.0, DELTA)


@pytest.mark.parametrize("seed", range(8))
@each_shape
def test_the_slack_covers_runs_whose_noise_is_a_little_wrong(shape: float, seed: int) -> None:
    """Runs with 30 results, ranked; of some a small part is off by any factor, the others' by at most e^ratio."""
    rng = np.random.default_rng(seed)
    right = rng.dirichlet(np.ones(30))
    wrong = right * np.exp(rng.uniform(-0.01, 0.01, 30))
    tail = rng.choice(30, 2, replace=False)
    wrong[tail] *= rng.uniform(0, 3, 2)
    wrong /= wrong.sum()
    good = np.setdiff1d(np.arange(30), tail)
    ratio = float(np.abs(np.log(wrong[good] / right[good])).max())
    beyond = max(right[tail].sum(), wrong[tail].sum())
    line = Selection("s", EVERYBODY, 0.1, Repeats(3.0, shape), (ratio, beyond), TRAIN)
    pmf = line.repeats.pmf()

    def best(chances: np.ndarray) -> np.ndarray:
        return np.diff(np.polynomial.polynomial.polyval(np.append(0.0, np.cumsum(chances)), pmf))

    allowed, missed = line.slack
    assert np.abs(np.log(best(wrong)[good] / best(right)[good])).max() <= allowed
    assert max(best(wrong)[tail].sum(), best(right)[tail].sum()) <= missed
    assert allowed > ratio
    assert missed > beyond


@pytest.mark.parametrize(
    ("mean", "shape"), [(1.0, 1.0), (0.5, POISSON), (501.0, 1.0), (math.nan, 1.0), (5.0, -0.5), (5.0, math.nan)]
)
def test_numbers_of_runs_that_make_no_sense_are_refused(mean: float, shape: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Repeats(mean, shape)


@pytest.mark.parametrize("mu", [0.0, -1.0, math.inf, math.nan])
def test_a_run_without_noise_is_refused(mu: float) -> None:
    with pytest.raises(ValueError, match="mu must be finite and > 0"):
        Repeated(mu, Repeats(3.0, 1.0))


@each_shape
def test_its_line_is_read_as_it_was_written(shape: float) -> None:
    line = selection(shape=shape)
    text = json.dumps(line.to_dict(), allow_nan=False)
    assert line_of(json.loads(text)) == line


def test_it_composes_with_releases_at_one_order_that_was_fixed_before() -> None:
    event, gaussian, order = Repeated(0.1, Repeats(7.0, POISSON)), Event(5.0), 12.0
    found = adaptive_epsilon([[event], [gaussian]], DELTA, order)
    divergence = event.renyi(order) + order / (2 * 5.0**2)
    assert found == pytest.approx(divergence + math.log1p(-1 / order) - math.log(DELTA * order) / (order - 1))
    together = epsilon_of([event, gaussian], DELTA)
    assert max(epsilon_of([event], DELTA), epsilon_of([gaussian], DELTA)) < together <= found


def test_what_is_far_beyond_any_budget_is_infinite() -> None:
    assert epsilon_of([Repeated(1e6, Repeats(7.0, POISSON))], DELTA) == math.inf


def test_a_ledger_holds_it_on_both_groups_of_persons_and_refuses_what_no_longer_fits(tmp_path: Path) -> None:
    lines = [selection(mu=0.15, persons=persons) for persons in (TRAIN, HELD_OUT)]
    alone = spent_by([lines], 2.0, DELTA)
    release = Release("blocks/pay-1", "pay-1", 1.0, 5, 1, 1.0, noise_multiplier=6.0)
    with Ledger(tmp_path / "ledger.db", Terms("p", "pay-1", 2.0, 2.0, DELTA)) as book:
        assert book.reserve("sweep", lines)
        assert book.spent() == book.spent(own=True) == pytest.approx(alone)
        assert 0.9 < alone < 1.1
        book.reserve("run", [release])
        assert alone < book.spent() < 2.0
        before = book.head()
        with pytest.raises(BudgetExceeded, match="would fit with"):
            book.check(lines * 3)
        with pytest.raises(BudgetExceeded, match="remaining"):
            book.reserve("another", lines * 3)
        assert book.head() == before
    with Ledger(tmp_path / "ledger.db", Terms("p", "pay-1", 2.0, 2.0, DELTA)) as again:
        assert again.plans()["sweep"] == lines


def test_no_noise_can_be_claimed_under_it(tmp_path: Path) -> None:
    """It pays for runs that have ledgers of their own; a holder must not draw for it besides."""
    with Ledger(tmp_path / "ledger.db", Terms("p", "pay-1", 2.0, 2.0, DELTA)) as book:
        book.reserve("sweep", [selection()])
        same = Release("sweep/train", "pay-1", 1.0, 1, 1, 1.0, noise_multiplier=10.0)
        with pytest.raises(BudgetExceeded, match="nothing pays for it"):
            book.claim("sweep", same)


@pytest.mark.parametrize("slack", [(-1.0, 0.0), (0.0, -1e-9), (math.nan, 0.0), (math.inf, 0.0)])
def test_slack_that_would_lower_the_price_is_refused(slack: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two numbers >= 0"):
        Selection.from_dict(selection().to_dict() | {"run_slack": list(slack)})
