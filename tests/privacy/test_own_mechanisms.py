"""Mechanisms that are not shipped: what is refused when they become known, and whenever a line is made of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from privacy.mechanisms import GAUSSIAN_SUM, GaussianSum, UnknownMechanism, mechanism, mechanism_of, reading
from privacy.plan import Release, price

LINE = Release("payments/pay-1", "pay-1", 2.0, 4, 100, 1.0, kind="own")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes known lasts for one test."""
    monkeypatch.setattr("privacy.mechanisms._MECHANISMS", {GAUSSIAN_SUM: GaussianSum})


def _twice(name: str) -> None:
    with reading(__name__, "a"):
        for _ in range(2):
            mechanism(name)(slack_of(lambda made: (0.0, 0.0)))


def slack_of(found: Callable[[GaussianSum], tuple[float, float]]) -> type[GaussianSum]:
    """A mechanism that says its slack by a function of its own."""

    @dataclass(frozen=True)
    class Own(GaussianSum):
        @property
        def slack(self) -> tuple[float, float]:
            return found(self)

    return Own


@dataclass
class Changing:
    """All that a mechanism must have, but what it is priced by can be set anew."""

    bound: float
    size: int
    noise_multiplier: float
    sensitivity: float = 0.0
    noise_stddev: float = 0.0
    slack: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.sensitivity, self.noise_stddev = self.bound, self.bound * self.noise_multiplier

    def release(self, total: Any, _: Any) -> Any:
        return total


@dataclass(frozen=True)
class Louder(GaussianSum):
    """A mechanism that says it was made with twice the noise multiplier that it was made with."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_multiplier", 2 * self.noise_multiplier)


class Plain(Changing):
    """As `Changing`."""


@pytest.mark.parametrize("wrong", [(-1e-9, 0.0), (0.0, -1e-9), (math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0)])
def test_a_slack_that_is_no_cost_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="slack must be two finite numbers >= 0"):
        mechanism("own")(slack_of(lambda made: wrong))
    with pytest.raises(UnknownMechanism, match="no mechanism is known here as 'own'"):
        mechanism_of("own")


def test_a_slack_that_turns_negative_for_one_line_alone_is_refused_when_that_line_is_priced() -> None:
    mechanism("own")(slack_of(lambda made: (-5.0, 0.0) if made.size == 7 else (0.0, 0.0)))
    assert price([LINE], 1.0, 1e-5).spent() <= 1.0
    with pytest.raises(UnknownMechanism, match="slack must be two finite numbers >= 0"):
        price([Release("payments/pay-1", "pay-1", 2.0, 7, 100, 1.0, kind="own")], 1.0, 1e-5)


@pytest.mark.parametrize("kind", [Changing, Plain])
def test_only_a_frozen_dataclass_is_taken(kind: Any) -> None:
    with pytest.raises(ValueError, match="own must be a frozen dataclass that meets Mechanism"):
        mechanism("own")(kind)


def test_one_that_is_priced_at_more_noise_than_it_was_given_is_refused() -> None:
    with pytest.raises(ValueError, match="own must keep the bound, size and noise_multiplier"):
        mechanism("own")(Louder)


def test_each_text_has_its_own_mechanism_of_a_name_and_may_be_read_again() -> None:
    for digest, ratio in (("a", 0.1), ("b", 0.2), ("a", 0.1)):
        with reading(__name__, digest):
            mechanism("own")(slack_of(lambda made, ratio=ratio: (ratio, 0.0)))  # type: ignore[misc]
    assert mechanism_of("own@a")(2.0, 4, 3.0).slack == (0.1, 0.0)
    assert mechanism_of("own@b")(2.0, 4, 3.0).slack == (0.2, 0.0)
    with pytest.raises(UnknownMechanism):
        mechanism_of("own")


def test_one_text_with_two_of_a_name_is_refused_and_leaves_neither() -> None:
    with pytest.raises(ValueError, match="known as 'own' already"):
        _twice("own")
    with pytest.raises(UnknownMechanism):
        mechanism_of("own@a")


def test_a_text_also_takes_a_mechanism_that_it_imported_and_the_shipped_one() -> None:
    with reading("a.module.of.its.own", "a"):
        mechanism("own")(slack_of(lambda made: (0.1, 0.0)))  # of this module, which that one imports
    assert mechanism_of("own@a") is not mechanism_of("own")  # each is checked once it is made
    assert mechanism_of("own@a")(2.0, 4, 3.0) == mechanism_of("own")(2.0, 4, 3.0)
    assert mechanism_of(f"{GAUSSIAN_SUM}@a") is GaussianSum


@pytest.mark.parametrize("name", [GAUSSIAN_SUM, "own@a"])
def test_a_name_that_would_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="give this one a name of its own"):
        mechanism(name)(slack_of(lambda made: (0.0, 0.0)))
