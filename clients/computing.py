"""The second computing party: it adds up its share of the products, and opens noisy totals only, each of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.joint import Seat
from clients.orders import once
from model.inputs import InputError
from model.link import SCALE
from model.moments import LABEL, UNIT, upper
from model.wire import pack, unpack
from privacy.durable import write
from privacy.refining import StepParty
from privacy.ring import Words
from privacy.roles import COORDINATOR, MOMENTS, REFINE
from privacy.shares import Party

Sealed = Mapping[str, bytes]


def multiply(seat: Seat, number: int, rows: Sealed, dealt: bytes | None) -> None:
    """Adds one chunk of everybody's masked rows, in order; a chunk that was added before changes nothing.

    Args:
        rows: by owner what it sealed for this party.
        dealt: the dealer's root and correction, with the first chunk.
    """
    _check_party(seat)
    if dealt is not None:
        seat.same("dealt", seat.open(seat.joint.roles.dealer, dealt, "root"))
    party, done = _party(seat)
    if number < done:
        return
    start, stop = seat.joint.chunks(seat.agreement.sizes["train"])[number]
    shown = {
        owner: _words(seat.open(owner, rows[owner], f"rows|{number}"), stop - start) for owner in seat.joint.owners
    }
    party.add(number, shown)
    write(seat.folder / f"chunk-{number}.npz", pack(**shown))
    write(seat.folder / "products.npz", pack(**party.state()))


def open_matrix(seat: Seat, noise: Sealed) -> bytes:
    """This party's share of the noisy matrix, once for the plan, sealed for the coordinator.

    Promise: everybody's part of the noise is in it, and no second opening with other parts can be had.
    """
    _check_party(seat)
    party, done = _party(seat)
    if done != len(seat.joint.chunks(seat.agreement.sizes["train"])):
        raise InputError("order", "chunk", "is missing before the opening", done)
    line, total = seat.agreement.line(MOMENTS, seat.name), upper(party.share())
    packet = seat.seal(COORDINATOR, _noisy(seat, total, noise, f"{MOMENTS}|").tobytes(), "matrix")
    return once(seat.node, seat.agreement, line, "open", lambda _: packet, seat.name)


def step(seat: Seat, number: int, chunk: int, sealed: Sealed) -> dict[str, bytes]:
    """One chunk of a refinement: opens it to the coordinator, and after the last one its share of the noisy gradient.

    Args:
        sealed: `sums-<owner>` of every owner, `tables` of the dealer and `opening` of the coordinator; at the last
            chunk also `noise-<owner>` of every owner and `product` of the dealer.
    """
    _check_party(seat)
    chunks = seat.joint.chunks(seat.agreement.sizes["train"])
    start, stop = chunks[chunk]
    dealer = seat.joint.roles.dealer
    tables = _words(seat.open(dealer, sealed["tables"], f"tables|{number}|{chunk}"), stop - start)
    sums = {o: _bytes(seat.open(o, sealed[f"sums-{o}"], f"sums|{number}|{chunk}")) for o in seat.joint.owners}
    theirs = np.frombuffer(seat.open(COORDINATOR, sealed["opening"], f"opening|{number}|{chunk}"), np.uint64)
    party = _step_party(seat, number, chunk)
    seat.same(f"opening-{number}-{chunk}", _digest(tables, theirs, *sums.values()))
    own = party.opening(chunk, sums, tables)
    with np.load(seat.folder / f"chunk-{chunk}.npz") as kept:
        party.add(chunk, {owner: kept[owner] for owner in seat.joint.owners}, own + theirs)
    write(seat.folder / f"step-{number}-{chunk}.npz", pack(**party.state()))
    reply = {"opening": seat.seal(COORDINATOR, own.tobytes(), f"opened|{number}|{chunk}")}
    if chunk == len(chunks) - 1:
        product = np.frombuffer(seat.open(dealer, sealed["product"], f"product|{number}"), np.uint64)
        reply["gradient"] = _open_gradient(seat, number, party.share() + product, sealed)
    return reply


def _open_gradient(seat: Seat, number: int, share: Words, sealed: Sealed) -> bytes:
    """This party's share of a step's noisy gradient without the labels' column, once for the step."""
    line = seat.agreement.line(REFINE, seat.name)
    noise = {owner: sealed[f"noise-{owner}"] for owner in seat.joint.owners}
    total = np.delete(share - np.uint64(SCALE // (LABEL * UNIT)) * _party(seat)[0].share()[1], 1)
    packet = seat.seal(COORDINATOR, _noisy(seat, total, noise, f"{REFINE}|{number}").tobytes(), f"gradient|{number}")
    return once(seat.node, seat.agreement, line, f"open|{number}", lambda _: packet, seat.name)


def _noisy(seat: Seat, total: Words, noise: Sealed, what: str) -> Words:
    """A share with every owner's share of noise added: all of them, or nothing is opened."""
    if set(noise) != set(seat.joint.owners):
        raise InputError("order", "noise", "is not there from every holder")
    for owner in seat.joint.owners:
        part = np.frombuffer(seat.open(owner, noise[owner], f"noise|{what}"), np.uint64)
        if part.shape != total.shape:
            raise InputError("order", "noise", "has another size than the plan", len(part))
        total = total + part
    return total


def _check_party(seat: Seat) -> None:
    if seat.joint.roles.parties[1] != seat.name or seat.joint.trust != "secure":
        raise InputError("order", "roles", "do not make this holder a computing party", seat.name)


def _dealt(seat: Seat) -> dict[str, NDArray[np.generic]]:
    """What the dealer told this party: its root, and its share of the masks' products."""
    path = seat.folder / "dealt"
    if not path.is_file():
        raise InputError("order", "dealt", "was never told to this holder", seat.name)
    return unpack(path.read_bytes())


def _party(seat: Seat) -> tuple[Party, int]:
    """Where the products stand: the party, and how many chunks it has added."""
    dealt, path = _dealt(seat), seat.folder / "products.npz"
    root = dealt["root"].tobytes()
    if not path.is_file():
        correction = dealt["correction"].view(np.uint64)
        return Party(1, root, seat.joint.blocks, correction), 0
    state = {name: array.view(np.uint64) for name, array in unpack(path.read_bytes()).items()}
    return Party.from_state(1, root, seat.joint.blocks, state), int(state["chunk"][0])


def _step_party(seat: Seat, number: int, chunk: int) -> StepParty:
    """Where a step stood before a chunk; the dealer's part of the product, known at the end only, is added then."""
    root = _dealt(seat)["root"].tobytes()
    if chunk == 0:
        nothing = np.zeros(seat.layout.width, dtype=np.uint64)
        return StepParty(1, root, seat.joint.blocks, number, nothing)
    path = seat.folder / f"step-{number}-{chunk - 1}.npz"
    if not path.is_file():
        raise InputError("order", "chunk", "is not the next one of its step", chunk)
    state = {name: array.view(np.uint64) for name, array in unpack(path.read_bytes()).items()}
    return StepParty.from_state(1, root, seat.joint.blocks, number, state)


def _digest(*arrays: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()


def _words(message: bytes, rows: int) -> Words:
    """Words of a packet, `rows` rows of them."""
    words = np.frombuffer(message, np.uint64)
    if rows and len(words) % rows:
        raise InputError("order", "rows", "do not fit the chunk", len(words))
    return words.reshape(rows, -1)


def _bytes(message: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(message, np.uint8)
