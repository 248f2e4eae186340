"""The contract of a domain: what its columns mean, public and written without looking at the rows."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.inputs import InputError, read_toml, refuse_unknown
from model.products import Product, read_products, reason_family, weight_of

KINDS = ("numeric", "ordinal", "categorical", "flag")
SCALES = ("linear", "log", "signed-log")
DIRECTIONS = ("safer", "riskier")
DOMAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_FEATURES = 500
MISSING = ("", "NA", "NaN", "nan", "null", "None")
FLAG_VALUES = {
    **dict.fromkeys(("0", "N", "n", "no", "false", "False", "FALSE"), "0"),
    **dict.fromkeys(("1", "Y", "y", "yes", "true", "True", "TRUE"), "1"),
}
_FEATURE_KEYS = (
    *("name", "kind", "unit", "range", "scale", "special"),
    *("edges", "direction", "group", "values", "protected", "note", "weight"),
)


@dataclass(frozen=True)
class Feature:
    """One column of a domain.

    `low` and `high` clamp a numeric value; `special` values and missing have bins of their own; `values` are the
    categories, in their order when the kind is ordinal; `edges` are bin edges, increasing: public ones, or, where
    `private`, what a noisy release of the run gave. `weight`, in (0, 1], scales the encoded rows.
    """

    name: str
    kind: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    special: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    direction: str = ""
    group: str = "other"
    values: tuple[str, ...] = ()
    protected: bool = False
    private: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Contract:
    """What one domain's columns mean.

    `outcome` names a partner's own outcome column, if it trains on that. `monotone` binds the directions of the
    features: published curves never run against them. That costs .001 to .003 AUC (docs/learner.md), so it is off
    unless a lender needs it. `products` are pairs of features that count together too.
    """

    domain: str
    version: int
    features: tuple[Feature, ...]
    outcome: str | None = None
    monotone: bool = False
    products: tuple[Product, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the canonical content: two nodes with equal hashes encode alike."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        data = asdict(self)
        if not self.products:  # a contract from before there were products keeps its hash
            del data["products"]
        for row in (*data["features"], *data.get("products", ())):  # and one from before there were weights
            if row["weight"] == 1:
                del row["weight"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contract:
        """The contract that `to_dict` wrote; raises `InputError` for a weight outside (0, 1]."""
        features = tuple(_from_plain(row) for row in data["features"])
        products = tuple(Product(tuple(p["of"]), p["degree"], p["group"], _weight(p)) for p in data.get("products", ()))
        monotone = data.get("monotone", False)
        return cls(data["domain"], data["version"], features, data.get("outcome"), monotone, products)

    def trainable(self, use_protected: bool) -> Contract:
        """This contract without its protected features and their products, unless `use_protected`."""
        kept = tuple(f for f in self.features if use_protected or not f.protected)
        names = {f.name for f in kept}
        return replace(self, features=kept, products=tuple(p for p in self.products if names.issuperset(p.of)))

    def with_edges(self, edges: Mapping[str, Sequence[float]]) -> Contract:
        """This contract with the edges of its private features filled in, by name."""
        filled = (replace(f, edges=tuple(edges[f.name])) if f.private and f.name in edges else f for f in self.features)
        return replace(self, features=tuple(filled))


def _from_plain(row: Mapping[str, Any]) -> Feature:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in row.items()}
    return Feature(**values | {"weight": _weight(row)})


def _weight(row: Mapping[str, Any]) -> float:
    return weight_of("contract", "weight", row.get("weight", 1))


def normal_text(value: object) -> str:
    """A value as the text under which it is compared: no outer space, `1.0` becomes `1`, leading zeros stay.

    >>> normal_text(" 1.0 "), normal_text("007"), normal_text(True), normal_text(2.5)
    ('1', '007', 'true', '2.5')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).strip()
    head, dot, tail = text.rpartition(".")
    return head if dot and head.lstrip("-").isdigit() and set(tail) == {"0"} else text


def load_contract(path: Path, domain: str | None = None) -> Contract:
    """Reads a contract file strictly.

    Raises:
        InputError: with file, field, rule and value, where anything is missing, misspelt or of another domain.
    """
    data = read_toml(path)
    refuse_unknown(path, "", data, ("domain", "version", "outcome", "monotone", "feature", "product"))
    found = data.get("domain")
    if not isinstance(found, str) or not DOMAIN.fullmatch(found):
        rule, remedy = "must be lower-case words joined by '_'", 'add domain = "payments", for example'
        raise InputError(path, "domain", rule, found, remedy)
    if domain is not None and found != domain:
        raise InputError(path, "domain", f"must be {domain!r}", found, "this is the contract of another domain")
    version = data.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(path, "version", "must be a whole number >= 1", version)
    outcome = data.get("outcome")
    if outcome is not None and not isinstance(outcome, str):
        raise InputError(path, "outcome", "must be a column name", outcome)
    monotone = data.get("monotone", False)
    if not isinstance(monotone, bool):
        raise InputError(path, "monotone", "must be true or false", monotone)
    rows = data.get("feature", [])
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_FEATURES or not all(isinstance(r, dict) for r in rows):
        count = len(rows) if isinstance(rows, list) else rows
        raise InputError(path, "feature", f"must be given 1 to {MAX_FEATURES} times as [[feature]]", count)
    features = tuple(_feature(path, i, row) for i, row in enumerate(rows, 1))
    names = [f.name for f in features]
    for name in names:
        if names.count(name) > 1:
            raise InputError(path, f"feature.{name}", "is given more than once", remedy="delete one of them")
    products = read_products(path, data.get("product", []), {f.name: f.group for f in features})
    contract = Contract(found, version, features, outcome, monotone, products)
    _check_directions(path, contract)
    return contract


def _check_directions(path: Path, contract: Contract) -> None:
    """Nothing keeps a product to a direction, so none may bind its features."""
    directed = {f.name for f in contract.features if f.direction} if contract.monotone else set()
    for product in contract.products:
        for name in (n for n in product.of if n in directed):
            remedy = "delete the product, the direction or monotone"
            raise InputError(path, f"product.{product.name}", "could break a monotone direction", name, remedy)


def _feature(path: Path, number: int, row: Mapping[str, Any]) -> Feature:
    name = row.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(path, f"feature #{number}.name", "must be a column name", name)
    where = f"feature.{name}"
    refuse_unknown(path, where, row, _FEATURE_KEYS)
    kind = _one_of(path, f"{where}.kind", row.get("kind"), KINDS)
    values = _texts(path, f"{where}.values", row.get("values", []))
    if kind in ("categorical", "ordinal") and not values:
        raise InputError(path, f"{where}.values", f"must list the values of a {kind} feature", [])
    if kind == "flag":
        values = ("0", "1")
    low, high = _range(path, where, kind, row)
    private = kind == "numeric" and row.get("edges") == "private"
    feature = Feature(
        name=name,
        kind=kind,
        unit=str(row.get("unit", "")),
        low=low,
        high=high,
        scale=_one_of(path, f"{where}.scale", row.get("scale", "linear"), SCALES),
        special=_texts(path, f"{where}.special", row.get("special", [])),
        edges=() if private else _edges(path, f"{where}.edges", row.get("edges", [])),
        direction=_one_of(path, f"{where}.direction", row.get("direction", ""), ("", *DIRECTIONS)),
        group=reason_family(path, f"{where}.group", row.get("group", "other")),
        values=values,
        protected=_flag(path, f"{where}.protected", row.get("protected", False)),
        private=private,
        weight=weight_of(path, f"{where}.weight", row.get("weight", 1)),
    )
    _check_numbers(path, where, feature)
    if feature.scale == "log" and low < 0:
        raise InputError(path, f"{where}.scale", "log needs range >= 0", [low, high], 'use scale = "signed-log"')
    return feature


def _flag(path: Path, field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError(path, field, "must be true or false", value)
    return value


def _check_numbers(path: Path, where: str, feature: Feature) -> None:
    """A numeric feature's special codes are numbers, and its edges lie within its range."""
    if feature.kind != "numeric":
        return
    for text in feature.special:
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            raise InputError(path, f"{where}.special", "must be numbers, as the feature is numeric", text)
    if feature.edges and not feature.low < feature.edges[0] <= feature.edges[-1] <= feature.high:
        limits = f"range [{feature.low:g}, {feature.high:g}]"
        raise InputError(path, f"{where}.edges", f"must lie within its {limits}", list(feature.edges))


def _one_of(path: Path, field: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InputError(path, field, "must be one of " + " | ".join(a or '""' for a in allowed), value)
    return str(value)


def _texts(path: Path, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(path, field, "must be a list", value)
    texts = tuple(normal_text(v) for v in value)
    if len(set(texts)) != len(texts):
        raise InputError(path, field, "must not repeat a value", value)
    return texts


def _numbers(value: object) -> list[float] | None:
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        return None
    try:
        numbers = [float(v) for v in value]
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _edges(path: Path, field: str, value: object) -> tuple[float, ...]:
    numbers = _numbers(value)
    if numbers is None or any(b <= a for a, b in itertools.pairwise(numbers)):
        raise InputError(path, field, 'must be increasing finite numbers, or "private"', value)
    return tuple(numbers)


def _range(path: Path, where: str, kind: str, row: Mapping[str, Any]) -> tuple[float, float]:
    if kind != "numeric":
        return 0.0, 0.0
    numbers = _numbers(row.get("range"))
    if numbers is None or len(numbers) != 2 or not numbers[0] < numbers[1]:
        remedy = "give the public lowest and highest value, e.g. range = [0, 1_000_000]"
        raise InputError(path, f"{where}.range", "must be [low, high] with low < high", row.get("range"), remedy)
    return numbers[0], numbers[1]
