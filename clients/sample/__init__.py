"""The default federation: a small invented population, written as one file per data holder.

`fedscore demo` and a bare `flwr run .` use it. What is written is read back by the same loader as a real
partner's files. The contracts beside this file are copied as they are and serve as examples.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from clients.sample import population, views
from model.inputs import InputError

__all__ = ["write_sample"]

_HERE = Path(__file__).parent
_FEDERATION = "federation.toml"
_REQUEST = "request.json"  # a first-time applicant, to try `fedscore decide` with
_CONTRACTS = tuple(f"{domain}.contract.toml" for domain in ("lender_kyc", "payments", "ecommerce", "tax_business"))
_TABLES = (
    "labels.parquet",
    "lender_kyc.parquet",
    "payments.parquet",
    "ecommerce-1.parquet",
    "ecommerce-2.csv",
    "tax_business.parquet",
)
_RECEIPT = "sample.json"  # which sample the folder holds
_FILES = frozenset((_FEDERATION, _REQUEST, _RECEIPT, *_CONTRACTS, *_TABLES))
_FEWEST_PERSONS = 100


def write_sample(folder: Path, persons: int = 12_000, seed: int = 7) -> Path:
    """Writes the sample federation into `folder` and returns the path of its ``federation.toml``.

    The folder appears whole or not at all: files are written beside it and renamed. A folder that already
    holds this sample is used as it is, so several processes may call this at once. One that holds another
    sample is replaced; one that holds anything else is left alone. The same arguments give the same values.

    Args:
        folder: where to write; parents are made.
        persons: size of the population, at least 100.
        seed: of the population, at least 0; it never reaches privacy noise.

    Raises:
        ValueError: `persons` or `seed` is too small.
        InputError: `folder` is a file, or holds files that are not the sample's.

    >>> with TemporaryDirectory() as scratch:
    ...     federation = write_sample(Path(scratch) / "sample", persons=200)
    ...     federation.name, pl.read_parquet(federation.with_name("labels.parquet")).height
    ('federation.toml', 200)
    """
    if persons < _FEWEST_PERSONS:
        raise ValueError(f"persons must be >= {_FEWEST_PERSONS} (size of the sample), got {persons}.")
    if seed < 0:
        raise ValueError(f"seed must be >= 0 (of the sample's population), got {seed}.")
    folder = folder.absolute()
    receipt = json.dumps({"persons": persons, "seed": seed, "recipe": _recipe()}) + "\n"
    if not _holds(folder, receipt):
        _refuse_foreign(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            _write_files(fresh, persons, seed)
            (fresh / _RECEIPT).write_text(receipt, encoding="utf-8")
            _put_in_place(fresh, folder, receipt)
    return folder / _FEDERATION


def _recipe() -> str:
    """A digest of this package's own files: another version of the code means another sample."""
    digest = sha256()
    for path in sorted(path for path in _HERE.iterdir() if path.suffix in {".py", ".toml", ".json"}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _holds(folder: Path, receipt: str) -> bool:
    """Whether `folder` holds every file of just this sample."""
    if not all((folder / name).is_file() for name in _FILES):
        return False
    return (folder / _RECEIPT).read_text(encoding="utf-8") == receipt


def _refuse_foreign(folder: Path) -> None:
    """Raises `InputError` where writing the sample would cost somebody a file."""
    remedy = "choose a new folder for the sample"
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "", "must be a folder", remedy=remedy)
    foreign = sorted({path.name for path in folder.iterdir()} - _FILES) if folder.exists() else []
    if foreign:
        raise InputError(folder, "", "holds files that are not the sample's", foreign[0], remedy)


def _put_in_place(fresh: Path, folder: Path, receipt: str) -> None:
    """Makes `fresh` the folder unless another process has just done so."""
    with _locked(folder.parent):
        if _holds(folder, receipt):
            return
        _refuse_foreign(folder)
        if folder.exists():
            folder.rename(fresh.with_name("old"))
        fresh.rename(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on a folder; the system frees it should the process die."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_files(folder: Path, persons: int, seed: int) -> None:
    """Fills `folder` with contracts, federation file and tables."""
    for name in (_FEDERATION, _REQUEST, *_CONTRACTS):
        shutil.copyfile(_HERE / name, folder / name)
    # One stream per table: a new column in one of them leaves the others as they were.
    streams = [np.random.default_rng([seed, stream]) for stream in range(2 + len(_TABLES))]
    people = population.draw_people(persons, streams[0])
    known = population.customers(people, streams[1])
    frames = (
        views.labels(people, streams[2]),
        views.lender_kyc(people, streams[3]),
        views.payments(people.take(known.payments), streams[4]),
        views.ecommerce(people.take(known.ecommerce_1), streams[5]),
        views.ecommerce(people.take(known.ecommerce_2), streams[6]),
        views.tax_business(people.take(known.tax_business), streams[7]),
    )
    for name, frame in zip(_TABLES, frames, strict=True):
        if name.endswith(".csv"):
            _as_exported(frame).write_csv(folder / name)
        else:
            frame.write_parquet(folder / name)


def _as_exported(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the spellings of a spreadsheet's export: Y and N for a flag, NA beside empty fields."""
    flag = pl.when(pl.col("bnpl_used")).then(pl.lit("Y")).when(~pl.col("bnpl_used")).then(pl.lit("N"))
    return frame.with_columns(bnpl_used=flag, return_rate_12m=pl.col("return_rate_12m").cast(pl.String).fill_null("NA"))
