"""A backtest's figures, each against its definition."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

import clients
from model.bundle import decision_bundle
from model.limits import policy as shipped
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot, parse_request
from model.points import pd_e8

SHIPPED = Path(shipped.__file__).with_name("policy.toml")
BASE: dict[str, Any] = json.loads((Path(clients.__file__).parent / "sample" / "request.json").read_text("utf-8"))
COSTS = load_policy().economics


def requests(count: int, as_of: str = BASE["as_of"]) -> list[dict[str, Any]]:
    """Requests from very safe to very risky, every third of them thin."""
    made = []
    for at in range(count):
        request = deepcopy(BASE) | {"request_id": f"00000000-0000-4000-8000-{at:012x}", "as_of": as_of}
        request["kyc"]["logit_e6"] = logit = -4_500_000 + 3_500_000 * at // count
        block = {"covered": True, "consent": True, "logit_e6": logit, "as_of": as_of, "tenure_months": 20}
        request["blocks"] = dict.fromkeys(("ecommerce", "payments", "tax_business")[: at % 3 + 1], block)
        made.append(request)
    return made


def decisions(model: Path, count: int) -> list[Decision]:
    """The same requests, decided by the core."""
    policy, bundle = load_policy(), decision_bundle(model)
    asked = [parse_request(row) for row in requests(count)]
    return [decide(r, policy, bundle, StateSnapshot(), r.as_of, explain=False) for r in asked]


@pytest.fixture(scope="module")
def model(exact_run: Any) -> Path:
    """The folder of a published model."""
    return exact_run.out / "model"


@pytest.fixture
def backtest(run_cli: Any, model: Path, tmp_path: Path) -> Any:
    """Runs the command on so many requests, with more arguments, and gives how it ended."""

    def run(count: int, *more: object, as_of: str = BASE["as_of"], policy: Path = SHIPPED) -> Any:
        book = tmp_path / "book.jsonl"
        book.write_text("\n".join(json.dumps(row) for row in requests(count, as_of)))
        return run_cli("policy", "backtest", policy, "--requests", book, "--model", model, *more)

    return run


def test_loss_and_profit_are_a_years_by_the_policys_economics(backtest: Any, model: Path) -> None:
    report = json.loads(backtest(240, "--json").out)
    made = decisions(model, 240)
    offers = [d for d in made if d.apr_bp is not None]
    assert 100 < len(offers) < 240
    share = Fraction(COSTS.lgd_bp, 10_000) * Fraction(COSTS.ccf_bp, 10_000)
    loss = sum(share * d.amount_fen * Fraction(pd_e8(d.z_e6), 10**8) for d in offers)
    upper = sum(share * d.amount_fen * Fraction(pd_e8(d.z_e6 + d.margin_e6), 10**8) for d in offers)
    spread = [(d.amount_fen, (d.apr_bp or 0) - COSTS.fund_cost_bp - COSTS.opex_bp) for d in offers]
    income = sum(Fraction(COSTS.avg_util_bp, 10_000) * amount * Fraction(bp, 10_000) for amount, bp in spread)
    whole = report["all"]
    assert whole["amount_fen"] == sum(d.amount_fen for d in made)
    assert whole["mean_amount_fen"] == whole["amount_fen"] // len(offers)
    assert (whole["expected_loss_fen"], whole["expected_loss_upper_fen"]) == (floor(loss), floor(upper))
    assert whole["income_fen"] == floor(income)
    assert whole["profit_fen"] == floor(income) - floor(loss)
    assert whole["profit_upper_fen"] == floor(income) - floor(upper) < whole["profit_fen"]


def test_the_parts_add_up_and_reasons_are_counted_once_a_request(backtest: Any, model: Path) -> None:
    report = json.loads(backtest(240, "--json").out)
    made = decisions(model, 240)
    for part in ("by_file", "by_band", "by_decision"):
        for name in ("requests", "amount_fen"):
            assert sum(tally[name] for tally in report[part].values()) == report["all"][name]
    assert report["by_file"]["thin"]["requests"] == sum(d.thin for d in made) > 20
    assert report["by_band"]["poor"]["requests"] == sum(d.band == "poor" for d in made) > 0
    assert report["by_decision"]["DECLINE"]["decisions"]["DECLINE"] == sum(d.decision == "DECLINE" for d in made)
    codes = {code for d in made for code in {r.code for r in d.reasons}}
    assert report["reasons"] == {code: sum(code in {r.code for r in d.reasons} for d in made) for code in codes}
    assert report["policy"]["sha256"] == load_policy().sha256


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_came_true_is_held_against_the_pds_with_the_exact_poisson_interval(
    backtest: Any, model: Path, tmp_path: Path, suffix: str
) -> None:
    made = decisions(model, 240)
    known = {d.request_id: at % 5 == 0 for at, d in enumerate(made) if at % 2 == 0}
    table = pl.DataFrame({"request_id": [*known, "stranger"], "defaulted": [*map(int, known.values()), 1]})
    outcomes = tmp_path / f"outcomes{suffix}"
    table.write_csv(outcomes) if suffix == ".csv" else table.write_parquet(outcomes)
    report = json.loads(backtest(240, "--outcomes", outcomes, "--json").out)
    for part, chosen in [
        (report["all"], made),
        (report["by_file"]["thin"], [d for d in made if d.thin]),
        (report["by_decision"]["APPROVE"], [d for d in made if d.decision == "APPROVE"]),
    ]:
        told, of = part["realised"], [d for d in chosen if d.request_id in known]
        bad = sum(known[d.request_id] for d in of)
        predicted = sum(pd_e8(d.z_e6) for d in of) / 1e8
        assert (told["known"], told["bad"]) == (len(of), bad)
        assert told["bad_rate"] == pytest.approx(bad / len(of), abs=1e-6)
        assert told["predicted"] == pytest.approx(predicted, abs=1e-3)
        bounds = stats.chi2.ppf(0.025, 2 * bad) / 2, stats.chi2.ppf(0.975, 2 * bad + 2) / 2
        expected = [bad / predicted, *(bound / predicted for bound in bounds)]
        assert told["observed_to_predicted"] == pytest.approx(expected, abs=1e-4)


def test_without_a_default_the_interval_begins_at_zero_and_ends_at_3_69(backtest: Any, tmp_path: Path) -> None:
    ids = [row["request_id"] for row in requests(60)]
    pl.DataFrame({"request_id": ids, "defaulted": [0] * 60}).write_csv(tmp_path / "o.csv")
    told = json.loads(backtest(60, "--outcomes", tmp_path / "o.csv", "--json").out)["all"]["realised"]
    ratio, low, high = told["observed_to_predicted"]
    assert (ratio, low) == (0, 0)
    assert high * told["predicted"] == pytest.approx(3.689, abs=0.01)  # -ln 0.025


def test_a_policy_decides_requests_outside_its_dates_only_when_asked_to(backtest: Any, model: Path) -> None:
    last_year = "2025-11-23T10:00:00+08:00"
    ended = backtest(60, as_of=last_year)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert "book.jsonl line 1: as_of cannot be decided at: policy cn-consumer 2026.11.0 is effective from" in ended.err
    assert "give --as-if-in-force" in ended.err
    shifted, now = (
        json.loads(backtest(60, "--as-if-in-force", "--json", as_of=day).out) for day in (last_year, BASE["as_of"])
    )
    assert (shifted.pop("outside"), now.pop("outside")) == (60, 0)
    assert shifted == now
    told = backtest(60, "--as-if-in-force", as_of=last_year).out
    assert "note: decided as if in force: 60 requests lie outside 2026-11-01T00:00:00+08:00 to 2027-11-01" in told


def test_the_copy_that_holds_at_any_instant_decides_as_one_whose_dates_were_set_by_hand(model: Path) -> None:
    from server.books import as_if_in_force

    by_hand = replace(load_policy(), effective_from=datetime(2020, 1, 1, tzinfo=UTC))
    bundle = decision_bundle(model)
    for row in requests(30, "2025-11-23T10:00:00+08:00"):
        request = parse_request(row)
        one, two = (
            decide(request, p, bundle, StateSnapshot(), request.as_of) for p in (by_hand, as_if_in_force(by_hand))
        )
        assert replace(one, versions=two.versions) == two


def test_the_printed_tables_hold_the_figures(backtest: Any) -> None:
    told = backtest(240).out
    report = json.loads(backtest(240, "--json").out)
    lines = {tuple(line.split()) for line in told.splitlines()}
    whole = report["all"]
    fen = whole["amount_fen"]
    assert any(line[:2] == ("all", f"{fen // 100:,}.{fen % 100:02}") for line in lines)
    shares = [f"{whole['decisions'][name] / 240:.1%}" for name in whole["decisions"]]
    assert any(line[:7] == ("all", "240", *shares) for line in lines)
    code, count = next(iter(report["reasons"].items()))
    assert (code, str(count), f"{count / 240:.1%}") in lines


BAD = [
    ("o.csv", None, "o.csv: does not exist"),
    ("o.txt", "request_id,defaulted\n", "o.txt: must end in .csv or .parquet"),
    ("o.csv", "", "o.csv: cannot be read as a table"),
    ("o.parquet", "no", "o.parquet: cannot be read as a table"),
    ("o.csv", "id,defaulted\na,1\n", "o.csv: request_id is missing from the columns"),
    ("o.csv", "request_id,bad\na,1\n", "o.csv: defaulted is missing from the columns"),
    ("o.csv", "request_id,defaulted\na,1\nb,2\n", "o.csv row 2: defaulted must be 0 or 1, got '2'"),
    ("o.csv", "request_id,defaulted\na,\n", "o.csv row 1: defaulted must be 0 or 1, got 'nothing'"),
    ("o.csv", "request_id,defaulted\na,1\na,1\n", "o.csv row 2: request_id must be given, and once, got 'a'"),
    ("o.csv", "request_id,defaulted\n,1\n", "o.csv row 1: request_id must be given, and once"),
    ("o.csv", "request_id,defaulted\na,1\n", "o.csv: request_id must name some of the requests in"),
]


@pytest.mark.parametrize(("name", "content", "told"), BAD)
def test_wrong_outcomes_are_one_line(backtest: Any, tmp_path: Path, name: str, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    ended = backtest(3, "--outcomes", tmp_path / name)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert told in ended.err
