"""A finished cell's row and curves: what they say must be what the run's own files say."""

import json
import math
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from clients.config import Node
from clients.files import scan
from clients.fusing import EVIDENCE
from model.bundle import decision_bundle
from model.limits.policy import load_policy
from model.points import pd_e8
from privacy.plan import line_of, spent_by
from simulations.deciding import sampled
from simulations.preflight import node_of
from simulations.run import Settings, simulate
from simulations.sweep import shapley
from simulations.sweep.decided import business, outcomes
from simulations.sweep.measure import RESAMPLES, known_by, measured, measured_baseline
from simulations.sweep.rows import CURVE_MEANINGS, CURVES, KEY, RESULTS

POINTS = {name: kind for name, kind in CURVES.items() if name not in KEY}


@dataclass(frozen=True)
class Cell:
    """A measured run with the persons that it was measured on."""

    node: Node
    report: dict[str, Any]
    result: dict[str, Any]
    curves: pl.DataFrame
    persons: pl.DataFrame

    def curve(self, name: str) -> pl.DataFrame:
        """The points of one curve."""
        return self.curves.filter(curve=name)


def _measured(small: Path, run: Any, **settings: Any) -> Cell:
    asked = Settings(small, run.out, **settings)
    node = node_of(asked, run.out)
    result, curves = measured(run.out, node, asked)
    evidence = pl.read_parquet(run.out / "nodes" / "lender" / EVIDENCE)
    persons = evidence.join(pl.read_parquet(small.parent / "labels.parquet"), on="id", maintain_order="left")
    return Cell(node, run.report, result, pl.DataFrame(curves, POINTS), persons)


@pytest.fixture(scope="module")
def cell(small: Path, private_run: Any) -> Cell:
    """The private run of the small sample."""
    return _measured(small, private_run)


@pytest.fixture(scope="module")
def exact(small: Path, exact_run: Any) -> Cell:
    """The run without privacy."""
    return _measured(small, exact_run, epsilon=math.inf)


def test_a_row_and_its_curves_fit_the_tables_of_a_sweep(cell: Cell) -> None:
    row = pl.DataFrame([cell.result], {name: RESULTS[name] for name in cell.result})
    assert row.null_count().sum_horizontal().item() == 0
    assert set(cell.curves["curve"]) == set(CURVE_MEANINGS) - {"drift_psi", "drift_rate"}  # few persons a month


def test_a_row_says_what_the_report_of_the_run_says(cell: Cell) -> None:
    report, result = cell.report, cell.result
    for name in ("auc", "ks", "brier", "base_rate"):
        assert result[name] == pytest.approx(report[name], abs=1e-6)
    assert result["auc_own_block"] == pytest.approx(report["auc_lender_only"], abs=1e-6)
    persons = {"all": result["persons"], "train": result["train"], "held_out": result["held_out"]}
    assert persons == report["persons"]
    assert result["holders"] == 5
    assert (result["epsilon_spent"], result["delta"]) == (report["epsilon_run"], report["delta"])
    assert result["bytes"] == sum(report["bytes_sent"].values())
    assert result["seconds"] == pytest.approx(cell.curve("seconds")["value"].sum())


def test_log_loss_and_mean_pd_are_those_of_the_scores(cell: Cell) -> None:
    assert cell.result["log_loss"] == pytest.approx(log_loss(cell.persons["label"], cell.persons["pd"]))
    assert cell.result["pd_mean"] == pytest.approx(cell.persons["pd"].mean())


def test_the_calibration_counts_everybody_once_safest_first(cell: Cell) -> None:
    tenths = cell.curve("calibration")
    assert tenths["weight"].sum() == cell.result["held_out"]
    assert tenths["at"].is_sorted()
    assert (tenths["value"] * tenths["weight"]).sum() == pytest.approx(cell.persons["label"].sum(), abs=0.01)


def test_the_scores_of_good_and_bad_payers_are_those_that_were_given(cell: Cell) -> None:
    for group, label in (("good", 0), ("bad", 1)):
        bins = cell.curve("scores").filter(group=group)
        scores = cell.persons.filter(label=label)["score"].to_numpy()
        counts, _ = np.histogram(scores, [*bins["at"], 950])
        assert bins["weight"].to_list() == counts.tolist()
        assert bins["value"].sum() == pytest.approx(1)


def test_who_gains_is_told_by_how_many_domains_know_a_person(cell: Cell) -> None:
    known: dict[str, set[str]] = {}
    for partner in cell.node.federation.partners:
        known.setdefault(partner.domain, set()).update(scan(partner.data[0]).select("id").collect()["id"])
    count = np.array([sum(person in ids for ids in known.values()) for person in cell.persons["id"]])
    for point in cell.curve("known_by").iter_rows(named=True):
        here = cell.persons.filter(count == int(point["group"]))
        assert point["weight"] == here.height
        assert point["value"] == pytest.approx(roc_auc_score(here["label"], here["z"]))
        assert point["at"] == pytest.approx(roc_auc_score(here["label"], here["sub_lender_kyc"]))
    assert cell.curve("known_by")["weight"].sum() == cell.result["held_out"]
    assert cell.result["thin_share"] == pytest.approx((count <= 1).mean())
    thin = cell.persons.filter(count <= 1)
    assert cell.result["auc_thin"] == pytest.approx(roc_auc_score(thin["label"], thin["z"]))


def test_loss_and_profit_follow_the_economics_of_the_policy(exact: Cell) -> None:
    costs = load_policy().economics
    table = pl.read_parquet(exact.node.state.parent / "decisions.parquet").join(exact.persons, on="id")
    assert (table["score"] == table["score_right"]).all()
    offers = table.filter(pl.col("apr_bp").is_not_null())
    assert offers.height > 20
    risks = {"expected_loss": [pd_e8(z) / 1e8 for z in offers["z_e6"]], "realised_loss": offers["label"].to_list()}
    exposed = offers["amount_fen"].to_numpy() / 100 * costs.lgd_bp / 1e4 * costs.ccf_bp / 1e4
    margin = (offers["apr_bp"].to_numpy() - costs.fund_cost_bp - costs.opex_bp) / 1e4
    income = offers["amount_fen"].to_numpy() / 100 * costs.avg_util_bp / 1e4 @ margin
    for loss, profit in (("expected_loss", "profit_expected"), ("realised_loss", "profit_realised")):
        lost = float(exposed @ np.array(risks[loss]))
        assert exact.result[loss] == pytest.approx(lost / table.height, abs=1e-4)
        assert exact.result[profit] == pytest.approx((income - lost) / table.height, abs=1e-4)
    assert exact.result["approval"] == pytest.approx(offers.height / table.height)
    assert exact.result["amount_mean"] == pytest.approx(offers["amount_fen"].sum() / 100 / table.height)
    shares = exact.curve("decisions")
    assert shares["value"].sum() == pytest.approx(1)
    told = {name: count for name, count in zip(shares["group"], shares["weight"], strict=True) if count}
    assert told == exact.report["decisions"]


def test_nobody_decided_for_gives_no_shares(cell: Cell) -> None:
    nobody = outcomes(pl.read_parquet(cell.node.state.parent / "decisions.parquet").head(0), cell.persons)
    assert business(nobody, load_policy().economics) == ({"decided": 0}, [])


def test_each_line_has_its_price_alone_and_each_audit_its_claim(cell: Cell) -> None:
    prices = dict(cell.curve("releases").select("group", "value").iter_rows())
    assert prices == {
        r["name"]: pytest.approx(spent_by([[line_of(r)]], 1.0, cell.report["delta"])) for r in cell.report["releases"]
    }
    audit = cell.curve("audit")
    assert (audit["value"] <= audit["high"]).all()
    assert (
        cell.result["audit_at_least"]
        == audit["value"].max()
        == max(f["at_least"] for f in cell.report["audit"]["findings"])
    )


def test_without_privacy_nothing_has_a_price(exact: Cell) -> None:
    assert math.isinf(exact.result["epsilon_spent"])
    assert exact.result["audit_at_least"] is None
    assert exact.curve("releases").is_empty()
    json.dumps(exact.curves.to_dicts(), allow_nan=False)


def test_deciding_for_some_is_deciding_for_the_same_ones_in_every_run(small: Path, tmp_path: Path, quick: None) -> None:
    run = simulate(Settings(small, tmp_path / "out", decide=40))
    decided = pl.read_parquet(run.out / "decisions.parquet")
    scores = pl.read_parquet(run.out / "scores.parquet")
    assert decided.height == 40 < scores.height
    assert decided["id"].to_list() == sampled(scores, 40)["id"].to_list()
    shuffled = scores.sample(fraction=1.0, shuffle=True, seed=1)
    assert set(sampled(shuffled, 40)["id"]) == set(decided["id"])
    assert set(sampled(scores, 20)["id"]) < set(decided["id"])
    assert sampled(scores, 0).height == sampled(scores, 10_000).height == scores.height
    cell = _measured(small, run, decide=40)
    assert cell.result["decided"] == 40
    assert cell.result["held_out"] == scores.height


@dataclass(frozen=True)
class Fitted:
    """A baseline's answer."""

    pd: np.ndarray
    epsilon_spent: float


def test_a_baseline_with_the_same_pds_is_measured_alike(cell: Cell) -> None:
    result, curves = measured_baseline(Fitted(cell.persons["pd"].to_numpy(), 0.5), cell.node)
    same = ("auc", "auc_error", "ks", "ks_error", "brier", "brier_error", "log_loss", "thin_share", "auc_thick")
    for name in (*same, "persons", "train", "held_out", "base_rate"):
        assert result[name] == pytest.approx(cell.result[name])
    assert result["epsilon_spent"] == 0.5
    assert result["auc_own_block"] is None
    found = pl.DataFrame(curves, POINTS)
    assert set(found["curve"]) == {"calibration", "scores", "known_by", "resampled"}
    known = found.filter(curve="known_by")
    assert known["at"].null_count() == known.height  # it has no part of the lender's own
    for name in ("scores", "known_by"):
        ours, theirs = (t.filter(curve=name).select("group", "weight") for t in (cell.curves, found))
        assert ours.equals(theirs)


def test_all_cells_of_the_same_persons_are_resampled_alike_as_widely_as_their_error_says(exact: Cell) -> None:
    pd = exact.persons["pd"].to_numpy()
    moved = np.clip(pd * np.exp(0.1 * np.random.default_rng(1).normal(size=len(pd))), 0, 1)
    same, other = (pl.DataFrame(measured_baseline(Fitted(p, 0.5), exact.node)[1], POINTS) for p in (pd, moved))
    ours, again, near = (c.filter(curve="resampled")["value"].to_numpy() for c in (exact.curves, same, other))
    assert exact.curve("resampled")["at"].to_list() == list(range(RESAMPLES))
    assert again == pytest.approx(ours, abs=1e-6)
    assert ours.std() == pytest.approx(exact.result["auc_error"], rel=0.2)  # four standard errors of a deviation of 200
    assert ours.mean() == pytest.approx(exact.result["auc"], abs=0.3 * exact.result["auc_error"])
    assert (ours - near).std() < 0.5 * ours.std()  # what the persons give to both falls away


def test_a_baseline_may_be_certain(cell: Cell) -> None:
    pd = (cell.persons["pd"].to_numpy() > 0.3).astype(np.float64)
    result, _ = measured_baseline(Fitted(pd, math.inf), cell.node)
    assert math.isfinite(result["log_loss"])
    assert result["auc"] == pytest.approx(roc_auc_score(cell.persons["label"], pd))


def test_who_knows_a_person_is_read_from_the_holders_files(cell: Cell) -> None:
    known = known_by(cell.node)
    assert len(known) == cell.result["persons"]
    assert set(np.unique(known)) <= {0, 1, 2, 3}
    assert known.max() == 3


def test_a_domains_value_is_its_mean_gain_over_all_orders(cell: Cell) -> None:
    found = dict(cell.curve("shapley").select("group", "value").iter_rows())
    bundle = decision_bundle(cell.node.state.parent / "model")
    values = shapley.separations(bundle, cell.persons)
    assert values is not None
    blocks = bundle.table.blocks
    assert set(found) == set(blocks) == {"ecommerce", "payments", "tax_business", "lender_kyc"}
    for name in blocks:
        gains = []
        for order in permutations(blocks):
            before = {*order[: order.index(name)]}
            without, joined = (tuple(b for b in blocks if b in kept) for kept in (before, before | {name}))
            gains.append(float(values[joined] - values[without]))
        assert found[name] == pytest.approx(np.mean(gains))
    assert sum(found.values()) == pytest.approx(cell.result["auc"] - 0.5)


def test_many_blocks_have_no_values_and_many_persons_are_sampled(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cell.node.state.parent / "model"
    monkeypatch.setattr(shapley, "PERSONS", 200)
    assert shapley.measured(model, cell.persons) == shapley.measured(model, sampled(cell.persons, 200))
    monkeypatch.setattr(shapley, "MAX_BLOCKS", 3)
    assert shapley.measured(model, cell.persons) == []
