"""The service as a process: it starts or says in one line why not, logs no person, and survives being killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.limits.fields import plain
from server.decisions import chain
from server.decisions.database import snapshot
from server.decisions.store import Store

BIN = Path(sys.executable).with_name("fedscore")


@pytest.fixture
def folder(tmp_path: Path, model_folder: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this test runs, with a model, a policy that holds today, and a key for the service."""
    monkeypatch.chdir(tmp_path)
    key = run_cli("keys", "add", "service", "--role", "service").out
    (tmp_path / "service").write_text(re.findall(r"fs_[\w-]+", key)[0])
    assert model_folder.is_dir()
    return tmp_path


class Process:
    """`fedscore serve` on a free port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN, "serve", "model", "--policy", "policy.toml", "--port", "0", *arguments],
                cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.url = re.findall(r"http://[\d.:]+", line)[0]
        self.head = {"Authorization": f"Bearer {(folder / 'service').read_text()}"}

    def ask(self, client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
        head = {**self.head, "Idempotency-Key": body["request_id"]}
        return client.post(f"{self.url}/v1/decisions", json=body, headers=head)

    def end(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=120)
        if self.process.stdout:
            self.process.stdout.close()
        return code


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[..., Process]]:
    """Starts the service in the folder; whatever still runs at the end is stopped."""
    begun: list[Process] = []

    def start(*arguments: str) -> Process:
        begun.append(Process(folder, *arguments))
        return begun[-1]

    yield start
    for process in begun:
        if process.process.poll() is None:
            process.end()


def undated(body: dict[str, Any]) -> dict[str, Any]:
    """A request as of now, with data that never was late."""
    blocks = {"payments": {"covered": False, "consent": False}}
    return {key: value for key, value in (body | {"blocks": blocks}).items() if key != "as_of"}


def test_it_serves_stops_cleanly_and_goes_on(serving: Any, asked: Any) -> None:
    first = serving()
    body = undated(asked())
    with httpx.Client(timeout=120) as client:
        before = first.ask(client, body)
        assert before.status_code == 200, before.text
        assert client.get(f"{first.url}/readyz").status_code == 200
        assert first.end() == 0
        again = serving().ask(client, body)
    assert (again.content, again.headers["idempotent-replayed"]) == (before.content, "true")


def test_logs_are_json_lines_that_name_no_person(serving: Any, asked: Any, folder: Path) -> None:
    process = serving()
    body = undated(asked())
    with httpx.Client(timeout=120) as client:
        got = process.ask(client, body).json()
        client.get(f"{process.url}/v1/subjects/{body['subject_ref']}", headers=process.head)
        client.post(f"{process.url}/v1/accounts/{body['subject_ref']}/review", headers=process.head)
        process.ask(client, body | {"kyc": {"name": "Li Wei"}})
    process.end()
    text = (folder / "serve.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    answered = [line for line in lines if line["event"] == "answered"]
    assert [line["status"] for line in answered] == [200, 403, 200, 422]
    assert answered[1]["route"] == "/v1/subjects/{subject_ref}"
    for secret in (body["subject_ref"], body["request_id"], got["decision_id"], "Li Wei", "fs_"):
        assert secret not in text


def test_what_is_wrong_at_the_start_is_one_line(folder: Path, run_cli: Any) -> None:
    expired = (folder / "policy.toml").read_text().replace("expires_at = 2099", "expires_at = 2026-11-24T00:00:00Z #")
    (folder / "old.toml").write_text(expired)
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    cases = {
        "expired at 2026-11-24": ["model", "--policy", "old.toml"],
        "bundle.json: does not exist": ["nowhere", "--policy", "policy.toml"],
        "none.toml: does not exist": ["model", "--policy", "none.toml"],
        "cannot be listened on": ["model", "--policy", "policy.toml", "--port", port],
        "must be SQLite or PostgreSQL": ["model", "--database", "mysql://x/y"],
        "is no vault": ["model", "--policy", "policy.toml", "--vault", "model/bundle.json"],
    }
    os.chmod(folder / "model" / "bundle.json", 0o600)
    for what, arguments in cases.items():
        done = run_cli("serve", *arguments)
        assert (done.code, done.out) == (2, ""), what
        assert what in done.err
        assert len(done.lines) == 1
    command = [BIN, "serve", *cases["cannot be listened on"]]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert (process.returncode, process.stdout, len(process.stderr.splitlines())) == (2, "", 1)
    taken.close()


def survive(serving: Any, asked: Any, folder: Path, kills: int) -> None:
    """Kills the service under load, again and again: nothing answered is lost, nothing is doubled, the chain holds."""
    chance = random.Random(7)
    answered: dict[str, bytes] = {}
    sent: dict[str, dict[str, Any]] = {}
    for _ in range(kills):
        process = serving()
        stop = threading.Event()

        def load(process: Process = process, stop: threading.Event = stop) -> None:
            with httpx.Client(timeout=120) as client:
                while not stop.is_set():
                    body = undated(asked(chance.randrange(10**9)))
                    sent[body["request_id"]] = body
                    try:
                        response = process.ask(client, body)
                    except httpx.HTTPError:
                        return
                    assert response.status_code == 200, response.text
                    answered[body["request_id"]] = response.content

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        enough, deadline = len(answered) + 8, time.monotonic() + 120
        while len(answered) < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.4))
        process.end(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
    process = serving()
    with httpx.Client(timeout=120) as client:
        for key, body in sent.items():
            again = process.ask(client, body)
            assert again.status_code == 200
            if key in answered:
                assert (again.content, again.headers["idempotent-replayed"]) == (answered[key], "true")
    process.end()
    assert len(answered) > 5 * kills
    _check(folder, len(sent))


def _check(folder: Path, requests: int) -> None:
    store = Store.open(f"sqlite:///{folder / 'limits.db'}")
    with snapshot(store.engine) as connection:
        chain.verify(connection, store.vault)
        asked = [
            r.body["request"]["request_id"] for r in chain.records(connection, store.vault) if r.kind == "decision"
        ]
    store.close()
    assert len(asked) == len(set(asked)) == requests


def test_killed_three_times_under_load_it_loses_and_doubles_nothing(serving: Any, asked: Any, folder: Path) -> None:
    survive(serving, asked, folder, 3)


@pytest.mark.slow
def test_killed_fifty_times_under_load_it_loses_and_doubles_nothing(serving: Any, asked: Any, folder: Path) -> None:
    survive(serving, asked, folder, 50)


@pytest.fixture
def model_folder(tmp_path: Path, bundle: Any) -> Path:
    """A published model's folder, as far as decisions need one, and a policy that holds for long."""
    from model.limits import policy as shipped

    text = Path(shipped.__file__).with_name("policy.toml").read_text(encoding="utf-8")
    text = text.replace("effective_from = 2026-11-01", "effective_from = 2025-11-01").replace(
        "expires_at = 2027", "expires_at = 2099"
    )
    (tmp_path / "policy.toml").write_text(text)
    head = {
        "schema": "fedscore-bundle/1",
        "name": bundle.bundle_id,
        "blocks": {},
        "fusion": plain(bundle.table),
        "centres": {name: value / 1e6 for name, value in bundle.reference_e6.items()},
        "statement": {},
        "arrays_sha256": "",
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "bundle.json").write_text(json.dumps(head))
    return tmp_path / "model"
