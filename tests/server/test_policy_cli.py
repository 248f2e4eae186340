"""`fedscore policy draft|lint|diff|backtest`, against what the core decides one by one."""

from __future__ import annotations

import json
import random
import re
import sys
import tomllib
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import clients
from model.bundle import decision_bundle
from model.inputs import InputError
from model.limits import policy as shipped
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.fields import read
from model.limits.lint import findings
from model.limits.policy import load_policy, parse_policy
from model.limits.request import StateSnapshot, parse_request
from model.limits.schema import Policy
from server.books import as_if_in_force

TOML = Path(shipped.__file__).with_name("policy.toml").read_text(encoding="utf-8")
BASE: dict[str, Any] = json.loads((Path(clients.__file__).parent / "sample" / "request.json").read_text("utf-8"))
DOMAINS = ("ecommerce", "payments", "tax_business")
STRICTER = (
    ("standard_pd_max_bp = 818", "standard_pd_max_bp = 500"),
    ("el_budget_fen = 60_000", "el_budget_fen = 30_000"),
)
LATER = (("effective_from = 2026-11-01", "effective_from = 2027-01-01"),)


@pytest.fixture(scope="module")
def model(exact_run: Any) -> Path:
    """The folder of a published model."""
    return exact_run.out / "model"


def requests(count: int) -> list[dict[str, Any]]:
    """Requests of 0 to 3 blocks, from very safe to very risky."""
    draw, made = random.Random(3), []
    for at in range(count):
        request = deepcopy(BASE) | {"request_id": str(UUID(int=draw.getrandbits(128))), "requested_fen": None}
        block = {"covered": True, "consent": True, "as_of": BASE["as_of"], "tenure_months": 9}
        request["kyc"]["logit_e6"] = logit = draw.randrange(-4_500_000, -1_000_000)
        request["blocks"] = {name: block | {"logit_e6": logit} for name in DOMAINS[: at % 4]}
        made.append(request)
    return made


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of 300 requests."""
    path = tmp_path_factory.mktemp("book") / "book.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in requests(300)))
    return path


def written(path: Path, *pairs: tuple[str, str]) -> Path:
    """The shipped policy with some texts replaced."""
    text = TOML
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def decisions(policy: Policy, model: Path) -> list[Decision]:
    """The book, decided by the core."""
    bundle = decision_bundle(model)
    asked = [parse_request(row) for row in requests(300)]
    return [decide(r, policy, bundle, StateSnapshot(), r.as_of, explain=False) for r in asked]


def test_a_draft_is_the_shipped_policy_and_lints_in_one_line(run_cli: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    assert run_cli("policy", "draft", mine).code == 0
    assert mine.read_text("utf-8") == TOML
    ended = run_cli("policy", "lint", mine)
    dates = "effective 2026-11-01T00:00:00+08:00 expires 2027-11-01T00:00:00+08:00"
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"cn-consumer 2026.11.0 {dates} sha256 {load_policy().sha256}\n"
    assert run_cli("policy", "lint", mine, "--all").out == ended.out
    again = run_cli("policy", "draft", mine)
    assert (again.code, len(again.lines)) == (2, 1)


def test_lint_names_the_first_broken_rule_or_all_of_them(run_cli: Any, tmp_path: Path) -> None:
    pairs = ("min_age = 18", "min_age = 70"), ("bp = 2000", "bp = 1900"), ("margin_e6 = [250_000", "margin_e6 = [1")
    bad = written(tmp_path / "bad.toml", *pairs, ("points = 600", "points = 1500"))
    ended = run_cli("policy", "lint", bad)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert ended.err == f"fedscore: {bad}: legal.max_age must be >= legal.min_age, got 65.\n"
    told = run_cli("policy", "lint", bad, "--all")
    assert (told.code, told.out) == (2, "")
    assert told.lines[0] == ended.lines[0]
    fields = [line.removeprefix(f"fedscore: {bad}: ").split(" ")[0] for line in told.lines]
    assert fields == ["legal.max_age", "confidence.margin_e6", "pricing[4].apr_bp", "points"]


@pytest.mark.parametrize("content", [None, "", "= 1", "schema = 1", "id = 1.5"])
def test_a_file_that_is_no_policy_is_one_line(run_cli: Any, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "p.toml").write_text(content)
    for arguments in (["lint", tmp_path / "p.toml"], ["lint", tmp_path / "p.toml", "--all"]):
        ended = run_cli("policy", *arguments)
        assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
        assert ended.err.startswith(f"fedscore: {tmp_path / 'p.toml'}: ")


def test_every_policy_that_reads_is_linted_to_the_end_and_the_first_finding_is_what_loading_says() -> None:
    draw, shown, several = random.Random(1), tomllib.loads(TOML), 0
    for _ in range(700):
        data = deepcopy(shown)
        for _ in range(draw.randrange(1, 5)):
            inside: Any = data
            key = draw.choice(list(data))
            while isinstance(inside[key], (dict, list)) and inside[key] and draw.random() < 0.9:
                inside = inside[key]
                key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
            value = inside[key]
            if isinstance(value, list):
                inside[key] = draw.choice([[], value[::-1], value[:1]])
            elif type(value) is int:
                inside[key] = draw.choice([0, 1, value * 2, value // 2, value + 1])
        try:
            policy = read(Policy, data, "p.toml")
        except InputError:
            continue
        found = findings(policy, "p.toml")
        several += len(found) > 1
        if not found:
            assert parse_policy(data, "p.toml") == policy
            continue
        with pytest.raises(InputError) as first:
            parse_policy(data, "p.toml")
        assert str(first.value) == str(found[0])
    assert several > 20


def test_a_difference_is_told_by_field_and_nothing_by_the_same_policy(run_cli: Any, tmp_path: Path) -> None:
    old = written(tmp_path / "old.toml")
    rungs = ("rungs_fen = [50_000, 100_000, 200_000, 400_000]", "rungs_fen = [50_000, 100_000]")
    new = written(tmp_path / "new.toml", *STRICTER[1:], rungs)
    ended = run_cli("policy", "diff", old, new, "--json")
    assert json.loads(ended.out) == {
        "changes": [
            {"path": "limit.el_budget_fen", "old": 60_000, "new": 30_000},
            {"path": "trial.rungs_fen[2]", "old": 200_000, "new": None},
            {"path": "trial.rungs_fen[3]", "old": 400_000, "new": None},
        ]
    }
    shown = [line.split() for line in run_cli("policy", "diff", old, new).out.splitlines()]
    assert ["limit.el_budget_fen", "60000", "30000"] in shown
    assert ["trial.rungs_fen[3]", "400000", "-"] in shown
    assert "changed fields\nnone\n" in run_cli("policy", "diff", old, old).out


def test_who_moves_from_what_to_what_is_what_the_core_decides(
    run_cli: Any, model: Path, book: Path, tmp_path: Path
) -> None:
    old, new = written(tmp_path / "old.toml"), written(tmp_path / "new.toml", *STRICTER, *LATER)
    options = ["--requests", book, "--model", model, "--out", tmp_path / "moved.jsonl", "--cases", 3]
    ended = run_cli("policy", "diff", old, new, *options, "--json")
    flow = json.loads(ended.out)["flow"]
    before, after = decisions(load_policy(old), model), decisions(as_if_in_force(load_policy(new)), model)
    pairs = list(zip(before, after, strict=True))
    moves = Counter((a.decision, b.decision) for a, b in pairs)
    assert {(a, b): n for a, row in flow["moves"].items() for b, n in row.items() if n} == moves
    assert len({a for a, _ in moves}) >= 3
    assert flow["outside"] == {"old": 0, "new": 300}
    change = [b.amount_fen - a.amount_fen for a, b in pairs]
    assert flow["amount"] == {"up": 0, "down": sum(c < 0 for c in change), "same": change.count(0)}
    assert flow["mean_change_fen"] == round(sum(change) / 300)
    lost = [a.request_id for a, b in pairs if a.amount_fen and b.decision == "DECLINE"]
    assert [case["request_id"] for case in flow["approved_then_refused"]] == lost[:3]
    moved = [json.loads(line) for line in (tmp_path / "moved.jsonl").read_text().splitlines()]
    assert [row["request_id"] for row in moved] == [
        a.request_id for a, b in pairs if (a.decision, a.amount_fen, a.apr_bp) != (b.decision, b.amount_fen, b.apr_bp)
    ]
    by_id = {b.request_id: b for b in after}
    assert all(row["new"]["amount_fen"] == by_id[row["request_id"]].amount_fen for row in moved)


def test_a_difference_on_a_book_is_plain_text_elsewhere_and_a_drawn_table_on_a_terminal(
    run_cli: Any, model: Path, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = written(tmp_path / "old.toml"), written(tmp_path / "new.toml", *STRICTER, *LATER)
    told = run_cli("policy", "diff", old, new, "--requests", book, "--model", model).out
    assert told.isascii()
    assert "\x1b" not in told
    assert "note: 300 of 300 requests lie outside the dates of the new policy" in told
    lost = json.loads(run_cli("policy", "diff", old, new, "--requests", book, "--model", model, "--json").out)
    ids = [case["request_id"] for case in lost["flow"]["approved_then_refused"]]
    assert re.findall(r"^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ", told, re.M) == ids != []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "─" in run_cli("policy", "diff", old, new).out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--requests", "BOOK"], "--requests and --model must be given together"),
        (["--out", "x.jsonl"], "--requests and --model must be given together"),
        (["--requests", "BOOK", "--model", "nowhere"], "bundle.json: does not exist"),
        (["--requests", "none.jsonl", "--model", "MODEL"], "none.jsonl: does not exist"),
        (["--requests", "BOOK", "--model", "MODEL", "--out", "x.csv"], "x.csv: must end in .jsonl"),
        (
            ["--requests", "BAD", "--model", "MODEL", "--out", "x.jsonl"],
            "bad.jsonl line 2: request_id is that of line 1",
        ),
    ],
)
def test_a_wrong_comparison_is_one_line_and_writes_nothing(
    run_cli: Any, model: Path, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    row = book.read_text().splitlines()[0]
    (tmp_path / "bad.jsonl").write_text(f"{row}\n{row}\n")
    mine = written(tmp_path / "mine.toml")
    places = {"BOOK": book, "MODEL": model, "BAD": tmp_path / "bad.jsonl"}
    ended = run_cli("policy", "diff", mine, mine, *(places.get(word, word) for word in more))
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert told in ended.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "mine.toml"]
