"""What the desk's tests share: the real service over HTTP, people of every outcome, and a headless Chromium."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
import uvicorn

from model.limits.policy import load_policy
from model.limits.table import DecisionBundle, Default, FusionTable
from server.decisions import api_keys, links
from server.decisions.api import create_app
from server.decisions.database import begin
from server.decisions.service import Service
from server.decisions.store import Store
from tests.browser import overflow, serious

NOW = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
SHOTS = Path(os.environ.get("FEDSCORE_SCREENSHOTS", "build/screenshots"))
RULE = Default(
    -3_300_000,
    {"ecommerce": 700_000, "payments": 900_000, "tax_business": 600_000, "lender_kyc": 1_000_000},
    {"ecommerce": 150_000, "payments": 250_000, "tax_business": 50_000},
    {"ecommerce": 30_000, "payments": 60_000, "tax_business": 10_000},
)
TABLE = FusionTable(("ecommerce", "payments", "tax_business"), "lender_kyc", {}, RULE)
BUNDLE = DecisionBundle("desk-1", "0" * 64, TABLE, "subscores", dict.fromkeys(TABLE.blocks, 0))
AN_HOUR_AGO = (NOW - timedelta(hours=1)).isoformat()
FRESH = {"covered": True, "consent": True, "logit_e6": 0, "as_of": AN_HOUR_AGO, "tenure_months": 24}
ALL = dict.fromkeys(TABLE.optional, FRESH)
WEAK = FRESH | {
    "logit_e6": 1_100_000,
    "reasons": [{"code": "Y01", "delta_e6": 700_000}, {"code": "repayment", "delta_e6": 500_000}],
    "next_steps": [{"code": "bills_on_time", "delta_e6": -900_000, "days": 90}],
}
READ = """() => {
  const copy = document.body.cloneNode(true);
  copy.querySelectorAll('code, script, [lang]').forEach((element) => element.remove());
  const named = [...copy.querySelectorAll('[aria-label], [aria-valuetext], [data-head]')];
  const labels = named.flatMap((e) => [e.ariaLabel, e.ariaValueText, e.dataset.head].filter(Boolean));
  return [document.title, copy.textContent, ...labels].join(' ');
}"""
LATE = {**FRESH, "as_of": None, "logit_e6": None}
# What each person's request has beside the ordinary one's.
PEOPLE: dict[str, dict[str, Any]] = {
    "approved": {"requested_fen": 1_000_000},
    "limited": {"kyc": {"income_source": "declared", "existing_debt_service_fen_month": 100_000}},
    "trial": {"requested_fen": 1_000_000, "blocks": {}},
    "seasoned": {"blocks": {"payments": FRESH | {"logit_e6": -900_000}}},
    "thin": {"blocks": {"ecommerce": {"covered": True, "consent": False}}, "kyc": {"logit_e6": 800_000}},
    "score": {"blocks": ALL | {"payments": WEAK, "ecommerce": FRESH | {"logit_e6": 400_000}}},
    "late": {"blocks": ALL | {"tax_business": LATE}, "kyc": {"logit_e6": 300_000}},
    "person": {"flags": {"human_review_requested": True}},
    "rule": {"kyc": {"passed": False}},
}


@dataclass
class Site:
    """The running service: its address, a key for each role, and calls to it as a lender makes them."""

    url: str
    service: Service
    keys: dict[str, str]
    made: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, role: str = "officer", **headers: str) -> Any:
        """One call with the key of a role (or with a token), and its JSON."""
        token = self.keys.get(role, role)
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, sent, method=method), timeout=60) as answer:
            return json.load(answer)

    def person(self, name: str, as_new: str = "") -> Any:
        """The decision envelope of a person of `PEOPLE`, asked for once; `as_new` makes another such person."""
        key = name + as_new
        if key not in self.made:
            one = str(UUID(sha256(key.encode()).hexdigest()[:32]))
            kyc = {"passed": True, "age_years": 30, "segment": "salaried", "income_fen_month": 800_000}
            kyc |= {"income_source": "verified", "existing_debt_service_fen_month": 0, "logit_e6": 0}
            request = {"request_id": one, "subject_ref": sha256(key.encode()).hexdigest(), "purpose": "new"}
            request |= {"product": "consumer", "requested_fen": None, "term_months": 12, "blocks": ALL}
            request |= {key: value for key, value in PEOPLE[name].items() if key != "kyc"}
            request["kyc"] = kyc | {"other_consumer_credit_fen": 0} | PEOPLE[name].get("kyc", {})
            self.made[key] = self.call("POST", "/v1/decisions", request, "service", **{"Idempotency-Key": one})
            self.made[key] |= {"request_id": one, "subject_ref": request["subject_ref"]}
        return self.made[key]

    def link(self, name: str, as_new: str = "") -> str:
        """A new applicant's token for that person's decision."""
        decision_id = self.person(name, as_new)["decision_id"]
        return str(self.call("POST", f"/v1/decisions/{decision_id}/link", {}, "service")["token"])

    def expired_link(self, name: str) -> str:
        """A token that was good until a minute ago."""
        person = self.person(name)
        before = self.service.clock() - timedelta(minutes=31)
        return links.issue(self.service.store.vault, person["decision_id"], person["subject_ref"], before)[0]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service on a free port of this machine, with a made-up model whose outcomes are known."""
    folder = tmp_path_factory.mktemp("desk")
    store = Store.open(f"sqlite:///{folder / 'limits.db'}", folder / "limits.vault", create=True)
    service = Service(store, BUNDLE, load_policy(), lambda: NOW)
    keys = {}
    with begin(store.engine) as connection:
        for role in ("service", "officer", "reviewer", "auditor"):
            data = {"name": f"{role}-1", "role": role, "partner": None}
            keys[role] = api_keys.create(connection, store.vault, data, "test")
    listener = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(create_app(service), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", service, keys)
    server.should_exit = True
    thread.join(20)
    listener.close()
    service.close()


@dataclass
class Tab:
    """A browser tab, and what it saw: console errors, requests to elsewhere, and the service's answers."""

    page: Any
    site: Site
    wrong: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def watch(self) -> None:
        page = self.page
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective))"
        )
        page.on("console", lambda said: said.type in ("error", "warning") and self._said(said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith(self.site.url) or self.wrong.append(sent.url))
        page.on("response", self._answered)

    def _answered(self, answer: Any) -> None:
        if "/v1/" in answer.url:
            self.answers.append(answer)
        elif answer.status not in (200, 304):
            self.wrong.append(f"{answer.status} {answer.url}")

    def _said(self, words: str) -> None:
        if "Failed to load resource" not in words:  # the browser's own note of a refusal that the page tells in words
            self.wrong.append(words)

    def applicant(self, token: str, lang: str = "en") -> Any:
        """Opens an applicant's link."""
        self.page.clock.set_fixed_time(NOW)
        self.page.goto(f"{self.site.url}/desk/#t={token}&lang={lang}", wait_until="commit")
        self.page.wait_for_selector("h1")
        return self.page

    def officer(self, reference: str = "", lang: str = "en", role: str = "officer") -> Any:
        """Logs in and searches."""
        self.page.goto(f"{self.site.url}/desk/#lang={lang}", wait_until="commit")
        self.page.fill("input[name=key]", self.site.keys[role])
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#reference")
        if reference:
            self.page.fill("#reference", reference)
            self.page.keyboard.press("Enter")
            self.page.wait_for_selector("#decision")
        return self.page

    def serious(self) -> list[Any]:
        """What axe finds that keeps people out."""
        return serious(self.page)

    def words(self) -> str:
        """All that is read on the page, but for codes and for words that say which language they are in."""
        return str(self.page.evaluate(READ))

    def foreign(self, lang: str) -> list[str]:
        """Words of the other language; the names of policy and model are codes."""
        read = re.sub(r"fedscore|cn-consumer|desk-1|UTC", "", self.words())
        return re.findall("[A-Za-z]{2,}", read) if lang == "zh" else re.findall("[一-鿿]+", read)

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return overflow(self.page)

    def shoot(self, name: str) -> None:
        """A screenshot of the whole page for people to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.jpeg", full_page=True, type="jpeg", quality=85)


@pytest.fixture
def open_tab(chromium: Any, site: Site) -> Iterator[Callable[..., Tab]]:
    """Opens tabs of given width, and checks at the end that none had an error or asked for anything elsewhere."""
    tabs, contexts = [], []

    def opened(width: int = 1200, height: int = 900, **options: Any) -> Tab:
        usual = {"viewport": {"width": width, "height": height}, "timezone_id": "Asia/Shanghai", "locale": "en-US"}
        contexts.append(chromium.new_context(**usual, **options))
        tabs.append(Tab(contexts[-1].new_page(), site))
        tabs[-1].watch()
        tabs[-1].page.set_default_timeout(60_000)
        return tabs[-1]

    yield opened
    for context in contexts:
        context.close()
    assert [wrong for tab in tabs for wrong in tab.wrong] == []
