"""`fedscore decide` on files: the same decisions whatever the form of the book, and nothing half-written."""

from __future__ import annotations

import json
import random
import tracemalloc
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest

import clients
from model.bundle import decision_bundle
from model.inputs import InputError
from model.limits.decide import decide
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot, parse_request
from server.batches import Batch, run

BASE: dict[str, Any] = json.loads((Path(clients.__file__).parent / "sample" / "request.json").read_text("utf-8"))
DOMAINS = ("ecommerce", "payments", "tax_business")


@pytest.fixture(scope="module")
def model(exact_run: Any) -> Path:
    """The folder of a published model."""
    return exact_run.out / "model"


def requests(count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Requests of all kinds: every outcome but REFER comes of them."""
    draw, made = random.Random(seed), []
    for _ in range(count):
        request = deepcopy(BASE) | {"request_id": str(UUID(int=draw.getrandbits(128)))}
        risk = draw.gauss(-2.6, 1.2)
        request["kyc"] |= {"logit_e6": int(risk * 1e6), "income_fen_month": draw.randrange(10**5, 2 * 10**6)}
        stamps = (BASE["as_of"], BASE["as_of"], BASE["as_of"], "2026-10-01T00:00:00Z")
        request["blocks"] = {
            name: {"covered": True, "consent": draw.random() < 0.9, "logit_e6": int((risk + draw.gauss(0, 0.5)) * 1e6)}
            | {"as_of": draw.choice(stamps), "tenure_months": draw.randrange(40)}
            for name in DOMAINS
            if draw.random() < 0.8
        }
        made.append(request)
    return made


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def expected(model: Path, rows: list[dict[str, Any]], explain: bool = True) -> list[bytes]:
    """The decisions of the core, one by one."""
    policy, bundle = load_policy(), decision_bundle(model)
    asked = [parse_request(row) for row in rows]
    return [decide(r, policy, bundle, StateSnapshot(), r.as_of, explain=explain).to_json() for r in asked]


@pytest.mark.parametrize("arguments", [["--no-steps"], [], ["--no-steps", "--jobs", 2]], ids=str)
def test_lines_are_decided_as_the_core_decides_them_in_their_order(
    run_cli: Any, model: Path, tmp_path: Path, arguments: list[Any]
) -> None:
    rows = requests(600)
    (tmp_path / "book.jsonl").write_bytes(lines(*rows[:300], b"", *rows[300:]))
    out = tmp_path / "out.jsonl"
    ended = run_cli("decide", model, "--requests", tmp_path / "book.jsonl", "--out", out, *arguments)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert out.read_bytes().splitlines() == expected(model, rows, explain="--no-steps" not in arguments)
    outcomes = {json.loads(line)["decision"] for line in out.read_bytes().splitlines()}
    assert outcomes >= {"APPROVE", "TRIAL", "DECLINE", "DEFER"}


def test_parquet_and_lines_with_or_without_states_are_one_book(run_cli: Any, model: Path, tmp_path: Path) -> None:
    rows = requests(40)
    state = {"current_limit_fen": 50_000, "stage": "trial", "clean_cycles": 1}
    states = [state if at % 2 else None for at in range(40)]
    wrapped = [{"request": r, "state": s} if s else r for r, s in zip(rows, states, strict=True)]
    (tmp_path / "a.jsonl").write_bytes(lines(*wrapped))
    columns = {"request": [json.dumps(r) for r in rows], "state": [json.dumps(s) if s else None for s in states]}
    pl.DataFrame(columns | {"other": range(40)}).write_parquet(tmp_path / "b.parquet", row_group_size=16)
    told = [run_cli("decide", model, "--requests", tmp_path / name).out for name in ("a.jsonl", "b.parquet")]
    assert told[0] == told[1]
    assert told[0].encode().splitlines() != expected(model, rows)
    (tmp_path / "state.json").write_text(json.dumps(state))
    given = [{"request": r, "state": s or {}} for r, s in zip(rows, states, strict=True)]
    (tmp_path / "c.jsonl").write_bytes(lines(*given))
    both = run_cli("decide", model, "--requests", tmp_path / "c.jsonl", "--state", tmp_path / "state.json").out
    assert both == told[0]  # a row's own state counts, even an empty one


def test_the_table_has_the_columns_of_the_decisions_and_the_whole_of_them(
    run_cli: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.batches._PART", 16)
    rows = requests(50)
    (tmp_path / "book.jsonl").write_bytes(lines(*rows))
    assert run_cli("decide", model, "--requests", tmp_path / "book.jsonl", "--out", tmp_path / "o.parquet").code == 0
    table = pl.read_parquet(tmp_path / "o.parquet")
    assert table["json"].to_list() == [text.decode() for text in expected(model, rows)]
    for row in table.iter_rows(named=True):
        whole = json.loads(row["json"])
        for name in ("request_id", "decision", "amount_fen", "apr_bp", "score", "band", "confidence", "binding_cap"):
            assert row[name] == whole[name]
        assert row["reasons"] == "+".join(r["code"] for r in whole["reasons"])
        assert row["reasons_zh"].count("；") + row["reasons_zh"].count(";") >= len(whole["reasons"]) - 1
        assert all(r["en"] in row["reasons_en"] for r in whole["reasons"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.jsonl", "o.parquet"]


def changed(way: str, value: Any, at: int = 2) -> dict[str, Any]:
    """A request with one field set."""
    request = requests(3)[at]
    inside = request
    *before, last = way.split(".")
    for name in before:
        inside = inside[name]
    inside[last] = value
    return request


TEXT = json.dumps(requests(3)[2]).encode()
BAD = [
    ("age", changed("kyc.age_years", 151), "kyc.age_years must be from 0 to 150"),
    ("float", changed("requested_fen", 5e4), "requested_fen must be a whole number, never a fraction"),
    ("text", changed("requested_fen", "50000"), "requested_fen must be a whole number"),
    ("negative", changed("kyc.income_fen_month", -1), "kyc.income_fen_month must be from 0"),
    ("offset", changed("as_of", "2026-11-23T10:00:00"), "as_of must be an instant with its offset"),
    ("id", changed("request_id", "4711"), "request_id must be a lower-case UUID"),
    ("domain", changed("blocks", {"moon": None}), "blocks.moon is not a block of the bundle"),
    ("product", changed("product", "car"), "product must be the policy's, consumer"),
    ("no-kyc", changed("kyc", None), "kyc must be a table"),
    ("unknown", changed("kyc.agee", 1), "kyc.agee is not a known key"),
    ("before", changed("as_of", "2026-10-31T00:00:00+08:00"), "as_of cannot be decided at: policy cn-consumer"),
    ("twice", TEXT.replace(b'"kyc": {', b'"kyc": {"age_years": 1, ', 1), "kyc.age_years is given twice"),
    ("nan", TEXT.replace(b'"term_months": 12', b'"term_months": NaN'), "term_months must be a finite number"),
    ("digits", TEXT.replace(b": 12,", b": " + b"9" * 5000 + b","), "term_months must have at most 19 digits"),
    ("deep", b"[" * 100_000, "must not be nested deeper"),
    ("deep-inside", TEXT.replace(b": 12,", b": " + b"[" * 40 + b"]" * 40 + b","), "must not be nested deeper"),
    ("cut", TEXT[:-9], "is not valid JSON"),
    ("latin", TEXT.replace(b"consumer", b"\xe9"), "is not UTF-8 text"),
    ("long", b'{"a": "' + b"x" * 3_000_000 + b'"}', "must be at most 1048576 bytes"),
    ("list", [TEXT.decode()], "must be a table of named fields"),
    ("number", b"3", "must be a table of named fields"),
    ("same-id", changed("request_id", requests(1)[0]["request_id"]), "request_id is that of line 1 too"),
    ("wrapped", {"request": requests(3)[2], "stat": {}}, "stat is not a known key; did you mean 'state'"),
    ("state", {"request": requests(3)[2], "state": {"rung": -1}}, "state.rung must be from 0 to 100"),
    ("no-request", {"state": {}}, "state is not a known key"),
]


@pytest.mark.parametrize(("row", "told"), [pytest.param(*each[1:], id=each[0]) for each in BAD])
def test_a_bad_row_stops_the_batch_in_one_line_or_is_skipped_and_told_of(
    run_cli: Any, model: Path, tmp_path: Path, row: Any, told: str
) -> None:
    good = requests(4)
    book, out = tmp_path / "book.jsonl", tmp_path / "out.jsonl"
    book.write_bytes(lines(*good[:2], row, good[3]))
    ended = run_cli("decide", model, "--requests", book, "--out", out, "--no-steps")
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1), ended.err
    assert ended.err.startswith(f"fedscore: {book} line 3: {told}")
    assert len(ended.err) < 600
    assert [p.name for p in tmp_path.iterdir()] == ["book.jsonl"]
    ended = run_cli("decide", model, "--requests", book, "--out", out, "--no-steps", "--on-error", "skip")
    assert (ended.code, ended.err) == (0, f"3 decided, 1 refused: see {tmp_path / 'out.errors.jsonl'}\n")
    assert out.read_bytes().splitlines() == expected(model, [*good[:2], good[3]], explain=False)
    [error] = [json.loads(line) for line in (tmp_path / "out.errors.jsonl").read_text().splitlines()]
    assert set(error) == {"place", "field", "rule"}
    assert error["place"] == "line 3"
    said = f"{error['field']} {error['rule']}".strip()
    assert said.startswith(told.split(";")[0][: len(said)])


def test_where_every_row_is_bad_nothing_is_written(run_cli: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "book.jsonl").write_bytes(lines({}, b"{"))
    options = ["--out", tmp_path / "out.parquet", "--on-error", "skip"]
    ended = run_cli("decide", model, "--requests", tmp_path / "book.jsonl", *options)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "line 1: request_id is missing" in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["book.jsonl"]


def _file(name: str, content: bytes) -> Any:
    def write(folder: Path) -> list[Any]:
        (folder / name).write_bytes(content)
        return ["--requests", folder / name]

    return write


def _table(**columns: Any) -> Any:
    def write(folder: Path) -> list[Any]:
        pl.DataFrame(columns).write_parquet(folder / "t.parquet")
        return ["--requests", folder / "t.parquet"]

    return write


def _out(name: str) -> Any:
    def write(folder: Path) -> list[Any]:
        (folder / "there.jsonl").write_text("mine")
        (folder / "that.errors.jsonl").write_text("mine")
        return [*_file("r.jsonl", lines(*requests(1), {}))(folder), "--out", folder / name]

    return write


FILES = [
    ("empty", _file("e.jsonl", b""), "e.jsonl: is empty"),
    ("blank", _file("e.jsonl", b"\n \n"), "e.jsonl: is empty"),
    ("empty-one", _file("e.json", b" "), "e.json: is empty"),
    ("kind", _file("r.csv", b"1"), "r.csv: must end in .json, .jsonl, .parquet"),
    ("missing", lambda folder: ["--requests", folder / "no.jsonl"], "no.jsonl: does not exist"),
    ("missing-table", lambda folder: ["--requests", folder / "no.parquet"], "no.parquet: does not exist"),
    ("folder", lambda folder: ["--requests", (folder / "d.jsonl").mkdir() or folder / "d.jsonl"], "cannot be read"),
    ("no-parquet", _file("t.parquet", b"PAR1 no PAR1"), "t.parquet: cannot be read as Parquet"),
    ("no-column", _table(reqest=["{}"]), "t.parquet: request must be a column of JSON texts"),
    ("numbers", _table(request=[1]), "t.parquet: request must be a column of JSON texts"),
    ("state-numbers", _table(request=["{}"], state=[1]), "request must be a column of JSON texts, and so must state"),
    ("no-rows", _table(request=pl.Series([], dtype=pl.String)), "t.parquet: is empty"),
    ("null", _table(request=pl.Series([None], dtype=pl.String)), "t.parquet row 1: is empty"),
    ("bad-state", _table(request=[TEXT.decode()], state=["{"]), "t.parquet row 1 state: is not valid JSON"),
    ("same", _table(request=[TEXT.decode()] * 2), "t.parquet row 2: request_id is that of row 1 too"),
    ("out-there", _out("there.jsonl"), "there.jsonl: exists already"),
    ("out-kind", _out("o.csv"), "o.csv: must end in .jsonl or .parquet"),
    ("out-nowhere", _out("no/o.jsonl"), "o.jsonl: cannot be written"),
    ("out-table-nowhere", _out("no/o.parquet"), "o.parquet: cannot be written"),
    ("errors-there", lambda f: [*_out("that.jsonl")(f), "--on-error", "skip"], "that.errors.jsonl: exists already"),
    ("on-error", lambda f: [*_out("o.jsonl")(f), "--on-error", "go"], "--on-error must be stop | skip, got 'go'"),
    ("skip-printed", lambda f: [*_file("r.jsonl", b"{}")(f), "--on-error", "skip"], "--on-error skip needs --out"),
    ("policy", lambda f: [*_file("r.jsonl", TEXT)(f), "--policy", f / "no.toml"], "no.toml: does not exist"),
    ("state", lambda f: [*_file("r.jsonl", TEXT)(f), "--state", _file("s", b'{"a": 1}')(f)[1]], "s: a is not a known"),
]


@pytest.mark.parametrize(("write", "told"), [pytest.param(*each[1:], id=each[0]) for each in FILES])
def test_a_wrong_file_or_option_is_one_line_and_leaves_nothing(
    run_cli: Any, model: Path, tmp_path: Path, write: Any, told: str
) -> None:
    arguments = write(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    ended = run_cli("decide", model, *arguments)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1), ended.err
    assert ended.err.startswith("fedscore: ")
    assert told in ended.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_id_that_came_long_before_is_found(model: Path, tmp_path: Path) -> None:
    rows = requests(700)
    (tmp_path / "book.jsonl").write_bytes(lines(*rows, rows[3]))
    with pytest.raises(InputError, match="line 701: request_id is that of line 4 too"):
        run(Batch(model, tmp_path / "book.jsonl", explain=False), tmp_path / "out.jsonl")


def test_memory_does_not_grow_with_the_rows(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.batches._CHUNK", 16)
    some, peaks = requests(40), []  # over and over: caches of prices and probabilities are full after some rows
    rows = [row | {"request_id": str(UUID(int=at))} for at, row in enumerate(some * 20)]
    for at, count in enumerate((200, 200, 800)):
        book = tmp_path / f"{at}.jsonl"
        book.write_bytes(lines(*rows[:count]))
        if at:
            tracemalloc.start()
        run(Batch(model, book, explain=False), tmp_path / f"out-{at}.jsonl")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.6 * peaks[1]  # 3 times, were all rows kept; some is garbage not yet collected
