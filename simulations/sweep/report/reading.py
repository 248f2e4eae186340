"""Reading a sweep's tables from disk: what is not as `fedscore sweep` writes it is refused with one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from model.inputs import InputError
from simulations.sweep.rows import ADDED, CURVES, KEY, RESULTS

SHARES = ("auc", "auc_own_block", "auc_thin", "auc_thick", "ks", "brier", "approval", "thin_share", "base_rate")
_AMOUNTS = (
    "persons", "train", "held_out", "holders", "decided", "auc_error", "ks_error", "brier_error", "seconds", "bytes",
)  # fmt: skip
_SHARE_CURVES = ("calibration", "scores", "resampled", "known_by", "decisions", "fairness", "drift_rate")
_ABOUT = ("learner", "trust", "private")  # of a cell with figures, what its arm is
CURVE_KEY = (*KEY, "curve", "group", "at")
_TIED = "calibration"  # two tenths of the persons may have one mean prediction, hence one key
_AGAIN = "run the sweep again"
_ROUNDING = 1e-9


def read_results(out: Path) -> pl.DataFrame:
    """The cells, sorted by their key.

    Raises:
        InputError: the table is missing, unreadable, without rows, or holds what no sweep writes.
    """
    path = out / "results.parquet"
    table = _read(path, RESULTS, KEY)
    if table.is_empty():
        raise InputError(path, "", "holds no cell", remedy=_AGAIN)
    _unique(path, table, KEY)
    for name in SHARES:
        _refused(path, table, name, _no_share(name), "must be within 0 and 1")
    for name in _AMOUNTS:
        amount = pl.col(name).cast(pl.Float64)
        _refused(path, table, name, (amount < 0) | amount.is_infinite(), "must be a finite number of at least 0")
    _refused(path, table, "delta", ~pl.col("delta").is_between(0, 1, "left"), "must be at least 0 and below 1")
    told = table.filter(pl.col("auc").is_finite())
    empty = next((name for name in _ABOUT if told[name].null_count()), "")
    if empty:
        raise InputError(path, empty, "must not be empty", remedy=_AGAIN)
    return table


def read_curves(out: Path) -> pl.DataFrame:
    """The cells' curves, sorted by their key.

    Raises:
        InputError: the table is missing, unreadable, or holds what no sweep writes.
    """
    path = out / "curves.parquet"
    table = _read(path, CURVES, CURVE_KEY)
    _unique(path, table.filter(pl.col("curve") != _TIED), CURVE_KEY)
    shares = table.filter(pl.col("curve").is_in(_SHARE_CURVES))
    _refused(path, shares, "value", _no_share("value"), "must be within 0 and 1")
    return table


def _read(path: Path, columns: dict[str, type[pl.DataType]], key: Sequence[str]) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(path, "", "does not exist", remedy="give the folder that `fedscore sweep` wrote")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(path, "", "is no readable Parquet file", remedy=_AGAIN) from None
    table = table.with_columns(pl.lit(None).alias(name) for name in ADDED if name not in table.columns)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(path, missing[0], "is missing", remedy=_AGAIN)
    try:
        table = table.select(pl.col(name).cast(kind) for name, kind in columns.items())
    except pl.exceptions.PolarsError:
        raise InputError(path, "", "has a column of another type", remedy=_AGAIN) from None
    empty = next((name for name in KEY if table[name].null_count()), "")
    if empty:
        raise InputError(path, empty, "must not be empty")
    _refused(path, table, "epsilon", pl.col("epsilon").is_nan() | (pl.col("epsilon") <= 0), "must be above 0")
    return table.sort(key)


def _unique(path: Path, table: pl.DataFrame, key: Sequence[str]) -> None:
    """Rows told twice would pass for seeds, and narrow every interval."""
    twice = table.filter(table.select(key).is_duplicated())
    if not twice.is_empty():
        told = " ".join(str(value) for value in twice.select(key).row(0) if value not in (None, ""))
        raise InputError(path, "", "has rows with the same " + ", ".join(key), told, _AGAIN)


def _no_share(name: str) -> pl.Expr:
    """Whether a value that was measured is no share; what was not is null or not a number."""
    value = pl.col(name)
    return value.is_not_nan() & ((value < -_ROUNDING) | (value > 1 + _ROUNDING))


def _refused(path: Path, table: pl.DataFrame, name: str, wrong: pl.Expr, rule: str) -> None:
    found = table.filter(wrong)
    if not found.is_empty():
        raise InputError(path, name, rule, found[name][0], _AGAIN)
