"""What the tests of the service share: the app behind a real server, a key for each role, a clock, valid requests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from httpx import Client, Response
from uvicorn import Config, Server

from model.limits.policy import load_policy
from model.limits.table import DecisionBundle, Default, FusionTable
from server.decisions import api_keys, chain, partners
from server.decisions.api import create_app
from server.decisions.batch_runs import Runner
from server.decisions.database import begin
from server.decisions.service import Service
from server.decisions.store import Store

NOW = datetime.fromisoformat("2026-11-25T02:00:00+00:00")
ROLES = ("service", "officer", "reviewer", "reviewer2", "auditor", "admin", "admin2", "shop")


@dataclass
class Api:
    """A running service, its app, and a key for each role; `now` is its clock."""

    service: Service
    client: Client
    tokens: dict[str, str]
    clock: list[datetime]

    def call(self, role: str, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """One request; `role` is one of the keys, or a token."""
        head = {"Authorization": f"Bearer {self.tokens.get(role, role)}", **headers}
        if body is None:
            return self.client.request(method, path, headers=head)
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.client.request(method, path, headers=head, content=content)

    def ask(self, body: dict[str, Any], role: str = "service") -> Response:
        """Posts a decision request under its own key."""
        return self.call(role, "POST", "/v1/decisions", body, **{"Idempotency-Key": str(body.get("request_id"))})

    def decided(self, body: dict[str, Any]) -> dict[str, Any]:
        """The envelope of a request that is to be answered."""
        response = self.ask(body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def records(self) -> int:
        """How many records the chain has."""
        with self.service.read() as unit:
            return chain.head(unit.connection).seq

    def later(self, **by: float) -> None:
        """Moves the clock."""
        self.clock[0] += timedelta(**by)


def demo_bundle() -> DecisionBundle:
    """A model of three domains and the lender's own, with round numbers."""
    names = ("ecommerce", "payments", "tax_business")
    weights = dict(zip(names, (700_000, 900_000, 600_000), strict=True)) | {"lender_kyc": 1_000_000}
    absent, late = dict.fromkeys(names, 150_000), dict.fromkeys(names, 30_000)
    table = FusionTable(names, "lender_kyc", {}, Default(-3_300_000, weights, absent, late))
    return DecisionBundle("demo-1", "d" * 64, table, "subscores", dict.fromkeys(table.blocks, 0))


@pytest.fixture
def shop_key() -> bytes:
    """The private key of the partner `shop`, which is of e-commerce."""
    return b"\x07" * 32


@pytest.fixture
def api(new_store: Store, shop_key: bytes) -> Iterator[Api]:
    """The service on SQLite and on PostgreSQL, with its clock at `NOW` and one registered partner."""
    store = new_store
    tokens = {}
    public = Ed25519PrivateKey.from_private_bytes(shop_key).public_key().public_bytes_raw().hex()
    with begin(store.engine) as connection:
        data = {"name": "shop", "domain": "ecommerce", "public_key": public}
        partners.add(connection, store.vault, data, "test")
        for name in ROLES:
            role = "partner" if name == "shop" else name.rstrip("2")
            data = {"name": name, "role": role} | ({"partner": "shop"} if name == "shop" else {})
            tokens[name] = api_keys.create(connection, store.vault, data, "test")
    clock = [NOW]
    service = Service(store, demo_bundle(), load_policy(), lambda: clock[0])
    app = create_app(service)
    app.state.runner = Runner(service)
    with _served(app) as client:
        yield Api(service, client, tokens, clock)
    app.state.runner.close()
    service.close()


@contextmanager
def _served(app: Any) -> Iterator[Client]:
    """The app behind a real server on a free port of 127.0.0.1, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=120) as client:
        yield client
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def asked() -> Callable[..., dict[str, Any]]:
    """A valid request about person number n; keyword arguments replace its fields."""

    def make(number: int = 1, **changes: Any) -> dict[str, Any]:
        fresh = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z", "tenure_months": 24}
        kyc = {
            "passed": True, "age_years": 30, "segment": "salaried", "income_fen_month": 800_000,
            "income_source": "verified", "existing_debt_service_fen_month": 0, "other_consumer_credit_fen": 0,
            "logit_e6": 0,
        }  # fmt: skip
        return {
            "request_id": str(uuid4()),
            "subject_ref": sha256(b"%d" % number).hexdigest(),
            "purpose": "new",
            "as_of": "2026-11-25T02:00:00Z",
            "product": "consumer",
            "requested_fen": 1_000_000,
            "term_months": 12,
            "kyc": kyc | changes.pop("kyc", {}),
            "blocks": {"payments": fresh, "tax_business": fresh},
            **changes,
        }

    return make


@pytest.fixture
def bundle() -> DecisionBundle:
    """The model that the service under test decides with."""
    return demo_bundle()
