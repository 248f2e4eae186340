"""`fedscore population`: the files it writes, what is in them and what is not, and bad input in one line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.contract import load_contract
from model.federation import load_federation
from model.inputs import InputError
from model.limits.reasons import CATALOGUE
from simulations.population import people, world
from simulations.population.records import columns
from simulations.population.views import ids
from simulations.population.world import World
from simulations.population.writing import write_population

PERSONS = 3_000
HERE = Path(people.__file__).parent
NOT_FEATURES = {"gender", "region", "pd", "defaulted", "fraud", "label", "ability", "willingness", "income_cny"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several partners in every domain, in three chunks."""
    folder = tmp_path_factory.mktemp("population") / "people"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "CHUNK", 1_300)
        write_population(World(PERSONS, 11, partners_a_domain=3), folder)
    return folder


def _partners(out: Path) -> dict[str, pl.DataFrame]:
    federation = load_federation(out / "federation.toml")
    return {partner.name: pl.read_parquet(partner.data[0]) for partner in federation.partners}


def test_the_federation_file_names_all_partners_and_never_the_truth(out: Path) -> None:
    federation = load_federation(out / "federation.toml")
    named = [partner.name for partner in federation.partners]
    assert named == ["ec-1", "ec-2", "ec-3", "pay-1", "pay-2", "tx-1", "tx-2", "tx-3"]
    text = (out / "federation.toml").read_text(encoding="utf-8")
    assert not [word for word in ("truth", "fairness", "outcomes", "availability") if word in text]
    assert sorted(path.name for path in (out / "truth").iterdir()) == ["truth.parquet"]
    assert not list(out.glob(".*"))


def test_a_partner_has_the_columns_of_its_contract_and_no_other(out: Path) -> None:
    federation = load_federation(out / "federation.toml")
    for partner in federation.partners:
        frame = pl.read_parquet(partner.data[0])
        assert frame.columns == ["id", *(feature.name for feature in partner.contract.features)], partner.name
        assert not NOT_FEATURES & set(frame.columns)
    kyc = load_contract(out / "lender_kyc.contract.toml")
    assert pl.read_parquet(out / "lender_kyc.parquet").columns == ["id", *(f.name for f in kyc.features)]
    assert [feature.name for feature in kyc.features if feature.protected] == ["age_years"]


def test_about_sixty_features_each_explained_in_both_languages(out: Path) -> None:
    contracts = {path.name.split(".")[0]: load_contract(path) for path in HERE.glob("*.contract.toml")}
    assert sum(len(contract.features) for contract in contracts.values()) == 60
    for domain, contract in contracts.items():
        assert [feature.name for feature in contract.features] == list(columns()[domain])
        assert {feature.group for feature in contract.features} <= set(CATALOGUE.group)
    page = (out / "columns.md").read_text(encoding="utf-8")
    for table, rows in columns().items():
        for name, how in rows.items():
            assert how["zh"]
            assert how["en"]
            assert f"| {name} |" in page, (table, name)
    written = {path.stem: set(pl.read_parquet_schema(path)) - {"id"} for path in out.rglob("*.parquet")}
    for table in set(columns()) & set(written):
        assert written[table] == set(columns()[table])


def test_an_id_is_one_person_and_says_nothing_of_the_order(out: Path) -> None:
    labels = pl.read_parquet(out / "labels.parquet")
    assert labels["id"].n_unique() == labels.height == PERSONS
    for name, frame in _partners(out).items():
        assert frame["id"].n_unique() == frame.height
        assert set(frame["id"]) <= set(labels["id"]), name
    numbers = ids(World(seed=3), np.arange(2_000)).str.slice(1).cast(pl.Int64).to_numpy()
    assert abs(np.corrcoef(numbers, np.arange(2_000))[0, 1]) < 0.1
    assert set(ids(World(seed=3), np.arange(2_000))) != set(ids(World(seed=4), np.arange(2_000)))


def test_the_truth_knows_every_outcome_and_chunks_are_not_alike(out: Path) -> None:
    truth, labels = (pl.read_parquet(out / name) for name in ("truth/truth.parquet", "labels.parquet"))
    outcomes = pl.read_parquet(out / "outcomes.parquet")
    assert truth["id"].to_list() == labels["id"].to_list() == outcomes["id"].to_list()
    assert truth["defaulted"].to_list() == labels["label"].to_list()
    assert truth["defaulted"].to_list() == outcomes["default_month"].is_not_null().cast(pl.Int8).to_list()
    assert truth["pd"].mean() == pytest.approx(truth["defaulted"].mean(), abs=0.015)
    assert truth["ability"].n_unique() == PERSONS


def test_customers_are_shared_out_ten_to_three_to_one_and_some_shared(out: Path) -> None:
    frames = _partners(out)
    for prefix, shares in (("ec", (0.75, 0.30, 0.12)), ("pay", (0.80, 0.33)), ("tx", (0.75, 0.30, 0.10))):
        known = [set(frames[f"{prefix}-{rank + 1}"]["id"]) for rank in range(len(shares))]
        everybody = set().union(*known)
        assert [len(some) / len(everybody) for some in known] == pytest.approx(shares, abs=0.05)
        twice = sum(map(len, known)) - len(everybody)
        assert twice / len(everybody) == pytest.approx(0.15, abs=0.035)


def test_a_partner_that_lacks_a_column_has_it_empty(out: Path) -> None:
    frames = _partners(out)
    assert frames["ec-3"]["ec_bnpl_used"].null_count() == frames["ec-3"].height
    assert frames["ec-1"]["ec_bnpl_used"].null_count() < 0.06 * frames["ec-1"].height


def test_values_lie_in_the_ranges_of_their_contracts_and_few_are_missing(out: Path) -> None:
    for partner in load_federation(out / "federation.toml").partners:
        frame = pl.read_parquet(partner.data[0])
        for feature in partner.contract.features:
            values = frame[feature.name].drop_nulls()
            if feature.kind == "numeric" and len(values):
                outside = ((values < feature.low) | (values > feature.high)).mean()
                assert outside <= 0.01, (partner.name, feature.name)
            elif feature.values and feature.name != "tx_industry_gbt4754":
                assert set(values.cast(pl.String)) <= set(feature.values), feature.name
    pay = pl.read_parquet(out / "pay-1.parquet")
    gaps = [pay[name].null_count() / pay.height for name in pay.columns[1:]]
    assert 0.01 < min(gaps) < max(gaps) < 0.065


def test_owners_and_others_have_one_half_of_the_tax_columns_each(out: Path) -> None:
    frame = pl.read_parquet(out / "tx-1.parquet").drop_nulls("tx_is_owner")
    owners, others = (frame.filter(pl.col("tx_is_owner") == flag) for flag in (1, 0))
    assert owners["tx_iit_income_monthly_cny"].null_count() == owners.height
    assert others["tx_sales_12m_cny"].null_count() == others.height
    assert others["tx_industry_gbt4754"].null_count() == others.height
    assert owners["tx_sales_12m_cny"].null_count() < 0.1 * owners.height


def test_the_split_is_out_of_time(out: Path) -> None:
    labels = pl.read_parquet(out / "labels.parquet")
    train, test = (labels.filter(pl.col("split") == part)["date"] for part in ("train", "test"))
    assert train.max() < test.min()
    assert len(train) / PERSONS == pytest.approx(0.7, abs=0.04)
    assert labels["date"].n_unique() > 600


def test_the_availability_layer_lists_who_is_not_simply_there(out: Path) -> None:
    late = pl.read_parquet(out / "availability.parquet")
    frames = _partners(out)
    relations = sum(frame.height for frame in frames.values())
    count = dict(late["state"].value_counts().iter_rows())
    assert count["consent_refused"] / relations == pytest.approx(0.08, abs=0.012)
    assert count["consent_withdrawn"] / relations == pytest.approx(0.92 * (1 - 0.995**24), abs=0.015)
    assert count["abnormal"] / relations == pytest.approx(0.003, abs=0.002)
    filings = late.filter(pl.col("state") == "late_filing")
    assert set(filings["partner"]) <= {"tx-1", "tx-2", "tx-3"}
    assert filings["hours"].is_between(24, 15 * 24).all()
    for (name,), rows in late.group_by("partner"):
        assert set(rows["id"]) <= set(frames[str(name)]["id"])


def test_delays_are_those_of_an_outage_of_the_partner(tmp_path: Path) -> None:
    told = write_population(World(PERSONS, outages=0.2), tmp_path / "people")
    failures = pl.read_parquet(tmp_path / "people" / "outages.parquet")
    assert failures.height / 3 / 731 == pytest.approx(0.2, abs=0.03)
    assert failures["hours"].is_between(2, 48).all()
    late = pl.read_parquet(tmp_path / "people" / "availability.parquet").filter(pl.col("state") == "delayed")
    assert late["hours"].is_between(1, 48).all()
    share = late.height / sum(told["rows"].values())
    assert share == pytest.approx(0.2 * 25 / 24, abs=0.05)


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_population(World(1_000, seed), tmp_path / name)
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*") if p.is_file()} for name in "abc")
    assert a == b
    assert {name for name in a if a[name] != c[name]} >= {"labels.parquet", "ec-1.parquet", "outages.parquet"}


def test_a_switch_of_one_partner_leaves_the_other_domains_as_they_were(tmp_path: Path) -> None:
    write_population(World(1_000, 3), tmp_path / "a")
    write_population(World(1_000, 3, drift=frozenset({"definition"})), tmp_path / "b")
    same = [n for n in ("labels", "pay-1", "tx-1", "lender_kyc") if _same(tmp_path, f"{n}.parquet")]
    assert same == ["labels", "pay-1", "tx-1", "lender_kyc"]
    changed = [pl.read_parquet(tmp_path / folder / "ec-1.parquet") for folder in "ab"]
    differing = [name for name in changed[0].columns if not changed[0][name].equals(changed[1][name])]
    assert differing == ["ec_return_rate_12m"]


def _same(folder: Path, name: str) -> bool:
    return (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()


def test_many_shops_can_share_the_customers(tmp_path: Path) -> None:
    told = write_population(World(3_000, split_partners=40, name="many shops"), tmp_path / "people")
    federation = load_federation(tmp_path / "people" / "federation.toml")
    assert federation.name == "many shops"  # two of one name cannot be in one sweep
    shops = [partner.name for partner in federation.partners if partner.domain == "ecommerce"]
    assert (shops[0], shops[-1], len(shops)) == ("ec-01", "ec-40", 40)
    sizes = [told["rows"][shop] for shop in shops]
    assert min(sizes) > 20
    assert sum(sizes) == pytest.approx(1.15 * 0.75 * 3_000, rel=0.05)


def test_it_runs_as_it_is_written(run_cli: Any, tmp_path: Path, quick: None) -> None:
    ended = run_cli("population", tmp_path / "people", "--persons", 2_000, "--drift", "feedback,fraud")
    assert ended.code == 0
    assert "default rate" in ended.out
    federation, out = tmp_path / "people" / "federation.toml", tmp_path / "out"
    assert run_cli("simulate", federation, "--epsilon", "inf", "--out", out, "--quiet").code == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    labels = pl.read_parquet(tmp_path / "people" / "labels.parquet")
    dropped = labels.filter(pl.col("split") == "drop")
    assert dropped["label"].null_count() == dropped.height > 200
    assert labels["label"].null_count() == dropped.height
    assert sum(report["persons"][k] for k in ("train", "held_out")) == 2_000 - dropped.height
    assert report["auc"] > 0.6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--persons", 10), "--persons must be from 1000 to 10000000, got 10"),
        (("--persons", 10**11), "--persons must be from 1000"),
        (("--name", 'a"b'), "--name must be 1 to 64 of A-Z, a-z, 0-9, space"),
        (("--seed", -1), "--seed must be a whole number >= 0"),
        (("--base-rate", 0.9), "--base-rate must be from 0.01 to 0.3, got 0.9"),
        (("--outages", "nan"), "--outages must be from 0.0 to 0.5, got nan"),
        (("--months", 1), "--months must be from 2 to 120"),
        (("--partners-a-domain", 4), "--partners-a-domain must be from 1 to 3"),
        (("--split-partners", 10**9), "--split-partners must be from 0 to"),
        (("--split-partners", 30, "--persons", 1000), "--split-partners must be at most one for 50 persons, got 30"),
        (("--drift", "mix,infalation"), "--drift must be none, all, or by comma of inflation"),
        (("--shifts", ""), "--shifts must be none, all, or by comma of sizes"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run_cli: Any, tmp_path: Path, words: Any, told: str) -> None:
    ended = run_cli("population", tmp_path / "people", *words)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert told in ended.err
    assert list(tmp_path.iterdir()) == []


def test_only_a_population_may_be_replaced_and_only_where_that_is_asked_for(tmp_path: Path) -> None:
    write_population(World(1_000, seed=1), tmp_path / "people")
    with pytest.raises(InputError, match="exists already"):
        write_population(World(1_000), tmp_path / "people")
    before = (tmp_path / "people" / "labels.parquet").read_bytes()
    write_population(World(1_000, seed=2), tmp_path / "people", force=True)
    assert (tmp_path / "people" / "labels.parquet").read_bytes() != before
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine", encoding="utf-8")
    for name in ("file", "folder"):
        with pytest.raises(InputError, match="holds what is no population"):
            write_population(World(1_000), tmp_path / name, force=True)
    assert (tmp_path / "folder" / "thesis.txt").is_file()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written") as caught:
            write_population(World(1_000), tmp_path / "people")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_population(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from simulations.population.world import World\n"
        "from simulations.population.writing import write_population\n"
        "write_population(World(int(sys.argv[1])), Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for persons in ("100000", "400000"):
        command = [sys.executable, "-c", script, persons, str(tmp_path / persons)]
        told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ))
        peaks.append(int(told.stdout))
    assert peaks[1] < 1.3 * peaks[0]
