"""The federation file: who takes part, with which files, under which budget. A node reads only its own part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from model.contract import DOMAIN, Contract, load_contract, normal_text
from model.encoding import Encoding
from model.inputs import InputError, read_toml, refuse_unknown
from model.terms import RESERVED, PrivacyTerms, privacy_terms, roles_of

LENDER = "lender"
MAX_PARTNERS = 256
ON_FAILURE = ("continue", "stop")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_ID_FORM = re.compile(r"text|number|phone\+[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class Cut:
    """A split by a date column: before `train_before` trains, from there to before `test_before` is held out."""

    column: str
    train_before: date
    test_before: date | None


@dataclass(frozen=True)
class Holder:
    """A data holder: a partner, or the lender (whose name is `lender`).

    `only` restricts a partner to persons whose lender's columns have the given values; simulations only.
    """

    name: str
    domain: str
    data: tuple[Path, ...]
    contract: Contract | None
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Federation:
    """One federation file, parsed.

    `income` and `requested` name the lender's columns of monthly income and requested amount, in whole currency units,
    that a simulation decides with. `id_form` says how ids are written alike before they are compared. `files` are this
    file and the contracts.
    """

    path: Path
    name: str
    id: str
    outcome: str
    split: str | None
    cut: Cut | None
    privacy: PrivacyTerms
    lender: Holder
    partners: tuple[Holder, ...]
    on_failure: str = "continue"
    income: str | None = None
    requested: str | None = None
    roles: Mapping[str, Any] = field(default_factory=dict)
    id_form: str = "text"
    files: tuple[Path, ...] = ()

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The lender first, then the partners in the file's order."""
        return (self.lender, *self.partners)

    def holder(self, name: str) -> Holder:
        """The holder of that name; raises `InputError` where there is none."""
        for holder in self.holders:
            if holder.name == name:
                return holder
        raise InputError(self.path, "partner.name", "is not in this federation", name)


def load_federation(path: Path, data: Path | None = None) -> Federation:
    """Reads a federation file and its contracts strictly.

    Args:
        path: the TOML file.
        data: the folder that data paths are relative to; by default the file's own.

    Raises:
        InputError: naming file, field, rule and value.
    """
    table = read_toml(path)
    refuse_unknown(path, "", table, ("federation", "privacy", "lender", "partner", "roles"))
    head = _table(path, table, "federation")
    known = ("name", "id", "id-form", "outcome", "split", "cut", "use-protected", "on-failure")
    refuse_unknown(path, "federation", head, known)
    privacy = _table(path, table, "privacy") if "privacy" in table else {}
    protected = head.get("use-protected", False)
    if not isinstance(protected, bool):
        raise InputError(path, "federation.use-protected", "must be true or false", protected)
    reader = _Reader(path, data or path.parent, protected)
    partners = _partners(path, table, reader)
    federation = Federation(
        path=path,
        name=_text(path, "federation.name", head.get("name", path.stem)),
        id=_text(path, "federation.id", head.get("id", "id")),
        outcome=_text(path, "federation.outcome", head.get("outcome", "label")),
        split=_text(path, "federation.split", head["split"]) if "split" in head else None,
        cut=_cut(path, head.get("cut")),
        privacy=privacy_terms(path, privacy, [p.name for p in partners]),
        lender=reader.lender(_table(path, table, "lender")),
        partners=partners,
        on_failure=str(head.get("on-failure", "continue")),
        income=_column(path, table, "income"),
        requested=_column(path, table, "requested"),
        roles=roles_of(path, table.get("roles", {}), [p.name for p in partners]),
        id_form=_id_form(path, head.get("id-form", "text")),
        files=(path, *sorted(reader.contracts)),
    )
    _refuse_leaks(federation)
    if federation.split and federation.cut:
        raise InputError(path, "federation.split", "must not be given beside federation.cut", federation.split)
    if federation.on_failure not in ON_FAILURE:
        raise InputError(path, "federation.on-failure", f"must be {' or '.join(ON_FAILURE)}", federation.on_failure)
    return federation


def _refuse_leaks(federation: Federation) -> None:
    """No block may train on the id, on an outcome, or on what splits the lender's rows; the lender's is its own."""
    for partner in federation.partners:
        if partner.domain == federation.lender.domain:
            rule = "must not be the lender's own"
            raise InputError(federation.path, f"partner {partner.name}.domain", rule, partner.domain)
    split = federation.split or (federation.cut.column if federation.cut else None)
    for holder in federation.holders:
        contract = holder.contract
        if contract is None:
            continue
        reserved = {federation.id: "the id", contract.outcome: "the outcome"}
        if holder is federation.lender:
            reserved |= {federation.outcome: "the outcome", split: "the split"}
        for feature in contract.features:
            if feature.name in reserved:
                rule = f"is {reserved[feature.name]} and cannot be a feature"
                where = f"{holder.name}.contract"
                raise InputError(federation.path, f"{where}: feature.{feature.name}", rule, remedy="delete it there")


@dataclass(frozen=True)
class _Reader:
    """Reads holders; contract paths are relative to the federation file, data paths to `base`.

    `contracts` are those read so far, by file: partners of one domain share one.
    """

    path: Path
    base: Path
    protected: bool
    contracts: dict[Path, Contract] = field(default_factory=dict)

    def lender(self, row: Mapping[str, Any]) -> Holder:
        refuse_unknown(self.path, "lender", row, ("data", "contract", "income", "requested"))
        contract = self._contract("lender", row["contract"], None) if "contract" in row else None
        domain = contract.domain if contract else "lender_kyc"
        return Holder(LENDER, domain, self._data("lender", row.get("data")), contract)

    def partner(self, where: str, row: Mapping[str, Any]) -> Holder:
        refuse_unknown(self.path, where, row, ("name", "domain", "data", "contract", "only"))
        name, domain = row.get("name"), row.get("domain")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
            rule = "must be lower-case letters, digits, '.', '_' or '-', and none of " + ", ".join(RESERVED)
            raise InputError(self.path, f"{where}.name", rule, name)
        if not isinstance(domain, str) or not DOMAIN.fullmatch(domain):
            remedy = "payments, ecommerce or tax_business, for example"
            raise InputError(self.path, f"{where}.domain", "must be lower-case words joined by '_'", domain, remedy)
        if "contract" not in row:
            remedy = "`fedscore contract draft FILE` writes a first one"
            raise InputError(self.path, f"{where}.contract", "is missing", remedy=remedy)
        contract = self._contract(where, row["contract"], domain)
        return Holder(name, domain, self._data(where, row.get("data")), contract, self._only(where, row))

    def _contract(self, where: str, value: object, domain: str | None) -> Contract:
        file = self.path.parent / _text(self.path, f"{where}.contract", value)
        if file in self.contracts and self.contracts[file].domain == domain:
            return self.contracts[file]
        trainable = load_contract(file, domain).trainable(self.protected)
        if not trainable.features:
            raise InputError(
                file,
                "feature",
                "leaves nothing to train on: all are protected",
                remedy="set use-protected = true under [federation], or add features",
            )
        try:
            Encoding.of(trainable)
        except InputError as wide:
            raise InputError(file, wide.field, wide.rule, wide.value, wide.remedy) from None
        return self.contracts.setdefault(file, trainable)

    def _data(self, where: str, value: object) -> tuple[Path, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            raise InputError(self.path, f"{where}.data", "must be a file name, or a list of them", value)
        if where != "lender" and len(names) != 1:
            raise InputError(self.path, f"{where}.data", "must be one file", value)
        return tuple(self.base / n for n in names)

    def _only(self, where: str, row: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        only = row.get("only", {})
        if not isinstance(only, dict) or not all(isinstance(v, list) and v for v in only.values()):
            raise InputError(self.path, f"{where}.only", 'must be like { hkey = ["NE", "MW"] }', only)
        return {column: tuple(normal_text(v) for v in values) for column, values in only.items()}


def _partners(path: Path, table: Mapping[str, Any], reader: _Reader) -> tuple[Holder, ...]:
    rows = table.get("partner", [])
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_PARTNERS or not all(isinstance(r, dict) for r in rows):
        count = len(rows) if isinstance(rows, list) else rows
        raise InputError(path, "partner", f"must be given 1 to {MAX_PARTNERS} times as [[partner]]", count)
    partners = tuple(reader.partner(f"partner #{i}", row) for i, row in enumerate(rows, 1))
    names = [p.name for p in partners]
    for name in names:
        if names.count(name) > 1:
            raise InputError(path, "partner.name", "must be unique", name, "give each partner its own name")
    first: dict[str, Holder] = {}
    for partner in partners:
        other = first.setdefault(partner.domain, partner)
        if partner.contract != other.contract:
            rule = f"must be the same contract as {other.name}'s, which has the same domain"
            raise InputError(path, f"partner {partner.name}.contract", rule, remedy="share one contract file")
    return partners


def _table(path: Path, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    if not isinstance(value, dict):
        raise InputError(path, key, f"is missing: add a table [{key}]")
    return value


def _text(path: Path, field_name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(path, field_name, "must be a text", value)
    return value


def _column(path: Path, table: Mapping[str, Any], name: str) -> str | None:
    lender = table["lender"]
    return _text(path, f"lender.{name}", lender[name]) if name in lender else None


def _id_form(path: Path, value: object) -> str:
    if not isinstance(value, str) or not _ID_FORM.fullmatch(value):
        raise InputError(path, "federation.id-form", "must be text, number, or a phone form like phone+86", value)
    return value


def _cut(path: Path, value: object) -> Cut | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError(path, "federation.cut", "must be a table", value)
    refuse_unknown(path, "federation.cut", value, ("column", "train-before", "test-before"))
    column = _text(path, "federation.cut.column", value.get("column"))
    train, test = value.get("train-before"), value.get("test-before")
    for name, day in (("train-before", train), ("test-before", test)):
        if type(day) is not date and not (name == "test-before" and day is None):
            raise InputError(path, f"federation.cut.{name}", "must be a date like 2003-10-01", day)
    if isinstance(test, date) and isinstance(train, date) and test <= train:
        raise InputError(path, "federation.cut.test-before", "must be after train-before", str(test))
    return Cut(column, train, test)  # type: ignore[arg-type]
