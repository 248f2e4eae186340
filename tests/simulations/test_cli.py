"""The commands as a user types them: help with examples, drafts, decisions, and what is printed where."""

import json
import re
import shlex
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from model.contract import load_contract
from model.inputs import InputError

AS_OF = "2026-11-23T10:00:00+08:00"
REQUEST: dict[str, Any] = {
    "schema": "limit-request/1",
    "request_id": "3f0c8a52-6a1e-4f0e-9f57-0d6a1c5b7e21",
    "subject_ref": "ab" * 32,
    "purpose": "new",
    "as_of": AS_OF,
    "product": "consumer",
    "requested_fen": 1_000_000,
    "term_months": 12,
    "kyc": {
        "passed": True,
        "age_years": 30,
        "segment": "salaried",
        "income_fen_month": 600_000,
        "income_source": "verified",
        "existing_debt_service_fen_month": 0,
        "other_consumer_credit_fen": 0,
        "logit_e6": -3_000_000,
    },
    "blocks": {
        name: {"covered": True, "consent": True, "logit_e6": -3_000_000, "as_of": AS_OF, "tenure_months": 30}
        for name in ("payments", "ecommerce", "tax_business")
    },
}


def _commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    from simulations.cli import app

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, (*path, name))
        else:
            yield path, command

    yield from walk(typer.main.get_command(app), ())


NAMES = [path for path, _ in _commands()]


def test_the_commands_of_the_three_doors_are_there() -> None:
    assert {("demo",), ("simulate",), ("decide",), ("doctor",), ("contract", "draft")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(run_cli: Any, name: tuple[str, ...]) -> None:
    command = dict(_commands())[name]
    ended = run_cli(*name, "--help")
    assert ended.code == 0
    example = re.search(r"Example: (fedscore .*)", command.help)
    assert example is not None
    words = shlex.split(example[1])[1:]
    assert tuple(words[: len(name)]) == name
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options
    assert all(parameter.help for parameter in command.params if parameter.param_type_name == "option")


def test_without_a_command_the_help_is_shown(run_cli: Any) -> None:
    ended = run_cli()
    assert "simulate" in ended.out + ended.err


def test_a_draft_comes_from_names_and_types_and_never_shows_a_value(run_cli: Any, small: Path) -> None:
    ended = run_cli("contract", "draft", small.parent / "payments.parquet", "--domain", "payments")
    assert (ended.code, ended.err) == (0, "")
    table = pl.read_parquet(small.parent / "payments.parquet")
    assert re.findall(r'^name = "(.*)"', ended.out, re.M) == table.columns[1:]
    assert table["id"][0] not in ended.out


def test_a_csv_draft_has_the_same_columns_as_the_parquet_one(run_cli: Any, small: Path) -> None:
    files = [small.parent / name for name in ("ecommerce-1.parquet", "ecommerce-2.csv")]
    texts = [run_cli("contract", "draft", file, "--domain", "ecommerce").out for file in files]
    assert len({tuple(re.findall(r'^name = "(.*)"', text, re.M)) for text in texts}) == 1


def test_an_unfilled_draft_is_refused_by_its_first_gap(run_cli: Any, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "payments.contract.toml"
    ended = run_cli("contract", "draft", small.parent / "payments.parquet", "--out", out)
    assert ended.code == 0
    assert "marked FILL IN" in ended.out
    with pytest.raises(InputError, match=r"feature.tenure_months.range must be \[low, high\]"):
        load_contract(out, "payments")


def test_a_filled_draft_runs(run_cli: Any, files: Any, tmp_path: Path) -> None:
    contract = files.folder / "payments.contract.toml"
    contract.unlink()
    assert run_cli("contract", "draft", files.folder / "payments.parquet", "--out", contract).code == 0
    contract.write_text(contract.read_text().replace("range = []", "range = [0, 100_000]"))
    assert run_cli("simulate", files.federation, "--epsilon", "inf", "--out", tmp_path / "out", "--quiet").code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["auc_by_block"]["payments"] > 0.6


def test_a_draft_never_overwrites(run_cli: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("mine")
    ended = run_cli("contract", "draft", small.parent / "payments.parquet", "--out", tmp_path / "c.toml")
    assert ended.code == 2
    assert "exists already" in ended.err
    assert (tmp_path / "c.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("junk.csv", bytes(99), "is neither Parquet nor CSV"),
        ("other.csv", b"person,x\n1,2\n", "name the id by --id: person, x"),
        ("only.csv", b"id\n1\n", "has no column beside the id"),
    ],
)
def test_a_draft_of_an_unusable_file_is_one_line(
    run_cli: Any, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = run_cli("contract", "draft", tmp_path / name)
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, "")
    assert ended.err.startswith(f"fedscore: {tmp_path / name}: ")
    assert told in ended.err


@pytest.mark.parametrize("name", ['a"b', "a\\b", "单位 (%)", "a.b", "tab\tname", "line\nname"])
def test_a_draft_is_valid_toml_whatever_the_column_is_called(run_cli: Any, tmp_path: Path, name: str) -> None:
    import tomllib

    pl.DataFrame({"id": [1], name: [0.5]}).write_parquet(tmp_path / "t.parquet")
    ended = run_cli("contract", "draft", tmp_path / "t.parquet")
    assert tomllib.loads(ended.out)["feature"][0]["name"] == name


def _write(path: Path, *requests: Any) -> Path:
    path.write_text("\n".join(json.dumps(request) for request in requests))
    return path


def test_a_request_is_decided_on_a_published_model(run_cli: Any, exact_run: Any, tmp_path: Path) -> None:
    ended = run_cli("decide", exact_run.out / "model", "--requests", _write(tmp_path / "r.json", REQUEST))
    assert (ended.code, ended.err) == (0, "")
    decision = json.loads(ended.out)
    assert decision["request_id"] == REQUEST["request_id"]
    assert decision["decision"] in ("APPROVE", "TRIAL", "DECLINE", "DEFER", "REFER")
    assert decision["versions"]["bundle_sha256"] == exact_run.report["bundle_sha256"]


def test_json_lines_are_decided_one_by_one_and_always_alike(run_cli: Any, exact_run: Any, tmp_path: Path) -> None:
    risky = deepcopy(REQUEST) | {"request_id": REQUEST["request_id"][:-1] + "2"}
    risky["kyc"]["logit_e6"] = 3_000_000
    requests = _write(tmp_path / "r.jsonl", REQUEST, risky)
    out = tmp_path / "decisions.jsonl"
    assert run_cli("decide", exact_run.out / "model", "--requests", requests, "--out", out).out == ""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["request_id"] for row in rows] == [REQUEST["request_id"], risky["request_id"]]
    assert rows[0]["score"] > rows[1]["score"]
    assert run_cli("decide", exact_run.out / "model", "--requests", requests).out == out.read_text()
    assert run_cli("decide", exact_run.out / "model", "--requests", requests, "--out", out).code == 2


def _without(key: str) -> dict[str, Any]:
    return {k: v for k, v in REQUEST.items() if k != key}


BAD = [
    pytest.param("r.json", "", "is empty", id="empty"),
    pytest.param("r.json", "{", "is not valid JSON", id="no-json"),
    pytest.param("r.json", "[]", "r.json", id="list"),
    pytest.param("r.json", json.dumps(_without("as_of")), "as_of is missing", id="missing"),
    pytest.param("r.json", json.dumps(REQUEST | {"purpse": 1}), "purpse", id="unknown"),
    pytest.param("r.json", json.dumps(REQUEST | {"term_months": 0}), "term_months must be", id="term"),
    pytest.param("r.json", json.dumps(REQUEST | {"as_of": "2026-11-23"}), "as_of", id="no-offset"),
    pytest.param("r.json", json.dumps(REQUEST | {"as_of": "2019-01-01T00:00:00Z"}), "policy", id="not-in-force"),
    pytest.param("r.json", json.dumps(REQUEST | {"blocks": {"moon": None}}), "moon", id="unknown-block"),
    pytest.param("r.jsonl", json.dumps(REQUEST) + "\n{", "line 2", id="second-line"),
]


@pytest.mark.parametrize(("name", "content", "told"), BAD)
def test_a_bad_request_is_one_line_and_decides_nothing(
    run_cli: Any, exact_run: Any, tmp_path: Path, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content)
    out = tmp_path / "out.jsonl"
    ended = run_cli("decide", exact_run.out / "model", "--requests", tmp_path / name, "--out", out)
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, ""), ended.err
    assert ended.err.startswith("fedscore: ")
    assert told in ended.err
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("option", ["--state", "--policy", "--requests"])
@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"], ids=["missing", "broken", "no-utf8"])
def test_every_file_of_a_decision_is_checked(
    run_cli: Any, exact_run: Any, tmp_path: Path, option: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    good = _write(tmp_path / "r.json", REQUEST)
    rest = ["--requests", good] if option != "--requests" else []
    ended = run_cli("decide", exact_run.out / "model", *rest, option, tmp_path / "bad")
    assert (ended.code, len(ended.lines)) == (2, 1), ended.err
    assert str(tmp_path / "bad") in ended.err


@pytest.mark.parametrize("content", [None, "{}", '{"schema": "fedscore-bundle/1"}', "[]"])
def test_a_folder_that_is_no_model_is_refused(run_cli: Any, tmp_path: Path, content: str | None) -> None:
    (tmp_path / "model").mkdir()
    if content is not None:
        (tmp_path / "model" / "bundle.json").write_text(content)
    ended = run_cli("decide", tmp_path / "model", "--requests", _write(tmp_path / "r.json", REQUEST))
    assert (ended.code, len(ended.lines)) == (2, 1), ended.err
    assert "bundle.json" in ended.err


@pytest.mark.parametrize("command", ["draft", "decide"])
def test_writing_into_a_missing_folder_is_one_line(
    run_cli: Any, exact_run: Any, small: Path, tmp_path: Path, command: str
) -> None:
    requests = _write(tmp_path / "r.json", REQUEST)
    arguments = ["contract", "draft", small.parent / "payments.parquet"]
    if command == "decide":
        arguments = ["decide", exact_run.out / "model", "--requests", requests]
    ended = run_cli(*arguments, "--out", tmp_path / "no" / "out.txt")
    assert (ended.code, len(ended.lines)) == (2, 1)


@pytest.mark.usefixtures("quick")
def test_without_a_terminal_progress_and_notes_are_plain_lines_and_the_summary_stands_alone(
    run_cli: Any, small: Path, tmp_path: Path
) -> None:
    ended = run_cli("simulate", small, "--out", tmp_path / "out")
    assert ended.code == 0
    assert ended.lines[0] == "reading the holders' files"
    assert "training the blocks" in ended.lines
    assert "\x1b" not in ended.err + ended.out
    assert "\r" not in ended.err + ended.out
    assert [line.split("  ")[0] for line in ended.out.splitlines()][:2] == ["persons", "epsilon"]
    assert str(tmp_path / "out") in ended.out.replace("\n", "")
    notes = [line for line in ended.lines if line.startswith("note: ")]
    assert notes == [  # one line, however long
        "note: lender: lender_kyc.parquet: segment: 6% of the values are not in the contract (bin `other`)"
    ]
    assert ended.lines[-1] == notes[-1]


@pytest.mark.usefixtures("quick")
def test_quiet_prints_nothing(run_cli: Any, small: Path, tmp_path: Path) -> None:
    ended = run_cli("simulate", small, "--out", tmp_path / "out", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_the_demo_runs_and_its_model_decides(run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_cli("demo", "--out", tmp_path / "demo", "--quiet").code == 0
    ended = run_cli("decide", tmp_path / "demo" / "model", "--requests", _write(tmp_path / "r.json", REQUEST))
    assert json.loads(ended.out)["request_id"] == REQUEST["request_id"]


def test_the_doctor_looks_at_packages_disk_and_noise(run_cli: Any) -> None:
    ended = run_cli("doctor")
    assert ended.code == 0
    for word in ("Python 3.", "flwr ", "torch ", "GiB free", "noise drawn"):
        assert word in ended.out
    assert all(line.startswith(("ok  ", "-   ")) for line in ended.out.splitlines())


def test_the_doctor_says_what_is_missing(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulations import doctor

    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("polars", "ray") else known(name))
    ended = run_cli("doctor")
    assert ended.code == 1
    assert "FAIL polars is missing" in ended.out
    assert "-    ray is missing: --backend flower and --backend ray will not work" in ended.out
