"""A holder's files against its contract: what would surprise a training run, told before there is one."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.files import number, read_columns, scan, text
from clients.nodefile import NodeFile
from clients.partner.words import Finding, Term
from clients.tables import load_cohort
from model.contract import FLAG_VALUES, Feature
from model.encoding import FeatureBins
from model.federation import LENDER, Federation, Holder
from model.inputs import InputError
from privacy.durable import write

SOME, MUCH = 0.01, 0.2  # share of odd values: worth a word above the first, to be mended above the second
HOLES, HEAP = 0.5, 0.99  # share of missing values, of values in one bin, that is worth a word
MOVED = 0.25  # stability index of bins; the usual word for much
_DAY = 86_400.0

Profile = Mapping[str, list[float]]


@dataclass(frozen=True)
class Data:
    """One of the holder's files, read, and the features that it has."""

    path: Path
    table: pl.DataFrame
    features: tuple[Feature, ...]


def examine(node: NodeFile, federation: Federation, profile: Path) -> Iterator[Finding]:
    """Findings about every file of the holder, and about how its bins moved since `profile` was kept."""
    holder = federation.holder(node.holder)
    files: list[Data] = []
    for path in holder.data:
        try:
            files.append(_read(federation, holder, path, node))
        except InputError as error:
            yield Finding(False, "file.bad", {"error": str(error).rstrip(".")})
    for data in files:
        yield from _rows(data, federation, node)
        yield from _dates(data, node)
    if len(files) < len(holder.data):
        return
    yield from _columns(files, holder, profile)
    yield from _coverage(node)
    if holder.name == LENDER:
        try:
            load_cohort(federation, node.seed)
        except InputError as error:
            yield Finding(False, "file.bad", {"error": str(error).rstrip(".")})


def _read(federation: Federation, holder: Holder, path: Path, node: NodeFile) -> Data:
    features = holder.contract.features if holder.contract else ()
    extra = [node.date] if node.date else []
    table = read_columns(path, federation.id, [*(f.name for f in features), *extra])
    return Data(path, table, tuple(f for f in features if f.name in table.columns))


def _rows(data: Data, federation: Federation, node: NodeFile) -> Iterator[Finding]:
    file, rows = data.path.name, data.table.height
    names = scan(data.path).collect_schema().names()
    few = rows < node.limits.min_cohort and (node.holder != LENDER or federation.outcome in names)
    told = {"file": file, "rows": rows, "least": node.limits.min_cohort}
    yield Finding(not few, "file.few" if few else "file.rows", told)
    try:
        _alike(data, federation)
    except InputError as error:
        yield Finding(False, "file.twins", {"file": file, "error": f"{error.rule}, {error.value}"})
    if data.features:
        plain = data.table.select(text(pl.col(f.name)).is_null().alias(f.name) for f in data.features)
        hollow = _mean(plain.select(pl.all_horizontal(pl.all())).to_series())
        if hollow > SOME:
            yield Finding(_weight(hollow), "file.hollow", {"file": file, "share": _share(hollow)})
    known = {federation.id, federation.outcome, federation.split, federation.income, federation.requested, node.date}
    known |= {federation.cut.column} if federation.cut else set()
    ignored = set(names) - known - {f.name for f in data.features}
    if ignored:
        yield Finding(None, "file.ignored", {"file": file, "count": len(ignored)})


def _alike(data: Data, federation: Federation) -> None:
    """Raises `InputError` where two rows are one person once ids are written alike."""
    from clients.ids import persons

    persons(data.path, federation.id, data.table[federation.id].to_list(), federation.id_form)


def _coverage(node: NodeFile) -> Iterator[Finding]:
    """How many of the persons that were aligned last have a row here; only this holder knows."""
    path = node.durable / "cohort.npz"
    if node.holder != LENDER and path.exists():
        with np.load(path) as kept:
            share = float((kept["rows"] >= 0).mean()) if kept["rows"].size else 0.0
        yield Finding(True, "cohort.covered", {"share": _share(share)})


def _columns(files: list[Data], holder: Holder, profile: Path) -> Iterator[Finding]:
    if holder.contract is None:
        yield Finding(True, "columns.none")
        return
    before, day = _kept(profile)
    shares: dict[str, list[float]] = {}
    good = 0
    for feature in holder.contract.features:
        data = next((d for d in files if feature in d.features), None)
        found = [_absent(feature, files)] if data is None else list(_column(feature, data.table[feature.name]))
        if data is not None and not feature.private:
            shares[feature.name] = _bin_shares(feature, data.table[feature.name])
            moved = stability(before.get(feature.name, []), shares[feature.name])
            if moved > MOVED:
                found.append(Finding(None, "column.moved", {"name": feature.name, "day": day, "index": moved}))
        good += not found
        yield from found
    yield Finding(True, "columns.good", {"good": good, "count": len(holder.contract.features)})
    if not before:
        write(profile, json.dumps({"day": time.strftime("%Y-%m-%d"), "shares": shares}).encode())
        yield Finding(True, "profile.kept", {"file": profile.name})


def _absent(feature: Feature, files: list[Data]) -> Finding:
    names = [name for data in files for name in scan(data.path).collect_schema().names()]
    near = get_close_matches(feature.name, names, n=1)
    hint = Term("column.near", {"name": near[0]}) if near else Term("nothing")
    return Finding(False, "column.absent", {"name": feature.name, "near": hint})


def _column(feature: Feature, column: pl.Series) -> Iterator[Finding]:
    """What is odd about one column."""
    name, plain = feature.name, _plain(column)
    missing = plain.null_count() / max(1, plain.len())
    if missing == 1:
        yield Finding(False, "column.empty", {"name": name})
        return
    if missing > HOLES:
        yield Finding(None, "column.missing", {"name": name, "share": _share(missing)})
    if plain.drop_nulls().n_unique() == 1:
        yield Finding(None, "column.constant", {"name": name})
    elif not feature.private and max(shares := _bin_shares(feature, column)[:-1]) > HEAP:
        yield Finding(None, "column.heap", {"name": name, "share": _share(max(shares))})
    yield from _numbers(feature, column, plain) if feature.kind == "numeric" else _texts(feature, plain)


def _numbers(feature: Feature, column: pl.Series, plain: pl.Series) -> Iterator[Finding]:
    values = _values(column)
    given = ~np.asarray(plain.is_null())
    unread = _part(np.isnan(values) & given, given)
    if unread > SOME:
        yield Finding(_weight(unread), "column.unread", {"name": feature.name, "share": _share(unread)})
    special = np.isin(values, [float(s) for s in feature.special])
    outside = _part(((values < feature.low) | (values > feature.high)) & ~special, given)
    if outside > SOME:
        told = {"name": feature.name, "share": _share(outside), "low": feature.low, "high": feature.high}
        yield Finding(_weight(outside), "column.outside", told)


def _texts(feature: Feature, plain: pl.Series) -> Iterator[Finding]:
    if feature.kind == "flag":
        plain = plain.replace(FLAG_VALUES)
    known = [*feature.values, *feature.special]
    strange = plain.drop_nulls().filter(~plain.drop_nulls().is_in(known))
    share = strange.len() / max(1, plain.len() - plain.null_count())
    if share > SOME:
        told = {"name": feature.name, "share": _share(share), "count": strange.n_unique()}
        yield Finding(_weight(share), "column.unknown", told)


def _dates(data: Data, node: NodeFile) -> Iterator[Finding]:
    """How fresh the file is: by its date column, or by when it was written."""
    today, most = datetime.date.today(), node.max_age_days
    if not node.date:
        age = int((time.time() - data.path.stat().st_mtime) / _DAY)
        old = 0 < most < age
        told = {"file": data.path.name, "age": age, "most": most}
        yield Finding(not old, "dates.oldfile" if old else "dates.file", told)
        return
    if node.date not in data.table.columns:
        yield Finding(False, "dates.absent", {"name": node.date})
        return
    column = data.table[node.date]
    days = column.cast(pl.String).str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    unread, later = _mean(days.is_null() & column.is_not_null()), _mean(days > today)
    if unread > 0:
        yield Finding(False, "dates.unread", {"name": node.date, "share": _share(unread)})
    if later > 0:
        yield Finding(False, "dates.future", {"name": node.date, "share": _share(later)})
    newest = days.filter(days <= today).max()
    if isinstance(newest, datetime.date):
        age = (today - newest).days
        old = 0 < most < age
        told = {"name": node.date, "day": newest.isoformat(), "age": age, "most": most}
        yield Finding(not old, "dates.old" if old else "dates.fresh", told)


def stability(before: list[float], after: list[float]) -> float:
    """The population stability index between two shares of the same bins; 0 where they cannot be compared.

    >>> stability([0.5, 0.5], [0.5, 0.5]), round(stability([0.5, 0.5], [0.9, 0.1]), 2)
    (0.0, 0.88)
    """
    if len(before) != len(after):
        return 0.0
    pairs = [(max(a, 1e-4), max(b, 1e-4)) for a, b in zip(before, after, strict=True)]
    return sum((b - a) * math.log(b / a) for a, b in pairs)


def _kept(path: Path) -> tuple[Profile, str]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return dict(told["shares"]), str(told["day"])
    except FileNotFoundError:
        return {}, ""
    except (ValueError, KeyError, TypeError):
        raise InputError(path, "", "is no profile of bins", remedy="delete it: the next check writes it anew") from None


def _bin_shares(feature: Feature, column: pl.Series) -> list[float]:
    """The share of the rows in each of the contract's bins, the missing ones last."""
    part = FeatureBins.of(feature)
    if feature.kind == "numeric":
        codes = part.codes_of_numbers(_values(column)).astype(np.int64)
    else:
        plain = _plain(column)
        plain = plain.replace(FLAG_VALUES) if feature.kind == "flag" else plain
        known = plain.replace_strict(dict(part.codes_of_texts()), default=part.other, return_dtype=pl.UInt16)
        codes = np.where(plain.is_null().to_numpy(), part.missing, known.to_numpy()).astype(np.int64)
    counts = np.bincount(codes, minlength=len(part.labels))
    return [round(float(c) / max(1, len(codes)), 4) for c in counts]


def _plain(column: pl.Series) -> pl.Series:
    return column.to_frame().select(text(pl.col(column.name)))[column.name]


def _values(column: pl.Series) -> NDArray[np.float64]:
    frame = column.to_frame().select(number(pl.col(column.name), column.dtype == pl.String))
    return frame[column.name].fill_null(float("nan")).to_numpy()


def _part(rows: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float(rows.sum()) / max(1, int(of.sum()))


def _weight(share: float) -> bool | None:
    """Whether a share of odd values is worth a word only, or must be mended."""
    return None if share <= MUCH else False


def _mean(rows: pl.Series) -> float:
    return float(rows.fill_null(False).sum()) / max(1, rows.len())


def _share(value: float) -> str:
    """A share in words that never claims an exact count of few persons.

    >>> _share(0.0004), _share(0.037), _share(0.62)
    ('under 0.1%', '3.7%', '62%')
    """
    if value < 0.001:
        return "under 0.1%"
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
