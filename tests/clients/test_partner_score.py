"""`fedscore partner score`: signed sub-scores as the lender's service takes them, by models that the holder knows."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.nodefile import NodeFile
from clients.partner import joining, scoring
from clients.partner.folder import Folder
from clients.published import version_of
from model.blocks import Block
from model.bundle import Bundle
from model.encoding import Encoding
from model.inputs import InputError
from model.limits.table import Entry, FusionTable
from privacy.signing import verify_key
from server.decisions.receipts import check_receipt
from tests.partners import Hub

Run = Callable[..., Any]
HEAD = "person,subject_ref,as_of,tenure_months\n"
MOMENT = "2026-01-31T12:00:00+08:00"


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Folder:
    made = joining.make(tmp_path / "pay", joining.Wish("pay-1", "", small, ()))
    path = Hub(tmp_path).welcome(made)
    joining.accept(made, joining.read(made, path).welcome, path.read_text())
    return made


@pytest.fixture
def model(folder: Folder, tmp_path: Path) -> Path:
    contract = folder.node.read_federation().holder("pay-1").contract
    assert contract is not None
    encoding = Encoding.of(contract)
    bins = 1 + sum(len(part.labels) for part in encoding.parts)
    block = Block("scorecard", encoding, np.linspace(-1, 1, bins))
    Bundle("b", {"payments": block}, FusionTable((), None, {"|": Entry(0, {})}), {}, {}).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def version(model: Path) -> str:
    return version_of(Bundle.load(model).blocks["payments"])


@pytest.fixture
def asked(small: Path, tmp_path: Path) -> Path:
    """Three persons of the holder's file, and one that it does not know."""
    known = pl.read_parquet(small.parent / "payments.parquet")["id"].cast(pl.String).to_list()[:3]
    rows = [f"{person},{index:064x},{MOMENT},{index}\n" for index, person in enumerate([*known, "nobody"])]
    (tmp_path / "asked.csv").write_text(HEAD + "".join(rows))
    return tmp_path / "asked.csv"


@pytest.fixture
def service() -> Iterator[Any]:
    """Stands for the lender's service: keeps what arrives, and answers as it is told."""

    class Taker(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append((self.path, self.headers["Authorization"], body))  # type: ignore[attr-defined]
            status, headers, problem = self.server.says.pop(0)  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(problem)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(problem)

        def do_GET(self) -> None:
            self.server.seen.append((self.path, "GET", b""))  # type: ignore[attr-defined]
            self.send_error(404)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests are quiet."""

    server: Any = http.server.HTTPServer(("127.0.0.1", 0), Taker)
    server.seen, server.says = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_that_this_holder_never_met_is_refused_until_its_people_allow_it(
    folder: Folder, model: Path, version: str, asked: Path, run_cli: Run, tmp_path: Path
) -> None:
    arguments = ("partner", "score", folder.root, asked, "--model", model, "--out", tmp_path / "m.jsonl")
    ended = run_cli(*arguments)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "is no version that this holder knows" in ended.err
    assert not (tmp_path / "m.jsonl").exists()
    assert run_cli("partner", "allow", folder.root, version, "--model", "--yes").code == 0
    assert run_cli(*arguments).code == 0


def test_each_message_passes_the_services_own_check_under_the_holders_key(
    folder: Folder, model: Path, version: str, asked: Path, run_cli: Run, tmp_path: Path
) -> None:
    run_cli("partner", "allow", folder.root, version, "--model", "--yes")
    ended = run_cli("partner", "score", folder.root, asked, "--model", model, "--out", tmp_path / "m.jsonl")
    assert "3 of 4 persons are known here" in ended.out
    assert (tmp_path / "m.jsonl").stat().st_mode & 0o777 == 0o600
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    key = verify_key((folder.node.durable / "sign.key").read_bytes()).hex()
    receipts = [check_receipt(json.loads(line), key, datetime.now(UTC)) for line in lines]
    assert [int(receipt.subject_ref, 16) for receipt in receipts] == [0, 1, 2]
    assert {(r.partner, r.domain, r.as_of.isoformat()) for r in receipts} == {("pay-1", "payments", MOMENT)}
    assert key in run_cli("partner", "status", folder.root).out
    again = run_cli("partner", "score", folder.root, asked, "--model", model, "--out", tmp_path / "again.jsonl")
    assert again.code == 0
    assert (tmp_path / "again.jsonl").read_text().splitlines() == lines  # one answer for ever
    ids = [row.split(",")[0] for row in asked.read_text().splitlines()[1:]]
    assert not [i for i in ids if i in "".join(lines) + ended.out + ended.err]


def test_messages_go_to_the_service_with_its_key_and_its_word_is_told(
    folder: Folder, model: Path, version: str, asked: Path, service: Any, run_cli: Run, tmp_path: Path
) -> None:
    run_cli("partner", "allow", folder.root, version, "--model", "--yes")
    (tmp_path / "key.txt").write_text("fsk_x\n")
    root = f"http://127.0.0.1:{service.server_address[1]}"
    elsewhere = {"Location": f"{root}/elsewhere"}
    service.says += [(202, {}, b"{}"), (409, {}, b'{"code": "stale", "detail": "of 1970"}'), (302, elsewhere, b"")]
    options = ("--url", root, "--key-file", tmp_path / "key.txt")
    ended = run_cli("partner", "score", folder.root, asked, "--model", model, *options)
    assert ended.code == 1
    for text in ("taken: 1", "refused: 409 stale: 1", "refused: 302: 1"):
        assert text in ended.out
    assert "1970" not in ended.out
    assert {(path, key) for path, key, _ in service.seen} == {("/v1/subscores", "Bearer fsk_x")}
    service.says.append((401, {}, b"{}"))
    ended = run_cli("partner", "score", folder.root, asked, "--model", model, *options)
    assert (ended.code, "--key-file holds no key that the service knows" in ended.err) == (2, True)
    assert "fsk_x" not in ended.out + ended.err


@pytest.mark.parametrize("url", ["http://limits.bank.example", "ftp://127.0.0.1", "limits.bank.example", ""])
def test_a_key_is_never_sent_in_the_clear(url: str) -> None:
    with pytest.raises(InputError, match="must"):
        scoring.Service(url, "key")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_no_proxy_gets_a_key_in_the_clear(service: Any, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{service.server_address[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="--url cannot be reached"):
        scoring.Service(f"http://{host}:1", "SECRET").send([b"{}"])
    assert service.seen == []


def test_a_service_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--url cannot be reached .*; start it, or mend --url"):
        scoring.Service("http://127.0.0.1:1", "key").send([b"{}"])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("person,subject_ref,as_of\n", "tenure_months is not a column of this file"),
        (HEAD.replace("person", "person,more"), "more is not a known column"),
        (
            f"{HEAD}SECRET,12,{MOMENT},1\n",
            "subject_ref must be 64 hexadecimal digits, as the lender tells them, got 'row 1'",
        ),
        (f"{HEAD}SECRET,{'a' * 64},2026-01-31,1\n", "as_of must be a moment with an offset"),
        (f"{HEAD}SECRET,{'a' * 64},{MOMENT},-1\n", "tenure_months must be a whole number up to 1200"),
        (f"{HEAD}SECRET,{'a' * 64},{MOMENT}\n", "has a row with too few or too many values"),
        (f"{HEAD},{'a' * 64},{MOMENT},1\n", "has a row with too few or too many values"),
    ],
)
def test_a_wrong_list_is_one_line_that_names_rows_and_no_person(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "asked.csv").write_text(text)
    with pytest.raises(InputError) as told:
        scoring.asked_of(tmp_path / "asked.csv")
    assert rule in str(told.value)
    assert "SECRET" not in str(told.value)


def test_a_model_without_a_block_of_this_holder_is_refused(folder: Folder, model: Path, tmp_path: Path) -> None:
    from clients.config import Node

    bundle = Bundle.load(model)
    Bundle("b", {}, bundle.table, {}, {}).save(tmp_path / "other")
    node = Node.own(NodeFile.load(folder.node.path))
    with pytest.raises(InputError, match="blocks has none of the domain payments"):
        list(scoring.messages(node, tmp_path / "other", []))
