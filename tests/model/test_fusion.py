"""Fusion and calibration: bounded rows, exact gradients, known weights found again, and one meaning of the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from model import fusion
from model.descent import Release, Schedule, sigmoid
from model.fusion import MAX_PATTERN_DOMAINS, PARTS, Fit, Layout, Subscores, fit, z_e6
from model.limits.table import MICRO, FusionTable

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
DOMAINS = ("ecommerce", "payments", "tax_business")
MANY = ("a", "b", "c", "d", "e", "f")
Floats = NDArray[np.float64]


def population(
    optional: tuple[str, ...], own: str | None, persons: int, weights: list[float], spread: float = 0.9, seed: int = 5
) -> tuple[Subscores, Floats]:
    """Sub-scores about -2 with known weights; absence of a relationship adds .4 to the log-odds; base rate ~15 %."""
    rng = np.random.default_rng(seed)
    blocks = len(weights)
    values = -2.0 + spread * rng.standard_normal((persons, blocks))
    present = rng.random((persons, blocks)) < 0.7
    if own:
        present[:, -1] = True
    z = -2.0 + (np.where(present, values + 2.0, 0.0) @ np.array(weights)) + 0.4 * (~present).sum(axis=1)
    labels = (rng.random(persons) < sigmoid(z)).astype(np.float64)
    return Subscores(optional, own, np.where(present, values, np.nan)), labels


def without_noise(scores: Subscores, labels: Floats) -> Fit:
    layout = Layout(len(scores.optional), len(scores.blocks))
    schedules = {name: layout.schedule(name, len(labels), math.inf) for name in PARTS}
    return fit(scores, labels, dict.fromkeys(PARTS, lambda total: total), schedules)


def by_the_table(table: FusionTable, scores: Subscores) -> list[int]:
    """Person by person, as the limit decision asks the table."""
    out = []
    for row in scores.values:
        logits = {b: round(float(v) * MICRO) for b, v in zip(scores.blocks, row, strict=True) if not math.isnan(v)}
        related = [d for d in scores.optional if d in logits]
        out.append(table.z_e6(related, related, logits))
    return out


# --- bounds


@pytest.mark.parametrize(("optional", "blocks"), [(1, 1), (2, 3), (3, 3), (4, 5), (5, 5), (6, 7)])
def test_no_persons_row_is_longer_than_its_bound_in_any_pattern(optional: int, blocks: int) -> None:
    layout, rng = Layout(optional, blocks), np.random.default_rng(optional)
    bounds = layout.bounds()
    worst = {"weights": 0.0, "calibration": 0.0}
    for pattern in range(1 << optional):
        rows = rng.standard_normal((50, blocks))
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
        slopes = np.array([[1.0], [-1.0], [0.3]])
        for name, inner, to in (
            ("weights", rows, layout.weights_map(pattern)),
            ("calibration", slopes, layout.platt_map(pattern)),
        ):
            full = np.concatenate([np.ones((len(inner), 1)), inner], axis=1) @ to
            assert full.shape[1] == bounds[name][1]
            worst[name] = max(worst[name], float(np.linalg.norm(full, axis=1).max()))
    assert worst["weights"] == pytest.approx(bounds["weights"][0], rel=1e-12)  # reached where all are absent
    assert worst["calibration"] == pytest.approx(bounds["calibration"][0], rel=1e-12)


def recorded(scores: Subscores, labels: Floats) -> dict[str, list[Floats]]:
    """The exact sums that pass through each release in the first two steps of a fit."""
    seen: dict[str, list[Floats]] = {name: [] for name in PARTS}

    def recorder(name: str) -> Release:
        return lambda total: seen[name].append(total.copy()) or total  # type: ignore[func-returns-value]

    fit(scores, labels, {n: recorder(n) for n in PARTS}, dict.fromkeys(PARTS, Schedule(2, 0.01)))
    return seen


@DERANDOMIZED
@given(
    extreme=st.lists(st.sampled_from([math.nan, -20.0, -2.0, 0.0, 7.5, 20.0]), min_size=3, max_size=3),
    label=st.sampled_from([0.0, 1.0]),
    own=st.booleans(),
)
def test_a_person_moves_the_first_release_by_at_most_its_bound(extreme: list[float], label: float, own: bool) -> None:
    """The centres alone depend on nothing released before, so two whole fits can be compared."""
    optional = DOMAINS[:2] if own else DOMAINS
    base, labels = population(optional, "lender_kyc" if own else None, 40, [0.5] * 3)
    row = np.array([[*extreme[:2], 0.0 if own and math.isnan(extreme[2]) else extreme[2]]])
    more = Subscores(optional, base.own, np.concatenate([base.values, row]))
    with_person = recorded(more, np.append(labels, label))["centres"][0]
    bound, size = Layout(len(optional), 3).bounds()["centres"]
    moved = with_person - recorded(base, labels)["centres"][0]
    assert moved.shape == (size,)
    assert np.linalg.norm(moved) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("optional", [DOMAINS, MANY], ids=["patterns", "shared"])
def test_every_persons_gradient_is_within_its_bound(optional: tuple[str, ...]) -> None:
    """A fit of one person releases that person's gradient."""
    bounds = Layout(len(optional), len(optional)).bounds()
    rng = np.random.default_rng(3)
    for _ in range(60):
        values = rng.choice([np.nan, -20.0, -2.0, 3.0, 20.0], size=(1, len(optional)))
        seen = recorded(Subscores(optional, None, values), rng.integers(0, 2, 1).astype(float))
        for name, (bound, size) in bounds.items():
            assert {s.shape for s in seen[name]} == {(size,)}
            assert max(np.linalg.norm(s) for s in seen[name]) <= bound * (1 + 1e-12)


def test_the_gradient_is_the_numeric_derivative_of_the_log_loss() -> None:
    scores, labels = population(DOMAINS, None, 60, [0.8, 0.6, 0.4])
    layout = Layout(3, 3)
    maps = [layout.weights_map(p) for p in range(8)]
    rows = np.nan_to_num((scores.values + 2.0) / 3.0)
    gradient = fusion._Rows.of(rows, scores.pattern, maps).gradient_sum(labels)
    theta = np.random.default_rng(1).standard_normal(layout.bounds()["weights"][1])

    def loss(at: Floats) -> float:
        z = np.array([np.append(1.0, r) @ (maps[p] @ at) for r, p in zip(rows, scores.pattern, strict=True)])
        return float((np.logaddexp(0.0, z) - labels * z).sum())

    step = 1e-5 * np.eye(len(theta))
    numeric = np.array([(loss(theta + s) - loss(theta - s)) / 2e-5 for s in step])
    assert gradient(theta) == pytest.approx(numeric, abs=1e-6)
    assert np.abs(numeric).max() > 1.0


@pytest.mark.parametrize("persons", [1, 2, 60])
def test_t2_the_gradient_is_the_sum_of_autograds_for_one_person_at_a_time(persons: int) -> None:
    torch = pytest.importorskip("torch")
    scores, labels = population(DOMAINS, None, persons, [0.8, 0.6, 0.4])
    layout = Layout(3, 3)
    rng = np.random.default_rng(1)
    for name, into, maps in (
        ("weights", 3, [layout.weights_map(p) for p in range(8)]),
        ("calibration", 1, [layout.platt_map(p) for p in range(8)]),
    ):
        rows = rng.uniform(-0.5, 0.5, (persons, into))
        theta = rng.standard_normal(layout.bounds()[name][1])
        expected = np.zeros(len(theta))
        for row, pattern, label in zip(rows, scores.pattern, labels, strict=True):
            at = torch.tensor(theta, requires_grad=True)
            logit = torch.tensor(np.append(1.0, row)) @ (torch.tensor(maps[int(pattern)]) @ at)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(label))
            expected += torch.autograd.grad(loss, at)[0].numpy()
        got = fusion._Rows.of(rows, scores.pattern, maps).gradient_sum(labels)(theta)
        assert np.linalg.norm(got - expected) <= 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("values", [[math.inf, -math.inf], [1e200, -1e308], [math.inf, math.nan], [5e-324, -0.0]])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_t1_a_sub_score_without_measure_spoils_nobodys_sum(values: list[float], label: float) -> None:
    with np.errstate(over="ignore"):
        seen = recorded(Subscores(("a", "b"), None, np.array([values])), np.array([label]))
    for name, (bound, _) in Layout(2, 2).bounds().items():
        assert max(np.linalg.norm(total) for total in seen[name]) <= bound * (1 + 1e-12)
        assert np.isfinite(seen[name]).all()


def test_a_fit_of_nobody_releases_zeros_of_the_right_shape() -> None:
    nobody = fusion._Rows.of(np.zeros((0, 2)), np.zeros(0, np.int64), [])
    assert nobody.gradient_sum(np.zeros(0))(np.ones(7)).tolist() == [0.0] * 7


# --- what a fit finds


@pytest.fixture(scope="module")
def known() -> tuple[Subscores, Floats, Fit]:
    scores, labels = population(DOMAINS[:2], "lender_kyc", 20_000, [0.9, 0.5, 0.7])
    return scores, labels, without_noise(scores, labels)


def test_known_weights_are_found_again(known: tuple[Subscores, Floats, Fit]) -> None:
    table = known[2].table
    found = table.entry(DOMAINS[:2], DOMAINS[:2]).weights_e6
    wanted = {"ecommerce": 0.9, "payments": 0.5, "lender_kyc": 0.7}
    assert {b: w / MICRO for b, w in found.items()} == pytest.approx(wanted, abs=0.12)
    assert known[2].centres == pytest.approx(dict.fromkeys(wanted, -2.0), abs=0.05)


def test_each_pattern_ranks_and_calibrates_like_a_logistic_regression(known: tuple[Subscores, Floats, Fit]) -> None:
    scores, labels, fitted = known
    z = z_e6(fitted.table, scores) / MICRO
    for pattern in range(4):
        here = scores.pattern == pattern
        x, y = np.nan_to_num(scores.values[here]), labels[here]
        oracle = LogisticRegression(C=1e6, max_iter=500).fit(x, y).decision_function(x)
        assert roc_auc_score(y, z[here]) > roc_auc_score(y, oracle) - 0.002
        assert sigmoid(z[here]).mean() == pytest.approx(y.mean(), rel=0.05)
    assert sigmoid(z).mean() == pytest.approx(labels.mean(), rel=0.02)


def test_far_apart_sub_scores_are_calibrated_too() -> None:
    scores, labels = population(DOMAINS, None, 20_000, [0.8, 0.6, 0.5], spread=2.0)
    everybody = scores.pattern == 7
    z = z_e6(without_noise(scores, labels).table, scores)[everybody] / MICRO
    assert sigmoid(z).mean() == pytest.approx(labels[everybody].mean(), rel=0.05)


def test_a_block_that_speaks_the_wrong_way_gets_no_negative_weight() -> None:
    scores, labels = population(DOMAINS, None, 4000, [0.9, -0.8, 0.6])
    table = without_noise(scores, labels).table
    weights = [(b, w) for e in table.entries.values() for b, w in e.weights_e6.items()]
    assert len(weights) == 3 * 9  # 27 pairs, each domain available in nine
    assert min(w for _, w in weights) == 0
    assert {b for b, w in weights if w == 0} == {"payments"}


@pytest.mark.parametrize(
    ("optional", "own"),
    [(DOMAINS[:1], None), (DOMAINS, None), (DOMAINS[:2], "lender_kyc"), (MANY, None), (MANY, "own")],
)
def test_all_persons_at_once_equal_the_table_person_by_person(optional: tuple[str, ...], own: str | None) -> None:
    scores, labels = population(optional, own, 600, [0.5] * (len(optional) + (own is not None)))
    table = without_noise(scores, labels).table
    assert z_e6(table, scores).tolist() == by_the_table(table, scores)


def test_many_domains_use_the_rule_which_agrees_with_an_entry_for_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = population(MANY, None, 3000, [0.5, 0.3, 0.7, 0.4, 0.6, 0.5])
    rule = without_noise(scores, labels).table
    assert not rule.entries
    assert len(MANY) > MAX_PATTERN_DOMAINS
    monkeypatch.setattr(Layout, "patterns", 0)  # the same fit, spelled out in entries
    monkeypatch.setattr(fusion, "MAX_PATTERN_DOMAINS", len(MANY))
    spelled = without_noise(scores, labels).table
    assert len(spelled.entries) == 3 ** len(MANY)
    for key, entry in spelled.entries.items():
        related, available = (tuple(p.split("+")) if p else () for p in key.split("|"))
        composed = rule.entry(related, available)
        assert composed.weights_e6 == entry.weights_e6
        assert abs(composed.intercept_e6 - entry.intercept_e6) <= len(MANY) + 1  # each term is rounded once


@pytest.mark.parametrize("optional", [DOMAINS, MANY], ids=["entries", "rule"])
def test_a_late_block_counts_as_the_average_of_those_who_have_it(optional: tuple[str, ...]) -> None:
    scores, labels = population(optional, None, 3000, [0.5] * len(optional))
    fitted = without_noise(scores, labels)
    average = {b: round(c * MICRO) for b, c in fitted.centres.items()}
    for late in optional:
        at_hand = [d for d in optional if d != late]
        others = dict.fromkeys(at_hand, -500_000)
        with_average = fitted.table.z_e6(optional, optional, {**others, late: average[late]})
        assert abs(fitted.table.z_e6(optional, at_hand, others) - with_average) <= 3
        never = fitted.table.z_e6(at_hand, at_hand, others)
        assert never > with_average + 100_000  # not to have a relationship is another fact: +.4 here


# --- privacy


def test_as_many_sums_are_released_as_the_schedules_say() -> None:
    scores, labels = population(DOMAINS, None, 500, [0.5] * 3)
    layout, counts = Layout(3, 3), dict.fromkeys(PARTS, 0)

    def counter(name: str) -> Release:
        def release(total: Floats) -> Floats:
            counts[name] += 1
            return total

        return release

    schedules = {name: layout.schedule(name, 500, 0.3) for name in PARTS}
    fit(scores, labels, {name: counter(name) for name in PARTS}, schedules)
    assert counts == {name: s.steps for name, s in schedules.items()}
    assert counts["centres"] == 1


def test_nothing_but_the_releases_tells_of_persons() -> None:
    """With constant releases two populations of one size and one set of patterns give one table."""
    schedules = dict.fromkeys(PARTS, Schedule(5, 0.1))
    releases: dict[str, Release] = dict.fromkeys(PARTS, lambda total: np.linspace(0.5, 1.0, len(total)))
    fits = [fit(*population(DOMAINS, None, 300, [0.5] * 3, seed=seed), releases, schedules) for seed in (1, 2)]
    assert fits[0] == fits[1]


def test_only_public_numbers_set_the_schedule() -> None:
    layout = Layout(3, 4)
    tight, loose = layout.schedule("weights", 1000, 0.05), layout.schedule("weights", 1000, 5.0)
    assert tight.steps * tight.rate < loose.steps * loose.rate
    assert layout.schedule("weights", 10_000, 0.05).rate > tight.rate
    assert layout.schedule("centres", 1000, 0.05).steps == 1
