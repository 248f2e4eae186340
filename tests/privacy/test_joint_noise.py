"""The joint fit's noise: parts that add up to the claim's, and what a run opens where nobody's rows are in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from model.link import SCALE, Link
from model.moments import UNIT, BlockRows, upper
from privacy.mechanisms import GRID, GaussianSum, noise_share
from privacy.noise import Csprng

SIZE = 20_000
MECHANISM = GaussianSum(2.0, SIZE, 3.0)


def ratio(values: NDArray[Any], stddev: float) -> float:
    """The root mean square of noise over what it should be."""
    return float(np.sqrt(np.square(values / stddev).mean()))


@pytest.mark.parametrize("unit", [UNIT * UNIT, UNIT * SCALE])
@pytest.mark.parametrize("shares", [1, 2, 5])
def test_a_part_of_noise_is_whole_steps_of_its_part_of_the_variance(unit: int, shares: int) -> None:
    part = noise_share(MECHANISM, unit, shares, Csprng())
    assert part.dtype == np.int64
    assert part.shape == (SIZE,)
    stddev = MECHANISM.noise_stddev * unit / math.sqrt(shares)
    for half in (part[: SIZE // 2], part[SIZE // 2 :], part[::2], part[1::2]):
        assert ratio(half, stddev) == pytest.approx(1.0, abs=0.05)  # six standard errors and more
        assert abs(half.mean()) < 6 * stddev / math.sqrt(len(half))
    assert len(np.unique(part % 16)) == 16


@pytest.mark.parametrize("shares", [1, 3])
def test_any_so_many_of_one_part_more_are_the_whole_noise(shares: int) -> None:
    """What a party that knows its own part still does not know."""
    parts = [noise_share(MECHANISM, GRID, shares, Csprng()) for _ in range(shares + 1)]
    whole = MECHANISM.noise_stddev * GRID
    for known in parts:
        assert ratio(np.sum(parts, axis=0) - known, whole) == pytest.approx(1.0, abs=0.04)
    assert ratio(np.sum(parts, axis=0), whole) == pytest.approx(math.sqrt((shares + 1) / shares), abs=0.04)


@pytest.mark.statistical
def test_the_variance_of_a_part_is_right_to_a_thousandth() -> None:
    draws = [noise_share(MECHANISM, GRID, 3, Csprng()) for _ in range(400)]
    stddev = MECHANISM.noise_stddev * GRID / math.sqrt(3)
    assert ratio(np.concatenate(draws), stddev) == pytest.approx(1.0, abs=1.5e-3)
    by_place = np.sqrt(np.square(np.array(draws, np.float64)).mean(axis=0)) / stddev
    assert 0.75 < by_place.min() <= by_place.max() < 1.25


def test_no_noise_is_zeros_and_too_little_for_the_grid_is_refused() -> None:
    assert not noise_share(GaussianSum(2.0, 9, 0.0), GRID, 3, Csprng()).any()
    stddev = GaussianSum(2.0, 9, 1.0).noise_stddev
    noise_share(GaussianSum(2.0, 9, 1001 / stddev / GRID), GRID, 1, Csprng())
    with pytest.raises(ValueError, match="too small for the grid"):
        noise_share(GaussianSum(2.0, 9, 1001 / stddev / GRID), GRID, 2, Csprng())


class Opened(Exception):
    """All of a run that these tests look at was opened."""


@pytest.fixture
def opened(
    write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any, tmp_path: Any
) -> Callable[..., dict[str, Any]]:
    """What a run opens, by kind: with its stated standard deviation, lines and parties, where all rows are zero."""
    from privacy.plan import price
    from simulations import run

    labels, risk = persons(120)
    table = pl.DataFrame({"id": labels["id"], **{f"f{i}": risk + i for i in range(6)}})
    features = [{"name": f"f{i}", "kind": "numeric", "range": [-4, 12]} for i in range(6)]
    files = write_federation(labels, party("pay-1", table, features), party("shop-1", table, features, "shops"))
    seen: dict[str, Any] = {}

    def fit(moments: Any, steps: int, stddev: float, gradient: Any) -> None:
        layout = moments.layout
        link = Link.of(dict.fromkeys(layout.blocks, 0.0), dict.fromkeys(layout.blocks, 0.5))
        bins = {n: int(b.encoding.offsets[-1]) if b.encoding else 0 for n, b in layout.blocks.items()}
        points = {name: np.zeros(1 + count) for name, count in bins.items()}
        seen["matrix"] = upper(moments.matrix), moments.stddev
        seen["steps"] = np.concatenate([gradient(step, link, points) for step in range(steps)]), stddev
        raise Opened

    def ran(trust: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        honest = BlockRows.rows
        monkeypatch.setattr(BlockRows, "rows", lambda *given: np.zeros_like(honest(*given)))
        monkeypatch.setattr("server.planning.check_budget", lambda *given: None)
        monkeypatch.setattr("server.fitting.fit", fit)
        monkeypatch.setattr("server.planning.price", lambda *given: seen.setdefault("plan", price(*given)))
        with pytest.raises(Opened):
            run.simulate(run.Settings(files.federation, tmp_path / "out", engine="moments", trust=trust))
        return seen

    return ran


@pytest.mark.parametrize("trust", ["secure", "curator"])
def test_what_is_opened_has_the_claims_noise_in_the_units_of_rows(
    trust: str, opened: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lender without columns of its own and two partners add a third each, the coordinator another."""
    seen = opened(trust, monkeypatch)
    parts = math.sqrt(4 / 3) if trust == "secure" else 1.0
    lines = {line.name: line.mechanism.noise_stddev for line in seen["plan"].releases}
    matrix, told = seen["matrix"]
    assert told == pytest.approx(parts * lines["moments/joint"])
    for half in (matrix[::2], matrix[1::2], matrix[: len(matrix) // 2], matrix[len(matrix) // 2 :]):
        assert ratio(half, told) == pytest.approx(1.0, abs=6 / math.sqrt(2 * len(half)))
    steps, told = seen["steps"]
    assert told == pytest.approx(parts * lines["refine/joint"])
    assert ratio(steps, told) == pytest.approx(1.0, abs=6 / math.sqrt(2 * len(steps)))
    assert len(np.unique(steps)) == len(steps)  # every step draws anew
    for values, unit in ((matrix, UNIT * UNIT), (steps, UNIT * SCALE)):
        assert np.array_equal(values * unit, np.rint(values * unit))
