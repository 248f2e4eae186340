"""What a secure sum costs: within what a client may spend, and no figure of a sum that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulations import bench_sum


def test_ten_partners_sum_a_hundred_thousand_numbers_within_50_ms_a_client() -> None:
    """CPU time; about 11 ms on one core of the machine that docs name."""
    cost = bench_sum.measure(10, 100_000, dropped=1)
    assert all(seconds > 0 for seconds in cost.client.values())
    assert cost.whole <= 0.050


def test_a_sum_that_is_not_exact_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sum, "from_ring", lambda words: words.astype("int64") + 1)
    with pytest.raises(RuntimeError, match="not exact"):
        bench_sum.measure(3, 10)


def test_the_command_prints_every_stage(run_cli: Callable[..., Any]) -> None:
    ended = run_cli("bench", "sum", "--partners", "2,4", "--sizes", "10,20")
    assert ended.code == 0
    for word in (*bench_sum.STAGES, "coordinator", "2 x 10", "4 x 20"):
        assert word in ended.out
