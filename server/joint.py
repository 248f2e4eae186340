"""The coordinator's part of a joint fit on shares: first computing party, and postman of everybody's ciphertexts.

Rounds: the dealer deals; every holder shows its masked rows, chunk by chunk, and the second party adds them up; every
holder closes with its own products and its noise; the second party opens its noisy share. A step of refinement takes
two rounds more. Nothing is charged before the closing, nothing is opened that is not charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from model import wire
from model.binned import Binned
from model.encoding import Codes
from model.link import SCALE, Link
from model.moments import LABEL, UNIT, Layout, symmetric, upper
from privacy.mechanisms import noise_share
from privacy.noise import Csprng
from privacy.refining import StepParty
from privacy.ring import Integers, Words, from_ring
from privacy.roles import MOMENTS, REFINE
from privacy.shares import Party
from server.exchange import Answer
from server.failures import RunFailed
from server.table import Table

Floats = NDArray[np.float64]


class SecureFit:
    """Noisy moments and gradients from shares: the coordinator sees its own shares and the noisy totals."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._kept = TemporaryDirectory(prefix="fedscore-joint-")  # masked rows, which must not fill the memory

    def close(self) -> None:
        """Deletes the masked rows."""
        self._kept.cleanup()

    def moments(self) -> Floats:
        """The noisy matrix of second moments, in units of the rows, shape (width, width)."""
        table, joint = self.table, self.table.joint
        dealer, second = joint.roles.dealer, joint.roles.parties[1]
        dealt = table.ask(wire.DEAL, [dealer], {}, {})
        self._root = table.open(dealer, table.packet(dealt, dealer, "root-0"), "root")
        self._party = Party(0, self._root, joint.blocks)
        for number in range(len(table.chunks)):
            sealed = {o: dict(table.parcels.pop(o, {})) for o in joint.owners}
            if number == 0:
                for owner in joint.owners:
                    sealed[owner]["seeds"] = table.packet(dealt, dealer, f"seeds-{owner}")
            shown = table.ask(wire.ROWS, joint.owners, {"chunk": number, "cohort": table.cohort}, sealed)
            self._add(number, shown)
            rows = {f"rows-{o}": table.packet(shown, o, "for-1") for o in joint.owners}
            first = {"dealt": table.packet(dealt, dealer, "root-1")} if number == 0 else {}
            table.ask(wire.MULTIPLY, [second], {"chunk": number}, {second: rows | first})
        table.heads.update(table.book.reserve(table.plan))
        closed = table.ask(wire.CLOSE, joint.owners, {}, {})
        noise = {f"noise-{o}": table.packet(closed, o, "noise-1") for o in joint.owners}
        opened = table.ask(wire.OPEN, [second], {}, {second: noise})
        theirs = _words(table.open(second, table.packet(opened, second, "matrix"), "matrix"))
        own = upper(self._party.share())
        total = self._noisy(own + theirs, closed, MOMENTS, "", UNIT * UNIT)
        return symmetric(total / UNIT**2, self._party.share().shape[0])

    def gradient(self, step: int, link: Link, points: Mapping[str, Floats]) -> Floats:
        """The noisy gradient of the log-loss over all columns but the label's, in units of rows, shape (width - 1,).

        Args:
            points: by block the constant and every bin's log-odds.
        """
        table, joint = self.table, self.table.joint
        order = {"step": step, "link": link.to_dict(), "arrays": _points(table, points)}
        shown = table.ask(wire.SUMS, joint.owners, order, {})
        party, gradient = StepParty(0, self._root, joint.blocks, step), np.zeros(0, dtype=np.uint64)
        for chunk in range(len(table.chunks)):
            gradient = self._step(party, (step, chunk), link, shown)
        labels = np.uint64(SCALE // (LABEL * UNIT)) * self._party.share()[1]
        total = np.delete(party.share() - labels, 1) + gradient
        return self._noisy(total, shown, REFINE, str(step), UNIT * SCALE) / (UNIT * SCALE)

    def _add(self, number: int, shown: Mapping[str, Answer]) -> None:
        """Adds one chunk of masked rows, and keeps it for the steps."""
        table, (start, stop) = self.table, self.table.chunks[number]
        rows = {o: table.open(o, table.packet(shown, o, "for-0"), f"rows|{number}") for o in table.joint.owners}
        words = {o: _words(message).reshape(stop - start, -1) for o, message in rows.items()}
        self._party.add(number, words)
        (Path(self._kept.name) / f"{number}.npz").write_bytes(wire.pack(**words))

    def _step(self, party: StepParty, place: tuple[int, int], link: Link, shown: Mapping[str, Answer]) -> Words:
        """One chunk of a step with the second party; after the last one, that party's noisy share, else nothing."""
        table, joint, (step, chunk) = self.table, self.table.joint, place
        dealer, second = joint.roles.dealer, joint.roles.parties[1]
        order = {"step": step, "chunk": chunk, "link": link.to_dict()}
        tables = table.ask(wire.TABLES, [dealer], order, {})
        sums = {o: table.packet(shown, o, f"sums-0-{chunk}") for o in joint.owners}
        opened = {o: table.open(o, packet, f"sums|{step}|{chunk}") for o, packet in sums.items()}
        own = party.opening(chunk, {o: np.frombuffer(message, np.uint8) for o, message in opened.items()})
        sealed = {"tables": table.packet(tables, dealer, "tables")}
        sealed["opening"] = table.seal(second, own.tobytes(), f"opening|{step}|{chunk}")
        last = chunk == len(table.chunks) - 1
        sealed |= {f"sums-{o}": table.packet(shown, o, f"sums-1-{chunk}") for o in joint.owners}
        if last:
            sealed["product"] = table.packet(tables, dealer, "product")
            sealed |= {f"noise-{o}": table.packet(shown, o, "noise-1") for o in joint.owners}
        answer = table.ask(wire.STEP, [second], {"step": step, "chunk": chunk}, {second: sealed})
        theirs = _words(table.open(second, table.packet(answer, second, "opening"), f"opened|{step}|{chunk}"))
        with np.load(Path(self._kept.name) / f"{chunk}.npz") as kept:
            party.add(chunk, {owner: kept[owner] for owner in joint.owners}, own + theirs)
        if not last:
            return np.zeros(0, dtype=np.uint64)
        return _words(table.open(second, table.packet(answer, second, "gradient"), f"gradient|{step}"))

    def _noisy(self, total: Words, answers: Mapping[str, Answer], name: str, part: str, unit: int) -> Floats:
        """The opened total, with every holder's share of noise for this party, and the coordinator's own."""
        table, line = self.table, self.table.line(name)
        for owner in table.joint.owners:
            total = total + _words(table.open(owner, table.packet(answers, owner, "noise-0"), f"noise|{name}|{part}"))
        shares = table.joint.noise_shares
        drawn = table.book.once(
            table.plan, line, f"share|{part}", lambda: noise_share(line.mechanism, unit, shares, Csprng()).tobytes()
        )
        return (from_ring(total) + np.frombuffer(drawn, np.int64)).astype(np.float64)


class CuratorFit:
    """The same numbers from bins that the coordinator sees, with one part of noise: for simulations only."""

    def __init__(self, table: Table, layout: Layout) -> None:
        self.table, self._layout = table, layout

    def close(self) -> None:
        """Forgets the bins."""
        del self._persons

    def moments(self) -> Floats:
        """As `SecureFit.moments`."""
        table, owners, chunks = self.table, self.table.joint.owners, []
        for number, (start, stop) in enumerate(table.chunks):
            sealed = {o: dict(table.parcels.pop(o, {})) for o in owners}
            shown = table.ask(wire.ROWS, owners, {"chunk": number, "cohort": table.cohort}, sealed)
            chunks.append(self._seen(number, shown, stop - start))
        try:
            self._persons = Binned(self._layout, {b: np.concatenate([c[b] for c in chunks], axis=1) for b in chunks[0]})
        except ValueError as error:
            raise RunFailed(f"the joint fit failed: {error}") from None
        table.heads.update(table.book.reserve(table.plan))
        table.ask(wire.CLOSE, owners, {}, {})
        noisy = self._noisy(upper(self._persons.moments()), MOMENTS, "", UNIT * UNIT)
        return symmetric(noisy / UNIT**2, self._layout.width)

    def gradient(self, step: int, link: Link, points: Mapping[str, Floats]) -> Floats:
        """As `SecureFit.gradient`."""
        table, owners = self.table, self.table.joint.owners
        order = {"step": step, "link": link.to_dict(), "arrays": _points(table, points)}
        shown = table.ask(wire.SUMS, owners, order, {})
        parts = [table.open(o, table.packet(shown, o, "for-0"), f"sums|{step}") for o in owners]
        sums = np.sum([np.frombuffer(part, np.int8).astype(np.int64) for part in parts], axis=0)
        residuals = link.table()[sums % len(link.table())] - self._persons.labels * SCALE
        total = self._persons.gradient(residuals)
        return self._noisy(np.delete(total, 1), REFINE, str(step), UNIT * SCALE) / (UNIT * SCALE)

    def _seen(self, number: int, shown: Mapping[str, Answer], count: int) -> dict[str, Codes]:
        """One chunk of every block's bins; a domain's partners have each person once at most."""
        table, found = self.table, {}
        for block, (owners, _) in table.joint.blocks.items():
            packets = [table.open(o, table.packet(shown, o, "for-0"), f"rows|{number}") for o in owners]
            bins = np.stack([np.frombuffer(packet, np.uint16).reshape(-1, count) for packet in packets])
            if (np.equal(bins[:, 0], 0).sum(axis=0) > 1).any():
                raise RunFailed(f"the joint fit failed: two holders of {block} have one person")
            found[block] = bins.min(axis=0)  # the absent have the last bin
        return found

    def _noisy(self, total: Integers, name: str, part: str, unit: int) -> Floats:
        table, line = self.table, self.table.line(name)
        drawn = table.book.once(
            table.plan, line, f"all|{part}", lambda: noise_share(line.mechanism, unit, 1, Csprng()).tobytes()
        )
        return (total + np.frombuffer(drawn, np.int64)).astype(np.float64)


def _points(table: Table, points: Mapping[str, Floats]) -> dict[str, ArrayRecord]:
    """Each holder's own block of the model, for its order."""
    found = {}
    for owner in table.joint.owners:
        key = wire.key(table.roster.members[owner].domain, wire.MEAN)
        found[owner] = ArrayRecord({key: Array(points[table.joint.block_of(owner)])})
    return found


def _words(message: bytes) -> Words:
    return np.frombuffer(message, np.uint64)
