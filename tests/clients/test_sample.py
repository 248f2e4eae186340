"""The sample federation: its values, its files, and that it appears whole or not at all."""

import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from clients.sample import views, write_sample
from model.contract import load_contract
from model.inputs import InputError

PERSONS = 12_000
PARQUET = ("labels", "lender_kyc", "payments", "ecommerce-1", "tax_business")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "default").parent


@pytest.fixture(scope="module")
def files(sample: Path) -> dict[str, pl.DataFrame]:
    """Every table; the CSV with its spellings turned into the types of the Parquet file of its domain."""
    frames = {name: pl.read_parquet(sample / f"{name}.parquet") for name in PARQUET}
    exported = pl.read_csv(sample / "ecommerce-2.csv", null_values=["", "NA"])
    typed = exported.with_columns(bnpl_used=pl.col("bnpl_used") == "Y").cast(dict(frames["ecommerce-1"].schema))
    return {**frames, "ecommerce-2": typed}


def contracts(sample: Path) -> Iterator[tuple[str, dict]]:
    """Each data file with the contract that the federation gives it."""
    federation = tomllib.loads((sample / "federation.toml").read_text())
    lender = federation["lender"]
    pairs = [(lender["data"][-1], lender["contract"]), *((p["data"], p["contract"]) for p in federation["partner"])]
    for data, contract in pairs:
        yield Path(data).stem, tomllib.loads((sample / contract).read_text())


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_sample(tmp_path / name, persons=500, seed=3).parent for name in ("one", "two"))
    assert all((two / path.name).read_bytes() == path.read_bytes() for path in one.iterdir())


def test_another_seed_writes_other_persons(tmp_path: Path) -> None:
    one, two = (write_sample(tmp_path / str(seed), persons=500, seed=seed).parent for seed in (1, 2))
    assert not pl.read_parquet(one / "labels.parquet").equals(pl.read_parquet(two / "labels.parquet"))


def test_the_base_rate_is_about_eight_percent_in_both_parts_of_the_split(files: dict[str, pl.DataFrame]) -> None:
    labels = files["labels"]
    rates = dict(labels.group_by("split").agg(pl.col("label").mean()).iter_rows())
    assert labels["label"].mean() == pytest.approx(0.08, abs=0.01)
    assert rates == {"train": pytest.approx(0.08, abs=0.015), "test": pytest.approx(0.08, abs=0.015)}
    assert (labels["split"] == "train").mean() == pytest.approx(0.70, abs=0.02)


def test_labels_have_the_agreed_columns_and_types(files: dict[str, pl.DataFrame]) -> None:
    labels = files["labels"]
    expected = {"id": pl.String, "label": pl.Int8, "hkey": pl.String, "split": pl.String, "date": pl.Date}
    assert dict(labels.schema) == expected
    assert set(labels["hkey"]) == {"NE", "MW", "S", "W"}
    assert labels["id"].n_unique() == PERSONS
    assert labels["id"].str.contains(r"^P\d{7}$").all()


def test_coverage_is_that_of_the_specification(files: dict[str, pl.DataFrame]) -> None:
    first, second = set(files["ecommerce-1"]["id"]), set(files["ecommerce-2"]["id"])
    assert files["lender_kyc"].height == PERSONS
    assert files["payments"].height / PERSONS == pytest.approx(0.86, abs=0.015)
    assert len(first | second) / PERSONS == pytest.approx(0.75, abs=0.015)
    assert files["tax_business"].height / PERSONS == pytest.approx(0.33, abs=0.015)
    assert 0.02 < len(first & second) / PERSONS < 0.06


def test_every_partner_knows_each_of_its_persons_once_and_only_persons_of_the_lender(
    files: dict[str, pl.DataFrame],
) -> None:
    everybody = set(files["labels"]["id"])
    for frame in files.values():
        assert frame["id"].n_unique() == frame.height
        assert set(frame["id"]) <= everybody


def test_the_files_list_persons_in_different_orders(files: dict[str, pl.DataFrame]) -> None:
    labels, payments = files["labels"]["id"], files["payments"]["id"]
    assert labels.filter(labels.is_in(payments.implode())).to_list() != payments.to_list()


def test_whoever_has_a_thinner_record_is_riskier(files: dict[str, pl.DataFrame]) -> None:
    labels = files["labels"]
    known = labels["id"].is_in(files["payments"]["id"].implode())
    assert labels.filter(~known)["label"].mean() > 1.2 * labels.filter(known)["label"].mean()


def test_every_contract_column_stands_in_its_file(sample: Path, files: dict[str, pl.DataFrame]) -> None:
    for name, contract in contracts(sample):
        assert [feature["name"] for feature in contract["feature"]] == files[name].columns[1:]


def test_every_contract_is_accepted_by_the_strict_reader(sample: Path) -> None:
    domains = {load_contract(path).domain for path in sample.glob("*.contract.toml")}
    assert domains == {"lender_kyc", "payments", "ecommerce", "tax_business"}


def test_the_federation_names_files_that_exist_and_partners_of_their_contracts_domains(sample: Path) -> None:
    federation = tomllib.loads((sample / "federation.toml").read_text())
    assert federation["federation"]["name"] == "sample"
    assert federation["privacy"] == {"epsilon": 1.0, "delta": 1e-5}
    assert [p["domain"] for p in federation["partner"]] == ["payments", "ecommerce", "ecommerce", "tax_business"]
    for partner in federation["partner"]:
        assert (sample / partner["data"]).is_file()
        assert load_contract(sample / partner["contract"], partner["domain"])


def test_the_contracts_show_every_kind_scale_direction_special_codes_edges_and_a_protected_feature(
    sample: Path,
) -> None:
    features = [feature for _, contract in contracts(sample) for feature in contract["feature"]]
    assert {f["kind"] for f in features} == {"numeric", "ordinal", "categorical", "flag"}
    assert {f.get("scale") for f in features} >= {"linear", "log", "signed-log"}
    assert {f.get("direction") for f in features} >= {"safer", "riskier"}
    assert [f["name"] for f in features if f.get("protected")] == ["age_years"]
    assert any(f.get("special") == [-1] for f in features)
    assert any(f.get("edges") for f in features)
    assert all("group" in f for f in features)


def test_every_column_has_a_few_gaps(files: dict[str, pl.DataFrame]) -> None:
    for name in ("lender_kyc", "payments", "ecommerce-1", "ecommerce-2", "tax_business"):
        frame = files[name]
        gaps = np.array([frame[column].null_count() / frame.height for column in frame.columns[1:]])
        assert gaps.min() > 0.015


def test_the_tax_columns_that_do_not_apply_are_empty(files: dict[str, pl.DataFrame]) -> None:
    tax = files["tax_business"]
    assert tax.filter(pl.col("is_owner"))["taxed_income_monthly_cny"].is_null().all()
    assert tax.filter(~pl.col("is_owner"))["sales_12m_cny"].is_null().all()


def test_few_but_some_values_lie_outside_the_contracts_range(sample: Path, files: dict[str, pl.DataFrame]) -> None:
    outside, total = 0, 0
    for name, contract in contracts(sample):
        for feature in contract["feature"]:
            if feature["kind"] == "numeric":
                values = files[name][feature["name"]].drop_nulls()
                values = values.filter(values != -1) if "special" in feature else values
                outside += int((~values.is_between(*feature["range"])).sum())
                total += len(values)
    assert 0 < outside / total < 0.005


def test_every_special_code_occurs(sample: Path, files: dict[str, pl.DataFrame]) -> None:
    for name, contract in contracts(sample):
        for feature in contract["feature"]:
            for code in feature.get("special", []):
                assert (files[name][feature["name"]] == code).sum() > 0


def test_the_csv_is_spelt_as_a_spreadsheet_would(sample: Path) -> None:
    text = pl.read_csv(sample / "ecommerce-2.csv", infer_schema=False)
    assert set(text["bnpl_used"].drop_nulls()) == {"Y", "N"}
    assert "NA" in text["return_rate_12m"].to_list()
    assert text["orders_12m"].null_count() > 0


def test_a_sample_that_is_there_is_used_as_it_is(tmp_path: Path) -> None:
    federation = write_sample(tmp_path / "sample", persons=300)
    before = federation.stat().st_mtime_ns
    assert write_sample(tmp_path / "sample", persons=300) == federation
    assert federation.stat().st_mtime_ns == before


@pytest.mark.parametrize("lost", ["payments.parquet", "sample.json"])
def test_a_sample_with_a_lost_file_is_written_again(tmp_path: Path, lost: str) -> None:
    folder = write_sample(tmp_path / "sample", persons=300).parent
    (folder / lost).unlink()
    write_sample(folder, persons=300)
    assert (folder / lost).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_another_sample_is_replaced(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample", persons=300).parent
    write_sample(folder, persons=400)
    assert pl.read_parquet(folder / "labels.parquet").height == 400
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample", persons=300).parent
    (folder / "ledger.jsonl").write_text("kept")
    assert write_sample(folder, persons=300).is_file()
    with pytest.raises(InputError, match=r"holds files that are not the sample's, got 'ledger\.jsonl'"):
        write_sample(folder, persons=400)
    assert (folder / "ledger.jsonl").read_text() == "kept"
    assert pl.read_parquet(folder / "labels.parquet").height == 300


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("kept")
    with pytest.raises(InputError, match="must be a folder"):
        write_sample(tmp_path / "sample", persons=300)


@pytest.mark.parametrize("persons_before", [0, 400])
def test_an_interrupted_write_leaves_things_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, persons_before: int
) -> None:
    folder = tmp_path / "sample"
    if persons_before:
        write_sample(folder, persons=persons_before)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(views, "tax_business", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample(folder, persons=300)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("stale", [False, True], ids=["into nothing", "over another sample"])
def test_writers_at_the_same_time_all_find_the_whole_sample(tmp_path: Path, stale: bool) -> None:
    folder = tmp_path / "sample"
    if stale:
        write_sample(folder, persons=200)

    def write_and_read(_: int) -> int:
        labels = write_sample(folder, persons=300).with_name("labels.parquet")
        return pl.read_parquet(labels).height

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write_and_read, range(16))) == [300] * 16
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


@pytest.mark.parametrize(("wrong", "message"), [({"persons": 99}, "persons must be >= 100"), ({"seed": -1}, "seed")])
def test_wrong_arguments_are_refused_by_name(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_sample(tmp_path / "sample", **wrong)


def boosted_auc(labels: pl.DataFrame, features: pl.DataFrame) -> float:
    """Three-fold AUC of boosted trees over the persons of `features`, text columns as codes."""
    text = [name for name, kind in features.schema.items() if kind == pl.String and name != "id"]
    codes = features.with_columns(pl.col(text).rank("dense")).with_columns(pl.all().exclude("id").cast(pl.Float64))
    table = labels.select("id", "label").join(codes, on="id")
    trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.08, max_leaf_nodes=6, min_samples_leaf=40)
    x, y = table.drop("id", "label").to_numpy(), table["label"].to_numpy()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return float(roc_auc_score(y, cross_val_predict(trees, x, y, cv=folds, method="predict_proba")[:, 1]))


def test_each_domain_tells_its_share_and_all_together_tell_more(files: dict[str, pl.DataFrame]) -> None:
    """Bounds: the figures measured on 30,000 persons, plus or minus about two standard errors at 12,000."""
    shops = pl.concat([files["ecommerce-1"], files["ecommerce-2"]]).unique("id", keep="first", maintain_order=True)
    blocks = [files["lender_kyc"].drop("age_years"), files["payments"], shops, files["tax_business"]]
    lender, payments, ecommerce, tax = (boosted_auc(files["labels"], block) for block in blocks)
    joint = files["labels"].select("id")
    for number, block in enumerate(blocks):
        joint = joint.join(block, on="id", how="left", suffix=f"_{number}")
    assert lender == pytest.approx(0.65, abs=0.03)
    assert payments == pytest.approx(0.75, abs=0.03)
    assert ecommerce == pytest.approx(0.70, abs=0.03)
    assert tax == pytest.approx(0.69, abs=0.045)
    assert boosted_auc(files["labels"], joint) == pytest.approx(0.77, abs=0.025)
