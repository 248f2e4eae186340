"""A matrix that drowns in its noise is refused from public numbers, and the message says what to do."""

import numpy as np
import pytest

from model.contract import Contract, Feature
from model.denoising import Moments, normal_equations
from model.encoding import Encoding
from model.inputs import InputError
from model.joint import first_fit
from model.metrics import auc
from model.moments import UNIT, Layout
from model.width import MAX_LOAD, check_width, load, mean_square

LATE = Feature("late", "numeric", low=0, high=1)
SHOP = Feature("shop", "categorical", values=tuple(f"s{i}" for i in range(30)))
LAYOUT = Layout(None, {"payments": Encoding.of(Contract("payments", 1, (LATE, SHOP)))})


def test_the_mean_square_is_the_longest_rows_over_all_columns() -> None:
    """The constant, the label of scale 2, half a unit for the relationship, one of 32 indicators: 35 columns."""
    layout = Layout(None, {"payments": Encoding.of(Contract("payments", 1, (SHOP,)))})
    assert mean_square(layout) == pytest.approx((1 + 4 + 0.25 + 1) / 35)
    assert mean_square(Layout(None, {})) == 2.5


def test_the_load_grows_with_noise_and_columns_and_falls_with_persons() -> None:
    assert load(LAYOUT, 1000, 0.0) == 0.0
    assert load(LAYOUT, 1000, 2.0) == pytest.approx(2 * load(LAYOUT, 1000, 1.0))
    assert load(LAYOUT, 2000, 1.0) == pytest.approx(load(LAYOUT, 1000, 1.0) / 2)
    assert load(LAYOUT, 0, 1.0) > load(LAYOUT, 2, 1.0)


@pytest.mark.parametrize("persons", [100, 10_000])
def test_just_above_the_limit_is_refused_and_just_below_is_not(persons: int) -> None:
    stddev = MAX_LOAD / load(LAYOUT, persons, 1.0)
    check_width(LAYOUT, persons, stddev * 0.999)
    with pytest.raises(InputError) as caught:
        check_width(LAYOUT, persons, stddev * 1.2)
    text = str(caught.value)
    assert f"too many for {persons} persons" in text
    assert f"got {LAYOUT.width}" in text
    assert "payments.shop (32), payments.late (9)" in text
    assert f"{int(LAYOUT.width / 1.44)} would fit" in text


def test_where_nothing_would_fit_it_asks_for_persons_or_epsilon() -> None:
    with pytest.raises(InputError, match="too few persons"):
        check_width(LAYOUT, 10, 1e6)
    with pytest.raises(InputError, match="raise epsilon"):
        check_width(Layout(None, {}), 10, 1e6)


@pytest.mark.statistical
@pytest.mark.parametrize(("share", "least", "most"), [(0.02, 0.85, 1.05), (2.0, -0.3, 0.5)])
def test_beyond_the_limit_little_is_left_and_far_below_it_nearly_all(share: float, least: float, most: float) -> None:
    """On 8 curves: a fiftieth of the limit keeps nearly all, twice the limit less than half, on average of draws."""
    rng = np.random.default_rng(3)
    names, persons = [f"d{i}" for i in range(4)], 20_000
    contracts = {n: Contract(n, 1, tuple(Feature(f"x{i}", "numeric", low=-3, high=3) for i in range(2))) for n in names}
    layout = Layout(None, {n: Encoding.of(c) for n, c in contracts.items()})
    values = rng.standard_normal((4, 2, persons))
    labels = (rng.random(persons) < 1 / (1 + np.exp(1.8 - 0.35 * values.sum(axis=(0, 1))))).astype(np.int8)
    rows = [layout.blocks[""].rows(np.zeros((0, persons), np.uint16), labels)]
    for name, pair in zip(names, values, strict=True):
        parts = layout.domains[name].parts
        rows.append(
            layout.blocks[name].rows(np.stack([p.codes_of_numbers(v) for p, v in zip(parts, pair, strict=True)]))
        )
    matrix = np.concatenate(rows, axis=1) / UNIT
    train, held = matrix[: persons // 2], np.delete(matrix, 1, axis=1)[persons // 2 :]
    stddev = share * MAX_LOAD / load(layout, len(train), 1.0)

    def gain(noise: float) -> float:
        drawn = np.triu(rng.standard_normal((layout.width, layout.width)) * noise)
        released = Moments(layout, train.T @ train + drawn + np.triu(drawn, 1).T, noise, len(train))
        return (
            auc(labels[persons // 2 :].astype(float), held @ first_fit(normal_equations(released)).beta) or 0.5
        ) - 0.5

    assert least < np.mean([gain(stddev) for _ in range(12)]) / gain(0.0) < most
