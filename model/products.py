"""Products that a contract declares: two of its features that mean more together than each alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.inputs import InputError, refuse_unknown

MAX_PRODUCTS = 50
_DEGREES = (1, 2)


@dataclass(frozen=True)
class Product:
    """The curves of two features, multiplied.

    `of` are the features' names; `degree`, 1 or 2, says how many of the lowest frequencies of an ordered feature take
    part, beside its special codes; `group` is the reason family; `weight`, in (0, 1], scales its rows.
    """

    of: tuple[str, str]
    degree: int = 1
    group: str = "other"
    weight: float = 1.0

    @property
    def name(self) -> str:
        """What messages call it.

        >>> Product(("PAY_0", "PAY_2")).name
        'PAY_0 x PAY_2'
        """
        return " x ".join(self.of)


def read_products(path: Path, rows: object, groups: Mapping[str, str]) -> tuple[Product, ...]:
    """Reads a contract's [[product]] tables strictly.

    Args:
        path: of the contract, for messages.
        rows: what stands under `product`.
        groups: by feature of the contract its reason family.

    Raises:
        InputError: for an unknown or repeated feature, a pair given twice, a degree outside {1, 2}, a weight outside
            (0, 1], or too many.
    """
    if not isinstance(rows, list) or len(rows) > MAX_PRODUCTS or not all(isinstance(r, dict) for r in rows):
        count = len(rows) if isinstance(rows, list) else rows
        raise InputError(path, "product", f"must be given at most {MAX_PRODUCTS} times as [[product]]", count)
    products = tuple(_product(path, i, row, groups) for i, row in enumerate(rows, 1))
    pairs = [frozenset(p.of) for p in products]
    for product, pair in zip(products, pairs, strict=True):
        if pairs.count(pair) > 1:
            raise InputError(path, f"product.{product.name}", "is given more than once", remedy="delete one of them")
    return products


def _product(path: Path, number: int, row: Mapping[str, object], groups: Mapping[str, str]) -> Product:
    of = row.get("of")
    if not isinstance(of, list) or len(of) != 2 or not all(isinstance(n, str) for n in of) or of[0] == of[1]:
        raise InputError(path, f"product #{number}.of", "must be two different features, by name", of)
    first, second = of
    where = f"product.{first} x {second}"
    refuse_unknown(path, where, row, ("of", "degree", "group", "weight"))
    for name in of:
        if name not in groups:
            raise InputError(path, f"{where}.of", "must name features of this contract", name, "mend the name")
    degree = row.get("degree", 1)
    if not isinstance(degree, int) or isinstance(degree, bool) or degree not in _DEGREES:
        raise InputError(path, f"{where}.degree", "must be 1 or 2", degree)
    group = reason_family(path, f"{where}.group", row.get("group", groups[first]))
    return Product((first, second), degree, group, weight_of(path, f"{where}.weight", row.get("weight", 1)))


def weight_of(file: str | Path, field: str, value: object) -> float:
    """A weight in (0, 1]; raises `InputError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(file, field, "must be a number above 0, at most 1", value)
    return float(value)


def reason_family(path: Path, field: str, value: object) -> str:
    """A well-formed name of a reason family; raises `InputError` otherwise."""
    if not isinstance(value, str) or not re.fullmatch("[a-z][a-z0-9_]*", value):
        raise InputError(path, field, "must be lower-case letters, digits and '_'", value)
    return value
