"""A holder's part of the joint fit: its rows masked, its own products and its noise in shares, a step's log-odds.

What leaves is sealed for one of the computing parties and uniform to it. Masks hide one set of rows only: a digest of
each chunk is kept, and other rows under the same masks are refused. Noise is drawn once for each charge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.cohort import aligned, cohort_of, table_of
from clients.config import Node
from clients.identity import peer, private_key, signing_key
from clients.orders import Agreement, once, reserve
from clients.scored import expect
from model.binned import bins_of
from model.contract import Contract
from model.encoding import Codes, Encoding
from model.federation import LENDER
from model.inputs import InputError
from model.link import SCALE, Link
from model.moments import UNIT, BlockRows, Layout, upper
from model.wire import TRAIN_ROWS, pack, unpack
from privacy.durable import made, write
from privacy.mechanisms import noise_share
from privacy.noise import Csprng
from privacy.plan import Release
from privacy.refining import masked_sums
from privacy.ring import Integers
from privacy.roles import COORDINATOR, MOMENTS, REFINE, Joint
from privacy.shares import masked, split
from privacy.signing import coordinator_of, seal_signed, unseal_signed

Floats = NDArray[np.float64]

_OVER = "over"  # lies where a plan's secrets were deleted


@dataclass(frozen=True)
class Seat:
    """One holder at one plan's table: whom it talks to, and where it keeps what must last from message to message.

    Args:
        told: by name the announcement of each party that this order speaks of.
        contracts: everybody's, by block; the lender's is None where it has no block of its own.
    """

    node: Node
    name: str
    agreement: Agreement
    told: Mapping[str, Any]
    contracts: Mapping[str, Any]

    @property
    def joint(self) -> Joint:
        """How the plan computes; raises `InputError` where it is no joint fit, or this holder brings nothing."""
        joint = self.agreement.joint
        if joint is None:
            raise InputError("order", "plan", "is no joint fit")
        return joint

    @property
    def folder(self) -> Path:
        """Where this plan's secrets lie; raises `InputError` once they were deleted: its masks hid what was shown."""
        folder = self.node.durable(self.name) / f"joint-{self.agreement.id}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if (folder / _OVER).exists():
            raise InputError("order", "plan", "is over at this holder", self.name)
        return folder

    def context(self, what: str, sender: str, receiver: str) -> str:
        """As `Joint.context`, for a packet of this plan."""
        return Joint.context(self.agreement.id, self.contracts, what, sender, receiver)

    def seal(self, receiver: str, message: bytes, what: str) -> bytes:
        """A message for one party, signed by this holder."""
        keys = peer(self.node, self.name, self._known(receiver), self.told[receiver])
        context = self.context(what, self.name, receiver)
        return seal_signed(keys.seal, signing_key(self.node, self.name), message, context)

    def open(self, sender: str, packet: bytes, what: str) -> bytes:
        """The message that a party sealed for this holder; raises `SealBroken` where it is another's."""
        keys = peer(self.node, self.name, self._known(sender), self.told[sender])
        key = private_key(self.node.durable(self.name))
        return unseal_signed(key, keys.verify, packet, self.context(what, sender, self.name))

    def _known(self, name: str) -> str:
        return coordinator_of(self.agreement.id) if name == COORDINATOR else name

    def both(self, messages: tuple[bytes, bytes], what: str) -> dict[str, bytes]:
        """Packets for the first and the second computing party."""
        parties = self.joint.roles.parties
        return {f"for-{i}": self.seal(parties[i], messages[i], what) for i in (0, 1)}

    def forget(self) -> None:
        """Deletes masks, shares and chunks of this plan, for good; the ledger keeps what was paid."""
        folder = self.node.durable(self.name) / f"joint-{self.agreement.id}"
        folder.mkdir(mode=0o700, exist_ok=True)
        write(folder / _OVER, b"")
        for path in folder.iterdir():
            if path.name != _OVER:
                path.unlink()

    def same(self, what: str, content: bytes) -> None:
        """Keeps, before anything is shown, what masks serve for; other values under the same masks are refused."""
        if made(self.folder / what, lambda: content) != content:
            raise InputError("order", what.partition("-")[0], "is not what these masks were used for", self.name)

    @cached_property
    def block(self) -> str:
        """The block that this holder brings columns of."""
        try:
            return self.joint.block_of(self.name)
        except ValueError as error:
            raise InputError("order", "plan", str(error), self.name) from None

    @cached_property
    def layout(self) -> Layout:
        """Everybody's columns; this holder's contract among them must be its own."""
        found = {name: Contract.from_dict(c) if c else None for name, c in self.contracts.items()}
        own = self.node.federation.holder(self.name).contract
        if found.get(self.block) != own:
            raise InputError("order", "contracts", "have another contract for this holder", self.name)
        encodings = {name: Encoding.of(c) if c else None for name, c in found.items()}
        lender = encodings.pop("", None)
        layout = Layout(lender, {name: e for name, e in encodings.items() if e is not None})
        widths = [(name, rows.width) for name, rows in layout.blocks.items()]  # in order: the label is column 1
        if widths != [(name, width) for name, (_, width) in self.joint.blocks.items()]:
            raise InputError("order", "contracts", "do not give the plan's columns")
        return layout

    @cached_property
    def rows(self) -> BlockRows:
        """This holder's columns."""
        return self.layout.blocks[self.block]

    @cached_property
    def places(self) -> Integers:
        """This holder's row of each training person in the cohort's order, -1 where it has none or is no home."""
        cohort = aligned(self.node, self.name, self.agreement.id)
        train = cohort.group == TRAIN_ROWS
        rows = np.where(train, cohort.rows, -1)
        if len(self.joint.blocks[self.block][0]) > 1:
            if cohort.home is None:
                raise InputError("order", "home", "was never told to this holder")
            rows = np.where(cohort.home, rows, -1)
        if int(train.sum()) != self.agreement.sizes["train"]:
            raise InputError("order", "sizes", "are not those of this holder's cohort")
        return np.asarray(rows[train])

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """The lender's labels of the training persons, in the cohort's order."""
        cohort = cohort_of(self.node)
        return np.asarray(cohort.labels[cohort.group == TRAIN_ROWS])

    def chunk(self, start: int, stop: int) -> Integers:
        """Integer rows of the training persons from `start` to `stop`; zero where this holder has nobody."""
        table, places = table_of(self.node, self.name), self.places[start:stop]
        if self.name == LENDER:
            codes = table.codes[:, np.maximum(places, 0)] if self.rows.encoding else table.codes
            rows = self.rows.rows(codes, self.labels[start:stop])
            rows[np.ix_(places < 0, np.arange(self.rows.leading, self.rows.width))] = 0
            return rows
        out = np.zeros((stop - start, self.rows.width), dtype=np.int64)
        here = places >= 0
        out[here] = self.rows.rows(table.codes[:, places[here]])
        return out

    def bins(self, start: int, stop: int) -> Codes:
        """The same persons' bins, as `model.binned.bins_of` gives them."""
        table, places = table_of(self.node, self.name), self.places[start:stop]
        labels = self.labels[start:stop] if self.name == LENDER else None
        codes = table.codes[:, np.maximum(places, 0)] if self.rows.encoding else table.codes
        return bins_of(self.rows, codes, places >= 0, labels)


def show_rows(seat: Seat, number: int, seeds: bytes | None) -> dict[str, bytes]:
    """One chunk of masked rows, for either party; plain bins for a curator, whom only a simulation has.

    Args:
        seeds: what the dealer sealed for this holder, with its first chunk.
    """
    start, stop = seat.joint.chunks(seat.agreement.sizes["train"])[number]
    if seat.joint.trust == "curator":
        return {"for-0": seat.seal(COORDINATOR, seat.bins(start, stop).tobytes(), f"rows|{number}")}
    rows = seat.chunk(start, stop)
    if seeds is not None:
        seat.same("seeds", seat.open(seat.joint.roles.dealer, seeds, "seeds"))
    seat.same(f"rows-{number}", hashlib.sha256(rows.tobytes()).digest())
    shown = masked(rows, _seeds(seat), number).tobytes()
    return seat.both((shown, shown), f"rows|{number}")


def close(seat: Seat) -> dict[str, bytes]:
    """This holder's own products and its part of the noise, split into shares: charged, then drawn once."""
    line = _line(seat, MOMENTS)
    expect(seat.node, seat.name, seat.agreement)
    if seat.joint.trust == "curator":
        reserve(seat.node, seat.name, seat.agreement)
        return {}
    return _once_split(seat, line, "", _own_products(seat, seat.layout.width), UNIT * UNIT)


def show_sums(seat: Seat, step: int, link: Link, points: Floats) -> dict[str, bytes]:
    """A step's part of every training person's log-odds, masked, and this holder's part of the gradient's noise."""
    line = _line(seat, REFINE)
    parts = _parts(seat, link, points)
    if seat.joint.trust == "curator":
        return {"for-0": seat.seal(COORDINATOR, parts.astype(np.int8).tobytes(), f"sums|{step}")}
    seat.same(f"sums-{step}", hashlib.sha256(parts.tobytes()).digest())
    told = _once_split(seat, line, str(step), _own_labels(seat), UNIT * SCALE)
    for i, (start, stop) in enumerate(seat.joint.chunks(len(parts))):
        shown = masked_sums(parts[start:stop], _seeds(seat), step, i).tobytes()
        for party, packet in seat.both((shown, shown), f"sums|{step}|{i}").items():
            told[f"sums-{party[-1]}-{i}"] = packet
    return told


def _parts(seat: Seat, link: Link, points: Floats) -> Integers:
    """This holder's part of every training person's log-odds in whole steps; 0 where it has nobody."""
    table, places, here = table_of(seat.node, seat.name), seat.places, seat.places >= 0
    out = np.zeros(len(places), dtype=np.int64)
    odds = np.full(int(here.sum()), points[0])
    if table.encoding is not None:
        odds = table.encoding.gather(table.encoding.packed(table.codes[:, places[here]]), float(points[0]), points[1:])
    out[here] = link.part(seat.block, odds)
    if seat.name == LENDER and not here.all():  # the constant is everybody's
        out[~here] = link.part("", np.full(int((~here).sum()), points[0]))
    return out


def _own_products(seat: Seat, width: int) -> Integers:
    """The upper triangle of this holder's own columns' products, zero elsewhere, in steps squared."""
    place, total = seat.joint.place(seat.block), np.zeros((width, width))
    for start, stop in seat.joint.chunks(seat.agreement.sizes["train"]):
        rows = seat.chunk(start, stop).astype(np.float64)  # exact: sums stay far below 2^53
        total[place, place] += rows.T @ rows
    return upper(total).astype(np.int64)


def _own_labels(seat: Seat) -> Integers:
    """What the labels take from the gradient within the lender's own block; zero elsewhere, without their column."""
    total = np.zeros(seat.layout.width, dtype=np.int64)
    if seat.name == LENDER:
        for start, stop in seat.joint.chunks(seat.agreement.sizes["train"]):
            defaulted = seat.labels[start:stop] == 1
            total[seat.joint.place("")] -= SCALE * seat.chunk(start, stop)[defaulted].sum(axis=0)
    return np.delete(total, 1)


def _line(seat: Seat, name: str) -> Release:
    """A line of the joint fit, which must bound everybody's rows: all contracts are public, so each holder looks."""
    line, layout = seat.agreement.line(name, seat.name), seat.layout
    matrix = name == MOMENTS
    bound, size = (layout.sensitivity, layout.size) if matrix else (layout.row_norm, layout.width - 1)
    if line.bound < bound or line.size != size or line.probability != 1.0 or (matrix and line.count != 1):
        raise InputError("order", line.name, "does not pay for this release", [line.bound, line.size])
    return line


def _once_split(seat: Seat, line: Release, part: str, own: Integers, unit: int) -> dict[str, bytes]:
    """`own` and this holder's noise in two shares, for either party; the packets of the first answer on a retry."""
    shares = seat.joint.noise_shares

    def draw(_: object) -> bytes:
        rng = Csprng()
        noise = noise_share(line.mechanism, unit, shares, rng)
        first, second = split(own + noise, rng)
        packets = seat.both((first.tobytes(), second.tobytes()), f"noise|{line.name}|{part}")
        return pack(**{name: np.frombuffer(packet, np.uint8) for name, packet in packets.items()})

    reply = unpack(once(seat.node, seat.agreement, line, f"share|{part}", draw, seat.name))
    return {f"noise-{name[-1]}": packet.tobytes() for name, packet in reply.items()}


def _seeds(seat: Seat) -> tuple[bytes, bytes]:
    path = seat.folder / "seeds"
    if not path.is_file() or path.stat().st_size != 64:
        raise InputError("order", "seeds", "were never told to this holder", seat.name)
    seeds = path.read_bytes()
    return seeds[:32], seeds[32:]
