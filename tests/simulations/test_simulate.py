"""The whole chain in one process: its report, its scores, its decisions, and the federations it must take."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from clients.config import Node
from model.bundle import Bundle, decision_bundle
from model.limits.decide import decide
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot
from model.points import score_of
from privacy.accounting import epsilon_of
from privacy.ledger import Ledger, Terms
from privacy.plan import TRAIN, line_of
from simulations.deciding import _amounts, _requests
from simulations.preflight import node_of
from simulations.run import Settings, simulate

KEYS = {
    *("federation", "persons", "partners", "epsilon", "delta", "unit", "auc", "ks", "brier", "auc_lender_only"),
    *("auc_by_block", "calibration", "share_without_partner", "seconds", "bytes_sent", "releases"),
}
PAYS = {"name": "x0", "kind": "numeric", "range": [-4, 4]}


@pytest.fixture(scope="module")
def held_out(small: Path, exact_run: Any) -> pl.DataFrame:
    """Scores of the exact run beside the labels."""
    labels = pl.read_parquet(small.parent / "labels.parquet").filter(pl.col("split") != "train")
    scores = pl.read_parquet(exact_run.out / "scores.parquet")
    joined = labels.join(scores, on="id", how="inner")
    assert joined.height == labels.height == scores.height
    return joined


def _run(files: Any, **settings: Any) -> Any:
    return simulate(Settings(files.federation, files.folder.parent / "out", **settings))


def test_the_output_folder_holds_just_what_is_promised(private_run: Any) -> None:
    names = {p.name for p in private_run.out.iterdir()}
    assert names == {"report.json", "scores.parquet", "decisions.parquet", "model", "nodes"}
    assert not [p for p in private_run.out.rglob("*") if p.name.endswith(".part")]


def test_the_report_says_everything_that_it_must(private_run: Any) -> None:
    report = json.loads((private_run.out / "report.json").read_text())
    assert report == private_run.report
    assert report.keys() >= KEYS
    assert report["persons"]["all"] == report["persons"]["train"] + report["persons"]["held_out"] == 1500
    assert set(report["partners"]) == {"pay-1", "shop-1", "shop-2", "tax-1"}
    assert set(report["auc_by_block"]) == {"lender_kyc", "payments", "ecommerce", "tax_business"}
    assert report["auc_lender_only"] == report["auc_by_block"]["lender_kyc"]
    assert "person" in report["unit"]


def test_every_release_is_listed_with_its_mechanism_and_its_price(private_run: Any) -> None:
    releases = private_run.report["releases"]
    assert {r["holder"] for r in releases} == {"lender", "pay-1", "shop-1", "shop-2", "tax-1"}
    for release in releases:
        assert release["mechanism"] == "discrete gaussian sum"
        assert release["sensitivity"] >= release["bound"] > 0
        assert release["noise_multiplier"] > 0
    events = [line_of(r).event for r in releases if r["persons"] == TRAIN]
    assert epsilon_of(events, private_run.report["delta"]) == pytest.approx(private_run.report["epsilon"], rel=1e-3)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_what_every_ledger_holds_is_just_below_what_was_asked(small: Path, tmp_path: Path, epsilon: float) -> None:
    report = simulate(Settings(small, tmp_path / "out", epsilon=epsilon)).report
    assert report["epsilon_asked"] == epsilon
    assert 0.99 * epsilon < report["epsilon"] == report["epsilon_run"] <= epsilon
    for name in ("lender", *report["partners"]):
        terms = Terms(report["programme"], name, epsilon, epsilon, 1e-5)
        with Ledger(tmp_path / "out" / "nodes" / name / "ledger.db", terms) as book:
            assert book.spent() == pytest.approx(report["epsilon"], rel=1e-3)
            assert book.spent(own=True) == pytest.approx(float(report["epsilon_by_holder"][name]), abs=1e-3)


def test_without_privacy_epsilon_is_inf_and_no_ledger_is_written(exact_run: Any) -> None:
    assert exact_run.report["epsilon"] == exact_run.report["epsilon_asked"] == "inf"
    assert exact_run.report["privacy"]["epsilon"] == "inf"
    assert not list(exact_run.out.rglob("ledger*"))
    json.loads((exact_run.out / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_scores_have_the_agreed_columns_and_one_row_a_held_out_person(exact_run: Any, held_out: pl.DataFrame) -> None:
    scores = pl.read_parquet(exact_run.out / "scores.parquet")
    assert scores.columns == ["id", "score", "pd", "z", "blocks"]
    assert scores["id"].n_unique() == scores.height == exact_run.report["persons"]["held_out"]
    assert scores["score"].is_between(350, 950).all()
    assert scores["pd"].is_between(0, 1, closed="none").all()


def test_score_and_pd_follow_from_z_alone(held_out: pl.DataFrame) -> None:
    micro = np.rint(held_out["z"].to_numpy() * 1e6).astype(int)
    assert held_out["score"].to_list() == [score_of(int(z)) for z in micro]
    np.testing.assert_allclose(held_out["pd"], 1 / (1 + np.exp(-held_out["z"].to_numpy())), atol=1e-12)


def test_auc_ks_and_brier_are_those_of_scikit_learn(exact_run: Any, held_out: pl.DataFrame) -> None:
    labels, z = held_out["label"], held_out["z"]
    false, true, _ = roc_curve(labels, z)
    assert exact_run.report["auc"] == pytest.approx(roc_auc_score(labels, z), abs=1e-6)
    assert exact_run.report["ks"] == pytest.approx((true - false).max(), abs=1e-6)
    assert exact_run.report["brier"] == pytest.approx(brier_score_loss(labels, held_out["pd"]), abs=1e-6)


def test_the_calibration_table_covers_every_held_out_person_safest_first(exact_run: Any) -> None:
    bands = exact_run.report["calibration"]
    assert sum(band["persons"] for band in bands) == exact_run.report["persons"]["held_out"]
    assert all(a["predicted"] <= b["predicted"] for a, b in pairwise(bands))


def test_blocks_name_the_relationships_that_the_files_show(small: Path, held_out: pl.DataFrame) -> None:
    known = set(pl.read_parquet(small.parent / "payments.parquet")["id"])
    for person, blocks in held_out.select("id", "blocks").iter_rows():
        assert ("payments" in blocks.split("+")) == (person in known)
        assert "lender_kyc" in blocks


def test_the_share_without_partner_is_that_of_the_files(small: Path, exact_run: Any, held_out: pl.DataFrame) -> None:
    known: set[str] = set()
    for name in ("payments.parquet", "ecommerce-1.parquet", "tax_business.parquet"):
        known |= set(pl.read_parquet(small.parent / name)["id"])
    known |= set(pl.read_csv(small.parent / "ecommerce-2.csv")["id"])
    share = 1 - held_out["id"].is_in(list(known)).mean()
    assert exact_run.report["share_without_partner"] == pytest.approx(share, abs=1e-6)


def test_together_the_blocks_beat_the_lender_alone(exact_run: Any) -> None:
    assert exact_run.report["auc"] > max(exact_run.report["auc_by_block"].values())
    assert exact_run.report["auc"] > 0.78  # the sample was made to give about .83


def test_decisions_are_those_of_decide_on_the_same_evidence(small: Path, exact_run: Any) -> None:
    node = node_of(Settings(small, exact_run.out), exact_run.out)
    evidence = pl.read_parquet(exact_run.out / "nodes" / "lender" / "evidence.parquet")
    policy, bundle = load_policy(None), decision_bundle(exact_run.out / "model")
    requests = _requests(evidence, _amounts(node, evidence["id"]), policy, bundle, {})
    decisions = pl.read_parquet(exact_run.out / "decisions.parquet")
    assert decisions["id"].to_list() == evidence["id"].to_list()
    for row, request in zip(decisions.head(60).iter_rows(named=True), requests, strict=False):
        told = decide(request, policy, bundle, StateSnapshot(), request.as_of)
        assert (row["decision"], row["amount_fen"], row["score"]) == (told.decision, told.amount_fen, told.score)
    assert decisions["score"].to_list() == evidence["score"].to_list()
    assert decisions["decision"].value_counts().sort("decision").rows() == sorted(exact_run.report["decisions"].items())


def test_the_published_model_gives_the_same_z_as_the_scores(exact_run: Any) -> None:
    table = Bundle.load(exact_run.out / "model").table
    for row in pl.read_parquet(exact_run.out / "nodes" / "lender" / "evidence.parquet").head(80).iter_rows(named=True):
        logits = {b: row[f"sub_{b}"] for b in table.blocks if row[f"sub_{b}"] is not None}
        related = [d for d in table.optional if d in logits]
        assert table.z_e6(related, related, logits) == row["z_e6"]


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_other_noise(small: Path, private_run: Any, tmp_path: Path) -> None:
    again = simulate(Settings(small, tmp_path / "out"))
    one, two = (pl.read_parquet(r.out / "scores.parquet") for r in (private_run, again))
    assert one["id"].equals(two["id"])
    assert not one["z"].equals(two["z"])


def test_without_noise_two_runs_agree_exactly(small: Path, exact_run: Any, tmp_path: Path) -> None:
    again = simulate(Settings(small, tmp_path / "out", epsilon=math.inf))
    for name in ("scores.parquet", "decisions.parquet"):
        assert pl.read_parquet(exact_run.out / name).equals(pl.read_parquet(again.out / name))
    assert again.report["bundle_sha256"] == exact_run.report["bundle_sha256"]


def test_the_embedded_sample_runs_without_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    report = simulate(Settings(None, tmp_path / "out", epsilon=math.inf)).report
    assert report["persons"]["all"] == 12_000
    assert report["auc"] > 0.75


def test_a_lender_without_a_contract_leaves_the_score_to_its_partners(files: Any) -> None:
    files.toml('contract = "lender_kyc.contract.toml"\n', "")
    report = _run(files, epsilon=math.inf).report
    assert report["auc_lender_only"] is None
    assert set(report["auc_by_block"]) == {"payments", "ecommerce", "tax_business"}
    assert report["auc"] > 0.75


def test_persons_known_to_nobody_get_a_score_too(write_federation: Any, persons: Any, party: Any) -> None:
    labels, risk = persons()
    table = pl.DataFrame({"id": labels["id"], "x0": risk}).head(400)
    result = _run(write_federation(labels, party("pay", table, [PAYS])), epsilon=math.inf)
    scores = pl.read_parquet(result.out / "scores.parquet")
    alone = scores.filter(pl.col("blocks") == "")
    assert alone.height == labels.tail(200).filter(pl.col("split") == "test").height
    assert alone["z"].n_unique() == 1
    assert result.report["share_without_partner"] == pytest.approx(alone.height / scores.height, abs=1e-6)


@pytest.mark.parametrize("partners", [1, 10])
def test_from_one_to_ten_partners_take_part(write_federation: Any, persons: Any, party: Any, partners: int) -> None:
    labels, risk = persons()
    rng = np.random.default_rng(1)
    parties = []
    for i in range(partners):
        table = pl.DataFrame({"id": labels["id"], "x0": risk + rng.normal(size=600)})
        parties.append(party(f"p{i}", table.sample(fraction=0.8, seed=i, shuffle=True), [PAYS], domain=f"domain_{i}"))
    result = _run(write_federation(labels, *parties), epsilon=math.inf)
    assert len(result.report["partners"]) == partners
    assert len(result.report["auc_by_block"]) == partners
    assert result.report["auc"] > 0.7


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("features", [2, 500])
def test_a_domain_has_from_two_to_five_hundred_features(
    write_federation: Any, persons: Any, party: Any, features: int
) -> None:
    labels, risk = persons()
    noise = np.random.default_rng(1).normal(size=(features, 600))
    columns = {f"x{i}": risk + noise[i] if i < 3 else noise[i] for i in range(features)}
    table = pl.DataFrame({"id": labels["id"], **columns})
    contract = [{**PAYS, "name": name} for name in columns]
    report = _run(write_federation(labels, party("pay", table, contract))).report
    assert 0.99 < report["epsilon"] <= 1.0
    assert 0 <= report["auc"] <= 1


def test_a_partner_may_train_on_an_outcome_of_its_own(write_federation: Any, persons: Any, party: Any) -> None:
    labels, risk = persons()
    table = pl.DataFrame({"id": labels["id"], "x0": risk, "good": (risk < 0) * 1})
    files = write_federation(labels, party("pay", table, [PAYS], head={"outcome": "good"}))
    assert _run(files, epsilon=math.inf).report["auc_by_block"]["payments"] < 0.4  # it learnt the opposite


def test_two_partners_of_a_domain_share_one_block(exact_run: Any) -> None:
    bundle = Bundle.load(exact_run.out / "model")
    assert set(bundle.blocks) == {"lender_kyc", "payments", "ecommerce", "tax_business"}
    assert exact_run.report["rounds"] == 4


def test_the_order_of_rows_and_files_makes_no_difference(files: Any, exact_run: Any) -> None:
    files.table("payments.parquet", lambda table: table.reverse())
    again = pl.read_parquet(_run(files, epsilon=math.inf).out / "scores.parquet")
    before = pl.read_parquet(exact_run.out / "scores.parquet")
    np.testing.assert_allclose(again["z"], before["z"], atol=1e-5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_divide_the_steps_and_leave_the_price(small: Path, tmp_path: Path, rounds: int) -> None:
    report = simulate(Settings(small, tmp_path / "out", rounds=rounds)).report
    assert report["rounds"] == rounds
    assert 0.99 < report["epsilon"] <= 1.0


@pytest.mark.usefixtures("quick")
def test_a_milder_budget_from_the_settings_beats_the_file(files: Any, tmp_path: Path) -> None:
    files.toml("epsilon = 1.0", "epsilon = 3.0")
    assert _run(files, epsilon=2.0, delta=1e-6).report["epsilon"] == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    ("engine", "count", "accounting"),
    [
        ("network", 600, "closed form of the Gaussian"),  # the batch is everybody
        pytest.param("network", 4500, "privacy loss distributions (PLD)", marks=pytest.mark.slow),
        pytest.param("opacus", 600, "closed form of the Gaussian", marks=pytest.mark.slow),
    ],
)
def test_network_engines_run_the_whole_chain(
    write_federation: Any, persons: Any, party: Any, engine: str, count: int, accounting: str
) -> None:
    labels, risk = persons(count)
    table = pl.DataFrame({"id": labels["id"], "x0": risk, "x1": -risk}).head(count - 50)
    files = write_federation(labels, party("pay", table, [PAYS, {**PAYS, "name": "x1"}]))
    report = _run(files, engine=engine, epsilon=6.0).report
    assert report["engine"] == engine
    assert 0.98 * 6 < report["epsilon"] <= 6.0
    assert report["privacy"]["accounting"] == accounting
    assert report["auc"] > 0.6


def test_a_node_of_a_simulation_reads_the_run_configuration_only(small: Path, tmp_path: Path) -> None:
    config = Settings(small, tmp_path, epsilon=math.inf).run_config(tmp_path)
    assert Node.of({"partition-id": 1, "num-partitions": 5}, config, 1).holders == ("pay-1",)
