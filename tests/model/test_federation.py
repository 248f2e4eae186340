"""The federation file: read whole, every rule's message, and no holder that later steps could not serve."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pytest

from model.federation import Cut, Federation, Holder, load_federation
from model.inputs import InputError
from model.terms import check_delta, check_epsilon

CONTRACT = """
domain = "{domain}"
[[feature]]
name = "amt"
kind = "numeric"
range = [0, 100]
[[feature]]
name = "sex"
kind = "flag"
protected = true
"""
HEAD = '[federation]\nname = "uci-credit"\n'
LENDER = '[lender]\ndata = ["labels.parquet", "lender_kyc.parquet"]\n'
PAY = '[[partner]]\nname = "pay-1"\ndomain = "payments"\ndata = "payments.parquet"\ncontract = "payments.toml"\n'
SHOP = '[[partner]]\nname = "ec-1"\ndomain = "ecommerce"\ndata = "ec.csv"\ncontract = "ecommerce.toml"\n'
WHOLE = (
    HEAD
    + 'id = "ID"\noutcome = "bad"\nsplit = "part"\non-failure = "stop"\n'
    + "[privacy]\nepsilon = 2\ndelta = 1e-6\nshares = { pay-1 = 0.5, fusion = 0.2, lender = 1 }\n"
    + LENDER
    + 'contract = "lender_kyc.toml"\nincome = "salary"\nrequested = "wish"\n'
    + PAY
    + 'only = { hkey = ["NE", 1.0] }\n'
    + SHOP
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for domain in ("payments", "ecommerce", "lender_kyc"):
        (tmp_path / f"{domain}.toml").write_text(CONTRACT.format(domain=domain))
    return tmp_path


def loaded(folder: Path, text: str, data: Path | None = None) -> Federation:
    path = folder / "federation.toml"
    path.write_text(text, encoding="utf-8")
    return load_federation(path, data)


def test_a_whole_file_is_read_as_it_is_written(folder: Path) -> None:
    f = loaded(folder, WHOLE)
    assert (f.name, f.id, f.outcome, f.split, f.cut) == ("uci-credit", "ID", "bad", "part", None)
    assert (f.privacy.epsilon, f.privacy.delta, f.on_failure) == (2.0, 1e-6, "stop")
    assert (f.income, f.requested) == ("salary", "wish")
    assert f.privacy.shares == {"pay-1": 0.5, "fusion": 0.2, "lender": 1.0}
    assert [h.name for h in f.holders] == ["lender", "pay-1", "ec-1"]
    assert (f.lender.domain, f.lender.data) == (
        "lender_kyc",
        (folder / "labels.parquet", folder / "lender_kyc.parquet"),
    )
    pay = f.holder("pay-1")
    assert (pay.domain, pay.data, pay.only) == ("payments", (folder / "payments.parquet",), {"hkey": ("NE", "1")})
    assert pay.contract is not None
    assert pay.contract.domain == "payments"


def test_what_is_left_out_has_a_usual_value(folder: Path) -> None:
    f = loaded(folder, "[federation]\n" + LENDER + PAY)
    assert (f.name, f.id, f.outcome, f.split, f.cut) == ("federation", "id", "label", None, None)
    assert (f.privacy.epsilon, f.privacy.delta, f.privacy.shares, f.on_failure) == (1.0, 1e-5, {}, "continue")
    assert (f.lender.contract, f.lender.domain) == (None, "lender_kyc")
    assert (f.income, f.requested) == (None, None)


def test_data_may_lie_elsewhere_and_contracts_stay_beside_the_file(folder: Path, tmp_path: Path) -> None:
    f = loaded(folder, HEAD + LENDER + PAY, tmp_path / "elsewhere")
    assert f.partners[0].data == (tmp_path / "elsewhere" / "payments.parquet",)


def test_protected_features_are_left_out_unless_the_federation_asks_for_them(folder: Path) -> None:
    def names(holder: Holder) -> list[str]:
        return [f.name for f in holder.contract.features] if holder.contract else []

    assert names(loaded(folder, HEAD + LENDER + PAY).partners[0]) == ["amt"]
    asked = loaded(folder, HEAD + "use-protected = true\n" + LENDER + 'contract = "lender_kyc.toml"\n' + PAY)
    assert names(asked.partners[0]) == names(asked.lender) == ["amt", "sex"]


def test_a_contract_of_protected_features_only_is_refused(folder: Path) -> None:
    text = CONTRACT.format(domain="payments").replace('kind = "numeric"', 'protected = true\nkind = "numeric"')
    (folder / "payments.toml").write_text(text)
    with pytest.raises(InputError, match=r"payments\.toml: feature leaves nothing to train on.*use-protected = true"):
        loaded(folder, HEAD + LENDER + PAY)


def test_a_cut_by_date_is_read(folder: Path) -> None:
    cut = '[federation.cut]\ncolumn = "date"\ntrain-before = 2003-10-01\n'
    assert loaded(folder, HEAD + cut + LENDER + PAY).cut == Cut("date", date(2003, 10, 1), None)
    both = loaded(folder, HEAD + cut + "test-before = 2004-10-01\n" + LENDER + PAY).cut
    assert both == Cut("date", date(2003, 10, 1), date(2004, 10, 1))


P1 = "[[partner]]\n"
CUT = '[federation.cut]\ncolumn = "d"\ntrain-before = 2003-10-01\n'
BROKEN = {
    # id: (text, field, rule, value)
    "no federation": (LENDER + PAY, "federation", "add a table [federation]", None),
    "no lender": (HEAD + PAY, "lender", "add a table [lender]", None),
    "no partner": (HEAD + LENDER, "partner", "1 to 256 times as [[partner]]", "0"),
    "many partners": (
        HEAD + LENDER + "".join(PAY.replace("pay-1", f"pay-{i}") for i in range(257)),
        "partner",
        "1 to 256 times",
        "257",
    ),
    "name": ("[federation]\nname = 3\n" + LENDER + PAY, "federation.name", "must be a text", "3"),
    "id": (HEAD + 'id = ""\n' + LENDER + PAY, "federation.id", "must be a text", "''"),
    "outcome": (HEAD + "outcome = 1\n" + LENDER + PAY, "federation.outcome", "must be a text", "1"),
    "split": (HEAD + "split = true\n" + LENDER + PAY, "federation.split", "must be a text", "True"),
    "split and cut": (HEAD + 'split = "s"\n' + CUT + LENDER + PAY, "federation.split", "beside federation.cut", "'s'"),
    "cut": (HEAD + "cut = 3\n" + LENDER + PAY, "federation.cut", "must be a table", "3"),
    "cut column": (HEAD + CUT.replace('"d"', "1") + LENDER + PAY, "federation.cut.column", "must be a text", "1"),
    "cut date": (HEAD + CUT.replace("2003-10-01", '"x"') + LENDER + PAY, "cut.train-before", "must be a date", "'x'"),
    "cut order": (
        HEAD + CUT + "test-before = 2003-10-01\n" + LENDER + PAY,
        "federation.cut.test-before",
        "must be after train-before",
        "'2003-10-01'",
    ),
    "protected": (HEAD + "use-protected = 1\n" + LENDER + PAY, "federation.use-protected", "true or false", "1"),
    "on-failure": (HEAD + 'on-failure = "go"\n' + LENDER + PAY, "federation.on-failure", "continue or stop", "'go'"),
    "epsilon": (HEAD + LENDER + PAY + "[privacy]\nepsilon = 0\n", "privacy.epsilon", "must be a number > 0", "0"),
    "epsilon nan": (HEAD + LENDER + PAY + "[privacy]\nepsilon = nan\n", "privacy.epsilon", "number > 0", "nan"),
    "epsilon bool": (HEAD + LENDER + PAY + "[privacy]\nepsilon = true\n", "privacy.epsilon", "number > 0", "True"),
    "delta": (HEAD + LENDER + PAY + "[privacy]\ndelta = 1\n", "privacy.delta", "must be a number in (0, 1)", "1"),
    "delta text": (HEAD + LENDER + PAY + '[privacy]\ndelta = "small"\n', "privacy.delta", "in (0, 1)", "'small'"),
    "shares": (HEAD + LENDER + PAY + "[privacy]\nshares = [1]\n", "privacy.shares", "table of numbers", "[1]"),
    "share": (HEAD + LENDER + PAY + "[privacy]\nshares = { pay-1 = 0 }\n", "privacy.shares.pay-1", "> 0", "0"),
    "share inf": (HEAD + LENDER + PAY + "[privacy]\nshares = { fusion = inf }\n", "shares.fusion", "> 0", "inf"),
    "lender data": (HEAD + "[lender]\ndata = []\n" + PAY, "lender.data", "file name, or a list of them", "[]"),
    "income": (HEAD + LENDER + "income = 5\n" + PAY, "lender.income", "must be a text", "5"),
    "requested": (HEAD + LENDER + 'requested = ""\n' + PAY, "lender.requested", "must be a text", "''"),
    "no lender data": (HEAD + "[lender]\n" + PAY, "lender.data", "file name, or a list of them", None),
    "partner name": (HEAD + LENDER + PAY.replace("pay-1", "Pay 1"), "partner #1.name", "lower-case", "'Pay 1'"),
    "partner lender": (HEAD + LENDER + PAY.replace("pay-1", "lender"), "partner #1.name", "none of", "'lender'"),
    "partner fusion": (HEAD + LENDER + PAY.replace("pay-1", "fusion"), "partner #1.name", "none of", "'fusion'"),
    "no partner name": (HEAD + LENDER + PAY.replace('name = "pay-1"\n', ""), "partner #1.name", "lower-case", None),
    "domain": (HEAD + LENDER + PAY.replace('"payments"', '"Pay"'), "partner #1.domain", "lower-case", "'Pay'"),
    "partner data": (
        HEAD + LENDER + PAY + SHOP.replace('"ec.csv"', '["a", "b"]'),
        "partner #2.data",
        "must be one file",
        "['a', 'b']",
    ),
    "no contract": (HEAD + LENDER + PAY.replace('contract = "payments.toml"', ""), "#1.contract", "is missing", None),
    "only": (HEAD + LENDER + PAY + 'only = { hkey = "NE" }\n', "partner #1.only", "must be like", "{'hkey': 'NE'}"),
    "same name": (HEAD + LENDER + PAY + PAY, "partner.name", "must be unique", "'pay-1'"),
}


@pytest.mark.parametrize(("text", "field", "rule", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_names_file_field_rule_and_value(
    folder: Path, text: str, field: str, rule: str, value: str | None
) -> None:
    with pytest.raises(InputError) as refused:
        loaded(folder, text)
    message = str(refused.value)
    assert message.startswith(str(folder / "federation.toml"))
    assert "\n" not in message
    assert refused.value.field.endswith(field)
    assert rule in message
    assert f"got {value}" in message if value else "got" not in message


@pytest.mark.parametrize(
    ("text", "where", "meant"),
    [
        (HEAD + LENDER + PAY + "[privcy]\nepsilon = 1\n", "privcy", "'privacy'"),
        (HEAD + 'outcom = "y"\n' + LENDER + PAY, "federation.outcom", "'outcome'"),
        (HEAD + LENDER + PAY + "[privacy]\nepsilonn = 1\n", "privacy.epsilonn", "'epsilon'"),
        (HEAD + LENDER + PAY + "[privacy]\nshares = { pay_1 = 1 }\n", "privacy.shares.pay_1", "'pay-1'"),
        (HEAD + LENDER + 'contracts = "x"\n' + PAY, "lender.contracts", "'contract'"),
        (HEAD + LENDER + PAY + 'domian = "x"\n', "partner #1.domian", "'domain'"),
        (HEAD + CUT + "train_before = 2003-01-01\n" + LENDER + PAY, "federation.cut.train_before", "'train-before'"),
    ],
)
def test_a_misspelt_key_is_met_with_the_right_one(folder: Path, text: str, where: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"{where} is not a known key; did you mean {meant}"):
        loaded(folder, text)


def test_partners_of_one_domain_must_share_a_contract(folder: Path) -> None:
    (folder / "other.toml").write_text(CONTRACT.format(domain="payments").replace("100", "200"))
    second = PAY.replace("pay-1", "pay-2")
    assert len(loaded(folder, HEAD + LENDER + PAY + second).partners) == 2
    with pytest.raises(InputError, match=r"partner pay-2\.contract must be the same contract as pay-1's"):
        loaded(folder, HEAD + LENDER + PAY + second.replace("payments.toml", "other.toml"))


def test_a_contract_of_another_domain_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"ecommerce\.toml: domain must be 'payments', got 'ecommerce'"):
        loaded(folder, HEAD + LENDER + PAY.replace("payments.toml", "ecommerce.toml"))


def test_an_unknown_holder_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"partner\.name is not in this federation, got 'pay-9'"):
        loaded(folder, HEAD + LENDER + PAY).holder("pay-9")


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), ("0.5", 0.5), ("inf", math.inf), (math.inf, math.inf)])
def test_epsilon_may_be_text_and_infinite(value: object, number: float) -> None:
    assert check_epsilon("run configuration", "epsilon", value) == number


@pytest.mark.parametrize("value", [0, -1, "", "nan", "x", None, True, [1]])
def test_an_epsilon_or_delta_without_meaning_is_refused(value: object) -> None:
    for check in (check_epsilon, check_delta):
        with pytest.raises(InputError, match="run configuration: x must be a number"):
            check("run configuration", "x", value)


# --- found only at the end of a run, when the budget is spent


@pytest.mark.parametrize("domain", ["tax_", "tax__business"])
def test_a_domain_that_the_fusion_table_cannot_name_is_refused(folder: Path, domain: str) -> None:
    (folder / "tax.toml").write_text(CONTRACT.format(domain=domain))
    partner = f'[[partner]]\nname = "tax-1"\ndomain = "{domain}"\ndata = "t.csv"\ncontract = "tax.toml"\n'
    with pytest.raises(InputError, match=r"partner #1\.domain"):
        loaded(folder, HEAD + LENDER + partner)


@pytest.mark.parametrize("domain", ["payments", "Lender KYC"])
def test_the_lenders_own_domain_is_a_name_of_its_own(folder: Path, domain: str) -> None:
    (folder / "lender_kyc.toml").write_text(CONTRACT.format(domain=domain))
    with pytest.raises(InputError):
        loaded(folder, HEAD + LENDER + 'contract = "lender_kyc.toml"\n' + PAY)


def test_a_cut_at_a_time_of_day_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="test-before"):
        loaded(folder, HEAD + CUT + "test-before = 2004-10-01T00:00:00\n" + LENDER + PAY)
