"""Reading files: what is refused, with which words, and how values are spelled before they are compared."""

import os
from pathlib import Path

import polars as pl
import pytest

from clients.files import number, read_columns, scan, text
from model.inputs import InputError

MARK = "SECRET-4711"


def _refused(path: Path, *told: str, wanted: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        read_columns(path, "id", wanted)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    for word in told:
        assert word in line
    return line


def _csv(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "none.parquet", "does not exist", "check the path")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = _csv(tmp_path, "id\n1\n")
    path.chmod(0)
    _refused(path, "cannot be read", "check its permissions")


def test_a_file_that_the_system_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = _csv(tmp_path, "id\n1\n")
    monkeypatch.setattr(Path, "open", refuse)
    _refused(path, "cannot be read (Permission denied)", "check its permissions")


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n"])
def test_an_empty_file_is_told_apart_from_a_broken_one(tmp_path: Path, content: bytes) -> None:
    _refused(_csv(tmp_path, content), "is empty", "give a Parquet or CSV file")


@pytest.mark.parametrize("content", [b"\x00\x01\x02" * 50, b"PAR1", b"PAR1" + bytes(400), b"PK\x03\x04\x00\x00"])
def test_junk_is_neither_parquet_nor_csv(tmp_path: Path, content: bytes) -> None:
    _refused(_csv(tmp_path, content), "is neither Parquet nor CSV")


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"id": range(5000), "x": range(5000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-50])
    _refused(path, "is neither Parquet nor CSV")


def test_a_file_of_another_ending_is_read_by_its_content(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1], "x": [2]}).write_parquet(tmp_path / "table.csv")
    assert read_columns(tmp_path / "table.csv", "id", ["x"]).rows() == [("1", 2)]


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    _refused(_csv(tmp_path, "id,x\n"), "has no rows")


def test_a_file_without_the_id_names_the_columns_it_has(tmp_path: Path) -> None:
    _refused(_csv(tmp_path, "person,x\n1,2\n"), "id is not a column of this file", "columns: person, x")


def test_repeated_ids_are_told_by_row_and_never_by_value(tmp_path: Path) -> None:
    line = _refused(_csv(tmp_path, f"id\n7\n{MARK}\n8\n {MARK}\n"), "id must be unique", "rows 2 and 4")
    assert MARK not in line


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("1", " 1 "), ("1.0", "1.000"), ("A", "A ")])
def test_ids_that_are_spelled_differently_are_still_the_same(tmp_path: Path, one: str, other: str) -> None:
    _refused(_csv(tmp_path, f"id\n{one}\n5\n{other}\n"), "id must be unique", "rows 1 and 3")


@pytest.mark.parametrize("spelled", ["", "NA", "NaN", "nan", "null", "None", "  "])
def test_a_row_without_an_id_is_refused_by_its_number(tmp_path: Path, spelled: str) -> None:
    _refused(_csv(tmp_path, f'id,x\n1,1\n"{spelled}",2\n'), "id must not be empty", "row 2")


@pytest.mark.parametrize(
    "content",
    [f"id,x\n1,2\n3,4,{MARK}\n", f'id,x\n1,"{MARK}\n', f"id,x\n1,\xe9{MARK}\n".encode("latin-1")],
    ids=["ragged", "unclosed", "latin-1"],
)
def test_a_broken_csv_is_refused_without_showing_its_content(tmp_path: Path, content: str | bytes) -> None:
    assert MARK not in _refused(_csv(tmp_path, content), wanted=("x",))


@pytest.mark.parametrize("dtype", [pl.List(pl.Int64), pl.Struct({"a": pl.Int64})])
def test_a_nested_id_is_refused_in_plain_words(tmp_path: Path, dtype: pl.DataType) -> None:
    path = tmp_path / "table.parquet"
    cells = [[1], [2]] if dtype == pl.List else [{"a": 1}, {"a": 2}]
    pl.DataFrame({"id": pl.Series(cells, dtype=dtype)}).write_parquet(path)
    _refused(path, "id")


def test_leading_zeros_are_part_of_an_id(tmp_path: Path) -> None:
    assert read_columns(_csv(tmp_path, "id\n007\n7\n"), "id", [])["id"].to_list() == ["007", "7"]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int64, pl.UInt32, pl.Float64, pl.String])
def test_numbers_and_texts_give_the_same_ids(tmp_path: Path, dtype: pl.DataType) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"id": pl.Series([1, 23, 100]).cast(dtype)}).write_parquet(path)
    assert read_columns(path, "id", [])["id"].to_list() == ["1", "23", "100"]


def test_long_whole_numbers_stored_as_floats_are_the_same_ids(tmp_path: Path) -> None:
    numbers = [100_000_000_000, 13_800_138_000, 9_007_199_254_740_991]
    path = tmp_path / "table.parquet"
    pl.DataFrame({"id": pl.Series(numbers, dtype=pl.Float64)}).write_parquet(path)
    as_text = [str(int(float(n))) for n in numbers]
    assert read_columns(path, "id", [])["id"].to_list() == as_text


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read_columns(_csv(tmp_path, "\ufeffid,x\n1,2\n"), "id", ["x"]).columns == ["id", "x"]


def test_columns_that_nobody_wants_are_not_read(tmp_path: Path) -> None:
    frame = read_columns(_csv(tmp_path, "id,x,y\n1,2,3\n"), "id", ["y", "z", "y"])
    assert frame.columns == ["id", "y"]


def test_csv_columns_stay_text_so_that_codes_keep_their_zeros(tmp_path: Path) -> None:
    frame = scan(_csv(tmp_path, "id,code\n1,010\n")).collect()
    assert frame["code"].to_list() == ["010"]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        *[(v, None) for v in ("", " ", "NA", "NaN", "nan", "null", "None", None)],
        *[("1.0", "1"), (" x ", "x"), ("007", "007"), ("-3.00", "-3"), ("1.50", "1.50"), ("1.", "1."), ("na", "na")],
    ],
)
def test_a_value_is_compared_as_plain_text(given: str | None, plain: str | None) -> None:
    frame = pl.DataFrame({"x": pl.Series([given], dtype=pl.String)})
    assert frame.select(text(pl.col("x")))["x"].to_list() == [plain]


@pytest.mark.parametrize(
    ("given", "value"), [("1.5", 1.5), (" 2 ", 2.0), ("1e3", 1000.0), ("NA", None), ("x", None), ("inf", float("inf"))]
)
def test_a_text_is_read_as_a_number_where_it_is_one(given: str, value: float | None) -> None:
    assert pl.DataFrame({"x": [given]}).select(number(pl.col("x"), True))["x"].to_list() == [value]
