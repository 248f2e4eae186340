"""Reading a holder's files: Parquet or CSV, strictly, as columns of text or of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from model.contract import MISSING
from model.inputs import InputError

_MAGIC = b"PAR1"


def read_columns(path: Path, id_column: str, wanted: Iterable[str]) -> pl.DataFrame:
    """The id (as text, column `id_column`) and those of the wanted columns that the file has, one row a person.

    Raises:
        InputError: the file is missing, unreadable, empty, neither Parquet nor CSV, lacks the id, or repeats one.
    """
    frame = scan(path)
    names = frame.collect_schema().names()
    if id_column not in names:
        raise InputError(path, id_column, "is not a column of this file", remedy="columns: " + ", ".join(names[:12]))
    columns = [id_column, *(c for c in dict.fromkeys(wanted) if c in names and c != id_column)]
    for name in columns:
        if frame.collect_schema()[name].is_nested():
            raise InputError(path, name, "holds lists or structures", remedy="give one plain value a row")
    try:
        table = frame.select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:  # its text may quote a person's value
        rule = f"cannot be read ({type(error).__name__})"
        raise InputError(path, "", rule, remedy="write the file again") from None
    if table.height == 0:
        raise InputError(path, "", "has no rows", remedy="give at least one person")
    table = table.with_columns(text(pl.col(id_column)))
    _check_ids(path, table[id_column], id_column)
    return table


def scan(path: Path) -> pl.LazyFrame:
    """The file as a lazy frame; CSV columns are text. Raises `InputError` where it is neither Parquet nor CSV."""
    if not path.is_file():
        raise InputError(path, "", "does not exist", remedy="check the path")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(path, "", f"cannot be read ({error.strerror})", remedy="check its permissions") from None
    if not head.strip():
        raise InputError(path, "", "is empty", remedy="give a Parquet or CSV file")
    try:
        if head.startswith(_MAGIC):
            frame = pl.scan_parquet(path)
            frame.collect_schema()
            return frame
        if b"\0" in head:
            raise InputError(path, "", "is neither Parquet nor CSV", remedy="export it as one of them")
        frame = pl.scan_csv(path, infer_schema=False, encoding="utf8")
        frame.collect_schema()
        return frame
    except pl.exceptions.PolarsError as error:
        rule = f"is neither Parquet nor CSV ({type(error).__name__})"
        raise InputError(path, "", rule, remedy="export it as one of them") from None


def _check_ids(path: Path, ids: pl.Series, name: str) -> None:
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0) + 1
        raise InputError(path, name, "must not be empty", f"row {row}", "every row needs an id")
    if ids.n_unique() < ids.len():
        repeated = ids.is_duplicated().arg_true()
        rule = "must be unique, one row a person"
        rows = f"rows {repeated[0] + 1} and {_twin(ids, int(repeated[0])) + 1}"
        raise InputError(path, name, rule, rows, "aggregate the rows of a person first")


def _twin(ids: pl.Series, row: int) -> int:
    return int((ids == ids[row]).arg_true()[1])


def stamps(paths: Iterable[Path]) -> tuple[object, ...]:
    """What changes when any of these files does: a key for what was read of them."""
    return tuple((p, (s := p.stat()).st_mtime_ns, s.st_size) if p.exists() else (p, 0, 0) for p in paths)


def text(column: pl.Expr) -> pl.Expr:
    """A column as the text it is compared by: no outer space, `1.0` is `1`; missing values are null."""
    plain = column.cast(pl.String).str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
    return pl.when(~plain.is_in(list(MISSING))).then(plain)


def number(column: pl.Expr, is_text: bool) -> pl.Expr:
    """A column as float64; missing values and texts that are no numbers are null."""
    return (text(column) if is_text else column).cast(pl.Float64, strict=False)
