"""A holder's table: ids and bins, and at the lender labels and the split. Loaded, checked, encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.files import number, read_columns, text
from model.contract import FLAG_VALUES
from model.encoding import Codes, Encoding, FeatureBins
from model.federation import Federation, Holder
from model.inputs import InputError
from model.wire import HELD_OUT, TRAIN_ROWS
from privacy.alignment import hash_fraction

TRAIN_FRACTION = 0.7
WARN_SHARE = 0.05


@dataclass(frozen=True)
class Table:
    """What one holder has: `codes` has shape (parts, n) in the order of `ids`.

    `labels` are a partner's own outcomes where its contract names them. `raw` are the values of features with private
    bins, NaN where missing or special. `notes` are for the holder's own eyes.
    """

    ids: pl.Series
    encoding: Encoding | None
    codes: Codes
    labels: NDArray[np.float64] | None
    notes: tuple[str, ...]
    raw: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """The lender's ordered persons: ids, labels, and the group (`TRAIN_ROWS` or `HELD_OUT`) of each."""

    ids: pl.Series
    labels: NDArray[np.int8]
    group: NDArray[np.int8]


def load_cohort(federation: Federation, seed: int) -> Cohort:
    """The persons of the programme in the lender's order; `drop` rows are ignored.

    Raises:
        InputError: an outcome outside {0, 1}, one class only, no training rows, or a column missing.
    """
    outcome = federation.outcome
    column = federation.split or (federation.cut.column if federation.cut else None)
    table, where = _lender_columns(federation, [outcome, *([column] if column else [])])
    group = _groups(federation, table, where.get(column or "", Path()), seed)
    kept = np.flatnonzero(group >= 0)
    if not (group == TRAIN_ROWS).any():
        raise InputError(where.get(column or "", federation.path), column or "split", "leaves no training rows")
    labels = _labels(where[outcome], outcome, table[outcome].gather(kept))
    classes = np.unique(labels[group[kept] == TRAIN_ROWS])
    if len(classes) < 2:
        raise InputError(where[outcome], outcome, "has one class only among the training rows", int(classes[0]))
    return Cohort(table[federation.id].gather(kept), labels, group[kept])


def load_table(federation: Federation, holder: Holder) -> Table:
    """The holder's encoded rows; the lender's own block reads all of the lender's files."""
    contract = holder.contract
    if contract is None:
        return Table(pl.Series("id", [], pl.String), None, np.zeros((0, 0), np.uint16), None, ())
    encoding = Encoding.of(contract)
    names = [f.name for f in contract.features]
    wanted = [*names, *([contract.outcome] if contract.outcome else [])]
    if holder is federation.lender:
        table, where = _lender_columns(federation, wanted)
    else:
        table = read_columns(holder.data[0], federation.id, wanted)
        where = dict.fromkeys(table.columns, holder.data[0])
        _require(holder.data, where, wanted)
    table = _only(federation, holder, table)
    notes: list[str] = []
    codes = np.empty((len(names), table.height), dtype=np.uint16)
    raw = {}
    for row, part in zip(codes, encoding.features, strict=True):
        row[:] = _codes(part, table, where[part.feature.name], notes)
        if part.feature.private:
            raw[part.feature.name] = np.where(row < part.ordered, _numbers(table, part.feature.name), np.nan)
    labels = None
    if contract.outcome:
        labels = _labels(where[contract.outcome], contract.outcome, table[contract.outcome]).astype(np.float64)
    return Table(table[federation.id], encoding, encoding.with_products(codes), labels, tuple(notes), raw)


def _lender_columns(federation: Federation, wanted: Sequence[str]) -> tuple[pl.DataFrame, dict[str, Path]]:
    """The wanted columns of the lender's files, joined to the persons of the file with the outcome."""
    frames = [
        (path, read_columns(path, federation.id, [*wanted, federation.outcome])) for path in federation.lender.data
    ]
    frames.sort(key=lambda f: federation.outcome not in f[1].columns)  # stable: the outcome's file leads
    where: dict[str, Path] = {}
    joined = frames[0][1]
    for path, frame in frames:
        new = [c for c in frame.columns if c != federation.id and c not in where]
        where.update(dict.fromkeys(new, path))
        if frame is not joined:
            fresh = frame.select(federation.id, *new)
            joined = joined.join(fresh, on=federation.id, how="left", maintain_order="left")
    _require(federation.lender.data, where, [federation.outcome, *wanted])
    return joined, where


def _require(paths: Sequence[Path], where: Mapping[str, Path], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in where:
            others = " or ".join(p.name for p in paths[1:])
            rule = "is not a column of this file" + (f" or of {others}" if others else "")
            raise InputError(paths[0], name, rule, remedy="mend the name, or add the column")


def _groups(federation: Federation, table: pl.DataFrame, path: Path, seed: int) -> NDArray[np.int8]:
    """TRAIN_ROWS, HELD_OUT or -1 (ignored) for each of the lender's rows."""
    if federation.cut:
        try:
            day = (
                table[federation.cut.column].cast(pl.Date)
                if table[federation.cut.column].dtype != pl.String
                else (table[federation.cut.column].str.slice(0, 10).str.to_date())
            )
        except pl.exceptions.PolarsError:
            raise InputError(path, federation.cut.column, "must hold dates like 2003-10-01") from None
        train = (day < federation.cut.train_before).fill_null(False).to_numpy()
        test = (day < federation.cut.test_before).fill_null(False) if federation.cut.test_before else day.is_not_null()
        return np.where(train, TRAIN_ROWS, np.where(test.to_numpy(), HELD_OUT, -1)).astype(np.int8)
    if federation.split:
        split = table.select(text(pl.col(federation.split)))[federation.split].fill_null("")
        codes = split.replace_strict({"train": TRAIN_ROWS, "drop": -1}, default=HELD_OUT, return_dtype=pl.Int8)
        return codes.to_numpy()
    fraction = hash_fraction(table[federation.id].to_list(), f"split-{seed}")
    return np.where(fraction < TRAIN_FRACTION, TRAIN_ROWS, HELD_OUT).astype(np.int8)


def _labels(path: Path, column: str, values: pl.Series) -> NDArray[np.int8]:
    plain = values.to_frame().select(text(pl.col(column)))[column].replace(FLAG_VALUES)
    bad = (~plain.is_in(["0", "1"])).fill_null(True).arg_true()
    if len(bad):
        raise InputError(path, column, "must be 0 or 1", plain[int(bad[0])] or "missing", "1 means defaulted")
    return plain.cast(pl.Int8).to_numpy()


def _only(federation: Federation, holder: Holder, table: pl.DataFrame) -> pl.DataFrame:
    """The partner's rows whose lender's columns have the values of `only` (simulations)."""
    if not holder.only:
        return table
    lender, _ = _lender_columns(federation, list(holder.only))
    for column, values in holder.only.items():
        lender = lender.filter(text(pl.col(column)).is_in(list(values)))
    return table.join(lender.select(federation.id), on=federation.id, how="semi", maintain_order="left")


def _codes(part: FeatureBins, table: pl.DataFrame, path: Path, notes: list[str]) -> Codes:
    feature = part.feature
    column = pl.col(feature.name)
    if feature.kind == "numeric":
        values = _numbers(table, feature.name)
        special = np.isin(values, [float(s) for s in feature.special]) if feature.special else False
        outside = ((values < feature.low) | (values > feature.high)) & ~np.asarray(special)
        _note(notes, path, feature.name, "outside its range (clamped)", outside)
        if table[feature.name].dtype == pl.String:
            given = table.select(text(column))[feature.name].is_not_null().to_numpy()
            _note(notes, path, feature.name, "not numbers (missing)", np.isnan(values) & given)
        return part.codes_of_numbers(values)
    plain = table.select(text(column))[feature.name]
    if feature.kind == "flag":
        plain = plain.replace(FLAG_VALUES)
    codes = plain.replace_strict(dict(part.codes_of_texts()), default=part.other, return_dtype=pl.UInt16)
    result = np.where(plain.is_null().to_numpy(), part.missing, codes.to_numpy()).astype(np.uint16)
    _note(notes, path, feature.name, "not in the contract (bin `other`)", result == part.other)
    return result


def _numbers(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """A column's values as numbers, NaN where it has none."""
    values = table.select(number(pl.col(name), table[name].dtype == pl.String))[name]
    return values.fill_null(float("nan")).to_numpy()


def _note(notes: list[str], path: Path, name: str, what: str, rows: NDArray[np.bool_]) -> None:
    share = float(rows.mean()) if rows.size else 0.0
    if share > WARN_SHARE:
        notes.append(f"{path.name}: {name}: {share:.0%} of the values are {what}")
