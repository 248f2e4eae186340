"""Masked sub-scores: exact sums, nothing in a part, and how much a lender that knows every model learns of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.envelope import new_key, public_key
from privacy.groups import SumRefused
from privacy.score_masks import LEAST, Masker, ScoreRoster, most_versions, summed

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
KEYS = {name: new_key() for name in ("pay-1", "shop-1", "shop-2", "tax-1", "tel-1")}


def _roster(count: int = 3, model: str = "v1") -> ScoreRoster:
    return ScoreRoster(model, {name: public_key(KEYS[name]) for name in list(KEYS)[:count]})


def _maskers(roster: ScoreRoster) -> dict[str, Masker]:
    return {name: Masker(roster, name, KEYS[name]) for name in roster.members}


VALUES = st.integers(-(2**60), 2**60)


@DERANDOMIZED
@given(count=st.integers(LEAST, 5), request=st.text(max_size=20), width=st.integers(1, 4), data=st.data())
def test_the_sum_of_all_answers_is_exact(count: int, request: str, width: int, data: st.DataObject) -> None:
    roster = _roster(count)
    values = {n: np.array(data.draw(st.lists(VALUES, min_size=width, max_size=width))) for n in roster.members}
    answers = {name: masker.masked(request, values[name]) for name, masker in _maskers(roster).items()}
    assert summed(roster, answers).tolist() == np.sum(list(values.values()), axis=0).tolist()


def test_the_same_request_gets_the_same_bytes_and_any_other_one_others() -> None:
    value = np.array([1_234_567, -1])
    first = _maskers(_roster())["pay-1"].masked("r-1", value)
    assert (_maskers(_roster())["pay-1"].masked("r-1", value) == first).all()
    for other in (
        _maskers(_roster())["pay-1"].masked("r-2", value),
        _maskers(_roster(model="v2"))["pay-1"].masked("r-1", value),
        _maskers(_roster(4))["pay-1"].masked("r-1", value),
    ):
        assert not (other == first).any()


def _looks_uniform(words: np.ndarray) -> bool:
    """Chi-square over the values of bytes; of uniform words it is false once in 5 * 10^7."""
    return bool(stats.chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue > 2e-8)


def test_a_part_is_uniform_whatever_is_in_it() -> None:
    masker = _maskers(_roster())["shop-1"]
    parts = [masker.masked(f"r-{i}", np.zeros(4, dtype=np.int64)) for i in range(8000)]
    assert _looks_uniform(np.concatenate(parts))


def test_two_parts_of_three_say_nothing_of_their_sum() -> None:
    """Without the third answer even the sum of two is uniform: there is no smaller sum to subtract."""
    maskers = _maskers(_roster())
    zero = np.zeros(4, dtype=np.int64)
    pairs = [maskers["pay-1"].masked(f"r-{i}", zero) + maskers["shop-1"].masked(f"r-{i}", zero) for i in range(8000)]
    assert _looks_uniform(np.concatenate(pairs))


@pytest.mark.parametrize("change", ["missing", "stranger", "longer"])
def test_a_sum_over_others_than_the_roster_is_refused(change: str) -> None:
    roster = _roster()
    answers = {name: masker.masked("r", np.array([5])) for name, masker in _maskers(roster).items()}
    if change == "missing":
        del answers["shop-2"]
    elif change == "stranger":
        answers["tel-1"] = answers["pay-1"]
    else:
        answers["pay-1"] = np.zeros(2, dtype=np.uint64)
    with pytest.raises(SumRefused):
        summed(roster, answers)


def test_rosters_that_would_show_a_part_are_refused() -> None:
    keys = {name: public_key(key) for name, key in KEYS.items()}
    for members in ({}, {n: keys[n] for n in ("pay-1", "shop-1")}, dict.fromkeys(("a", "b", "c"), keys["pay-1"])):
        with pytest.raises(SumRefused, match="at least 3"):
            ScoreRoster("v1", members)
    with pytest.raises(SumRefused, match="version"):
        ScoreRoster("", keys)
    with pytest.raises(SumRefused, match="own key"):
        Masker(_roster(), "pay-1", KEYS["shop-1"])
    with pytest.raises(SumRefused, match="none"):
        Masker(ScoreRoster("v1", {**_roster().members, "x": bytes(32)}), "pay-1", KEYS["pay-1"])


@pytest.mark.parametrize("values", [np.zeros(5, dtype=np.int64), np.zeros(0, dtype=np.int64), np.array([0.5])])
def test_answers_of_another_form_are_refused(values: np.ndarray) -> None:
    with pytest.raises(SumRefused, match="int64"):
        _maskers(_roster())["pay-1"].masked("r", values)


def _recovered(versions: int, columns: Sequence[int], masked: bool) -> tuple[float, float]:
    """R^2 of the first block's features: by the best linear estimate, and by one that takes other blocks for noise.

    The lender knows every version's weights: of retrained models, alike but for what noise and new data change.
    """
    rng = np.random.default_rng(20261125)
    persons = [rng.normal(size=(1500, width)) for width in columns]
    weights = [rng.normal(size=width) + 0.3 * rng.normal(size=(versions, width)) for width in columns]
    scores = [np.rint(x @ w.T * 1e6) / 1e6 for x, w in zip(persons, weights, strict=True)]
    if masked:
        seen, known = np.sum(scores, axis=0), np.hstack(weights)
    else:
        seen, known = scores[0], weights[0]
    best = (seen @ np.linalg.pinv(known).T)[:, : columns[0]]
    noise = sum(columns[1:]) * 1.09 * np.eye(versions) if masked else 1e-9 * np.eye(versions)
    simple = seen @ np.linalg.solve(weights[0] @ weights[0].T + noise, weights[0])
    truth = persons[0]
    explained = [1 - ((truth - found) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum() for found in (best, simple)]
    return explained[0], explained[1]


def test_twenty_versions_give_features_away_but_not_through_masked_sums() -> None:
    """T18: three domains of 20 features; the lender that takes the other domains for noise learns next to nothing."""
    alone, _ = _recovered(20, [20, 20, 20], masked=False)
    _, masked = _recovered(20, [20, 20, 20], masked=True)
    assert alone > 0.999
    assert masked <= 0.15


@pytest.mark.parametrize("columns", [[20, 20, 20], [20, 60, 60], [85, 60, 71]])
def test_up_to_the_versions_allowed_even_the_best_linear_estimate_learns_little(columns: list[int]) -> None:
    allowed = most_versions(columns)
    best, _ = _recovered(allowed, columns, masked=True)
    more, _ = _recovered(2 * allowed, columns, masked=True)
    assert best <= 0.15 + 0.03
    assert more == pytest.approx(0.30, abs=0.06)


@pytest.mark.parametrize("recovered", [0.0, -1.0, 1.1])
def test_shares_that_are_none_are_refused(recovered: float) -> None:
    with pytest.raises(ValueError, match="share of variance"):
        most_versions([20], recovered)
