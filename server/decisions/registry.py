"""Which policy and which model decide, and which partners may send sub-scores: kept in the audit chain, read at need.

Every policy and model that ever decided stays, under its hash, so that any past decision can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from sqlalchemy import Connection, select, update

from model.inputs import InputError
from model.limits.fields import digest, plain, read
from model.limits.lint import lint
from model.limits.policy import NotInForce, check_in_force
from model.limits.schema import Policy
from model.limits.table import DecisionBundle
from server.decisions import chain
from server.decisions.problems import Refused, refusal
from server.decisions.tables import bundle as bundles
from server.decisions.tables import partner as partners
from server.decisions.tables import policy as policies
from server.decisions.vault import Vault

FRESH_S = 2.0  # another process may have activated a policy or added a partner
DRAFT, APPROVED, ACTIVE, RETIRED = "draft", "approved", "active", "retired"


@dataclass(frozen=True, slots=True)
class Active:
    """What decides now.

    Attributes:
        policy: the champion.
        bundle: the model.
        partners: public keys of registered partners by (domain, name).
        signed: domains that ever had one: their sub-scores come signed for good.
    """

    policy: Policy
    bundle: DecisionBundle
    partners: Mapping[tuple[str, str], str]
    signed: frozenset[str]

    def fed(self, domain: str) -> bool:
        """Whether the domain's sub-scores come signed."""
        return domain in self.signed


class Registry:
    """Policies and models by hash; what was read once is kept, since neither ever changes."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._policies: dict[str, Policy] = {}
        self._bundles: dict[str, DecisionBundle] = {}
        self._active: Active | None = None
        self._read_at = 0.0

    def policy(self, connection: Connection, sha256: str) -> Policy:
        """The policy of a hash; raises `Refused` (404) where it was never uploaded.

        It was linted when it came: what is refused today must not keep a past decision from being made again.
        """
        if sha256 not in self._policies:
            policy = read(Policy, self.document(connection, sha256), "stored policy")
            policy.__dict__["sha256"] = sha256  # worked out anew, fields that it has by default since would count
            self._policies[sha256] = policy
        return self._policies[sha256]

    def document(self, connection: Connection, sha256: str) -> object:
        """The policy of a hash as it was kept; raises `Refused` (404) where it was never uploaded."""
        found = self._document(connection, policies.c, sha256)
        if digest(found) != sha256:
            raise RuntimeError(f"the stored policy {sha256} is another one")
        return found

    def bundle(self, connection: Connection, sha256: str) -> DecisionBundle:
        """The model of a hash; raises `Refused` (404) where it never decided."""
        if sha256 not in self._bundles:
            found = read(DecisionBundle, self._document(connection, bundles.c, sha256), "stored model")
            self._bundles[sha256] = found
        return self._bundles[sha256]

    def active(self, connection: Connection) -> Active:
        """What decides now, at most `FRESH_S` old; raises `Refused` (503) where there is no active policy or model."""
        if self._active is None or monotonic() - self._read_at > FRESH_S:
            self._active, self._read_at = self._read(connection), monotonic()
        return self._active

    def changed(self) -> None:
        """What decides may be another now."""
        self._active = None

    def _read(self, connection: Connection) -> Active:
        rule = active_policy(connection)
        model = connection.execute(select(bundles.c.sha256).order_by(bundles.c.seq.desc()).limit(1)).scalar()
        if rule is None or model is None:
            raise Refused(503, "not_in_force", "No policy is active.")
        rows = connection.execute(select(partners)).all()
        known = {(row.domain, row.name): row.public_key for row in rows if row.revoked_at is None}
        signed = frozenset(row.domain for row in rows)
        return Active(self.policy(connection, rule), self.bundle(connection, model), known, signed)

    def _document(self, connection: Connection, columns: object, sha256: str) -> object:
        """What the record that installed it says: the chain vouches for it."""
        key, seq = columns.sha256, columns.seq  # type: ignore[attr-defined]
        at = connection.execute(select(seq).where(key == sha256)).scalar_one_or_none()
        record = chain.read(connection, self._vault, at) if at is not None else None
        if record is None:
            raise Refused(404, "unknown_version", "No policy or model of that hash is known.")
        return record.body["document"]


def holds(active: Active, now: datetime) -> None:
    """Raises `Refused` (503) where the policy or the model does not hold now."""
    try:
        check_in_force(active.policy, now)
    except NotInForce as error:
        raise refusal(error) from None
    bundle = active.bundle
    if bundle.valid_until is not None and now >= bundle.valid_until:
        told = f"The model {bundle.bundle_id} was valid until {bundle.valid_until.isoformat()}."
        raise Refused(503, "not_in_force", told)


def active_policy(connection: Connection) -> str | None:
    """The hash of the policy that decides."""
    return connection.execute(select(policies.c.sha256).where(policies.c.state == ACTIVE)).scalar_one_or_none()


def upload(connection: Connection, vault: Vault, policy: Policy, by: str) -> bool:
    """Stores a policy as a draft; False where it is there already."""
    known = connection.execute(select(policies.c.sha256).where(policies.c.sha256 == policy.sha256)).scalar()
    if known:
        return False
    body = {"sha256": policy.sha256, "by": by, "document": plain(policy)}
    record = chain.append(connection, vault, "policy_uploaded", None, body)
    row = {
        "sha256": policy.sha256,
        "id": policy.id,
        "version": policy.version,
        "uploaded_by": by,
        "approved_by": "[]",
        "state": DRAFT,
        "at": record.at,
        "seq": record.seq,
    }
    connection.execute(policies.insert(), row)
    return True


def approve(connection: Connection, vault: Vault, sha256: str, by: str) -> list[str]:
    """Adds one person's approval; who uploaded it may be one of the two. Returns who approved."""
    row = _row(connection, sha256)
    names = json.loads(row["approved_by"])
    if by in names:
        raise Refused(409, "already_approved", "You have approved this policy already; another person must.")
    names.append(by)
    chain.append(connection, vault, "policy_approved", None, {"sha256": sha256, "by": by})
    state = APPROVED if row["state"] == DRAFT and len(names) > 1 else row["state"]
    values = {"approved_by": json.dumps(names), "state": state}
    connection.execute(update(policies).where(policies.c.sha256 == sha256).values(values))
    return list(names)


def activate(connection: Connection, vault: Vault, sha256: str, by: str, now: datetime) -> None:
    """Makes a policy that two persons approved the one that decides; going back to an earlier one is the same act.

    Raises:
        Refused: 404 unknown, 409 not approved (the challenger of its experiment too), 503 not in force.
        InputError: it breaks a rule that has come since it was uploaded.
    """
    row, known = _row(connection, sha256), Registry(vault)
    if len(json.loads(row["approved_by"])) < 2:
        raise Refused(409, "not_approved", "Two persons must approve a policy before it is activated.")
    policy = known.policy(connection, sha256)
    if not _holds(policy, now):
        raise Refused(503, "not_in_force", "The policy does not hold now: see effective_from and expires_at.")
    rival = policy.experiment.challenger_sha256 if policy.experiment else sha256
    if len(json.loads(_row(connection, rival)["approved_by"])) < 2 or not _holds(known.policy(connection, rival), now):
        raise Refused(409, "challenger_not_approved", "Its challenger must be approved by two persons and in force.")
    for version in (sha256, rival):
        lint(known.policy(connection, version), "policy")
    _install(connection, vault, sha256, by)


def _install(connection: Connection, vault: Vault, sha256: str, by: str) -> None:
    chain.append(connection, vault, "policy_activated", None, {"sha256": sha256, "by": by})
    connection.execute(update(policies).where(policies.c.state == ACTIVE).values(state=RETIRED))
    connection.execute(update(policies).where(policies.c.sha256 == sha256).values(state=ACTIVE))


def begin_with(connection: Connection, vault: Vault, policy: Policy | None, now: datetime) -> None:
    """At the start of the service: a policy must hold, and a start never replaces one that does.

    Args:
        connection: writes.
        vault: of the chain.
        policy: the first one of a new database, or the successor of one that has expired.
        now: the service's clock.

    Raises:
        NotInForce: neither the active policy nor the given one holds now.
        InputError: another policy is active and holds.
    """
    active = active_policy(connection)
    present = Registry(vault).policy(connection, active) if active is not None else None
    if present is not None and policy in (None, present):
        check_in_force(present, now)
        return
    if policy is None:
        raise NotInForce("no policy is active; give the first one")
    check_in_force(policy, now)
    if present is not None and _holds(present, now):
        remedy = "leave it out; upload, approve and activate another one through the API"
        raise InputError("policy", "sha256", f"must be that of the active policy, {active}", policy.sha256, remedy)
    upload(connection, vault, policy, "start")
    _install(connection, vault, policy.sha256, "start")


def _holds(policy: Policy, now: datetime) -> bool:
    return policy.effective_from <= now < policy.expires_at


def install(connection: Connection, vault: Vault, bundle: DecisionBundle) -> None:
    """Makes the model the one that decides, if it is not that already."""
    latest = connection.execute(select(bundles.c.sha256).order_by(bundles.c.seq.desc()).limit(1)).scalar()
    if latest == bundle.sha256:
        return
    body = {"sha256": bundle.sha256, "document": plain(bundle)}
    record = chain.append(connection, vault, "model_installed", None, body)
    row = {"sha256": bundle.sha256, "bundle_id": bundle.bundle_id, "at": record.at, "seq": record.seq}
    same = bundles.c.sha256 == bundle.sha256
    if connection.execute(update(bundles).where(same).values(row)).rowcount == 0:
        connection.execute(bundles.insert(), row)


def _row(connection: Connection, sha256: str) -> Mapping[str, str]:
    row = connection.execute(select(policies).where(policies.c.sha256 == sha256)).mappings().one_or_none()
    if row is None:
        raise Refused(404, "unknown_version", "No policy of that hash is known.")
    return dict(row)
