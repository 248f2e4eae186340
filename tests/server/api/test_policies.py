"""Policies over HTTP: validated by field, approved by two persons, activated, gone back from; and experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import model.limits.policy as shipped
from model.limits.experiment import arm_bp
from model.limits.policy import load_policy
from server.decisions import registry
from server.decisions.database import begin

TOML = Path(shipped.__file__).with_name("policy.toml").read_text(encoding="utf-8")
SMALLER = TOML.replace('version = "2026.11.0"', 'version = "2026.11.1"').replace(
    "el_budget_fen = 60_000", "el_budget_fen = 30_000"
)


def activated(api: Any, text: str) -> str:
    sha = api.call("admin", "POST", "/v1/policies", text).json()["sha256"]
    for name in ("admin", "admin2"):
        assert api.call(name, "POST", f"/v1/policies/{sha}/approve").status_code == 200
    answer = api.call("admin", "POST", f"/v1/policies/{sha}/activate")
    assert answer.status_code == 200, answer.text
    return str(sha)


def test_a_policy_decides_only_after_two_persons_approved_it(api: Any, asked: Any) -> None:
    before = api.decided(asked(1, requested_fen=None))["decision"]
    uploaded = api.call("admin", "POST", "/v1/policies", SMALLER)
    sha = uploaded.json()["sha256"]
    assert (uploaded.status_code, api.call("admin", "POST", "/v1/policies", SMALLER).json()["new"]) == (201, False)
    assert api.call("admin", "POST", f"/v1/policies/{sha}/activate").json()["code"] == "not_approved"
    assert api.call("admin", "POST", f"/v1/policies/{sha}/approve").json()["approved_by"] == ["admin"]
    assert api.call("admin", "POST", f"/v1/policies/{sha}/approve").json()["code"] == "already_approved"
    assert api.call("admin", "POST", f"/v1/policies/{sha}/activate").json()["code"] == "not_approved"
    api.call("admin2", "POST", f"/v1/policies/{sha}/approve")
    assert api.call("admin2", "POST", f"/v1/policies/{sha}/activate").status_code == 200
    after = api.decided(asked(2, requested_fen=None))["decision"]
    assert after["versions"]["policy_sha256"] == sha
    assert after["amount_fen"] < before["amount_fen"]
    states = {row["sha256"]: row["state"] for row in api.call("auditor", "GET", "/v1/policies").json()["policies"]}
    assert states == {sha: "active", load_policy().sha256: "retired"}
    assert api.call("auditor", "GET", f"/v1/policies/{sha}").json()["limit"]["el_budget_fen"] == 30_000


def test_decisions_of_an_earlier_policy_still_replay(api: Any, asked: Any) -> None:
    old = api.decided(asked(1, requested_fen=None))
    activated(api, SMALLER)
    assert api.call("auditor", "POST", f"/v1/decisions/{old['decision_id']}/replay").json()["identical"]


WRONG = [
    ("min_age = 18", "min_age = 17", "legal.min_age"),
    ("bp = 2000", "bp = 1900", "pricing[4].apr_bp"),
    ("valid_days = 30\nincome", "valid_dayz = 30\nincome", "limit.valid_dayz"),
    ("fresh_hours = 48", "fresh_hours = 48.5", "freshness.payments.fresh_hours"),
    ("[legal]", "[legal", None),
]


def test_a_wrong_policy_names_its_field_and_is_not_kept(api: Any) -> None:
    count = api.records()
    for old, new, field in WRONG:
        text = TOML.replace(old, new, 1)
        assert text != TOML
        for path in ("/v1/policies/validate", "/v1/policies"):
            answer = api.call("admin", "POST", path, text)
            assert (answer.status_code, answer.json().get("field")) == (422, field)
    assert api.records() == count
    assert api.call("admin", "POST", "/v1/policies/validate", TOML).json()["valid"] is True


def test_a_policy_that_does_not_hold_is_not_activated(api: Any) -> None:
    later = TOML.replace("effective_from = 2026-11-01", "effective_from = 2026-12-01")
    sha = api.call("admin", "POST", "/v1/policies", later).json()["sha256"]
    for name in ("admin", "admin2"):
        api.call(name, "POST", f"/v1/policies/{sha}/approve")
    assert api.call("admin", "POST", f"/v1/policies/{sha}/activate").json()["code"] == "not_in_force"
    assert api.call("admin", "POST", f"/v1/policies/{'0' * 64}/activate").status_code == 404


@pytest.mark.parametrize("shadow", [True, False])
def test_a_challenger_decides_for_its_share_or_in_the_shadow(api: Any, asked: Any, shadow: bool) -> None:
    rival = api.call("admin", "POST", "/v1/policies", SMALLER).json()["sha256"]
    trial = (
        f'[experiment]\nid = "halves"\nchallenger_sha256 = "{rival}"\nshare_bp = 5000\nshadow = {str(shadow).lower()}\n'
    )
    champion = TOML.replace('version = "2026.11.0"', 'version = "2026.11.2"') + trial
    sha = api.call("admin", "POST", "/v1/policies", champion).json()["sha256"]
    for name in ("admin", "admin2"):
        api.call(name, "POST", f"/v1/policies/{sha}/approve")
    assert api.call("admin", "POST", f"/v1/policies/{sha}/activate").json()["code"] == "challenger_not_approved"
    for name in ("admin", "admin2"):
        api.call(name, "POST", f"/v1/policies/{rival}/approve")
    assert api.call("admin", "POST", f"/v1/policies/{sha}/activate").status_code == 200
    arms = set()
    for number in range(8):
        body = asked(number, requested_fen=None)
        got = api.decided(body)
        challenged = arm_bp("halves", body["subject_ref"]) < 5000
        arm = "challenger" if challenged else "champion"
        assert got["experiment"] == {"id": "halves", "arm": arm, "propensity_bp": 5000, "shadow": shadow}
        decides = rival if challenged and not shadow else sha
        assert got["decision"]["versions"]["policy_sha256"] == decides
        record = api.call("auditor", "GET", f"/v1/decisions/{got['decision_id']}/record").json()["body"]
        assert ("shadow" in record) == (challenged and shadow)
        assert api.call("auditor", "POST", f"/v1/decisions/{got['decision_id']}/replay").json()["identical"]
        arms.add(arm)
    assert arms == {"champion", "challenger"}


def test_a_start_never_replaces_a_policy_that_holds(api: Any) -> None:
    import tomllib

    from model.inputs import InputError
    from model.limits.policy import NotInForce, parse_policy

    other = parse_policy(tomllib.loads(SMALLER), "p")
    vault = api.service.store.vault
    with begin(api.service.store.engine) as connection:
        registry.begin_with(connection, vault, None, api.clock[0])
        registry.begin_with(connection, vault, load_policy(), api.clock[0])
        with pytest.raises(InputError, match="sha256 must be that of the active policy"):
            registry.begin_with(connection, vault, other, api.clock[0])
    api.later(days=400)
    longer = parse_policy(tomllib.loads(SMALLER.replace("expires_at = 2027", "expires_at = 2028")), "p")
    with begin(api.service.store.engine) as connection:
        for policy in (None, load_policy()):
            with pytest.raises(NotInForce, match="expired at"):
                registry.begin_with(connection, vault, policy, api.clock[0])
        registry.begin_with(connection, vault, longer, api.clock[0])
        assert registry.active_policy(connection) == longer.sha256


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_challenger_that_expires_stops_nobody(api: Any, asked: Any, shadow: bool) -> None:
    brief = SMALLER.replace("expires_at = 2027-11-01", "expires_at = 2026-11-26")
    rival = api.call("admin", "POST", "/v1/policies", brief).json()["sha256"]
    trial = (
        f'[experiment]\nid = "all"\nchallenger_sha256 = "{rival}"\nshare_bp = 10000\nshadow = {str(shadow).lower()}\n'
    )
    for name in ("admin", "admin2"):
        api.call(name, "POST", f"/v1/policies/{rival}/approve")
    champion = activated(api, TOML.replace('version = "2026.11.0"', 'version = "2026.11.3"') + trial)
    decides = rival if not shadow else champion
    assert api.decided(asked(1))["decision"]["versions"]["policy_sha256"] == decides
    api.later(days=1)
    got = api.decided({key: value for key, value in asked(2).items() if key != "as_of"})
    assert (got["decision"]["versions"]["policy_sha256"], got["experiment"]["failed"]) == (champion, True)
