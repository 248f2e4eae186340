"""The coordinator's side of signed messages: its name under every order, and who must stand under each answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from model import wire
from model.contents import check_size, content_digest, enveloped, round_of
from model.federation import LENDER
from privacy.checkpoints import Checkpoint
from privacy.enrolment import Enrolled
from privacy.envelope import SealBroken
from privacy.logfile import Witness
from privacy.messages import COORDINATOR, Header, digest, opened, signed
from privacy.signing import verify_key
from server.identity import lasting_key, numbers
from server.log import Log

_FEW = 100  # sizes of the log that an order to an unknown node brings proofs for


class Outbox:
    """Signs what is sent, and checks what comes back.

    Args:
        run: the transport's name of the run.
        key: the coordinator's signing key, 32 bytes.
        orders: gives each order's number, higher than all before under this key.
        log: whose checkpoint every order carries.
        enrolled: all who may take part; None lets anybody, as a simulation does.

    Attributes:
        key: as given.
        known: verify keys by holder, 32 bytes each: nobody else's answer counts as theirs.
    """

    def __init__(
        self, run: str, key: bytes, orders: Iterator[int], log: Log, enrolled: Mapping[str, Enrolled] | None = None
    ) -> None:
        self.run, self.key, self._numbers = run, key, orders
        self.log, self._enrolled = log, enrolled
        self.known: dict[str, bytes] = {}
        self._held: dict[str, int] = {name: w.checkpoint.size for name, w in log.witnesses.items()}
        self._first: dict[str, Witness] = {}

    @classmethod
    def of(cls, run: str, home: Path | None, enrolled: Mapping[str, Enrolled] | None) -> Outbox:
        """The outbox of a coordinator whose key and log lie in `home`; without one it has a fresh key for this run.

        Raises:
            RunFailed: where key or log cannot be read or kept.
        """
        key = lasting_key(home)
        log = Log(home / "log" if home else None, key)
        return cls(run, key, numbers(home), log, enrolled)

    def address(self, content: RecordDict, kind: str, receiver: str, data: Any) -> RecordDict:
        """The content of an order with its envelope; one that is there is replaced, so an order can be sent anew.

        Args:
            kind: of message.
            receiver: a holder, or a node where it is not known yet who plays there.
            data: the plain data of the order.
        """
        sizes = {self._held.get(receiver, 0)}
        if kind == wire.DESCRIBE:  # whoever is there: all that somebody is known to hold, the latest first
            sizes = set(sorted(set(self._held.values()), reverse=True)[:_FEW])
        header = Header(
            run=self.run,
            round=round_of(data),
            stage=kind,
            sender=COORDINATOR,
            receiver=receiver,
            sequence=next(self._numbers),
            content=content_digest(content),
            log={"checkpoint": self.log.checkpoint.to_dict(), "proofs": self.log.proofs(sizes)},
        )
        fields: dict[str, str | bytes] = {wire.HEADER: header.text(), wire.SIGNATURE: signed(header, self.key)}
        content[wire.SIGNED] = ConfigRecord({**fields, wire.VERIFY: verify_key(self.key)})
        return content

    @property
    def closed(self) -> bool:
        """Whether only who is enrolled may take part."""
        return self._enrolled is not None

    def meet(self, name: str, domain: str, verify: bytes) -> None:
        """From now on this holder's answers are those signed by this key.

        Raises:
            SealBroken: where it is not the key, or a partner's domain not the one, that it enrolled with.
        """
        if self._enrolled is not None:
            row = self._enrolled.get(name)
            if row is None or row.keys.verify != verify or (name != LENDER and row.domain != domain):
                raise SealBroken(f"{name} is not enrolled as it shows itself")
        self.known[name] = verify
        first = self._first.pop(name, None)
        if first is not None and first.verify == _text(verify):
            self._witnessed(name, first)

    def signer(self, order: RecordDict, label: str, reply: RecordDict) -> tuple[str, bytes]:
        """Who signed the answer to an order, and by which key; its cosignature of the log is kept.

        Raises:
            SealBroken: where it is not whom `label` names, or not the answer to this order, or was changed.
        """
        header, verify = self._opened(order, label, reply)
        asked = Header.of(enveloped(order)[0])
        checkpoint, cosigned = Checkpoint.of(asked.log["checkpoint"]), str(header.log.get("cosigned", ""))
        checkpoint.check_witness(header.sender, verify, cosigned)
        witness = Witness(checkpoint, _text(verify), cosigned)
        if self.known.get(header.sender) == verify:
            self._witnessed(header.sender, witness)
        else:
            self._first[header.sender] = witness
        return header.sender, verify

    def outdated(self, order: RecordDict, label: str, reply: RecordDict) -> bool:
        """Whether a holder that refused the log can be shown now that it continues the one that it holds.

        Raises:
            SealBroken: where the refusal is not this holder's.
        """
        header, _ = self._opened(order, label, reply)
        held = header.log.get("held")
        if type(held) is not int or not 0 < held <= self.log.checkpoint.size:
            return False
        self._held[header.sender] = held
        return True

    def _opened(self, order: RecordDict, label: str, reply: RecordDict) -> tuple[Header, bytes]:
        """The header of a reply, once it is seen to be the answer to this order by whom `label` names."""
        try:
            check_size(reply)
            text, signature, verify = enveloped(reply)
            asked_text, _, _ = enveloped(order)
        except (KeyError, TypeError, ValueError):
            raise SealBroken("an answer has no envelope, or is too large") from None
        asked = Header.of(asked_text)
        if asked.stage != wire.DESCRIBE and verify != self.known.get(label):
            raise SealBroken(f"an answer is not signed by {label}")
        header = opened(text, signature, verify)
        expected = Header(
            run=asked.run,
            round=asked.round,
            stage=asked.stage,
            sender=header.sender if asked.stage == wire.DESCRIBE else label,
            receiver=COORDINATOR,
            sequence=asked.sequence,
            content=content_digest(reply),
            answers=digest(asked_text),
            log=header.log,
        )
        if header != expected:
            raise SealBroken(f"an answer of {label} is not to what was asked, or was changed")
        return header, verify

    def _witnessed(self, name: str, witness: Witness) -> None:
        self._held[name] = max(self._held.get(name, 0), witness.checkpoint.size)
        self.log.witnessed(name, witness)


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
