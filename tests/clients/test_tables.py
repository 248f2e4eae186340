"""A holder's table: values to bins, notes above five percent, labels, split, `only`, and who is missing."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.tables import Cohort, Table, load_cohort, load_table
from model.federation import load_federation
from model.inputs import InputError
from model.wire import HELD_OUT, TRAIN_ROWS

Load = Callable[..., Table]
NUMBER = {"kind": "numeric", "range": [0, 10], "special": [-1], "edges": [5]}
COLOURS = {"kind": "categorical", "values": ["1", "2"]}
FLAG: dict[str, Any] = {"kind": "flag"}


@pytest.fixture
def load(write_federation: Any, party: Any) -> Load:
    """The table of a partner whose feature `x` has the given values."""

    def made(values: Any, feature: dict[str, Any], csv: bool = False) -> Table:
        values = pl.Series("x", values) if not isinstance(values, pl.Series) else values
        ids = [str(i) for i in range(len(values))]
        labels = pl.DataFrame({"id": ids, "label": [0, 1] * (len(ids) // 2) + [0] * (len(ids) % 2)})
        table = pl.DataFrame({"id": ids, "x": values})
        files = write_federation(labels, party("pay", table, [{"name": "x", **feature}]), head="")
        if csv:
            files.toml("pay.parquet", "pay.csv")
            table.write_csv(files.folder / "pay.csv")
        federation = load_federation(files.federation)
        return load_table(federation, federation.holder("pay"))

    return made


def _bins(table: Table) -> list[str]:
    assert table.encoding is not None
    return [table.encoding.parts[0].labels[code] for code in table.codes[0]]


@pytest.fixture
def cohort(write_federation: Any, party: Any) -> Callable[..., Cohort]:
    """The cohort of a lender with the given columns."""

    def made(head: str = 'split = "split"', seed: int = 0, **columns: Any) -> Cohort:
        size = len(next(iter(columns.values())))
        labels = pl.DataFrame({"id": [str(i) for i in range(size)], **columns})
        partner = party("pay", pl.DataFrame({"id": ["0"], "x": [1]}), [{"name": "x", **FLAG}])
        return load_cohort(load_federation(write_federation(labels, partner, head=head).federation), seed)

    return made


def test_numbers_outside_the_range_are_clamped_and_special_codes_kept(load: Load) -> None:
    table = load([-1.0, -5.0, 3.0, 7.0, 99.0, float("inf"), float("-inf"), float("nan"), None], NUMBER)
    low, high = "0 to 5", "5 to 10"
    assert _bins(table) == ["-1", low, low, high, high, high, low, "missing", "missing"]


@pytest.mark.parametrize(("outside", "noted"), [(5, False), (6, True)])
def test_clamping_is_noted_above_five_percent_only(load: Load, outside: int, noted: bool) -> None:
    table = load([99.0] * outside + [1.0] * (100 - outside), NUMBER)
    assert bool(table.notes) == noted
    if noted:
        assert table.notes == ("pay.parquet: x: 6% of the values are outside its range (clamped)",)


def test_special_codes_and_missing_values_are_not_outside_the_range(load: Load) -> None:
    assert load([-1.0, None, float("nan"), 1.0] * 10, NUMBER).notes == ()


def test_texts_that_are_no_numbers_are_missing_and_noted(load: Load) -> None:
    table = load(["1", " 7.0 ", "-1.0", "NA", "", "seven"], NUMBER, csv=True)
    assert _bins(table) == ["0 to 5", "5 to 10", "-1", "missing", "missing", "missing"]
    assert table.notes == ("pay.csv: x: 17% of the values are not numbers (missing)",)


@pytest.mark.parametrize("values", [["1", "2.0", " 1 "], [1, 2, 1], [1.0, 2.0, 1.0]])
def test_categories_are_compared_as_text(load: Load, values: list[Any]) -> None:
    assert _bins(load(values, COLOURS)) == ["1", "2", "1"]


def test_leading_zeros_make_another_category(load: Load) -> None:
    assert _bins(load(["01", "1"], {**COLOURS, "values": ["01", "1"]}, csv=True)) == ["01", "1"]


def test_a_category_outside_the_contract_is_other_and_noted(load: Load) -> None:
    table = load(["1"] * 15 + ["9"], COLOURS)
    assert _bins(table)[-1] == "other"
    assert table.notes == ("pay.parquet: x: 6% of the values are not in the contract (bin `other`)",)


def test_five_percent_of_other_is_not_worth_a_note(load: Load) -> None:
    assert load(["1"] * 19 + ["9"], COLOURS).notes == ()


@pytest.mark.parametrize("spelled", ["", "NA", "NaN", "null", "None", None])
def test_every_spelling_of_missing_has_its_own_bin_apart_from_other(load: Load, spelled: str | None) -> None:
    assert _bins(load(pl.Series(["1", spelled], dtype=pl.String), COLOURS)) == ["1", "missing"]


@pytest.mark.parametrize(
    ("no", "yes"), [("0", "1"), ("N", "Y"), ("n", "y"), ("false", "true"), ("False", "True"), ("no", "yes"), (0, 1)]
)
def test_flags_are_read_in_every_usual_spelling(load: Load, no: Any, yes: Any) -> None:
    assert _bins(load([no, yes], FLAG)) == ["0", "1"]


@pytest.mark.parametrize("dtype", [pl.Boolean, pl.Int8, pl.Float64])
def test_flags_of_a_parquet_file_need_not_be_text(load: Load, dtype: pl.DataType) -> None:
    values = pl.Series([False, True, None]).cast(dtype)
    assert _bins(load(values, FLAG)) == ["0", "1", "missing"]


def test_a_boolean_serves_a_categorical_feature_too(load: Load) -> None:
    assert _bins(load([True, False], {**COLOURS, "values": [True, False]})) == ["true", "false"]


@pytest.mark.parametrize("values", [pl.Series([[1], [2]]), pl.Series([{"a": 1}, {"a": 2}])], ids=["list", "struct"])
@pytest.mark.parametrize("feature", [NUMBER, COLOURS, FLAG], ids=["numeric", "categorical", "flag"])
def test_a_nested_column_is_refused_by_name(load: Load, values: pl.Series, feature: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"pay.parquet: x "):
        load(values, feature)


def test_ids_are_joined_as_text_whatever_their_type(write_federation: Any, party: Any) -> None:
    labels = pl.DataFrame({"id": ["1", "2", "007"], "label": [0, 1, 0], "hkey": ["a", "b", "a"]})
    files = write_federation(
        labels, party("pay", pl.DataFrame({"id": [1.0, 2.0], "x": [0, 1]}), [{"name": "x", **FLAG}])
    )
    files.toml('split = "split"', "").toml('domain = "payments"', 'only = { hkey = ["a"] }\ndomain = "payments"')
    federation = load_federation(files.federation)
    assert load_table(federation, federation.holder("pay")).ids.to_list() == ["1"]


def test_only_filters_through_the_lenders_columns(files: Any) -> None:
    files.toml('domain = "payments"', 'only = { hkey = ["NE", "MW"], split = ["test"] }\ndomain = "payments"')
    federation = load_federation(files.federation)
    labels = pl.read_parquet(files.folder / "labels.parquet")
    kept = set(labels.filter(pl.col("hkey").is_in(["NE", "MW"]) & (pl.col("split") == "test"))["id"])
    own = pl.read_parquet(files.folder / "payments.parquet")["id"].to_list()
    assert load_table(federation, federation.holder("pay-1")).ids.to_list() == [i for i in own if i in kept]


def test_a_protected_feature_is_left_out_unless_the_federation_wants_it(files: Any) -> None:
    files.text("payments.contract.toml", 'name = "tenure_months"', 'name = "tenure_months"\nprotected = true')
    without = load_federation(files.federation).holder("pay-1").contract
    files.toml('name = "sample"', 'name = "sample"\nuse-protected = true')
    with_it = load_federation(files.federation).holder("pay-1").contract
    assert without is not None
    assert with_it is not None
    assert len(with_it.features) == len(without.features) + 1


def test_split_says_drop_train_and_everything_else_is_held_out(cohort: Any) -> None:
    made = cohort(label=[0, 1, 1, 0, 1, 0], split=["train", "train", "drop", "test", None, " train "])
    assert made.ids.to_list() == ["0", "1", "3", "4", "5"]
    assert made.group.tolist() == [TRAIN_ROWS, TRAIN_ROWS, HELD_OUT, HELD_OUT, TRAIN_ROWS]
    assert made.labels.tolist() == [0, 1, 0, 1, 0]


DAYS = [date(2020, 1, 1), date(2020, 1, 2), date(2021, 1, 1), date(2022, 1, 1), None]


@pytest.mark.parametrize("days", [DAYS, [d and d.isoformat() for d in DAYS], [d and f"{d}T09:30:00" for d in DAYS]])
@pytest.mark.parametrize(("until", "kept"), [("", 4), (", test-before = 2022-01-01", 3)])
def test_a_cut_by_dates_trains_before_and_holds_out_after(cohort: Any, days: Any, until: str, kept: int) -> None:
    cut = f'cut = {{ column = "day", train-before = 2021-01-01{until} }}'
    made = cohort(head=cut, label=[0, 1, 0, 1, 1], day=days)
    assert made.group.tolist() == [TRAIN_ROWS, TRAIN_ROWS, HELD_OUT, HELD_OUT][:kept]


def test_without_split_and_cut_seven_tenths_train_by_a_hash_of_id_and_seed(cohort: Any) -> None:
    labels = [0, 1] * 2000
    one = cohort(head="", label=labels)
    assert (one.group == TRAIN_ROWS).mean() == pytest.approx(0.7, abs=0.03)


def test_the_hash_split_depends_on_the_seed_and_not_on_the_order(write_federation: Any, party: Any) -> None:
    partner = party("pay", pl.DataFrame({"id": ["0"], "x": [1]}), [{"name": "x", **FLAG}])
    labels = pl.DataFrame({"id": [str(i) for i in range(400)], "label": [0, 1] * 200})
    files = write_federation(labels, partner, head="")

    def trained(seed: int) -> set[str]:
        made = load_cohort(load_federation(files.federation), seed)
        return set(made.ids.filter(pl.Series(made.group == TRAIN_ROWS)))

    first, other = trained(0), trained(1)
    files.table("labels.parquet", lambda table: table.reverse())
    assert trained(0) == first != other


@pytest.mark.parametrize("bad", [2, -1, None, 0.5])
def test_an_outcome_outside_0_and_1_is_refused(cohort: Any, bad: Any) -> None:
    with pytest.raises(InputError, match=r"labels.parquet: label must be 0 or 1"):
        cohort(label=pl.Series([0, 1, bad], dtype=pl.Float64), split=["train"] * 3)


@pytest.mark.parametrize("labels", [[False, True], ["N", "Y"], ["0", "1"], [0.0, 1.0], ["false", "true"]])
def test_an_outcome_may_be_spelled_like_a_flag(cohort: Any, labels: list[Any]) -> None:
    assert cohort(label=labels, split=["train", "train"]).labels.tolist() == [0, 1]


def test_the_outcome_of_a_dropped_row_is_not_looked_at(cohort: Any) -> None:
    assert len(cohort(label=[0, 1, None], split=["train", "train", "drop"]).ids) == 2


def test_one_class_among_the_training_rows_is_refused_with_that_class(cohort: Any) -> None:
    with pytest.raises(InputError, match=r"label has one class only among the training rows, got 0"):
        cohort(label=[1, 0, 0], split=["test", "train", "train"])


def test_a_cohort_without_training_rows_is_refused(cohort: Any) -> None:
    with pytest.raises(InputError, match=r"labels.parquet: split leaves no training rows"):
        cohort(label=[0, 1], split=["test", "drop"])


def test_the_lenders_files_join_to_the_persons_of_the_file_with_the_outcome(files: Any) -> None:
    files.toml('["labels.parquet", "lender_kyc.parquet"]', '["lender_kyc.parquet", "labels.parquet"]')
    files.table("lender_kyc.parquet", lambda table: table.head(1000))
    federation = load_federation(files.federation)
    table = load_table(federation, federation.lender)
    assert table.ids.len() == load_cohort(federation, 0).ids.len() == 1500
    assert table.encoding is not None
    last = [part.labels[code] for part, code in zip(table.encoding.parts, table.codes[:, -1], strict=True)]
    kept = set(pl.read_parquet(files.folder / "lender_kyc.parquet")["id"])
    assert (table.ids[-1] in kept) or set(last) == {"missing"}


def test_a_column_that_no_file_of_the_lender_has_is_named(files: Any) -> None:
    files.table("lender_kyc.parquet", lambda table: table.drop("segment"))
    federation = load_federation(files.federation)
    with pytest.raises(
        InputError, match=r"labels.parquet: segment is not a column of this file or of lender_kyc.parquet"
    ):
        load_table(federation, federation.lender)


def test_a_partners_own_outcome_is_read_from_its_own_file(write_federation: Any, party: Any) -> None:
    labels = pl.DataFrame({"id": ["1", "2"], "label": [0, 1]})
    table = pl.DataFrame({"id": ["1", "2"], "x": [1, 0], "late": ["Y", "N"]})
    files = write_federation(labels, party("pay", table, [{"name": "x", **FLAG}], head={"outcome": "late"}), head="")
    federation = load_federation(files.federation)
    loaded = load_table(federation, federation.holder("pay"))
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(loaded.codes, [[1, 0]])


def test_a_holder_without_a_contract_has_an_empty_table(files: Path) -> None:
    federation = load_federation(files.toml('contract = "lender_kyc.contract.toml"\n', "").federation)  # type: ignore
    table = load_table(federation, federation.lender)
    assert table.encoding is None
    assert table.ids.len() == 0
