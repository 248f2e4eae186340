"""The folder of a sweep: what was asked, one file a finished cell, and the two tables that are made of them."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from model.inputs import InputError
from privacy import durable
from simulations.sweep.grid import Cell
from simulations.sweep.rows import CURVES, KEY, RESULTS
from simulations.sweep.sources import CHANGED

SCHEMA = "fedscore-sweep/1"
ASKED = "sweep.json"
_ORDER = (*KEY, "curve", "group", "at")
_AGAIN = "give another --out, or --force to replace it"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Store:
    """A sweep's folder."""

    out: Path

    @property
    def cells(self) -> Path:
        """Where finished cells lie."""
        return self.out / "cells"

    @property
    def federations(self) -> Path:
        """Where federation files lie that were made for an arm."""
        return self.out / "federations"

    @property
    def work(self) -> Path:
        """Where cells in hand are trained; of no use once nobody trains."""
        return self.out / ".work"

    def refuse(self, force: bool) -> None:
        """Raises `InputError` where the folder holds what is no sweep, which nothing may replace."""
        if (
            self.out.exists()
            and not self._is_sweep()
            and (not self.out.is_dir() or set(self.out.iterdir()) - set(_parts(self.out)))
        ):
            remedy = "give another --out" if force else "give another --out: it holds no sweep to go on with"
            raise InputError(self.out, "", "exists already", remedy=remedy)

    def _is_sweep(self) -> bool:
        try:
            return _mapping(json.loads((self.out / ASKED).read_text(encoding="utf-8"))).get("schema") == SCHEMA
        except OSError:
            return False
        except ValueError:
            return self.cells.is_dir()  # of a sweep whose question is spoilt

    @contextmanager
    def opened(self, asked: Mapping[str, Any], force: bool) -> Iterator[None]:
        """The folder for the one that writes it: new, or that of the same sweep unfinished.

        Args:
            asked: the question, plain values.
            force: whether another sweep there is deleted.

        Raises:
            InputError: another question was asked there, files changed since, or somebody is writing there.
        """
        self.refuse(force)
        with _alone(self.out):
            if force:
                self._clear()
            self._same(asked)
            shutil.rmtree(self.work, ignore_errors=True)  # of a sweep that was killed
            for folder in (self.cells, self.federations, self.work):
                try:
                    folder.mkdir(exist_ok=True)
                except FileExistsError:
                    raise InputError(folder, "", "is no folder", remedy=_AGAIN) from None
            for part in (*_parts(self.out), *_parts(self.cells)):
                part.unlink()
            try:
                yield
            finally:
                shutil.rmtree(self.work, ignore_errors=True)

    def _clear(self) -> None:
        """Deletes the sweep that is there, what says that it is one last."""
        for path in sorted(self.out.iterdir(), key=lambda path: path.name == ASKED):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _same(self, asked: Mapping[str, Any]) -> None:
        path = self.out / ASKED
        document = plain({"schema": SCHEMA, **asked})
        if not path.is_file():
            put(path, _json(document))
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(path, "", "cannot be read as JSON", remedy=_AGAIN) from None
        rule = "differs from what was asked here before"
        for field in (f for f in document if f not in ("sets", "versions", "notes")):
            if before.get(field) != document[field]:
                remedy = f"ask for {before.get(field)!r} again, or {_AGAIN}"
                raise InputError(path, field, rule, document[field], remedy)
        sets = _mapping(before.get("sets"))
        if sorted(sets) != sorted(document["sets"]):
            raise InputError(path, "sets", rule, sorted(document["sets"]), _AGAIN)
        _unchanged(path, "versions", before.get("versions"), document.get("versions"))
        for name, files in document["sets"].items():
            _unchanged(path, f"sets.{name}", sets[name], files)

    def done(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """By key, those of these cells that are finished; a file that is no whole cell of its name is none.

        Raises:
            InputError: a folder is where a cell belongs.
        """
        paths = {key: self.cells / f"{key}.json" for key in sorted(keys)}
        if folders := [path for path in paths.values() if path.is_dir()]:
            raise InputError(folders[0], "", "is a folder where a cell belongs", remedy="remove it")
        return {key: cell for key, path in paths.items() if (cell := _cell(key, path)) is not None}

    def write_cell(self, key: str, cell: Mapping[str, Any]) -> None:
        """Keeps a finished cell, whole or not at all."""
        put(self.cells / f"{key}.json", _json(cell))

    def write_tables(self, keys: Iterable[str]) -> None:
        """Makes both tables of those of these cells that are finished; the same cells give the same bytes."""
        results, curves = _tables(self.done(keys).values())
        for name, table in (("results", results), ("curves", curves)):
            for suffix, write in (("parquet", table.write_parquet), ("csv", table.write_csv)):
                put(self.out / f"{name}.{suffix}", _bytes(write))


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room."""
    return error.errno in _FULL


def put(path: Path, content: bytes) -> None:
    """Puts a file that anybody may read in place, whole or not at all."""
    durable.write(path, content, sync=False)
    path.chmod(0o644)


def plain(value: Any) -> Any:
    """A value for JSON: infinity as the text `inf`, what is no number as nothing.

    >>> plain({"epsilon": math.inf, "auc": math.nan, "seed": 1})
    {'epsilon': 'inf', 'auc': None, 'seed': 1}
    """
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _json(value: Any) -> bytes:
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """The folder, made if need be, with nobody else writing there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        place = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise InputError(out, "", f"cannot be written ({error.strerror})", remedy="give another --out") from None
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            rule = "is being written by another sweep"
            raise InputError(out, "", rule, remedy="wait for it, or give another --out") from None
        yield
    finally:
        os.close(place)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unchanged(path: Path, where: str, before: Any, now: Any) -> None:
    """Raises `InputError` for the first name under which two mappings differ."""
    then, now = _mapping(before), _mapping(now)
    for name in sorted({**then, **now}):
        if then.get(name) != now.get(name):
            raise InputError(path, f"{where}: {name}", CHANGED, remedy=_AGAIN)


def _parts(folder: Path) -> list[Path]:
    """What `durable.write` leaves where it is killed."""
    return sorted(folder.glob(".*.part"))


def _cell(key: str, path: Path) -> dict[str, Any] | None:
    """A finished cell, whose tables can be made; None where the file holds none."""
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        result = cell["result"]
        own = Cell(result["set"], result["arm"], float(result["epsilon"]), result["seed"]).key
        _tables([cell])
        whole = own == key and isinstance(result["error"], str) and 0 <= cell["took"] < math.inf
    except (OSError, ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError):
        return None
    return cell if whole else None


def _tables(cells: Iterable[Mapping[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The results of cells, and their curves."""
    cells = list(cells)
    keyed = ({**point, **{k: cell["result"][k] for k in KEY}} for cell in cells for point in cell["curves"])
    return _table([cell["result"] for cell in cells], RESULTS, KEY), _table(keyed, CURVES, _ORDER)


def _table(rows: Iterable[Mapping[str, Any]], schema: Mapping[str, type[pl.DataType]], order: Iterable[str]) -> Any:
    """Rows of JSON values as a table of these columns, sorted; a column that a row lacks is null."""
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    for row in rows:
        for name, kind in schema.items():
            value = row.get(name)
            columns[name].append(float(value) if kind == pl.Float64 and value is not None else value)
    series = [pl.Series(name, columns[name], kind, strict=True) for name, kind in schema.items()]
    return pl.DataFrame(series).sort(list(order), nulls_last=True, maintain_order=True)


def _bytes(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()
