"""The rows that baselines train on: every holder's features side by side, in the clear, in the cohort's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of, persons_of, table_of
from clients.config import Node
from clients.files import number, read_columns
from model.encoding import Codes, Encoding, FeatureBins
from model.federation import LENDER, Holder
from model.wire import HELD_OUT, TRAIN_ROWS

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """What a baseline gives.

    Attributes:
        pd: of every held-out person, in the cohort's order, shape (held_out,).
        epsilon_spent: what its noise costs at the asked delta, by an exact accountant; infinite without privacy.
        note: what the epsilon means, in words.
    """

    pd: Floats
    epsilon_spent: float
    note: str = ""


@dataclass(frozen=True)
class PooledBlock:
    """One domain's features of all persons.

    Attributes:
        domain: its name.
        encoding: of its contract, without protected features unless the federation uses them.
        codes: bins, shape (parts, n); meaningless where a person is absent.
        here: whether the domain knows the person, shape (n,).
        sources: by holder, which of its table's rows each of these persons (places in the cohort) is.
    """

    domain: str
    encoding: Encoding
    codes: Codes
    here: NDArray[np.bool_]
    sources: tuple[tuple[Holder, Places, Places], ...]

    def bins(self) -> NDArray[np.float64]:
        """The bin of every feature as a number, shape (n, features); an absent person's is that of missing values."""
        columns = [
            np.where(self.here, row, part.missing)
            for part, row in zip(self.encoding.features, self.codes, strict=False)
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    def matrix(self, persons: Places) -> NDArray[np.float32]:
        """Encoded rows of these persons without the constant, shape (persons, columns - 1); zero where absent."""
        rows = self.encoding.matrix(self.codes[:, persons])[:, 1:] * self.here[persons, None]
        return rows.astype(np.float32)


@dataclass(frozen=True)
class Pooled:
    """A cohort's pooled data: what one party with everybody's rows would have.

    Attributes:
        node: a simulation's, which has all holders' files.
        blocks: one a domain, the lender's own among them where it has a contract. A person whom several partners of
            a domain have takes the row of the first of them.
        labels: 1 where the person defaulted, shape (n,).
        train: who trains, shape (n,).
        held: who is held out, shape (n,).
    """

    node: Node
    blocks: tuple[PooledBlock, ...]
    labels: Floats
    train: NDArray[np.bool_]
    held: NDArray[np.bool_]

    @property
    def own(self) -> PooledBlock | None:
        """The lender's own block, if it has one."""
        lender = self.node.federation.lender
        return next((b for b in self.blocks if lender.contract and b.domain == lender.domain), None)

    @property
    def features(self) -> tuple[FeatureBins, ...]:
        """Every domain's features, in the order of the columns of `bins` and `values`."""
        return tuple(part for block in self.blocks for part in block.encoding.features)

    def bins(self) -> Floats:
        """Everybody's bin of every feature, shape (n, features)."""
        return np.concatenate([block.bins() for block in self.blocks], axis=1)

    def matrix(self, persons: Places) -> NDArray[np.float32]:
        """These persons' encoded rows in all domains, without constants, shape (persons, columns)."""
        return np.concatenate([block.matrix(persons) for block in self.blocks], axis=1)

    def chunks(self, who: NDArray[np.bool_], size: int = 1 << 15) -> Iterator[NDArray[np.float32]]:
        """The encoded rows of `who`, some at a time, in the cohort's order."""
        places = np.flatnonzero(who)
        for at in range(0, len(places), size):
            yield self.matrix(places[at : at + size])

    def values(self) -> Floats:
        """Features as they are in the files, shape (n, features): numbers, or bins; NaN where missing.

        Special codes stay the numbers that they are.
        """
        columns = []
        for block in self.blocks:
            for part, codes in zip(block.encoding.features, block.codes, strict=False):
                known = block.here & (codes != part.missing)
                columns.append(np.where(known, codes, np.nan))
            _put_numbers(self.node, block, columns[-len(block.encoding.features) :])
        return np.stack(columns, axis=1)


class Baseline(Protocol):
    """One way to learn from pooled rows at a budget."""

    def __call__(self, rows: Pooled, epsilon: float, delta: float, seed: int) -> Fitted:
        """Trains on the training persons and predicts the held-out ones; `seed` never reaches noise."""
        ...


def pooled(node: Node) -> Pooled:
    """The pooled data of a simulation's holders, on the persons and the split that a run has."""
    cohort = cohort_of(node)
    holders: dict[str, list[Holder]] = {}
    for holder in node.federation.holders:
        if holder.contract is not None:
            holders.setdefault(holder.domain, []).append(holder)
    persons = pl.Series(persons_of(node, LENDER))
    blocks = tuple(_block(node, domain, group, persons) for domain, group in sorted(holders.items()))
    labels = cohort.labels.astype(np.float64)
    return Pooled(node, blocks, labels, cohort.group == TRAIN_ROWS, cohort.group == HELD_OUT)


def _block(node: Node, domain: str, holders: list[Holder], persons: pl.Series) -> PooledBlock:
    tables = [table_of(node, holder.name) for holder in holders]
    encoding = tables[0].encoding
    if encoding is None:
        raise ValueError(f"{domain} has no contract")
    codes = np.zeros((len(encoding.parts), len(persons)), np.uint16)
    here = np.zeros(len(persons), bool)
    sources = []
    for holder, table in zip(holders, tables, strict=True):
        ids = table.ids if holder.name == LENDER else pl.Series(persons_of(node, holder.name))
        wanted = persons if holder.name != LENDER else cohort_of(node).ids
        places = pl.DataFrame({"id": ids, "row": np.arange(len(ids))})
        rows = wanted.to_frame("id").join(places, on="id", how="left", maintain_order="left")["row"]
        new = rows.is_not_null().to_numpy() & ~here
        at = np.flatnonzero(new)
        chosen = rows.gather(at).to_numpy().astype(np.int64)
        codes[:, at] = table.codes[:, chosen]
        here |= new
        sources.append((holder, at, chosen))
    return PooledBlock(domain, encoding, codes, here, tuple(sources))


def _put_numbers(node: Node, block: PooledBlock, columns: list[Floats]) -> None:
    """Fills the columns of numeric features with the numbers in the holders' files."""
    numeric = {p.feature.name: i for i, p in enumerate(block.encoding.features) if p.feature.kind == "numeric"}
    for holder, at, rows in block.sources:
        ids = table_of(node, holder.name).ids.to_frame(" person")
        for path in reversed(holder.data):  # of a column in two files, the first counts
            frame = read_columns(path, node.federation.id, numeric)
            found = ids.join(frame, left_on=" person", right_on=node.federation.id, how="left", maintain_order="left")
            for name in (n for n in frame.columns if n in numeric):
                values = found.select(number(pl.col(name), frame[name].dtype == pl.String))[name]
                columns[numeric[name]][at] = values.fill_null(float("nan")).to_numpy()[rows]
