"""A real node's own file, node.toml: whom it plays, with which files, and what it does whatever a run asks."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model import wire
from model.contract import DOMAIN
from model.federation import Federation, Holder, load_federation
from model.inputs import InputError, read_text, read_toml, refuse_unknown, whole
from model.terms import check_delta, check_epsilon
from privacy.enrolment import EnrolmentError, Welcome
from privacy.envelope import SealBroken

NAME, TRUST = "node.toml", "trust.json"
MIB = 2**20
KINDS = tuple(sorted(v for v in vars(wire).values() if isinstance(v, str) and v.startswith(("query.", "train."))))
_TABLES: Mapping[str, tuple[str, ...]] = {
    "node": ("holder", "domain", "federation", "data", "state", "programme", "seed", "applicants"),
    "link": ("superlink", "port"),
    "limits": (
        *("epsilon", "delta", "max-cohort", "min-cohort", "max-alignments", "max-models", "max-applicants", "kinds"),
        *("min-free-disk", "summed-only"),
    ),
    "check": ("date", "max-age-days"),
}


@dataclass(frozen=True)
class Limits:
    """What a node holds to, whatever a run asks; the defaults are a simulation's.

    Attributes:
        max_cohort: most persons that a lender may align with this holder.
        min_cohort: fewest persons in common; below, the holder takes no part.
        max_alignments: how many different sets of persons one programme may align with this holder; at the lender also
            how many sets of one partner a year are compared with applicants, over all models.
        max_models: how many new model versions a year this holder scores with, in runs and for new applicants.
        max_applicants: how many persons a year this holder is shown as applicants, and how many answers it gives.
        kinds: the message types that are answered; empty: all.
        min_free_disk: MiB below which no order is taken: a ledger must never meet a full disk.
        summed_only: whether this holder trains only where its updates are shown in a sum of three or more.
    """

    max_cohort: int = 10_000_000
    min_cohort: int = 0
    max_alignments: int = 1_000
    max_models: int = 1_000
    max_applicants: int = 100_000_000
    kinds: tuple[str, ...] = ()
    min_free_disk: int = 0
    summed_only: bool = False

    def refuse(self, kind: str) -> None:
        """Raises `InputError` where this node answers no message of that type."""
        if self.kinds and kind not in self.kinds:
            raise InputError(NAME, "limits.kinds", "does not list what was asked", kind)


@dataclass(frozen=True)
class NodeFile:
    """node.toml, parsed. Its paths are relative to its own folder.

    Attributes:
        path: the file.
        holder: whom the node plays.
        domain: that holder's; empty at a lender that has none of its own.
        federation: the federation file, which must say the same.
        data: the holder's files; empty: those of the federation file.
        state: folder for keys, ledger and the aligned cohort.
        programme: names everything released under one budget; empty: by the federation's name.
        seed: of the lender's split where the federation file gives none.
        applicants: the lender's file of new applicants, if it has one.
        superlink: host:port to connect to; empty: where the welcome says.
        port: of the service on 127.0.0.1 by which the node's own processes talk; 0: any free one.
        epsilon: ceiling of this holder's own lines; None: the federation's.
        delta: highest delta; None: the federation's.
        limits: what else it holds to.
        date: column of the data that says when a row was made, for `partner check`.
        max_age_days: the oldest that the newest row may be, for `partner check`.
    """

    path: Path
    holder: str
    domain: str
    federation: Path
    data: tuple[Path, ...]
    state: Path
    programme: str = ""
    seed: int = 0
    applicants: Path | None = None
    superlink: str = ""
    port: int = 0
    epsilon: float | None = None
    delta: float | None = None
    limits: Limits = field(default_factory=Limits)
    date: str = ""
    max_age_days: int = 0

    @classmethod
    def load(cls, path: Path) -> NodeFile:
        """Reads the file strictly; raises `InputError` naming file, field, rule and value."""
        path = path.absolute()
        table = read_toml(path)
        refuse_unknown(path, "", table, _TABLES)
        tables = {name: _table(path, table, name) for name in _TABLES}
        node, link, limits, checks = (tables[name] for name in _TABLES)
        say = _Reader(path)
        epsilon, delta = limits.get("epsilon"), limits.get("delta")
        made = cls(
            path=path,
            holder=say.text("node.holder", node.get("holder")),
            domain=say.text("node.domain", node.get("domain", ""), empty=True),
            federation=say.file("node.federation", node.get("federation", "federation.toml")),
            data=say.files("node.data", node.get("data", [])),
            state=say.file("node.state", node.get("state", "state")),
            programme=say.text("node.programme", node.get("programme", ""), empty=True),
            seed=whole(path, "node.seed", node.get("seed", 0)),
            applicants=say.file("node.applicants", node["applicants"]) if "applicants" in node else None,
            superlink=say.text("link.superlink", link.get("superlink", ""), empty=True),
            port=whole(path, "link.port", link.get("port", 0)),
            epsilon=None if epsilon is None else check_epsilon(path, "limits.epsilon", epsilon),
            delta=None if delta is None else check_delta(path, "limits.delta", delta),
            limits=say.limits(limits),
            date=say.text("check.date", checks.get("date", ""), empty=True),
            max_age_days=whole(path, "check.max-age-days", checks.get("max-age-days", 0)),
        )
        return made._checked()

    @property
    def folder(self) -> Path:
        """The partner's folder."""
        return self.path.parent

    @property
    def durable(self) -> Path:
        """Where the holder's keys, pins and ledger lie."""
        return self.state / self.holder

    def trust(self) -> Welcome:
        """Whom this node joined; raises `InputError` where it joined nobody, or the file was changed."""
        path = self.folder / TRUST
        if not path.is_file():
            rule, remedy = "does not exist: this node joined no federation", "run `fedscore partner join` first"
            raise InputError(path, "", rule, remedy=remedy)
        try:
            return Welcome.of(read_text(path))
        except EnrolmentError as error:
            raise InputError(path, "", str(error), remedy="run `fedscore partner join` again") from None

    def coordinator(self) -> bytes:
        """The verify key of the coordinator that this node joined, 32 bytes."""
        return base64.b64decode(self.trust().coordinator)

    def seals(self) -> dict[str, bytes]:
        """By holder the sealing key that the accepted welcome tells, 32 bytes; raises `InputError` as `trust` does."""
        try:
            return {row.name: row.keys.seal for row in self.trust().roster}
        except SealBroken as error:
            rule, remedy = f"holds keys that cannot be used: {error}", "run `fedscore partner join` again"
            raise InputError(self.folder / TRUST, "", rule, remedy=remedy) from None

    def read_federation(self) -> Federation:
        """The federation file with this holder's own data; raises `InputError` where the two files disagree."""
        federation = load_federation(self.federation)
        own = federation.holder(self.holder)
        if own.domain != self.domain and (self.domain or own.contract):
            rule = f"is not what {self.federation.name} says of {self.holder} ({own.domain})"
            raise InputError(self.path, "node.domain", rule, self.domain, "ask who wrote the federation file")
        if self.delta is not None and federation.privacy.delta > self.delta:
            rule = f"is below the {federation.privacy.delta:g} of {self.federation.name}"
            raise InputError(self.path, "limits.delta", rule, self.delta, "allow it, or do not take part")
        return _with_data(federation, own, self.data) if self.data else federation

    def refuse_full_disk(self) -> None:
        """Raises `InputError` where less is free than the file asks for."""
        free = shutil.disk_usage(self.state if self.state.exists() else self.folder).free // MIB
        if free < self.limits.min_free_disk:
            rule = f"is {self.limits.min_free_disk} MiB, but less is free"
            raise InputError(self.path, "limits.min-free-disk", rule, remedy="free some space")

    def _checked(self) -> NodeFile:
        if self.domain and not DOMAIN.fullmatch(self.domain):
            raise InputError(self.path, "node.domain", "must be lower-case words joined by '_'", self.domain)
        if self.port > 65535:
            raise InputError(self.path, "link.port", "must be 0 to 65535", self.port)
        if self.superlink:
            refuse_address(self.path, "link.superlink", self.superlink)
        return self


def refuse_address(path: Path, where: str, address: str) -> tuple[str, int]:
    """Host and port of `host:port`; raises `InputError` where it is something else.

    >>> refuse_address(Path("node.toml"), "link.superlink", "fed.example.org:9443")
    ('fed.example.org', 9443)
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise InputError(path, where, "must be host:port", address, "for example fed.example.org:9443")
    return host.strip("[]"), int(port)


def _with_data(federation: Federation, own: Holder, data: tuple[Path, ...]) -> Federation:
    filled = replace(own, data=data)
    if own is federation.lender:
        return replace(federation, lender=filled)
    return replace(federation, partners=tuple(filled if p is own else p for p in federation.partners))


def _table(path: Path, table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise InputError(path, name, "must be a table", value, f"write it as [{name}]")
    refuse_unknown(path, name, value, _TABLES[name])
    return value


@dataclass(frozen=True)
class _Reader:
    """Values of the file, each refused by the name of its field."""

    path: Path

    def text(self, where: str, value: object, empty: bool = False) -> str:
        if not isinstance(value, str) or not (value or empty):
            raise InputError(self.path, where, "must be a text", value)
        return value

    def file(self, where: str, value: object) -> Path:
        return self.path.parent / Path(self.text(where, value)).expanduser()

    def files(self, where: str, value: object) -> tuple[Path, ...]:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise InputError(self.path, where, "must be a file name, or a list of them", value)
        return tuple(self.file(where, name) for name in value)

    def limits(self, table: Mapping[str, Any]) -> Limits:
        numbers = {
            name: whole(self.path, f"limits.{name}", table.get(name, default)) for name, default in _DEPLOYED.items()
        }
        kinds = table.get("kinds", [])
        if not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
            raise InputError(self.path, "limits.kinds", "must be a list of message types", kinds)
        refuse_unknown(self.path, "limits.kinds", dict.fromkeys(kinds), KINDS)
        summed = table.get("summed-only", False)
        if not isinstance(summed, bool):
            raise InputError(self.path, "limits.summed-only", "must be true or false", summed)
        named = {name.replace("-", "_"): number for name, number in numbers.items()}
        return Limits(kinds=tuple(kinds), summed_only=summed, **named)


_DEPLOYED = {
    "max-cohort": 2_000_000,
    "min-cohort": 100,
    "max-alignments": 12,
    "max-models": 12,
    "max-applicants": 1_000_000,
    "min-free-disk": 512,
}
