"""One joint fit for every subset of blocks, against fits of that subset alone, a plain sum, and heavy noise."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.averages import families_of
from model.blocks import Block
from model.coherent import Published, published, standard_errors_e6, variances
from model.contract import Contract, Feature
from model.denoising import Moments, normal_equations
from model.descent import sigmoid
from model.encoding import Encoding
from model.fusion import MAX_PATTERN_DOMAINS
from model.joint import first_fit, refined, settled
from model.late import ScoreMoments, patterns
from model.limits.table import MICRO
from model.metrics import auc
from model.moments import UNIT, Layout

OWN = "lender_kyc"
SHARES = {"ecommerce": 0.7, "payments": 0.85, "tax_business": 0.6}


def contract(name: str, features: int = 2) -> Contract:
    numeric = [Feature(f"x{i}", "numeric", low=-3, high=3, group=f"g{i % 2}") for i in range(features)]
    return Contract(name, 1, (*numeric, Feature("kind", "categorical", values=("a", "b"), group="kinds")))


class People:
    """Blocks whose features share a factor; who is better known is a little safer; 15 % default, roughly."""

    def __init__(self, persons: int, shares: dict[str, float], seed: int = 5, own: bool = True) -> None:
        rng = np.random.default_rng(seed)
        encodings = {name: Encoding.of(contract(name)) for name in [*shares, OWN]}
        factor, risk = rng.standard_normal(persons), np.full(persons, -1.9)
        self.codes, self.here, rows = {}, {}, {}
        known = rng.standard_normal(persons)
        for name, encoding in encodings.items():
            values = 0.6 * factor + 0.8 * rng.standard_normal((2, persons))
            kinds = rng.integers(0, 2, persons).astype(np.uint16)
            numeric = [f.codes_of_numbers(v) for f, v in zip(encoding.parts, values, strict=False)]
            self.codes[name] = np.stack([*numeric, kinds])
            mixed = 0.5 * known + np.sqrt(0.75) * rng.standard_normal(persons)
            self.here[name] = mixed <= np.quantile(mixed, shares.get(name, 1.0))
            if name != OWN or own:
                risk += self.here[name] * (0.35 * values.sum(axis=0) + 0.1 * kinds - 0.1)
        self.labels = (rng.random(persons) < sigmoid(risk)).astype(np.int8)
        self.layout = Layout(encodings[OWN] if own else None, {name: encodings[name] for name in shares})
        for key, block in self.layout.blocks.items():
            name = key or OWN
            codes = self.codes[name][: len(block.bases)]
            rows[name] = block.rows(codes, None if key else self.labels) * self.here[name][:, None]
        self.rows = np.concatenate(list(rows.values()), axis=1) / UNIT
        self.columns = np.delete(self.rows, 1, axis=1)

    def moments(self, stddev: float = 0.0, seed: int = 0) -> Moments:
        width = self.layout.width
        noise = np.triu(np.random.default_rng(seed).standard_normal((width, width)) * stddev)
        return Moments(self.layout, self.rows.T @ self.rows + noise + np.triu(noise, 1).T, stddev, len(self.rows))

    def fitted(self, stddev: float = 0.0, seed: int = 0, steps: int = 4) -> Published:
        normal = normal_equations(self.moments(stddev, seed))
        fit = first_fit(normal)
        for _ in range(steps):
            gradient = self.columns.T @ (sigmoid(self.columns @ fit.beta) - self.labels)
            fit = refined(fit, gradient, stddev**2 / 100)
        own = OWN if self.layout.own else None
        return published(self.layout, normal, settled(fit, normal), own)

    def logits(self, model: Published) -> dict[str, np.ndarray]:
        """Sub-scores from the published weights, as a partner computes them."""
        out = {}
        for name, (constant, points) in model.weights.items():
            encoding = self.layout.blocks["" if name == OWN else name].encoding
            assert encoding is not None
            out[name] = self.here[name] * encoding.gather(encoding.packed(self.codes[name]), constant, points)
        return out

    def refit(self, columns: list[int], rows: np.ndarray) -> np.ndarray:
        """A plain ridge logistic fit of some columns on some persons: everybody's log-odds by it."""
        x, y, beta = self.columns[:, columns], self.labels[rows], np.zeros(len(columns))
        for _ in range(6):
            p = sigmoid(x[rows] @ beta)
            hessian = (x[rows] * (p * (1 - p))[:, None]).T @ x[rows] + np.eye(len(columns))
            beta += np.linalg.solve(hessian, x[rows].T @ (y - p) - beta)
        return x @ beta


PEOPLE = People(30_000, SHARES)
MODEL = PEOPLE.fitted()


def slope(labels: np.ndarray, odds: np.ndarray) -> float:
    line, x = np.array([0.0, 1.0]), np.stack([np.ones_like(odds), odds], axis=1)
    for _ in range(6):
        p = sigmoid(x @ line)
        line += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (labels - p))
    return float(line[1])


def odds_of(people: People, model: Published, related: tuple[str, ...], available: tuple[str, ...]) -> np.ndarray:
    entry, logits = model.table.entry(related, available), people.logits(model)
    return entry.intercept_e6 / MICRO + sum(w / MICRO * logits[b] for b, w in entry.weights_e6.items())


def test_the_sub_scores_and_the_constant_sum_to_the_fit() -> None:
    total = sum(PEOPLE.logits(MODEL).values(), np.full(len(PEOPLE.rows), MODEL.fit.beta[0]))
    assert np.allclose(total, PEOPLE.columns @ MODEL.fit.beta)


@pytest.mark.parametrize("related", [r for k in range(4) for r in combinations(SHARES, k)])
def test_where_nothing_is_late_the_table_is_the_fit(related: tuple[str, ...]) -> None:
    entry = MODEL.table.entry(related, related)
    assert set(entry.weights_e6.values()) == {MICRO}
    assert entry.intercept_e6 == round(MODEL.fit.beta[0] * MICRO)


@pytest.mark.parametrize("available", [v for k in range(4) for v in combinations(SHARES, k)])
def test_a_late_block_costs_what_a_fit_of_the_others_costs(available: tuple[str, ...]) -> None:
    """Over all persons, each by their own pattern: as good and as calibrated as a fit that never knew the late ones."""
    late = [name for name in SHARES if name not in available]
    odds = np.empty(len(PEOPLE.rows))
    present = np.stack([PEOPLE.here[name] for name in SHARES], axis=1)
    for pattern in np.unique(present, axis=0):
        related = tuple(name for name, there in zip(SHARES, pattern, strict=True) if there)
        rows = (present == pattern).all(axis=1)
        odds[rows] = odds_of(PEOPLE, MODEL, related, tuple(set(related) & set(available)))[rows]
    kept = [c for name, s in MODEL.columns.items() if name not in late for c in range(s.start, s.stop)]
    kept += [MODEL.columns[name].start for name in late]  # the relationship itself is known
    alone = PEOPLE.refit(sorted(kept), np.arange(len(odds)))
    ours, theirs = (auc(PEOPLE.labels.astype(float), z) for z in (odds, alone))
    assert ours is not None
    assert theirs is not None
    assert abs(ours - theirs) < 0.003
    assert 0.9 < slope(PEOPLE.labels, odds) < 1.1
    assert abs(sigmoid(odds).mean() - PEOPLE.labels.mean()) < 0.004


def test_reasons_and_centres_are_the_exact_averages_of_those_who_have_the_relationship() -> None:
    for name, (constant, points) in MODEL.weights.items():
        encoding = MODEL.layout.blocks["" if name == OWN else name].encoding
        assert encoding is not None
        codes = PEOPLE.codes[name][:, PEOPLE.here[name]]
        block = Block("scorecard", encoding, np.concatenate([[constant], points]))
        groups = block.by_group(codes)
        assert np.allclose(MODEL.families(name), [groups[f].mean() for f in families_of(encoding)], atol=1e-9)
        assert MODEL.centres[name] == pytest.approx(block.subscores(codes).mean(), abs=1e-9)


def test_the_blocks_variances_sum_on_average_to_the_fits() -> None:
    total = np.zeros(len(PEOPLE.rows))
    for name in MODEL.columns:
        rows = MODEL.layout.blocks["" if name == OWN else name]
        here = PEOPLE.here[name]
        total[here] += variances(rows, MODEL.block_covariance(name), PEOPLE.codes[name][:, here])
    whole = np.einsum("ij,jk,ik->i", PEOPLE.columns, MODEL.fit.covariance, PEOPLE.columns)
    assert total.mean() == pytest.approx(whole.mean(), rel=1e-6)
    assert np.corrcoef(total, whole)[0, 1] > 0.7
    assert standard_errors_e6(whole[:5]).dtype == np.int64


def test_variances_are_the_quadratic_forms_of_the_rows() -> None:
    columns, here = MODEL.columns["payments"], PEOPLE.here["payments"]
    x, covariance = PEOPLE.columns[here][:100, columns], MODEL.block_covariance("payments")
    found = variances(MODEL.layout.blocks["payments"], covariance, PEOPLE.codes["payments"][:, here][:, :100])
    assert np.allclose(found, np.einsum("ij,jk,ik->i", x, covariance, x))


def test_two_gaussian_scores_are_marginalised_as_theory_says() -> None:
    """Correlation 1/2, variances 4 and 1: given b, a's mean is b and its variance 3; the curve is flattened by that."""
    both = np.ones((2, 2))
    second = np.block([[both, np.zeros((2, 2))], [np.zeros((2, 2)), np.array([[4.0, 1.0], [1.0, 1.0]])]])
    moments = ScoreMoments.of(("a", "b"), None, second, np.zeros((4, 4)), np.zeros(2), 1e9)
    intercept, weights = moments.foreseen(-2.0, ("a", "b"), ("b",))
    flatter = 1 / np.sqrt(1 + np.pi * 3 / 8)
    assert intercept == pytest.approx(-2 * flatter, rel=1e-6)
    assert weights["b"] == pytest.approx(2 * flatter, rel=1e-6)
    draws = np.random.default_rng(1).standard_normal(400_000) * np.sqrt(3)
    for b in (-1.0, 0.0, 2.0):
        assert sigmoid(-2 + b + b + draws).mean() == pytest.approx(sigmoid(intercept + weights["b"] * b), abs=0.012)


def test_a_sub_score_that_would_count_against_itself_is_not_used() -> None:
    both = np.ones((2, 2))
    second = np.block([[both, np.zeros((2, 2))], [np.zeros((2, 2)), np.array([[4.0, -1.5], [-1.5, 1.0]])]])
    moments = ScoreMoments.of(("a", "b"), None, second, np.zeros((4, 4)), np.zeros(2), 1e9)
    intercept, weights = moments.foreseen(-2.0, ("a", "b"), ("b",))
    assert weights == {"b": 0.0}
    assert intercept == pytest.approx(-2 / np.sqrt(1 + np.pi * 2 / 8))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 1e6), st.integers(0, 2**31), st.booleans())
def test_under_any_noise_everything_is_finite_and_no_weight_is_negative(stddev: float, seed: int, own: bool) -> None:
    people = SMALL[own]
    model = people.fitted(stddev, seed, steps=seed % 3)
    for related, available in patterns(model.table.optional):
        assert min([0, *model.table.entry(related, available).weights_e6.values()]) == 0
    for name in model.columns:
        assert np.isfinite(model.families(name)).all()
        assert np.isfinite(model.centres[name])
        assert np.isfinite(model.block_covariance(name)).all()


SMALL = {own: People(400, {"ecommerce": 0.5, "payments": 1.0}, own=own) for own in (True, False)}


def test_many_domains_follow_the_default_rule() -> None:
    people = People(3000, {f"d{i}": 0.8 for i in range(MAX_PATTERN_DOMAINS + 1)})
    model = people.fitted()
    entry = model.table.entry(("d0", "d1"), ("d0",))
    assert entry.weights_e6 == {"d0": MICRO, OWN: MICRO}
    assert entry.intercept_e6 == pytest.approx((model.fit.beta[0] + model.centres["d1"]) * MICRO, abs=2)


def test_own_must_be_named_just_where_the_lender_has_a_block() -> None:
    with pytest.raises(ValueError, match="own"):
        published(MODEL.layout, MODEL.normal, MODEL.fit, None)
    with pytest.raises(ValueError, match="own"):
        published(MODEL.layout, MODEL.normal, MODEL.fit, "payments")
