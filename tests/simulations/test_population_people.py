"""The persons of a population: coverage, thin files, how well each domain tells risk apart, and what drifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from model.descent import sigmoid
from model.metrics import auc
from simulations.population.people import People, draw_people
from simulations.population.records import partner_record
from simulations.population.traits import DOMAINS, OWN
from simulations.population.views import fairness, labels, outcomes
from simulations.population.world import DRIFTS, SHIFTS, Chunk, World
from tests.population_world import BLOCKS, Scorer, blocks

PERSONS = 60_000
CHUNK = Chunk(0, 0, PERSONS)
CHUNK_OF_20 = Chunk(0, 0, 20_000)
BIG = World(PERSONS, seed=0)


@pytest.fixture(scope="module")
def people() -> People:
    return draw_people(BIG, CHUNK)


def _drawn(month: int | None = None, size: int = PERSONS, **changes: object) -> People:
    world = replace(BIG, **{name: frozenset(v) if isinstance(v, set) else v for name, v in changes.items()})
    return draw_people(world, Chunk(0, 0, size), month)


def test_coverage_is_that_of_the_domains(people: People) -> None:
    covered, owner = people.covered, people.who.owner
    assert covered.mean(axis=0) == pytest.approx([0.75, 0.86, 0.33], abs=0.01)
    assert np.bincount(covered.sum(axis=1)) / PERSONS == pytest.approx([0.03, 0.22, 0.52, 0.23], abs=0.01)
    assert (covered[owner, 2].mean(), covered[~owner, 2].mean()) == pytest.approx((0.70, 0.22), abs=0.015)


def test_a_quarter_is_thin_and_riskier(people: People) -> None:
    thin = people.thin
    assert thin.mean() == pytest.approx(0.26, abs=0.015)
    assert people.defaulted[thin].mean() == pytest.approx(0.067, abs=0.006)
    assert people.defaulted[~thin].mean() == pytest.approx(0.036, abs=0.004)


def test_absence_is_not_at_random(people: People) -> None:
    for place in range(len(DOMAINS)):
        known = people.covered[:, place]
        assert people.who.A[known].mean() > people.who.A[~known].mean() + 0.2
        assert people.who.S[known].mean() > people.who.S[~known].mean() + 0.1
    shops = people.covered[:, 0]
    assert people.who.age[shops].mean() < people.who.age[~shops].mean() - 1


def test_the_base_rate_is_as_asked() -> None:
    for rate in (0.02, 0.08):
        assert sigmoid(_drawn(base_rate=rate).logit_pd).mean() == pytest.approx(rate, rel=0.03)


@pytest.mark.slow
def test_each_domain_tells_risk_apart_as_well_as_such_data_does() -> None:
    """Against the table of the reference, part 4.5: fitted on 60,000 persons, measured on 60,000 others."""
    train, seen = blocks(BIG, PERSONS), blocks(replace(BIG, persons=2 * PERSONS), PERSONS, place=1)
    bad, owner = seen[0].defaulted.astype(float), seen[0].who.owner
    for block, target in (("ecommerce", 0.71), ("payments", 0.76), ("tax_business", 0.71), (OWN, 0.665)):
        rows = seen[0].covered[:, DOMAINS.index(block)] if block in DOMAINS else np.ones(PERSONS, dtype=bool)
        z = Scorer(*train, [block]).z(*seen)
        assert auc(bad[rows], z[rows]) == pytest.approx(target, abs=0.015), block
        for part, aimed in ((owner, 0.715), (~owner, 0.70)) if block == "tax_business" else ():
            assert auc(bad[rows & part], z[rows & part]) == pytest.approx(aimed, abs=0.025)
    z, count = Scorer(*train, BLOCKS).z(*seen), seen[0].covered.sum(axis=1)
    assert auc(bad, z) == pytest.approx(0.7755, abs=0.015)
    for blocks_seen, target in enumerate((0.63, 0.74, 0.76, 0.78)):
        rows = count == blocks_seen
        assert auc(bad[rows], z[rows]) == pytest.approx(target, abs=0.05 if blocks_seen == 0 else 0.025)
    everywhere = [(replace(who, covered=np.ones_like(who.covered)), found) for who, found in (train, seen)]
    assert auc(bad, Scorer(*everywhere[0], BLOCKS).z(*everywhere[1])) == pytest.approx(0.79, abs=0.015)
    assert auc(bad, seen[0].logit_pd) == pytest.approx(0.85, abs=0.015)


def test_domains_complement_each_other() -> None:
    """The same on fewer persons, in a second."""
    train, seen = blocks(BIG, 12_000), blocks(BIG, 12_000, place=1)
    bad = seen[0].defaulted.astype(float)
    alone, joint = (auc(bad, Scorer(*train, names).z(*seen)) for names in ([OWN], BLOCKS))
    assert alone == pytest.approx(0.665, abs=0.04)
    assert joint == pytest.approx(0.7755, abs=0.04)


def test_partners_of_a_domain_serve_different_customers() -> None:
    people = _drawn(partners_a_domain=3)
    ec_1, ec_2, ec_3, pay_1, pay_2 = (people.members[:, place] for place in range(5))
    A, age = people.who.A, people.who.age
    assert A[ec_2].mean() - A[ec_1].mean() == pytest.approx(-0.4, abs=0.06)
    assert people.form["city_tier"][ec_2].mean() > people.form["city_tier"][ec_1].mean() + 0.2
    assert age[ec_3].mean() < age[ec_1].mean() - 5
    assert age[pay_2].mean() < age[pay_1].mean() - 3
    alike = _drawn(partners_a_domain=3, shifts=set())
    assert alike.members[:, :3].mean(axis=0) == pytest.approx([0.25] * 3, abs=0.01)
    assert alike.who.A[alike.members[:, 1]].mean() == pytest.approx(alike.who.A[alike.members[:, 0]].mean(), abs=0.04)
    assert not (alike.members[:, :3].sum(axis=1) > 1).any()


def test_prevalence_differs_by_partner_where_it_is_asked_for() -> None:
    people = _drawn(partners_a_domain=3, shifts=set(SHIFTS))
    rates = [people.defaulted[people.members[:, place]].mean() for place in range(8)]
    assert 0.02 < min(rates) < 0.035
    assert 0.055 < max(rates) < 0.08


@pytest.mark.parametrize(
    ("partner", "column", "ratio"),
    [
        ("ec-2", "ec_return_rate_12m", 0.6),
        ("pay-2", "pay_inflow_median_6m_cny", 0.6),
        ("pay-2", "pay_inflow_cv_6m", 1.3),
        ("tx-3", "tx_sales_cv_12m", 0.7),
    ],
)
def test_a_partner_means_something_else_by_a_column(partner: str, column: str, ratio: float) -> None:
    chunk, everybody, means = Chunk(0, 0, 8_000), np.arange(8_000), []
    for shifts in (frozenset({"definition"}), frozenset[str]()):
        world = World(8_000, partners_a_domain=3, shifts=shifts)
        odd = next(one for one in world.partners if one.name == partner)
        means.append(partner_record(world, chunk, draw_people(world, chunk), odd, everybody)[column].mean())
    assert means[0] / means[1] == pytest.approx(ratio, rel=0.01)


def test_labels_may_be_noisy_while_the_truth_is_not(people: People) -> None:
    noisy = labels(replace(BIG, shifts=frozenset({"label-noise"})), CHUNK, people)["label"].to_numpy()
    assert (noisy != people.defaulted).mean() == pytest.approx(0.015, abs=0.002)
    assert (labels(BIG, CHUNK, people)["label"].to_numpy() == people.defaulted).all()


def test_the_early_stand_in_tells_something_of_the_label_and_not_all(people: People) -> None:
    frame = outcomes(BIG, CHUNK, people)
    assert 0.4 < np.corrcoef(frame["early_bad_4m"].to_numpy(), people.defaulted)[0, 1] < 0.8
    assert frame["default_month"].is_not_null().to_numpy().tolist() == people.defaulted.tolist()
    assert frame["default_month"].drop_nulls().is_between(3, 12).all()
    for name in ("exposure_share", "recovery_share"):
        assert frame[name].drop_nulls().is_between(0, 1).all()


def test_sex_and_region_are_tied_to_ability_and_stability(people: People) -> None:
    frame = fairness(BIG, CHUNK, people)
    women, east = (frame["gender"] == "female").to_numpy(), (frame["region"] == "east").to_numpy()
    assert people.who.A[women].mean() < people.who.A[~women].mean() - 0.05
    assert people.who.S[women].mean() > people.who.S[~women].mean() + 0.02
    assert people.who.A[east].mean() > people.who.A[~east].mean() + 0.1
    assert 0.4 < women.mean() < 0.55


def test_a_recession_moves_defaults_and_nothing_that_a_partner_sees() -> None:
    before, after = (_drawn(month, drift={"recession"}) for month in (16, 17))
    assert after.defaulted.mean() / before.defaulted.mean() == pytest.approx(6.5 / 4.5, abs=0.12)
    plain = _drawn(17)
    assert (plain.covered == after.covered).all()
    assert (plain.who.A == after.who.A).all()


def test_fraudsters_come_for_two_months_thin_with_good_traits_and_never_pay() -> None:
    rates = [_drawn(month, drift={"fraud"}).fraud.mean() for month in (16, 17, 18, 19)]
    assert rates == pytest.approx([0, 0.03, 0.03, 0], abs=0.004)
    people = _drawn(17, drift={"fraud"})
    assert people.defaulted[people.fraud].all()
    assert people.thin[people.fraud].all()
    assert people.who.A[people.fraud].mean() > 0.8
    month = outcomes(BIG, CHUNK, people)["default_month"].to_numpy()
    assert (month[people.fraud] == 3).all()


def test_the_mix_shifts_to_thin_applicants_over_the_months() -> None:
    shares = [_drawn(month, drift={"mix"}).thin.mean() for month in (0, 12, 23)]
    assert shares[0] == pytest.approx(0.26, abs=0.015)
    assert shares[0] + 0.05 < shares[1] < shares[2] - 0.05


def _column(name: str, month: int, *drift: str, partners: int = 1, rank: int = 0) -> np.ndarray:
    """One column of everybody who applies in a month, missing values left out."""
    world = World(20_000, drift=frozenset(drift), partners_a_domain=partners)
    domain = {"ec": "ecommerce", "pay": "payments", "tx": "tax_business"}[name.split("_")[0]]
    partner = next(one for one in world.partners if one.domain == domain and one.rank == rank)
    people = draw_people(world, CHUNK_OF_20, month)
    frame = partner_record(world, CHUNK_OF_20, people, partner, np.arange(20_000))
    return frame[name].drop_nulls().to_numpy()


def _psi(old: np.ndarray, new: np.ndarray) -> float:
    """The population stability index over tenths of the old values."""
    edges = np.quantile(old, np.linspace(0.1, 0.9, 9))
    p, q = (np.bincount(np.searchsorted(edges, values), minlength=10) / len(values) for values in (old, new))
    return float(((q - p) * np.log(q / p)).sum())


def test_prices_rise_one_percent_a_month() -> None:
    name = "pay_savings_balance_cny"
    assert _column(name, 23, "inflation") / _column(name, 23) == pytest.approx(1.01**23, rel=0.02)
    assert (_column("pay_tenure_months", 23, "inflation") == _column("pay_tenure_months", 23)).all()


def test_a_new_definition_of_returns_is_seen_in_the_column() -> None:
    name = "ec_return_rate_12m"
    before, after = (_column(name, month, "definition", partners=3, rank=1) for month in (8, 9))
    assert _psi(before, after) > 0.25
    first = [_column(name, month, "definition", partners=3) for month in (8, 9)]
    assert _psi(*first) < 0.01


def test_one_in_ten_plays_the_points_after_their_launch() -> None:
    name = "ec_orders_12m"
    assert (_column(name, 11, "gaming") == _column(name, 11)).all()
    plain, gamed = _column(name, 12), _column(name, 12, "gaming")
    assert (gamed != plain).mean() == pytest.approx(0.10, abs=0.01)
    assert (gamed >= plain).all()


def test_a_concept_fades() -> None:
    """Night orders tell of willingness at first and of nothing at last; paying later on time tells more."""
    world, ties = World(20_000, drift=frozenset({"concept"})), []
    for month in (0, 20):
        people = draw_people(world, CHUNK_OF_20, month)
        frame = partner_record(world, CHUNK_OF_20, people, world.partners[0], np.arange(20_000))
        will = pl.Series("will", people.who.facets[0])
        for name in ("ec_night_order_share", "ec_bnpl_ontime_rate_12m"):
            ties.append(frame.select(pl.corr(name, will, method="spearman")).item())
    assert ties[0] < -0.15
    assert abs(ties[2]) < 0.03
    assert ties[3] > ties[1] + 0.05


@pytest.mark.slow
def test_drift_is_as_visible_in_the_score_as_it_should_be() -> None:
    """The reference, part 4.6: inflation and a recession hardly move the score's PSI, a thinner mix moves it some."""
    scorer = Scorer(*blocks(BIG, 50_000, 0, 0), BLOCKS)
    base = blocks(BIG, 50_000, 1, 23)
    z, found = scorer.z(*base), {}
    for kind in DRIFTS:
        people, columns = blocks(replace(BIG, drift=frozenset({kind})), 50_000, 1, 23)
        found[kind] = (people.defaulted, scorer.z(people, columns))
    psi = {kind: _psi(z, new) for kind, (_, new) in found.items()}
    assert max(psi[kind] for kind in ("inflation", "recession", "gaming", "feedback")) < 0.005
    assert psi["mix"] == pytest.approx(0.015, abs=0.01)
    bad, new = found["mix"]
    assert auc(bad.astype(float), new) < auc(base[0].defaulted.astype(float), z) - 0.004
    bad, new = found["recession"]
    ratio = (bad.mean() / sigmoid(new).mean()) / (base[0].defaulted.mean() / sigmoid(z).mean())
    assert ratio == pytest.approx(1.5, abs=0.1)
