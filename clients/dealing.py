"""The dealer: it draws all masks, tells each party its own, and never sees what they hide; they die with the plan."""

from __future__ import annotations

import numpy as np

from clients.joint import Seat
from model.inputs import InputError
from model.link import Link
from model.wire import pack
from privacy.durable import made
from privacy.refining import StepDealer
from privacy.roles import COORDINATOR
from privacy.shares import Dealer, Roots


def deal(seat: Seat) -> dict[str, bytes]:
    """Seeds for every owner and roots for both parties, each sealed for whom it is; the same for the same plan."""
    roots, parties = _roots(seat), seat.joint.roles.parties
    sizes = [stop - start for start, stop in seat.joint.chunks(seat.agreement.sizes["train"])]
    correction = Dealer(roots, seat.joint.blocks).deal(sizes)
    second = pack(root=np.frombuffer(roots.both[1], np.uint8), correction=correction)
    told = {f"seeds-{o}": seat.seal(o, b"".join(roots.mask_seeds(o)), "seeds") for o in seat.joint.owners}
    told["root-0"] = seat.seal(COORDINATOR, roots.both[0], "root")
    told["root-1"] = seat.seal(parties[1], second, "root")
    return told


def tables(seat: Seat, step: int, chunk: int, link: Link) -> dict[str, bytes]:
    """One chunk of a step's hidden tables, for the second party, and with the last one what the masks multiply to.

    A step's masks hide one table only: the first link that was asked for is kept, another one is refused.
    """
    roots, second = _roots(seat), seat.joint.roles.parties[1]
    chunks = seat.joint.chunks(seat.agreement.sizes["train"])
    start, stop = chunks[chunk]
    seat.same(f"table-{step}", link.table().tobytes())
    dealer = StepDealer(roots, seat.joint.blocks, step, link.table())
    rotated = dealer.tables(chunk, stop - start)
    told = {"tables": seat.seal(second, rotated.tobytes(), f"tables|{step}|{chunk}")}
    if chunk == len(chunks) - 1:
        product = dealer.correction([b - a for a, b in chunks])
        told["product"] = seat.seal(second, product.tobytes(), f"product|{step}")
    return told


def _roots(seat: Seat) -> Roots:
    """This plan's roots, drawn once and kept until the plan is forgotten."""
    if seat.joint.roles.dealer != seat.name or seat.joint.trust != "secure" or seat.name in seat.joint.roles.parties:
        raise InputError("order", "roles", "do not make this holder the dealer", seat.name)
    kept = made(seat.folder / "roots", lambda: b"".join(Roots().both))
    return Roots((kept[:32], kept[32:]))
