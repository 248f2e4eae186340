"""Shapley values of blocks: the axioms, the closed form, and what intervals promise."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import norm

from model.contract import Contract, Feature
from model.contributions import MAX_BLOCKS, Contribution, columns_of, contributions, shapley
from model.denoising import Moments
from model.descent import sigmoid
from model.encoding import Encoding
from model.moments import UNIT, Layout

OWN = "lender_kyc"
CONTRACT = Contract("any", 1, (Feature("x", "numeric", low=-3, high=3), Feature("late", "flag")))


def moments(
    effects: dict[str, float], persons: int, seed: int, stddev: float = 0.0, same: tuple[str, str] | None = None
) -> Moments:
    """Blocks of a curve and a flag that stands for nothing; `effects` of the curves; `same` names two equal blocks."""
    rng, encoding = np.random.default_rng(seed), Encoding.of(CONTRACT)
    layout = Layout(encoding if OWN in effects else None, {n: encoding for n in effects if n != OWN})
    values = {name: rng.standard_normal(persons) for name in effects}
    flags = {name: rng.integers(0, 2, persons).astype(np.uint16) for name in effects}
    if same:
        values[same[1]], flags[same[1]] = values[same[0]], flags[same[0]]
    risk = sum((w * values[n] for n, w in effects.items()), np.full(persons, -1.7))
    labels = (rng.random(persons) < sigmoid(risk)).astype(np.int8)
    rows = []
    for key, block in layout.blocks.items():
        name = key or OWN
        codes = np.zeros((0, persons), np.uint16)
        if name in effects:
            codes = np.stack([encoding.parts[0].codes_of_numbers(values[name]), flags[name]])
        rows.append(block.rows(codes, None if key else labels))
    matrix = np.concatenate(rows, axis=1) / UNIT
    noise = np.triu(rng.standard_normal((layout.width, layout.width)) * stddev)
    return Moments(layout, matrix.T @ matrix + noise + np.triu(noise, 1).T, stddev, persons)


def test_shapley_values_are_the_mean_over_all_orders() -> None:
    rng, blocks = np.random.default_rng(2), ("a", "b", "c", "d")
    values = {s: np.array(rng.random()) for k in range(5) for s in combinations(blocks, k)}
    found = shapley(blocks, values)
    for block in blocks:
        added = []
        for order in permutations(blocks):
            before = order[: order.index(block)]
            added.append(values[tuple(sorted((*before, block)))] - values[tuple(sorted(before))])
        assert found[block] == pytest.approx(np.mean(added))


def test_parts_sum_to_the_whole_and_the_whole_is_the_closed_form() -> None:
    """One strong block whose log-odds are Gaussian: the AUC of the linear fit is nearly that of the true score."""
    released = moments({"payments": 1.0, "ecommerce": 0.5, OWN: 0.3}, 60_000, 1)
    found = contributions(released, OWN, np.random.default_rng(0))
    total = sum(c.shapley for c in found.values())
    for name, contribution in found.items():
        others = {n: c for n, c in found.items() if n != name}
        assert contribution.without < total
        assert contribution.low < contribution.shapley < contribution.high
        assert len(others) == 2
    rng = np.random.default_rng(4)
    score = math.sqrt(1 + 0.25 + 0.09) * rng.standard_normal(400_000)
    bad = rng.random(len(score)) < sigmoid(score - 1.7)
    d = (score[bad].mean() - score[~bad].mean()) / math.sqrt((score[bad].var() + score[~bad].var()) / 2)
    assert total == pytest.approx(norm.cdf(d / math.sqrt(2)) - 0.5, abs=0.012)


def test_the_sum_is_the_separation_of_all_blocks_exactly() -> None:
    released = moments({"payments": 0.8, "ecommerce": 0.2}, 5_000, 3)
    found = contributions(released, None, np.random.default_rng(0))
    values = {(): 0.0, ("payments",): found["ecommerce"].without, ("ecommerce",): found["payments"].without}
    total = found["payments"].shapley + found["ecommerce"].shapley
    assert shapley(("ecommerce", "payments"), {**values, ("ecommerce", "payments"): total}) == pytest.approx(
        {name: c.shapley for name, c in found.items()}, abs=1e-12
    )


def test_two_equal_blocks_share_equally_and_neither_is_missed() -> None:
    released = moments({"aa": 0.5, "bb": 0.5, "cc": 0.4}, 30_000, 5, same=("aa", "bb"))
    found = contributions(released, None, np.random.default_rng(1))
    assert found["aa"].shapley == pytest.approx(found["bb"].shapley, rel=1e-6)
    total = sum(c.shapley for c in found.values())
    assert found["aa"].without == pytest.approx(total, abs=0.002)
    assert found["aa"].shapley > found["cc"].shapley


def test_names_and_order_do_not_matter() -> None:
    first = contributions(moments({"aa": 0.7, "bb": 0.3}, 8_000, 6), None, np.random.default_rng(1))
    second = contributions(moments({"zz": 0.7, "bb": 0.3}, 8_000, 6), None, np.random.default_rng(1))
    assert first["aa"].shapley == pytest.approx(second["zz"].shapley, rel=1e-9)
    assert first["bb"].shapley == pytest.approx(second["bb"].shapley, rel=1e-9)


def test_noise_widens_the_intervals() -> None:
    def width(stddev: float) -> float:
        found = contributions(moments({"aa": 0.7, "bb": 0.3}, 8_000, 6, stddev), None, np.random.default_rng(1))
        return found["aa"].high - found["aa"].low

    assert width(0.0) < width(20.0) < width(60.0)  # at much more, shrinkage wins


@pytest.mark.parametrize("stddev", [0.0, 1e3, 1e6])
def test_under_any_noise_values_are_finite_and_within_what_an_auc_can_be(stddev: float) -> None:
    for value in contributions(moments({"aa": 0.7, OWN: 0.3}, 500, 7, stddev), OWN).values():
        assert -0.5 <= value.low <= value.high <= 0.5
        assert -0.5 <= value.shapley <= 0.5


@pytest.mark.statistical
@pytest.mark.parametrize("stddev", [0.0, 60.0, 250.0])
def test_a_block_of_noise_has_about_nothing_and_intervals_keep_their_promise(stddev: float) -> None:
    """90 % intervals over 60 repeats; the truth of the others is a large sample's, where shrinkage is small."""
    effects = {"aa": 0.6, "bb": 0.4, "noise": 0.0}
    truth = contributions(moments(effects, 400_000, 8), None, np.random.default_rng(1))
    drawn = [contributions(moments(effects, 15_000, 100 + i, stddev), None) for i in range(60)]
    assert abs(np.mean([d["noise"].shapley for d in drawn])) < 0.004
    covered = {n: np.mean([d[n].low <= truth[n].shapley * (n != "noise") <= d[n].high for d in drawn]) for n in effects}
    assert covered["noise"] > 0.8
    assert stddev > 100 or min(covered.values()) > 0.72, covered


def test_more_blocks_than_can_be_counted_exactly_are_refused() -> None:
    released = moments({f"d{i}": 0.1 for i in range(MAX_BLOCKS + 1)}, 50, 1)
    with pytest.raises(ValueError, match=f"at most {MAX_BLOCKS} blocks, got {MAX_BLOCKS + 1}"):
        contributions(released, None)


def test_own_must_be_named_just_where_the_lender_has_a_block() -> None:
    layout = moments({"aa": 0.1, OWN: 0.1}, 50, 1).layout
    assert columns_of(layout, OWN)[OWN][0] == 1
    for own in (None, "aa"):
        with pytest.raises(ValueError, match="own must name"):
            columns_of(layout, own)


def test_without_any_block_there_is_nothing_to_share() -> None:
    assert contributions(moments({}, 50, 1), None) == {}
    assert Contribution(0.1, 0.0, 0.2, 0.3).without == 0.3
