"""Bad input, end to end: exit code 2, one line that names file and field, and nothing left on the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

MARK = "SECRET-4711"  # stands for a person's id or value
Spoil = Callable[[Any], Any]


def _labels(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Spoil:
    return lambda files: files.table("labels.parquet", change)


def _with(**columns: pl.Expr) -> Spoil:
    return _labels(lambda frame: frame.with_columns(**columns))


def _first(column: str, value: object) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(pl.col(column))


def _twice(name: str) -> Spoil:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        ids = frame["id"].to_list()
        return frame.with_columns(id=pl.Series([MARK, *ids[1:4], MARK, *ids[5:]]))

    return lambda files: files.table(name, change)


def _truncated(files: Any) -> Any:
    whole = (files.folder / "payments.parquet").read_bytes()
    return files.raw("payments.parquet", whole[: len(whole) // 2])


def _corrupt(files: Any) -> Any:
    """A Parquet file whose footer is whole and whose data is not."""
    content = bytearray((files.folder / "payments.parquet").read_bytes())
    content[8:2000] = b"\xff" * 1992
    return files.raw("payments.parquet", bytes(content))


def _drop(name: str, column: str) -> Spoil:
    return lambda files: files.table(name, lambda frame: frame.drop(column))


def _typed(column: str, change: pl.Expr) -> Spoil:
    return lambda files: files.table("payments.parquet", lambda frame: frame.with_columns(change.alias(column)))


CSV = b"id,tenure_months\n1,2\n3,4,SECRET-4711,6\n"
PAY = 'data = "payments.parquet"\ncontract = "payments.contract.toml"'
TENURE = 'name = "tenure_months"\nkind = "numeric"\nunit = "months"\nrange = [0, 180]'
KYC = "[[feature]]"
FLAG = '[[feature]]\nname = "%s"\nkind = "flag"'
CUT = 'cut = {{ column = "{}", train-before = 2024-05-26 }}'
SPLIT = 'split = "split"             # "train" trains, "drop" is ignored, anything else is held out'

DATA = [
    ("missing", lambda f: (f.folder / "payments.parquet").unlink(), ["payments.parquet", "does not exist"]),
    ("missing-lender", lambda f: (f.folder / "labels.parquet").unlink(), ["labels.parquet", "does not exist"]),
    ("folder", lambda f: f.toml("payments.parquet", "."), ["does not exist"]),
    ("empty", lambda f: f.raw("payments.parquet", b""), ["payments.parquet", "is empty"]),
    ("blank", lambda f: f.raw("payments.parquet", b" \n\n"), ["payments.parquet", "is empty"]),
    ("header-only", lambda f: f.table("ecommerce-2.csv", lambda t: t.head(0)), ["ecommerce-2.csv", "has no rows"]),
    ("no-rows", lambda f: f.table("payments.parquet", lambda t: t.head(0)), ["payments.parquet", "has no rows"]),
    ("binary", lambda f: f.raw("payments.parquet", bytes(range(256)) * 9), ["payments.parquet", "Parquet nor CSV"]),
    ("truncated", _truncated, ["payments.parquet"]),
    ("corrupt", _corrupt, ["payments.parquet", "cannot be read"]),
    ("magic-only", lambda f: f.raw("payments.parquet", b"PAR1"), ["payments.parquet", "Parquet nor CSV"]),
    ("ragged-csv", lambda f: f.raw("ecommerce-2.csv", CSV), ["ecommerce-2.csv"]),
    ("latin-1", lambda f: f.raw("ecommerce-2.csv", b"id,x\nJos\xe9,1\n"), ["ecommerce-2.csv"]),
    ("id-missing", _drop("payments.parquet", "id"), ["payments.parquet", "id", "is not a column"]),
    ("column-missing", _drop("payments.parquet", "tenure_months"), ["payments.parquet", "tenure_months"]),
    ("lender-column-missing", _drop("lender_kyc.parquet", "city_tier"), ["lender_kyc.parquet", "city_tier"]),
    ("outcome-missing", _drop("labels.parquet", "label"), ["label", "is not a column"]),
    ("split-missing", _drop("labels.parquet", "split"), ["split", "is not a column"]),
    ("id-null", _with(id=_first("id", None)), ["labels.parquet", "id must not be empty", "row 1"]),
    ("id-NA", _with(id=_first("id", " NA ")), ["labels.parquet", "id must not be empty", "row 1"]),
    ("twice", _twice("payments.parquet"), ["payments.parquet", "id must be unique", "rows 1 and 5"]),
    ("twice-lender", _twice("labels.parquet"), ["labels.parquet", "id must be unique", "rows 1 and 5"]),
    ("label-2", _with(label=_first("label", 2)), ["labels.parquet", "label must be 0 or 1", "2"]),
    ("label-missing", _with(label=_first("label", None)), ["labels.parquet", "label must be 0 or 1", "missing"]),
    ("one-class", _with(label=pl.lit(0)), ["labels.parquet", "label has one class only", "0"]),
    ("no-training", _with(split=pl.lit("test")), ["labels.parquet", "split leaves no training rows"]),
    ("all-dropped", _with(split=pl.lit("drop")), ["labels.parquet", "split leaves no training rows"]),
    ("foreign-ids", _typed("id", pl.col("id") + "x"), ["payments.parquet", "id shares no id"]),
    ("list-ids", _typed("id", pl.concat_list("id", "id")), ["payments.parquet", "id"]),
    ("list-feature", _typed("tenure_months", pl.concat_list("tenure_months")), ["payments.parquet", "tenure_months"]),
    ("struct-feature", _typed("tenure_months", pl.struct("tenure_months")), ["payments.parquet", "tenure_months"]),
    ("cut-no-dates", lambda f: f.toml(SPLIT, CUT.format("hkey")), ["labels.parquet", "hkey must hold dates"]),
    ("cut-column", lambda f: f.toml(SPLIT, CUT.format("dat")), ["parquet: dat is not a column"]),
    ("only-column", lambda f: f.toml(PAY, PAY + '\nonly = { hkeys = ["NE"] }'), ["parquet: hkeys is not a column"]),
    ("only-nobody", lambda f: f.toml(PAY, PAY + '\nonly = { hkey = ["XX"] }'), ["payments.parquet", "shares no id"]),
    ("income-column", lambda f: f.toml("declared_income_cny", "declared_income_cnyy"), ["declared_income_cnyy"]),
]

SETTINGS = [
    ("no-toml", lambda f: f.toml("[privacy]", "[privacy"), ["federation.toml", "is not valid TOML"]),
    ("no-utf8", lambda f: f.raw("federation.toml", b"\xff\xfe"), ["federation.toml", "UTF-8"]),
    ("typo-table", lambda f: f.toml("[privacy]", "[privcy]"), ["privcy is not a known key", "'privacy'"]),
    ("typo", lambda f: f.toml("outcome =", "outcom ="), ["federation.outcom is not a known key", "'outcome'"]),
    ("typo-partner", lambda f: f.toml(PAY, PAY + "\ndomian = 1"), ["partner #1.domian", "'domain'"]),
    ("typo-lender", lambda f: f.toml("income =", "incom ="), ["lender.incom is not a known key", "'income'"]),
    ("epsilon-0", lambda f: f.toml("epsilon = 1.0", "epsilon = 0"), ["privacy.epsilon must be a number > 0", "0"]),
    ("epsilon-minus", lambda f: f.toml("epsilon = 1.0", "epsilon = -1"), ["privacy.epsilon", "-1"]),
    ("epsilon-nan", lambda f: f.toml("epsilon = 1.0", "epsilon = nan"), ["privacy.epsilon", "nan"]),
    ("epsilon-text", lambda f: f.toml("epsilon = 1.0", 'epsilon = "one"'), ["privacy.epsilon", "one"]),
    ("epsilon-true", lambda f: f.toml("epsilon = 1.0", "epsilon = true"), ["privacy.epsilon", "True"]),
    ("delta-1", lambda f: f.toml("delta = 1e-5", "delta = 1"), ["privacy.delta must be a number in (0, 1)"]),
    ("share-name", lambda f: f.toml("1e-5", "1e-5\nshares = { pay = 1 }"), ["privacy.shares.pay", "'pay-1'"]),
    ("share-0", lambda f: f.toml("1e-5", "1e-5\nshares = { pay-1 = 0 }"), ["privacy.shares.pay-1 must be"]),
    ("share-list", lambda f: f.toml("1e-5", "1e-5\nshares = [1]"), ["privacy.shares must be a table"]),
    ("twins", lambda f: f.toml('"shop-2"', '"shop-1"'), ["partner.name must be unique", "shop-1"]),
    ("name", lambda f: f.toml('"shop-2"', '"Shop 2"'), ["partner #3.name must be", "Shop 2"]),
    ("called-lender", lambda f: f.toml('"shop-2"', '"lender"'), ["partner #3.name must be", "lender"]),
    ("no-partner", lambda f: f.raw("federation.toml", _lender_only(f)), ["partner must be given 1 to 256 times"]),
    ("partner-numbers", lambda f: f.raw("federation.toml", b"partner = [1]\n" + _lender_only(f)), ["partner"]),
    ("no-lender", lambda f: f.toml("[lender]", "[[partner]]"), ["federation.toml"]),
    ("no-contract", lambda f: f.toml(PAY, 'data = "payments.parquet"'), ["partner #1.contract", "contract draft"]),
    ("contract-file", lambda f: (f.folder / "payments.contract.toml").unlink(), ["payments.contract.toml"]),
    (
        "contract-domain",
        lambda f: f.toml("payments.contract", "ecommerce.contract"),
        ["ecommerce.contract.toml: domain"],
    ),
    ("two-files", lambda f: f.toml('"payments.parquet"', '["a.csv", "b.csv"]'), ["partner #1.data must be one file"]),
    ("data-number", lambda f: f.toml('"payments.parquet"', "3"), ["partner #1.data must be a file name"]),
    ("both-splits", lambda f: f.toml(SPLIT, SPLIT + "\n" + CUT.format("date")), ["federation.split must not be given"]),
    ("on-failure", lambda f: f.toml('name = "sample"', 'name = "s"\non-failure = "stopp"'), ["on-failure", "stopp"]),
    ("lender-domain", lambda f: f.toml('domain = "payments"', 'domain = "lender_kyc"'), ["domain"]),
    ("leak", lambda f: f.text("lender_kyc.contract.toml", KYC, f"{FLAG % 'label'}\n{KYC}"), ["lender", "label"]),
    (
        "id-feature",
        lambda f: f.text("payments.contract.toml", TENURE, f"{FLAG[12:] % 'id'}"),
        ["pay-1.contract: feature.id"],
    ),
    (
        "own-outcome",
        lambda f: f.text("payments.contract.toml", "version = 1", 'version = 1\noutcome = "no"'),
        ["no is"],
    ),
]

CONTRACT = [
    ("unknown", TENURE + "\nrnage = 1", ["feature.tenure_months.rnage is not a known key", "'range'"]),
    ("kind", TENURE.replace("numeric", "number"), ["feature.tenure_months.kind must be one of", "number"]),
    ("range-missing", TENURE.replace("range = [0, 180]", ""), ["tenure_months.range must be [low, high]"]),
    ("range-back", TENURE.replace("[0, 180]", "[180, 0]"), ["tenure_months.range must be [low, high]"]),
    ("range-inf", TENURE.replace("[0, 180]", "[0, inf]"), ["tenure_months.range must be"]),
    ("range-huge", TENURE.replace("180]", "1" + "0" * 400 + "]"), ["tenure_months.range"]),
    ("edges", TENURE + "\nedges = [3, 2]", ["tenure_months.edges must be increasing"]),
    ("special-text", TENURE + '\nspecial = ["no"]', ["tenure_months.special"]),
    ("protected-text", TENURE + '\nprotected = "false"', ["tenure_months.protected must be true or false"]),
    ("no-name", TENURE.replace('name = "tenure_months"', ""), ["feature #1.name must be a column name"]),
    ("values", TENURE.replace("numeric", "categorical"), ["tenure_months.values must list the values"]),
]


def _lender_only(files: Any) -> bytes:
    return files.federation.read_text().split("[[partner]]")[0].encode()


def _is_refused(run_cli: Any, files: Any, told: list[str]) -> None:
    before = sorted(p.name for p in files.folder.parent.iterdir())
    ended = run_cli("simulate", files.federation, "--out", files.folder.parent / "out")
    assert "Traceback" not in ended.err
    assert ended.code == 2, ended.err
    last = ended.lines[-1]
    assert last.startswith("fedscore: ")
    assert len([line for line in ended.lines if line.startswith("fedscore: ")]) == 1
    for text in told:
        assert text in last, last
    assert MARK not in ended.err
    assert ended.out == ""
    assert sorted(p.name for p in files.folder.parent.iterdir()) == before


@pytest.mark.parametrize(("spoil", "told"), [pytest.param(*row[1:], id=row[0]) for row in DATA])
def test_a_spoilt_file_ends_in_one_line_and_leaves_nothing(run_cli: Any, files: Any, spoil: Spoil, told: Any) -> None:
    spoil(files)
    _is_refused(run_cli, files, told)


@pytest.mark.parametrize(("spoil", "told"), [pytest.param(*row[1:], id=row[0]) for row in SETTINGS])
def test_a_wrong_federation_file_ends_in_one_line(run_cli: Any, files: Any, spoil: Spoil, told: Any) -> None:
    spoil(files)
    _is_refused(run_cli, files, told)


@pytest.mark.parametrize(("text", "told"), [pytest.param(*row[1:], id=row[0]) for row in CONTRACT])
def test_a_wrong_contract_ends_in_one_line(run_cli: Any, files: Any, text: str, told: Any) -> None:
    files.text("payments.contract.toml", TENURE, text)
    _is_refused(run_cli, files, told)


COMMAND = [
    ("epsilon-0", ["--epsilon", 0], ["--epsilon must be a number > 0"]),
    ("epsilon-minus", ["--epsilon", "-2"], ["--epsilon must be a number > 0"]),
    ("epsilon-nan", ["--epsilon", "nan"], ["--epsilon must be a number > 0", "nan"]),
    ("delta-0", ["--delta", 0], ["--delta must be a number in (0, 1)"]),
    ("delta-nan", ["--delta", "nan"], ["--delta must be a number in (0, 1)"]),
    ("delta-tiny", ["--delta", "1e-300"], ["delta"]),
    ("seed", ["--seed", "-1"], ["--seed must be a whole number >= 0"]),
    ("rounds", ["--rounds", "-1"], ["--rounds must be a whole number >= 0"]),
    ("rounds-many", ["--rounds", "100000"], ["rounds"]),
    ("engine", ["--engine", "trees"], ["--engine must be auto | scorecard | moments | network | opacus", "trees"]),
    ("backend", ["--backend", "cluster"], ["--backend must be inprocess | flower | ray", "cluster"]),
    ("on-failure", ["--on-failure", "no"], ["--on-failure must be continue | stop"]),
    ("policy", ["--policy", "none.toml"], ["none.toml", "does not exist"]),
    ("data", ["--data", "nowhere"], ["nowhere", "does not exist"]),
]


@pytest.mark.parametrize(("arguments", "told"), [pytest.param(*row[1:], id=row[0]) for row in COMMAND])
def test_a_wrong_option_ends_in_one_line(run_cli: Any, small: Path, tmp_path: Path, arguments: Any, told: Any) -> None:
    ended = run_cli("simulate", small, "--out", tmp_path / "out", *arguments)
    assert ended.code == 2, ended.err
    assert ended.lines[-1].startswith("fedscore: ")
    for text in told:
        assert text in ended.lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_is_no_number_ends_with_exit_code_2(run_cli: Any, small: Path, tmp_path: Path) -> None:
    ended = run_cli("simulate", small, "--out", tmp_path / "out", "--epsilon", "much")
    assert ended.code == 2
    assert "much" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_federation_file_is_named(run_cli: Any, tmp_path: Path) -> None:
    ended = run_cli("simulate", tmp_path / "federation.toml", "--out", tmp_path / "out")
    assert (ended.code, ended.lines[-1].split(": ", 2)[2]) == (2, "does not exist; check the path.")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_exists_is_refused_and_left_alone(run_cli: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    ended = run_cli("simulate", small, "--out", tmp_path / "out")
    assert ended.code == 2
    assert len(ended.lines) == 1
    assert "exists already; give another --out, or --force to replace it" in ended.err
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "mine.txt"]


@pytest.mark.usefixtures("quick")
def test_force_replaces_the_output_folder_as_a_whole(run_cli: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    ended = run_cli("simulate", small, "--out", tmp_path / "out", "--force", "--quiet")
    assert ended.code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "old.txt").exists()
    assert (tmp_path / "out" / "report.json").is_file()


def test_a_failing_run_leaves_the_folder_that_force_would_replace(run_cli: Any, files: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    files.raw("payments.parquet", b"")
    assert run_cli("simulate", files.federation, "--out", tmp_path / "out", "--force").code == 2
    assert (tmp_path / "out" / "old.txt").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "sample"]


@pytest.mark.parametrize("out", ["sample", "."])
def test_force_never_replaces_the_folder_of_the_input(run_cli: Any, files: Any, tmp_path: Path, out: str) -> None:
    before = {p.name: p.read_bytes() for p in files.folder.iterdir()}
    ended = run_cli("simulate", files.federation, "--out", tmp_path / out, "--force")
    assert {p.name: p.read_bytes() for p in files.folder.iterdir()} == before
    assert ended.code == 2


def test_an_output_folder_below_a_file_is_refused_in_one_line(run_cli: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_cli("simulate", small, "--out", tmp_path / "file" / "out")
    assert ended.code == 2
    assert ended.lines[-1].startswith("fedscore: ")


def test_a_refused_run_makes_no_parents_of_the_output_folder(run_cli: Any, files: Any, tmp_path: Path) -> None:
    files.raw("payments.parquet", b"")
    assert run_cli("simulate", files.federation, "--out", tmp_path / "a" / "b" / "out").code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sample"]


@pytest.mark.usefixtures("quick")
def test_too_many_persons_for_delta_and_unknown_ids_are_said_once(run_cli: Any, files: Any, tmp_path: Path) -> None:
    files.table("payments.parquet", lambda t: t.with_columns(id=_first("id", "stranger")))
    ended = run_cli("simulate", files.federation, "--delta", "1e-3", "--out", tmp_path / "out")
    assert ended.code == 0
    told = " ".join(ended.err.split())
    assert told.count("1 of 1302 ids are not in the cohort and are ignored") == 1
    assert told.count("persons x delta = 1019 x 0.001 = 1.02 is above 0.1: choose a smaller delta") == 1
