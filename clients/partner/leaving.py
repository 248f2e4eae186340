"""Leaving a federation: the node ends, the ledger is exported, the coordinator's word counts no more; keys stay."""

from __future__ import annotations

import time
from collections.abc import Iterator

from clients.partner import standing
from clients.partner.folder import Folder
from clients.partner.joining import request_of
from privacy import custody
from privacy.durable import write
from privacy.enrolment import fingerprint


def leave(folder: Folder) -> Iterator[str]:
    """Leaves; each line says what was done, or what people must do."""
    welcome = folder.node.trust()
    yield "the node was stopped" if standing.stop(folder) else "the node did not run"
    head = "no ledger: nothing was ever released from here"
    if folder.ledger.exists():
        out = folder.root / f"ledger-{time.strftime('%Y%m%dT%H%M%S')}.jsonl"
        write(out, custody.export(folder.ledger).encode())
        count, digest = custody.head(custody.read(folder.ledger))
        head = f"ledger of {count} rows, head {digest}"
        yield f"{out}: the last state of the ledger, for a witness to keep"
    folder.trust.replace(folder.left)
    folder.allowed.unlink(missing_ok=True)
    yield f"{folder.root}: joined no federation any more; no bundle may run here"
    yield f"kept: {folder.node.durable}, for as long as what was released from it is in use"
    own = fingerprint(request_of(folder).holder.verify)
    yield f"tell the coordinator of {welcome.federation}: {folder.node.holder} ({own}) leaves; {head}"
    yield f"it runs `fedscore coordinator expel DIR {folder.node.holder}` and sends the others a new welcome"
