"""What a secure sum costs: every stage has its figure, and a sum that is wrong has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulations import bench_sum


def test_every_stage_of_a_client_has_its_figure() -> None:
    cost = bench_sum.measure(10, 10_000, dropped=1)
    assert set(cost.client) == set(bench_sum.STAGES)
    assert all(seconds > 0 for seconds in cost.client.values())
    assert cost.whole == pytest.approx(sum(cost.client.values()))


def test_a_sum_that_is_not_exact_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sum, "from_ring", lambda words: words.astype("int64") + 1)
    with pytest.raises(RuntimeError, match="not exact"):
        bench_sum.measure(3, 10)


def test_the_command_prints_every_stage(run_cli: Callable[..., Any]) -> None:
    ended = run_cli("bench", "sum", "--partners", "2,4", "--sizes", "10,20")
    assert ended.code == 0
    for word in (*bench_sum.STAGES, "coordinator", "2 x 10", "4 x 20"):
        assert word in ended.out
