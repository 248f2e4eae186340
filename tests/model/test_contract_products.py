"""Declared products in a contract file: every rule's message, what is too wide, and the old hash without any."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from model.contract import Contract, Feature, load_contract
from model.encoding import MAX_COLUMNS, MAX_PAIRS, Encoding, FeatureBins
from model.federation import load_federation
from model.inputs import InputError
from model.products import MAX_PRODUCTS, Product

HEAD = 'domain = "payments"\n'
FEATURES = (
    '[[feature]]\nname = "amt"\nkind = "numeric"\nrange = [0, 100]\nspecial = [-1]\ngroup = "money"\n'
    '[[feature]]\nname = "grade"\nkind = "ordinal"\nvalues = ["a", "b", "c"]\ndirection = "riskier"\n'
    '[[feature]]\nname = "sex"\nkind = "flag"\nprotected = true\n'
)
PAIR = '[[product]]\nof = ["amt", "grade"]\n'
AMOUNT = Feature("amt", "numeric", high=100.0, special=("-1",), group="money")
GRADE = Feature("grade", "ordinal", values=("a", "b", "c"))
PLAIN = Contract("payments", 1, (AMOUNT, GRADE))


def loaded(folder: Path, text: str) -> Contract:
    path = folder / "payments.contract.toml"
    path.write_text(text, encoding="utf-8")
    return load_contract(path, "payments")


def product(first: Feature, second: Feature, degree: int = 1) -> FeatureBins:
    names = (first.name, second.name)
    return Encoding.of(Contract("d", 1, (first, second), products=(Product(names, degree),))).parts[-1]


# --- the file


def test_a_product_has_a_usual_degree_and_its_first_features_family(tmp_path: Path) -> None:
    assert loaded(tmp_path, HEAD + FEATURES + PAIR).products == (Product(("amt", "grade"), 1, "money"),)
    told = loaded(tmp_path, HEAD + FEATURES + PAIR + 'degree = 2\ngroup = "debt"\n')
    assert told.products == (Product(("amt", "grade"), 2, "debt"),)


MANY = "".join(f'[[feature]]\nname = "f{i}"\nkind = "flag"\n' for i in range(11))
TOO_MANY = "".join(f'[[product]]\nof = ["f{i}", "f{j}"]\n' for i, j in list(combinations(range(11), 2))[:51])
BROKEN = {
    # id: (text behind the features, field, rule, value)
    "no list": (
        '[product]\nof = ["amt", "grade"]\n',
        "product",
        f"at most {MAX_PRODUCTS} times as [[product]]",
        "{'of'",
    ),
    "too many": (MANY + TOO_MANY, "product", f"at most {MAX_PRODUCTS} times", "51"),
    "no names": ("[[product]]\ndegree = 1\n", "product #1.of", "two different features", None),
    "one": ('[[product]]\nof = ["amt"]\n', "product #1.of", "two different features", "['amt']"),
    "three": ('[[product]]\nof = ["amt", "grade", "sex"]\n', "product #1.of", "two different features", "['amt', "),
    "no text": ('[[product]]\nof = ["amt", 3]\n', "product #1.of", "two different features", "['amt', 3]"),
    "itself": (
        PAIR + '[[product]]\nof = ["amt", "amt"]\n',
        "product #2.of",
        "two different features",
        "['amt', 'amt']",
    ),
    "unknown": ('[[product]]\nof = ["amt", "mood"]\n', "product.amt x mood.of", "features of this contract", "'mood'"),
    "pair twice": (PAIR + '[[product]]\nof = ["grade", "amt"]\n', "product.amt x grade", "given more than once", None),
    "degree 0": (PAIR + "degree = 0\n", "product.amt x grade.degree", "must be 1 or 2", "0"),
    "degree 3": (PAIR + "degree = 3\n", "product.amt x grade.degree", "must be 1 or 2", "3"),
    "degree bool": (PAIR + "degree = true\n", "product.amt x grade.degree", "must be 1 or 2", "True"),
    "degree float": (PAIR + "degree = 1.0\n", "product.amt x grade.degree", "must be 1 or 2", "1.0"),
    "group": (PAIR + 'group = "My Group"\n', "product.amt x grade.group", "lower-case letters", "'My Group'"),
    "misspelt": (PAIR + "degre = 1\n", "product.amt x grade.degre", "is not a known key", None),
}


@pytest.mark.parametrize(("text", "field", "rule", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_names_file_field_rule_and_value(
    tmp_path: Path, text: str, field: str, rule: str, value: str | None
) -> None:
    with pytest.raises(InputError) as refused:
        loaded(tmp_path, HEAD + FEATURES + text)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "payments.contract.toml"))
    assert "\n" not in message
    assert refused.value.field == field
    assert rule in message
    assert f"got {value}" in message if value else "got" not in message


def test_fifty_products_are_taken(tmp_path: Path) -> None:
    fifty = TOO_MANY.rsplit("[[product]]", 1)[0]
    assert len(loaded(tmp_path, HEAD + MANY + fifty).products) == MAX_PRODUCTS


def test_nothing_would_keep_a_product_to_a_direction_that_binds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"product\.amt x grade could break a monotone direction, got 'grade'"):
        loaded(tmp_path, HEAD + "monotone = true\n" + FEATURES + PAIR)
    free = FEATURES.replace('direction = "riskier"\n', "")
    assert loaded(tmp_path, HEAD + "monotone = true\n" + free + PAIR).products


def test_a_protected_feature_takes_its_products_along(tmp_path: Path) -> None:
    contract = loaded(tmp_path, HEAD + FEATURES + PAIR + '[[product]]\nof = ["sex", "amt"]\n')
    assert [p.name for p in contract.trainable(use_protected=False).products] == ["amt x grade"]
    assert contract.trainable(use_protected=True) == contract


def test_a_contract_without_products_keeps_the_hash_that_it_had_before_there_were_any() -> None:
    assert PLAIN.sha256 == "a447210260ddcdb44a51c70e86749a6adbc74ce3f0b5df04e52fb7db7c4defca"
    assert "products" not in PLAIN.to_dict()


def test_products_survive_json_and_count_in_the_hash() -> None:
    contract = Contract("payments", 1, (AMOUNT, GRADE), products=(Product(("grade", "amt"), 2, "debt"),))
    again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert again.sha256 == contract.sha256
    others = [Product(("amt", "grade")), Product(("amt", "grade"), 2), Product(("amt", "grade"), 1, "debt")]
    hashes = {Contract("payments", 1, (AMOUNT, GRADE), products=(p,)).sha256 for p in others}
    assert len(hashes | {PLAIN.sha256}) == 4


# --- what is too wide


def test_a_wide_product_is_refused_in_one_line_that_says_what_to_do(write_federation: Any, party: Any) -> None:
    import polars as pl

    values = [f"v{i}" for i in range(MAX_COLUMNS // 2 + 1)]
    rows = [{"name": "region", "kind": "categorical", "values": values}, {"name": "late", "kind": "flag"}]
    table = pl.DataFrame({"id": ["1"], "region": ["v1"], "late": [0]})
    files = write_federation(pl.DataFrame({"id": ["1"], "label": [0]}), party("pay", table, rows), head="")
    path = files.folder / "payments.contract.toml"
    path.write_text(path.read_text() + '\n[[product]]\nof = ["region", "late"]\n')
    with pytest.raises(InputError) as refused:
        load_federation(files.federation)
    assert str(refused.value) == (
        f"{path}: product.region x late must have 1 to {MAX_COLUMNS} columns, got 258; "
        "merge values or special codes, or delete the product."
    )
    files.text("payments.contract.toml", ', "v128"', "")
    assert load_federation(files.federation).partners


def test_a_product_without_a_column_is_refused() -> None:
    with pytest.raises(InputError, match="must have 1 to 256 columns, got 0"):
        product(Feature("a", "ordinal", values=("only",)), GRADE)


def test_codes_that_do_not_fit_two_bytes_are_refused() -> None:
    fine = Feature("a", "numeric", high=1e3, edges=tuple(range(1, 255)))
    rest = Feature("b", "numeric", high=1e3, edges=tuple(range(1, 254)))
    assert len(product(fine, rest).labels) == 256 * 255 <= MAX_PAIRS
    with pytest.raises(InputError, match="a x c must have at most 65535 pairs of bins, got 65536"):
        product(fine, Feature("c", "numeric", high=1e3, edges=fine.edges))
