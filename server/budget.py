"""The coordinator's own ledger: the whole plan of every run, and where it last saw each holder's ledger."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from privacy.ledger import Ledger, Terms
from privacy.plan import Release
from server.planning import RunPlan
from server.roster import Terms as Programme
from server.strategy import Head

FOLDER = "coordinator"


class Book:
    """What the coordinator keeps of a programme's budget; nothing without a folder, or without privacy."""

    def __init__(self, path: Path | None, terms: Terms | None) -> None:
        self._path, self._terms = path, terms

    @property
    def folder(self) -> Path | None:
        """Where the ledger lies; None where nothing is kept."""
        return None if self._path is None else self._path.parent

    def heads(self) -> dict[str, Head]:
        """Where each holder's ledger was last seen."""
        if self._path is None or self._terms is None:
            return {}
        with Ledger(self._path, self._terms) as book:
            return {str(b["holder"]): (int(b["rows"]), str(b["hash"])) for b in book.chain.bodies("head")}

    def reserve(self, plan: RunPlan) -> dict[str, Head]:
        """Charges the plan; returns where each holder's ledger was last seen.

        Raises:
            BudgetExceeded: where the programme's budget does not hold the plan; nothing was asked of anybody then.
        """
        plan.plan.check()
        if self._path is None or self._terms is None:
            return {}
        with Ledger(self._path, self._terms) as book:
            book.reserve(plan.id, plan.plan.lines)
        return self.heads()

    def has(self, plan: RunPlan) -> bool:
        """Whether the plan was charged."""
        if self._path is None or self._terms is None:
            return False
        with Ledger(self._path, self._terms) as book:
            return plan.id in book.plans()

    def once(self, plan: RunPlan, line: Release, part: str, draw: Callable[[], bytes]) -> bytes:
        """The bytes of the coordinator's own part of a line's noise, drawn once for the charge and kept."""
        if self._path is None or self._terms is None:
            return draw()
        with Ledger(self._path, self._terms) as book:
            stored = book.stored(book.key(plan.id, line.name, part))
            if stored is not None:
                return stored
            key = book.claim(plan.id, line, part)
            drawn = draw()
            book.store(key, drawn)
            return drawn

    def note(self, heads: dict[str, Head]) -> None:
        """Keeps where the holders' ledgers stand, as a witness."""
        if self._path is None or self._terms is None:
            return
        with Ledger(self._path, self._terms) as book, book.chain.writing():
            for holder, (rows, digest) in sorted(heads.items()):
                key = f"head|{holder}|{rows}"
                if book.chain.get(key) is None:
                    book.chain.append(key, {"kind": "head", "holder": holder, "rows": rows, "hash": digest})


def open_book(folder: Path | None, terms: Programme) -> Book:
    """The coordinator's book in `folder`."""
    if folder is None or math.isinf(terms.privacy.epsilon) or math.isinf(terms.total):
        return Book(None, None)
    kept = Terms(terms.programme, "", terms.total, terms.total, terms.privacy.delta)
    return Book(folder / FOLDER / "ledger.db", kept)
