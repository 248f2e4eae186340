"""Private bins: fine bins that partition the range, a bounded count, and edges that are always valid and often good."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.contract import SCALES, Contract, Feature
from model.encoding import BINS, Encoding, FeatureBins, feature_edges
from model.quantiles import FINE, HEAVY, bound, chosen_edges, counts, fine_edges
from privacy.accounting import gaussian_mu
from privacy.mechanisms import GaussianSum
from privacy.noise import Csprng

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=150, database=None)
RANGES = {
    "linear": [(0, 1), (-5, -3), (-1e6, 1e6), (0, 1e-300), (1e6, 1e6 + 1e-3), (-1.7e308, 1.7e308), (0, 20)],
    "log": [(0, 1e6), (1, 1e6), (0, 1e-3), (300, 300.001), (0.5, 1e12), (0, 1.7e308), (5e-324, 1.7e308)],
    "signed-log": [(-1e5, 1e6), (-1, 1), (0, 5), (-5, 0), (-5, -3), (2, 3), (-1e-9, 1), (-1, 1e-9), (-1e300, 1e-300)],
}


@st.composite
def features(draw: st.DrawFn) -> Feature:
    scale = draw(st.sampled_from(SCALES))
    low, high = draw(st.sampled_from(RANGES[scale]))
    inside = repr(low + (high / 2 - low / 2))
    special = draw(st.sampled_from([(), ("0",), ("-1", "999999999"), (inside,), (inside, "0")]))
    return Feature("f", "numeric", low=float(low), high=float(high), scale=scale, special=special)


def values_of(feature: Feature, draws: int = 200, seed: int = 0) -> np.ndarray:
    """Values in, at the ends of and outside the range, on fine edges, missing, infinite and special."""
    rng = np.random.default_rng(seed)
    edges = fine_edges(feature)
    odd = [feature.low, feature.high, 0.0, -0.0, np.nan, np.inf, -np.inf, *(float(s) for s in feature.special)]
    shares = rng.random(draws)
    inside = 2 * ((1 - shares) * (feature.low / 2) + shares * (feature.high / 2))
    pool = np.concatenate([odd, edges, np.nextafter(edges, -np.inf), inside])
    return rng.choice(pool, draws)


counts_drawn = st.lists(
    st.one_of(st.just(0.0), st.floats(-1e6, 1e6), st.sampled_from([1e300, -1e300, math.inf, -math.inf, math.nan])),
    min_size=FINE,
    max_size=FINE,
)
stddevs = st.sampled_from([0.0, 1e-9, 1.0, 50.0, 1e6, 1e300])


# --- fine bins


@DERANDOMIZED
@given(feature=features())
def test_there_are_always_64_fine_bins_in_the_range(feature: Feature) -> None:
    edges = fine_edges(feature)
    assert edges.shape == (FINE - 1,)
    assert feature.low < edges[0]
    assert edges[-1] <= feature.high
    assert (np.diff(edges) > 0).all()


def test_fine_bins_of_a_linear_range_have_equal_width() -> None:
    assert fine_edges(Feature("f", "numeric", low=-64, high=64)).tolist() == list(range(-62, 64, 2))


@pytest.mark.parametrize(("low", "high", "scale"), [(0, 1e6, "log"), (-3e5, 1e6, "signed-log"), (0, 9, "signed-log")])
def test_zero_has_a_fine_bin_of_its_own(low: float, high: float, scale: str) -> None:
    feature = Feature("f", "numeric", low=low, high=high, scale=scale)
    tiny = np.nextafter(0.0, 1.0)
    held = counts([feature], [np.array([0.0, -0.0])])
    around = counts([feature], [np.array([tiny, *([-tiny] if low < 0 else [])])])
    assert held.max() == 2
    assert around[held > 0].sum() == 0


def test_fine_bins_of_a_symmetric_range_are_symmetric() -> None:
    edges = fine_edges(Feature("f", "numeric", low=-1e4, high=1e4, scale="signed-log"))
    rest = edges[np.abs(edges) > 1e-300]
    positive, negative = rest[rest > 0], -rest[rest < 0][::-1]
    assert abs(len(positive) - len(negative)) <= 1
    assert positive[0] == negative[0] == 1.0  # four decades below the top


@pytest.mark.parametrize(("scale", "low"), [("linear", 1.0), ("log", 1.0), ("signed-log", 1.0), ("linear", -1.0)])
def test_a_range_narrower_than_its_floats_is_refused(scale: str, low: float) -> None:
    high = float(np.nextafter(low, 2.0))
    with pytest.raises(ValueError, match=r"range of 'f' must be wide enough for 64 bins, got \["):
        fine_edges(Feature("f", "numeric", low=low, high=high, scale=scale))


# --- counts


@DERANDOMIZED
@given(feature=features(), seed=st.integers(0, 99))
def test_counts_agree_with_the_encoding_by_the_same_edges(feature: Feature, seed: int) -> None:
    column = values_of(feature, seed=seed)
    edges = tuple(fine_edges(feature).tolist())
    given_edges = Feature("f", "numeric", low=feature.low, high=feature.high, special=feature.special, edges=edges)
    codes = FeatureBins.of(given_edges).codes_of_numbers(column)
    assert counts([feature], [column]).tolist() == np.bincount(codes, minlength=99)[:FINE].tolist()


@DERANDOMIZED
@given(several=st.lists(features(), min_size=1, max_size=5), seed=st.integers(0, 99), data=st.data())
def test_one_person_moves_the_counts_by_at_most_the_bound(
    several: list[Feature], seed: int, data: st.DataObject
) -> None:
    columns = [values_of(f, seed=seed + i) for i, f in enumerate(several)]
    person = data.draw(st.integers(0, len(columns[0]) - 1))
    moved = counts(several, columns) - counts(several, [np.delete(c, person) for c in columns])
    counted = sum(
        not math.isnan(c[person]) and c[person] not in [float(s) for s in f.special]
        for f, c in zip(several, columns, strict=True)
    )
    assert np.linalg.norm(moved) == pytest.approx(math.sqrt(counted), abs=1e-12)
    assert np.linalg.norm(moved) <= bound(len(several)) * (1 + 1e-12)


def test_the_bound_is_reached_and_missing_and_special_move_nothing() -> None:
    several = [Feature(n, "numeric", low=0, high=9, special=("5",)) for n in "abc"]
    everywhere = [np.array([1.0])] * 3
    assert np.linalg.norm(counts(several, everywhere)) == pytest.approx(bound(3))
    assert counts(several, [np.array([np.nan, 5.0])] * 3).sum() == 0
    assert counts(several, [np.zeros(0)] * 3).tolist() == [0.0] * (3 * FINE)
    assert counts([], []).shape == (0,)


def test_each_feature_needs_its_column() -> None:
    with pytest.raises(ValueError, match="zip"):
        counts([Feature("f", "numeric", low=0, high=9)], [])


# --- chosen edges


@DERANDOMIZED
@given(feature=features(), noisy=counts_drawn, stddev=stddevs)
def test_there_are_always_23_increasing_edges_in_the_range(feature: Feature, noisy: list[float], stddev: float) -> None:
    edges = chosen_edges(feature, np.array(noisy), stddev)
    assert len(edges) == BINS - 1
    assert set(edges) <= set(fine_edges(feature).tolist())
    assert all(a < b for a, b in itertools.pairwise((feature.low, *edges)))
    assert edges[-1] <= feature.high
    part = FeatureBins.of(Feature("f", "numeric", low=feature.low, high=feature.high, edges=edges))
    assert part.ordered == BINS


@DERANDOMIZED
@given(
    feature=features(),
    others=st.lists(st.integers(0, 1000), min_size=FINE - 1, max_size=FINE - 1),
    place=st.integers(0, FINE - 1),
    share=st.floats(HEAVY + 0.001, 1.0),
    quiet=st.sampled_from([0.0, 1e-4, 0.02]),
)
def test_a_heavy_fine_bin_is_a_bin_of_its_own(
    feature: Feature, others: list[int], place: int, share: float, quiet: float
) -> None:
    atom = sum(others) * share / (1 - share) if share < 1 and sum(others) else 1e6
    noisy = np.insert(np.array(others, dtype=np.float64), place, atom)
    edges, fine = chosen_edges(feature, noisy, quiet * atom), fine_edges(feature)
    assert place == 0 or fine[place - 1] in edges
    assert place == FINE - 1 or fine[place] in edges


@pytest.mark.parametrize("stddev", [0.0, 100.0])
def test_without_information_the_bins_are_of_equal_width(stddev: float) -> None:
    edges = chosen_edges(Feature("f", "numeric", low=0, high=FINE), np.full(FINE, -3.0), stddev)
    assert set(np.diff([0.0, *edges, FINE])) == {2.0, 3.0}


def test_a_counter_has_a_bin_for_each_value() -> None:
    feature = Feature("f", "numeric", low=0, high=20)
    values = np.repeat(np.arange(21.0), 100)
    edges = chosen_edges(feature, counts([feature], [values]), 1.0)
    assert len(set(np.searchsorted(edges, np.arange(21.0), side="right"))) == 21


@pytest.mark.parametrize("seed", range(10))
def test_no_other_join_has_a_smaller_sum_of_squares(seed: int) -> None:
    """Against moving any one edge anywhere, and against joining greedily the lightest neighbours."""
    rng = np.random.default_rng(seed)
    masses = rng.gamma(0.5, size=FINE)

    def squares(stops: list[int]) -> float:
        return float((np.add.reduceat(masses, [0, *sorted(stops)]) ** 2).sum())

    edges = chosen_edges(Feature("f", "numeric", low=0, high=FINE), masses, 0.0)
    stops = [int(e) for e in edges]
    moved = [[*stops[:i], *stops[i + 1 :], at] for i in range(BINS - 1) for at in set(range(1, FINE)) - set(stops)]
    greedy = list(range(1, FINE))
    while len(greedy) > BINS - 1:
        greedy = min((greedy[:i] + greedy[i + 1 :] for i in range(len(greedy))), key=squares)
    assert squares(stops) <= min(squares(greedy), *map(squares, moved)) * 1.001  # the faint prior's share


@DERANDOMIZED
@given(feature=features(), noisy=st.lists(st.floats(0, 1e4), min_size=FINE, max_size=FINE))
def test_the_scale_of_counts_and_noise_together_does_not_matter(feature: Feature, noisy: list[float]) -> None:
    once = chosen_edges(feature, np.array(noisy), 16.0)
    assert once == chosen_edges(feature, np.array(noisy) * 4, 64.0)


def test_chosen_edges_check_their_arguments() -> None:
    feature = Feature("f", "numeric", low=0, high=9)
    with pytest.raises(ValueError, match=r"noisy must have shape \(64,\)"):
        chosen_edges(feature, np.zeros(FINE - 1), 1.0)
    for stddev in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="stddev must be finite and >= 0"):
            chosen_edges(feature, np.zeros(FINE), stddev)


def test_chosen_edges_make_an_encoding_of_known_size() -> None:
    private = [Feature(n, "numeric", low=0, high=1e6, scale="log", special=("0",)) for n in "ab"]
    rng = np.random.default_rng(5)
    sizes = set()
    for _ in range(3):
        edges = [chosen_edges(f, rng.normal(0, 9, FINE), 9.0) for f in private]
        named = tuple(
            Feature(f.name, "numeric", low=0, high=1e6, special=("0",), edges=e)
            for f, e in zip(private, edges, strict=True)
        )
        sizes.add(Encoding.of(Contract("payments", 1, named)).columns)
    assert len(sizes) == 1


# --- how good the edges are: log-normal amounts, the setting of shared reference privacy.md 3.4


def rank_error(edges: tuple[float, ...], amounts: np.ndarray) -> float:
    """Mean distance, in ranks, of the 15 inner 16-quantiles to their nearest edges."""
    ranks = np.searchsorted(np.sort(amounts), edges) / len(amounts)
    return float(np.abs(ranks[:, None] - np.arange(1, 16) / 16).min(axis=0).mean())


def mean_rank_error(persons: int, together: int, epsilon: float, repeats: int) -> tuple[float, float]:
    """Of chosen edges, and of the public default's."""
    feature = Feature("amount", "numeric", low=1.0, high=1e6, scale="log")
    noise, rng = Csprng(), np.random.default_rng(7)
    release = GaussianSum(bound(together), FINE, 1 / gaussian_mu(epsilon, 1e-6))
    chosen, default = [], []
    for _ in range(repeats):
        amounts = np.exp(math.log(1e3) + rng.normal(0, 0.5) + rng.standard_normal(persons))
        noisy = release.release(counts([feature], [amounts]), noise)
        chosen.append(rank_error(chosen_edges(feature, noisy, release.noise_stddev), amounts))
        default.append(rank_error(tuple(feature_edges(feature).tolist()), amounts))
    return float(np.mean(chosen)), float(np.mean(default))


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("persons", "together", "epsilon", "flat_64"),
    [(10_000, 1, 0.25, 0.034), (10_000, 20, 0.5, 0.041), (10_000, 100, 0.25, 0.096), (100_000, 100, 1.0, 0.034)],
)
def test_the_rank_error_is_no_worse_than_plain_quantiles(
    persons: int, together: int, epsilon: float, flat_64: float
) -> None:
    chosen, default = mean_rank_error(persons, together, epsilon, repeats=100)
    assert chosen <= 1.2 * flat_64
    assert chosen < 0.6 * default


@pytest.mark.statistical
def test_where_noise_dominates_the_error_stays_near_the_public_default() -> None:
    chosen, default = mean_rank_error(500, together=100, epsilon=0.25, repeats=200)
    assert chosen <= 1.15 * default
