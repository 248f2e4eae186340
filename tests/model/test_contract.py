"""The contract file: every rule's message, values compared as text, and a hash that follows the content."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.contract import FLAG_VALUES, MAX_FEATURES, Contract, Feature, load_contract, normal_text
from model.inputs import InputError

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=80, database=None)
HEAD = 'domain = "payments"\nversion = 2\n'
AMOUNT = '[[feature]]\nname = "amt"\nkind = "numeric"\nrange = [0, 100]\n'
HOME = '[[feature]]\nname = "home"\nkind = "categorical"\nvalues = ["own", "rent"]\n'
WHOLE = (
    HEAD
    + 'outcome = "late_90"\nmonotone = true\n'
    + AMOUNT
    + 'unit = "TWD"\nscale = "log"\nspecial = [-1, 98.0]\nedges = [1, 10.5]\ndirection = "safer"\ngroup = "money"\n'
    + '[[feature]]\nname = "SEX"\nkind = "flag"\nprotected = true\nnote = "by law"\n'
    + '[[feature]]\nname = "grade"\nkind = "ordinal"\nvalues = ["1", "2.0", "3"]\nspecial = [3]\n'
    + HOME
)


def loaded(folder: Path, text: str, domain: str | None = None) -> Contract:
    path = folder / "payments.contract.toml"
    path.write_text(text, encoding="utf-8")
    return load_contract(path, domain)


def test_a_whole_contract_is_read_as_it_is_written(tmp_path: Path) -> None:
    contract = loaded(tmp_path, WHOLE, "payments")
    assert (contract.domain, contract.version, contract.outcome) == ("payments", 2, "late_90")
    assert contract.monotone
    assert not loaded(tmp_path, HEAD + AMOUNT).monotone
    amount, sex, grade, home = contract.features
    assert amount == Feature(
        "amt", "numeric", "TWD", 0.0, 100.0, "log", ("-1", "98"), (1.0, 10.5), "safer", "money", (), False
    )
    assert (sex.values, sex.protected, sex.group) == (("0", "1"), True, "other")
    assert (grade.values, grade.special) == (("1", "2", "3"), ("3",))
    assert (home.kind, home.values) == ("categorical", ("own", "rent"))


FEATURE = '[[feature]]\nname = "x"\n'
BROKEN = {
    # id: (text, field, rule, value)
    "no domain": (AMOUNT, "domain", "must be lower-case words joined by", None),
    "domain no text": ("domain = 3\n" + AMOUNT, "domain", "must be lower-case words joined by", "3"),
    "domain empty": ('domain = ""\n' + AMOUNT, "domain", "must be lower-case words joined by", "''"),
    "another domain": ('domain = "ecommerce"\n' + AMOUNT, "domain", "must be 'payments'", "'ecommerce'"),
    "version": ('domain = "payments"\nversion = 0\n' + AMOUNT, "version", "whole number >= 1", "0"),
    "version bool": ('domain = "payments"\nversion = true\n' + AMOUNT, "version", "whole number >= 1", "True"),
    "outcome": (HEAD + "outcome = 1\n" + AMOUNT, "outcome", "must be a column name", "1"),
    "monotone": (HEAD + "monotone = 1\n" + AMOUNT, "monotone", "must be true or false", "1"),
    "no feature": (HEAD, "feature", f"1 to {MAX_FEATURES} times", "0"),
    "too many": (HEAD + AMOUNT * (MAX_FEATURES + 1), "feature", f"1 to {MAX_FEATURES} times", "501"),
    "feature no list": (HEAD + 'feature = "amt"\n', "feature", "as [[feature]]", "'amt'"),
    "twice": (HEAD + AMOUNT + AMOUNT, "feature.amt", "is given more than once", None),
    "no name": (HEAD + AMOUNT + '[[feature]]\nkind = "flag"\n', "feature #2.name", "must be a column name", None),
    "no kind": (HEAD + FEATURE, "feature.x.kind", "numeric | ordinal | categorical | flag", None),
    "kind": (HEAD + FEATURE + 'kind = "text"\n', "feature.x.kind", "must be one of", "'text'"),
    "no values": (HEAD + FEATURE + 'kind = "ordinal"\n', "feature.x.values", "values of a ordinal feature", "[]"),
    "values": (HEAD + FEATURE + 'kind = "categorical"\nvalues = "a"\n', "feature.x.values", "must be a list", "'a'"),
    "value twice": (HEAD + FEATURE + 'kind = "ordinal"\nvalues = ["1", 1.0]\n', "x.values", "not repeat", "['1', 1.0]"),
    "no range": (HEAD + FEATURE + 'kind = "numeric"\n', "feature.x.range", "[low, high] with low < high", None),
    "range": (HEAD + FEATURE + 'kind = "numeric"\nrange = [5, 5]\n', "feature.x.range", "low < high", "[5, 5]"),
    "range inf": (HEAD + FEATURE + 'kind = "numeric"\nrange = [0, inf]\n', "feature.x.range", "low < high", "[0, inf]"),
    "range bool": (HEAD + FEATURE + 'kind = "numeric"\nrange = [false, true]\n', "feature.x.range", "low", "True"),
    "scale": (HEAD + AMOUNT + 'scale = "ln"\n', "feature.amt.scale", "linear | log | signed-log", "'ln'"),
    "log below 0": (
        HEAD + FEATURE + 'kind = "numeric"\nrange = [-1, 5]\nscale = "log"\n',
        "feature.x.scale",
        "log needs range >= 0",
        "[-1.0, 5.0]",
    ),
    "edges": (HEAD + AMOUNT + "edges = [3, 2]\n", "feature.amt.edges", "increasing finite numbers", "[3, 2]"),
    "edges text": (HEAD + AMOUNT + 'edges = ["3"]\n', "feature.amt.edges", "increasing finite numbers", "['3']"),
    "edges nan": (HEAD + AMOUNT + "edges = [nan]\n", "feature.amt.edges", "increasing finite numbers", "[nan]"),
    "special": (HEAD + AMOUNT + "special = -1\n", "feature.amt.special", "must be a list", "-1"),
    "special twice": (HEAD + AMOUNT + "special = [1, 1.0]\n", "feature.amt.special", "not repeat", "[1, 1.0]"),
    "direction": (HEAD + AMOUNT + 'direction = "up"\n', "feature.amt.direction", "safer | riskier", "'up'"),
    "group": (HEAD + AMOUNT + 'group = "My Group"\n', "feature.amt.group", "lower-case letters", "'My Group'"),
    "not toml": (HEAD + "[[feature\n", "", "is not valid TOML", None),
}


@pytest.mark.parametrize(("text", "field", "rule", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_names_file_field_rule_and_value(
    tmp_path: Path, text: str, field: str, rule: str, value: str | None
) -> None:
    with pytest.raises(InputError) as refused:
        loaded(tmp_path, text, "payments")
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "payments.contract.toml"))
    assert "\n" not in message
    assert refused.value.field.endswith(field)
    assert rule in message
    assert (f"got {value}" in message or f"{value}]" in message) if value else "got" not in message


def test_a_numeric_features_special_codes_must_be_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"feature\.amt\.special"):
        loaded(tmp_path, HEAD + AMOUNT + 'special = ["refused"]\n')


def test_edges_must_lie_within_the_range(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"feature\.amt\.edges"):
        loaded(tmp_path, HEAD + AMOUNT + "edges = [50, 5000]\n")


def test_protected_must_be_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"feature\.amt\.protected"):
        loaded(tmp_path, HEAD + AMOUNT + 'protected = "false"\n')


def test_a_feature_must_be_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        loaded(tmp_path, HEAD + 'feature = ["amt"]\n')


@pytest.mark.parametrize(
    ("line", "where", "meant"),
    [
        ('scael = "log"', "feature.amt.scael", "'scale'"),
        ("specials = []", "feature.amt.specials", "'special'"),
        ('Group = "x"', "feature.amt.Group", "'group'"),
    ],
)
def test_a_misspelt_key_is_met_with_the_right_one(tmp_path: Path, line: str, where: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"{where} is not a known key; did you mean {meant}"):
        loaded(tmp_path, HEAD + AMOUNT + line + "\n")


def test_a_misspelt_key_at_the_top_and_an_unlike_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="verson is not a known key; did you mean 'version'"):
        loaded(tmp_path, 'domain = "payments"\nverson = 1\n' + AMOUNT)
    with pytest.raises(
        InputError, match="zzz is not a known key; allowed: domain, feature, monotone, outcome, product, version"
    ):
        loaded(tmp_path, "zzz = 1\n" + HEAD + AMOUNT)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; check the path") as refused:
        load_contract(tmp_path / "none.toml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" 1.0 ", "1"),
        ("1.00", "1"),
        (1.0, "1"),
        (1, "1"),
        (-3.0, "-3"),
        ("-0.0", "-0"),
        ("007", "007"),
        ("007.0", "007"),
        ("1.50", "1.50"),
        (2.5, "2.5"),
        ("1.0.0", "1.0.0"),
        ("1.", "1."),
        (".0", ".0"),
        ("a.0", "a.0"),
        ("", ""),
        ("\tNE\n", "NE"),
        (True, "true"),
        (False, "false"),
        ("中 国", "中 国"),
        ("1e3", "1e3"),
    ],
)
def test_values_are_compared_as_this_text(value: object, text: str) -> None:
    assert normal_text(value) == text


@DERANDOMIZED
@given(value=st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans()))
def test_the_text_of_a_text_is_itself_and_whole_floats_equal_integers(value: object) -> None:
    if isinstance(value, int):
        assert normal_text(value) == normal_text(str(value).lower())
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        assert normal_text(value) in (str(int(value)), "-0")
    once = normal_text(value)
    assert once == once.strip()


def test_flags_take_the_documented_spellings() -> None:
    assert {FLAG_VALUES[v] for v in ("0", "N", "n", "no", "false", "False")} == {"0"}
    assert {FLAG_VALUES[v] for v in ("1", "Y", "y", "yes", "true", "True")} == {"1"}


def test_a_contract_survives_json_and_its_hash_too(tmp_path: Path) -> None:
    contract = loaded(tmp_path, WHOLE)
    again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert again.sha256 == contract.sha256
    assert len(contract.sha256) == 64


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("version = 2", "version = 3"),
        ('"payments"', '"ecommerce"'),
        ('"late_90"', '"late_30"'),
        ("monotone = true", "monotone = false"),
        ("range = [0, 100]", "range = [0, 101]"),
        ('"own", "rent"', '"rent", "own"'),
        ('direction = "safer"', 'direction = "riskier"'),
        ("protected = true", "protected = false"),
        ("edges = [1, 10.5]", "edges = [1, 10.6]"),
        ('unit = "TWD"', 'unit = "USD"'),
    ],
)
def test_another_content_has_another_hash(tmp_path: Path, before: str, after: str) -> None:
    assert before in WHOLE
    assert loaded(tmp_path, WHOLE).sha256 != loaded(tmp_path, WHOLE.replace(before, after)).sha256


def test_layout_and_notes_are_no_content(tmp_path: Path) -> None:
    other = "# a comment\n" + WHOLE.replace('note = "by law"\n', "").replace("[0, 100]", "[ 0.0, 1_00 ]")
    assert loaded(tmp_path, WHOLE).sha256 == loaded(tmp_path, other).sha256


def test_protected_features_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    contract = loaded(tmp_path, WHOLE)
    assert [f.name for f in contract.trainable(use_protected=False).features] == ["amt", "grade", "home"]
    assert contract.trainable(use_protected=True) == contract
    assert replace(contract.trainable(use_protected=False), features=contract.features) == contract
