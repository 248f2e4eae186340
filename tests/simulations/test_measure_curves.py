"""Fairness, drift and Shapley values of a cell, on made-up persons whose answer is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.config import Node
from model.limits.table import DecisionBundle, Default, Entry, FusionTable
from simulations.preflight import node_of
from simulations.run import Settings
from simulations.sweep import drift, fairness, shapley

AGE = {"name": "age", "kind": "numeric", "range": [20, 70], "protected": True}
SEX = {"name": "sex", "kind": "categorical", "values": ["f", "m"], "protected": True}
PAYS = {"name": "x0", "kind": "numeric", "range": [-4, 4]}
PERSONS = 600


def _node(files: Any) -> Node:
    return node_of(Settings(files.federation, files.folder.parent / "out"), files.folder.parent / "out")


@pytest.fixture
def made(write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any) -> Any:
    """A federation whose partner has a feature, an age and a sex, of two thirds of the persons."""
    labels, _ = persons(PERSONS)
    rng = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "id": labels["id"],
            "x0": rng.normal(size=PERSONS),
            "age": rng.integers(20, 71, PERSONS),
            "sex": rng.choice(["f", "m", "x"], PERSONS),
        }
    )
    return write_federation(labels, party("pay-1", table.head(400), [PAYS, AGE, SEX]))


def _decided(files: Any) -> pl.DataFrame:
    """Every third person has an offer."""
    labels = pl.read_parquet(files.folder / "labels.parquet")
    return labels.select("id", "label", offer=pl.int_range(pl.len()) % 3 == 0)


def _shares(points: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {p["group"]: (p["value"], p["at"], p["weight"]) for p in points}


def test_offers_are_told_for_every_protected_group_that_does_not_train(made: Any) -> None:
    node = _node(made)
    trains = {f.name for p in node.federation.partners for f in p.contract.features if p.contract}  # type: ignore[union-attr]
    assert trains == {"x0"}
    found = _shares(fairness.curve(node, _decided(made)))
    table = _decided(made).join(pl.read_parquet(made.folder / "pay-1.parquet"), on="id")
    for sex, name in (("f", "f"), ("m", "m"), ("x", "other")):
        here = table.filter(sex=sex)
        good = here.filter(label=0)
        assert found[f"sex={name}"] == (
            pytest.approx(here["offer"].mean()),
            pytest.approx(good["offer"].mean()),
            here.height,
        )
    ages = [f"age={a} to {b}" for a, b in ((20, 30), (30, 40), (40, 50), (50, 60), (60, 70))]
    assert set(found) == {"sex=f", "sex=m", "sex=other", *ages}
    assert found["age=30 to 40"][2] == table.filter(pl.col("age").is_between(30, 39)).height
    assert sum(found[name][2] for name in ages) == 400  # whom the partner does not know is in no group


def test_whom_two_partners_of_a_domain_know_is_counted_once(
    write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any
) -> None:
    labels, _ = persons(PERSONS)
    table = labels.select("id", x0=pl.lit(0.5), sex=pl.lit("f"))
    rows = [PAYS, SEX]
    both = party("pay-1", table.head(400), rows), party("pay-2", table.tail(400).with_columns(sex=pl.lit("m")), rows)
    made = write_federation(labels, *both)
    found = _shares(fairness.curve(_node(made), _decided(made)))
    assert {name: counted[2] for name, counted in found.items()} == {"sex=f": 400, "sex=m": 200}


def test_a_group_is_the_contracts_own_range_where_it_has_edges(made: Any) -> None:
    made.text("payments.contract.toml", 'name = "age"', 'name = "age"\nedges = [25]')
    found = _shares(fairness.curve(_node(made), _decided(made)))
    assert {name for name in found if name.startswith("age")} == {"age=20 to 25", "age=25 to 70"}


def test_the_lenders_attributes_make_groups_and_long_lists_of_values_none(made: Any) -> None:
    ids = pl.read_parquet(made.folder / "labels.parquet")["id"]
    region = pl.Series(["north", None], dtype=pl.String).gather([i % 2 for i in range(len(ids))])
    pl.DataFrame({"id": ids, "region": region, "street": ids}).write_parquet(made.folder / "fairness.parquet")
    found = _shares(fairness.curve(_node(made), _decided(made)))
    assert {name for name in found if name.startswith("region")} == {"region=north", "region=missing"}
    assert found["region=north"][0] == pytest.approx(1 / 3)
    assert not [name for name in found if name.startswith("street")]


def test_a_file_that_changed_is_read_again(made: Any) -> None:
    before = _shares(fairness.curve(_node(made), _decided(made)))
    made.table("pay-1.parquet", lambda t: t.with_columns(sex=pl.lit("f")))
    after = _shares(fairness.curve(_node(made), _decided(made)))
    assert before["sex=f"][2] < after["sex=f"][2] == 400


def test_without_protected_features_there_are_no_groups(made: Any) -> None:
    for _ in range(2):
        made.text("payments.contract.toml", "protected = true", "protected = false")
    assert fairness.curve(_node(made), _decided(made)) == []


def test_one_federation_holds_two_writings_of_an_id(made: Any) -> None:
    made.table("pay-1.parquet", lambda t: t.with_columns("\u3000" + pl.col("id")))
    found = _shares(fairness.curve(_node(made), _decided(made)))
    assert sum(v[2] for name, v in found.items() if name.startswith("sex")) == 400


def _dated(files: Any, months: list[str], shift: float = 0.0) -> pl.DataFrame:
    """Dates in turn for the lender's file; from the fourth month on the log-odds are shifted."""
    names = np.resize(np.array(months), PERSONS)
    files.table("labels.parquet", lambda t: t.with_columns(pl.Series("date", names)))
    z = np.random.default_rng(2).normal(size=PERSONS) + shift * (np.resize(np.arange(len(months)), PERSONS) >= 3)
    labels = pl.read_parquet(files.folder / "labels.parquet")
    return labels.select("id", "label", z=pl.Series(z), pd=pl.Series(1 / (1 + np.exp(-z))))


def test_a_months_index_is_the_sum_over_tenths_of_the_first_months(made: Any) -> None:
    months = ["2011-11-05", "2011-12-31", "2012-01", "2012-02-01 08:00", "2012-03-01"]
    told = _dated(made, months, shift=1.0)
    found = drift.curves(_node(made), told)
    index = {p["at"]: p for p in found if p["curve"] == "drift_psi"}
    assert list(index) == [2011 * 12 + 10, 2011 * 12 + 11, 2012 * 12, 2012 * 12 + 1, 2012 * 12 + 2]
    month = np.resize(np.arange(5), PERSONS)
    z = told["z"].to_numpy()
    edges = [-np.inf, *np.quantile(z[month < 3], np.arange(1, 10) / 10), np.inf]
    first = np.histogram(z[month < 3], edges)[0] / 360
    now = np.maximum(np.histogram(z[month == 4], edges)[0], 0.5) / 120
    expected = ((now - first) * np.log(now / first)).sum()
    assert index[2012 * 12 + 2]["value"] == pytest.approx(expected)
    assert expected > 0.25 > 0.1 > index[2012 * 12]["value"]
    rate = {p["at"]: p for p in found if p["curve"] == "drift_rate"}[2012 * 12 + 2]
    here = told.filter(month == 4)
    assert (rate["value"], rate["low"]) == (pytest.approx(here["label"].mean()), pytest.approx(here["pd"].mean()))
    assert rate["weight"] == 120


def test_without_drift_hardly_any_month_of_few_persons_is_above_what_chance_gives() -> None:
    rng, months, persons = np.random.default_rng(7), 24, 120
    bound = drift.chance(drift.BANDS - 1, months) * (1 / (3 * persons) + 1 / persons)
    above, watched = 0, 0
    for _ in range(60):
        z = rng.normal(size=(months, persons))
        first = z[:3].ravel()
        edges = np.quantile(first, np.arange(1, 10) / 10)
        worst = max(drift.psi(first, month, edges) for month in z)
        above, watched = above + (worst > bound), watched + (worst > 0.1)
    assert watched == 60  # the customary line alone cries drift each time
    assert above <= 10  # a chance of .05 each; .08 with so few persons a tenth


def test_a_months_bound_on_chance_is_told_beside_its_index(made: Any) -> None:
    told = _dated(made, ["2012-01", "2012-02", "2012-03", "2012-04", "2012-05"], shift=1.0)
    last = [p for p in drift.curves(_node(made), told) if p["curve"] == "drift_psi"][-1]
    assert last["high"] == pytest.approx(drift.chance(9, 5) * (1 / 360 + 1 / 120))
    assert last["value"] > last["high"]


def test_months_of_few_persons_and_dates_that_are_none_are_left_out(made: Any) -> None:
    told = _dated(made, ["2012-01-01", "2012-02-01", "2012-01-07", "2012-02-07", "2012-03-01", "soon"])
    assert {p["at"] for p in drift.curves(_node(made), told)} == {2012 * 12, 2012 * 12 + 1, 2012 * 12 + 2}
    told = _dated(made, ["2012-01-01"] * 6 + ["2012-02-01"])  # 85 persons
    assert drift.curves(_node(made), told) == []


def test_without_dates_nothing_drifts(made: Any) -> None:
    labels = pl.read_parquet(made.folder / "labels.parquet")
    told = labels.select("id", "label", z=pl.lit(0.0), pd=pl.lit(0.5))
    assert drift.curves(_node(made), told) == []
    made.table("labels.parquet", lambda t: t.with_columns(date=pl.lit(20120101)))
    assert drift.curves(_node(made), told) == []


def test_the_column_that_cuts_the_split_is_the_date(made: Any) -> None:
    told = _dated(made, ["2012-01-01", "2012-02-01"])
    made.table("labels.parquet", lambda t: t.rename({"date": "issued"}))
    cut = 'cut = {column = "issued", train-before = 2012-01-15}'
    made.toml('split = "split"', cut)
    assert len(drift.curves(_node(made), told)) == 4


RULE = Default(-2_000_000, {"a": 900_000, "b": 500_000, "own": 700_000}, {"a": 300_000, "b": 0}, {"a": 0, "b": 0})
BUNDLE = DecisionBundle(
    "made",
    "0" * 64,
    FusionTable(("a", "b"), "own", {"a+b|a+b": Entry(-1_500_000, {"a": 800_000, "b": 0, "own": 600_000})}, RULE),
    "subscores",
    {"a": -1_000_000, "b": -1_200_000, "own": -1_100_000},
)


@pytest.fixture(scope="module")
def scored() -> pl.DataFrame:
    """Persons with sub-scores of two domains, of which some know nobody, and of the lender."""
    rng = np.random.default_rng(5)
    z = rng.normal(-1, 1, (500, 3))
    label = (rng.random(500) < 1 / (1 + np.exp(1.5 - z.sum(axis=1) - 3))).astype(np.int8)
    columns = {}
    for i, name in enumerate(("a", "b", "own")):
        column = pl.Series(np.rint(z[:, i] * 1e6).astype(np.int32))
        columns[f"sub_{name}"] = (
            column
            if name == "own"
            else column.zip_with(pl.Series(rng.random(500) < 0.7), pl.Series([None] * 500, dtype=pl.Int32))
        )
    return pl.DataFrame({"id": [str(i) for i in range(500)], "label": label, **columns})


def _auc_of(scored: pl.DataFrame, subset: tuple[str, ...]) -> float:
    """AUC of the table read person by person, the domains outside the subset absent."""
    from sklearn.metrics import roc_auc_score

    z = []
    for row in scored.iter_rows(named=True):
        related = [d for d in ("a", "b") if d in subset and row[f"sub_{d}"] is not None]
        logits = {d: row[f"sub_{d}"] for d in related}
        own = row["sub_own"] if "own" in subset else BUNDLE.reference_e6["own"]
        z.append(BUNDLE.table.z_e6(related, related, logits | {"own": own}))
    return float(roc_auc_score(scored["label"], z)) - 0.5


def test_a_subsets_auc_is_the_tables_with_the_others_absent(scored: pl.DataFrame) -> None:
    values = shapley.separations(BUNDLE, scored)
    assert values is not None
    assert len(values) == 8
    for subset, value in values.items():
        assert float(value) == pytest.approx(_auc_of(scored, subset), abs=1e-12), subset
    assert float(values[()]) == 0.0


def test_what_a_joint_run_told_keeps_its_intervals() -> None:
    told = {"payments": {"shapley": 0.2, "low": 0.1, "high": 0.3, "without": 0.4}}
    (point,) = shapley.told(told)
    assert [point[k] for k in ("curve", "group", "value", "low", "high")] == ["shapley", "payments", 0.2, 0.1, 0.3]


def test_labels_of_one_class_have_no_values(scored: pl.DataFrame) -> None:
    assert shapley.separations(BUNDLE, scored.with_columns(label=pl.lit(0))) is None
