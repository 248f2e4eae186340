"""How a simulation grows with its partners: seconds, messages' bytes and memory of whole runs over invented persons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from clients.sample import write_sample
from model.inputs import InputError
from simulations.run import Settings, simulate

TABLES = {"payments": "payments.parquet", "ecommerce": "ecommerce-1.parquet", "tax_business": "tax_business.parquet"}
TWICE = 0.15  # of a domain's persons are customers of two of its partners
PERSONS = 12_000
_HEAD = """[federation]
name = "many partners"
outcome = "label"
split = "split"

[privacy]
epsilon = 1.0
within-domain = "{within}"

[lender]
data = ["sample/labels.parquet", "sample/lender_kyc.parquet"]
contract = "sample/lender_kyc.contract.toml"
"""
_PARTNER = """
[[partner]]
name = "{name}"
domain = "{domain}"
data = "{name}.parquet"
contract = "sample/{domain}.contract.toml"
"""


@dataclass(frozen=True)
class Scale:
    """What a run over so many partners cost.

    Attributes:
        seconds: by phase.
        sent: bytes of all messages, by phase.
    """

    partners: int
    backend: str
    seconds: dict[str, float]
    sent: dict[str, int]
    auc: float | None


def many_partners(folder: Path, partners: int, persons: int = PERSONS, within: str = "home") -> Path:
    """Writes a federation of the sample's persons, each domain's customers dealt out to many partners.

    Args:
        folder: to write into.
        partners: at least one a domain; they take turns among the sample's three domains.
        persons: of the sample.
        within: how persons pay that several partners of a domain know: `home`, or `overlap`.

    Returns:
        The federation file.
    """
    if partners < len(TABLES):
        raise InputError("command line", "--partners", f"must be {len(TABLES)} or more", partners)
    write_sample(folder / "sample", persons)
    rng, text = np.random.default_rng(0), _HEAD.format(within=within)
    for place, (domain, file) in enumerate(TABLES.items()):
        table = pl.read_parquet(folder / "sample" / file)
        count = len(range(place, partners, len(TABLES)))
        first, second = rng.integers(0, count, (2, table.height))
        second = np.where(rng.random(table.height) < TWICE, second, first)
        for i in range(count):
            name = f"{domain.replace('_', '-')}-{i + 1:03d}"
            table.filter(pl.Series((first == i) | (second == i))).write_parquet(folder / f"{name}.parquet")
            text += _PARTNER.format(name=name, domain=domain)
    path = folder / "federation.toml"
    path.write_text(text, encoding="utf-8")
    return path


def measure(counts: list[int], backends: list[str], persons: int = PERSONS, **more: Any) -> Iterator[Scale]:
    """One whole `simulate` for each number of partners and backend, at epsilon 1.

    Args:
        counts: numbers of partners.
        backends: of the simulation.
        persons: of the sample.
        more: further settings of the simulation.
    """
    for count in counts:
        with TemporaryDirectory(prefix="fedscore-") as scratch:
            federation = many_partners(Path(scratch), count, persons)
            for backend in backends:
                out = Path(scratch) / f"out-{backend}"
                report = simulate(Settings(federation, out, backend=backend, **more)).report
                yield Scale(count, backend, dict(report["seconds"]), dict(report["bytes_sent"]), report["auc"])
