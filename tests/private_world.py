"""What the tests of private sweeps share: the ledgers of the small sample, and the arms that they sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privacy.ledger import Ledger, Terms

HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")
LEDGERS = (*HOLDERS, "coordinator")
ARMS = ("apart", "apart-equal")


def book(folder: Path, holder: str) -> Ledger:
    """One holder's ledger of the small sample, or the coordinator's."""
    owner = "" if holder == "coordinator" else holder
    return Ledger(folder / holder / "ledger.db", Terms("sample", owner, 1.0, 1.0, 1e-5))


def charged(folder: Path) -> list[dict[str, Any]]:
    """The plans of every ledger."""
    found = []
    for holder in LEDGERS:
        with book(folder, holder) as opened:
            found.append(opened.plans())
    return found
