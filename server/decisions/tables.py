"""The tables of the decision service, in types that SQLite and PostgreSQL share.

Four rules hold for all of them:

* `audit` is the truth and only grows. `seq` of another row is the audit record that made or last changed the row.
* What is said about a person lies in a column of bytes, sealed under that person's key (`vault.py`).
* The only clear name of a person is `subject_ref`, a keyed pseudonym of 64 hexadecimal digits. Erasing a person sets it
  to null where it may be null and deletes the row elsewhere (`vault.forget`), so a table with such a column needs no
  further care.
* Instants are text of one width, RFC 3339 in UTC with microseconds (`stamp`), so that they sort as text. Money is fen.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def stamp(at: datetime | None = None) -> str:
    """An instant as the tables keep it; now, where none is given.

    >>> stamp(datetime.fromisoformat("2026-11-23T09:00:00+08:00"))
    '2026-11-23T01:00:00.000000Z'
    """
    moment = datetime.now(UTC) if at is None else at.astimezone(UTC)
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=null)


def _only() -> Column[int]:
    """The key of a table with one row."""
    return Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False)


def _person(*, null: bool = False, key: bool = False, index: bool = False) -> Column[str]:
    return Column("subject_ref", Text, primary_key=key, nullable=null, index=index)


def _link(name: str, to: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, ForeignKey(to), primary_key=key, nullable=null)


def _sealed(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


def _seq(*, unique: bool = False) -> Column[int]:
    return Column("seq", BigInteger, ForeignKey("audit.seq"), nullable=False, unique=unique)


audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _text("kind"),
    _text("at"),
    _person(null=True, index=True),
    _sealed("body"),
    _text("prev_sha256"),
    _text("record_sha256"),
)
"""The chain. All columns but `subject_ref` are hashed into `record_sha256`: that one may be cleared.

`seq` counts from 1 without a gap; `kind` says what is recorded; `body` is canonical JSON, sealed where the record is
about a person; `prev_sha256` is the hash of the record before. A sealed body is bound to its `subject_ref`.
"""

chain_head = Table(
    "chain_head",
    metadata,
    _only(),
    Column("seq", BigInteger, nullable=False),
    _text("record_sha256"),
)
"""One row: the last record. Writers on PostgreSQL lock it, so that one at a time continues the chain."""

person_key = Table("person_key", metadata, _person(key=True), _sealed("wrapped"), _text("created_at"))
"""Each person's key, `wrapped` under the master key; the row is what erasure destroys."""

policy = Table(
    "policy",
    metadata,
    _text("sha256", key=True),
    _text("id"),
    _text("version"),
    _text("uploaded_by"),
    _text("approved_by"),
    Column("state", Text, nullable=False, index=True),
    _text("at"),
    _seq(),
)
"""Every policy that was ever uploaded: a replay needs the one it was decided under. The record has its document.

`approved_by` is a JSON list of names of API keys; `state` is draft, approved, active or retired; `at` is its arrival.
"""

bundle = Table("bundle", metadata, _text("sha256", key=True), _text("bundle_id"), _text("at"), _seq())
"""Every model bundle that ever decided, since `at`. The record has its document."""

decision = Table(
    "decision",
    metadata,
    _text("decision_id", key=True),
    _seq(unique=True),
    _person(null=True),
    _text("as_of"),
    _text("decided_at"),
    _text("outcome"),
    _text("kind", null=True),
    Column("amount_fen", BigInteger, nullable=False),
    _link("policy_sha256", "policy.sha256"),
    _link("bundle_sha256", "bundle.sha256"),
    _link("parent_id", "decision.decision_id", null=True),
    _text("reason"),
    Index("ix_decision_subject_ref", "subject_ref", "decided_at"),
    Index("ix_decision_decided_at", "decided_at"),
)
"""What is searched in decisions; the decision itself is the body of its record, which repeats this row (`chain.py`).

`as_of` is the request's instant, `decided_at` the service's; `outcome` APPROVE, TRIAL, DECLINE, DEFER or REFER and
`kind` the offer's; `parent_id` is the decision that this one follows, and `reason` why it was made: request, refresh,
override, appeal or review.
"""

idempotency = Table(
    "idempotency",
    metadata,
    _text("key", key=True),
    _text("caller", key=True),
    _text("body_sha256"),
    _seq(),
    _text("at"),
)
"""Answered requests: `caller` (an API key's name) sent `key` with a body of that hash; the record has the answer.

It outlives an erasure, so that a late repetition does not bring the person back.
"""

account = Table("account", metadata, _person(key=True), _sealed("state"))
"""What is held of a person (`state`, sealed): events, receipts, consents, what was last asked and decided."""

waiting = Table("waiting", metadata, _person(key=True), Column("due_at", Text, nullable=False, index=True))
"""Deferred applications: at `due_at` they are decided on without the late data."""

portfolio = Table("portfolio", metadata, _only(), _text("body"))
"""One row: counters of the whole book, as JSON; none tells about one person."""

partner = Table(
    "partner",
    metadata,
    _text("name", key=True),
    _text("domain"),
    _text("public_key"),
    _text("added_at"),
    _text("revoked_at", null=True),
    _seq(),
)
"""Who may send signed sub-scores, for which domain: `public_key` is Ed25519, 64 hexadecimal digits."""

override_order = Table(
    "override_order",
    metadata,
    _text("order_id", key=True),
    _link("decision_id", "decision.decision_id"),
    Column("state", Text, nullable=False, index=True),
    _text("ordered_by"),
    _text("approved_by", null=True),
    _text("ordered_at"),
    _text("closed_at", null=True),
    _seq(),
)
"""Overrides of a decision: above the policy's sum one waits for a second officer.

`state` is pending or applied; `ordered_by` and `approved_by` are names of API keys; what is ordered
is the record's body, the new decision has this one's `decision_id` as its parent.
"""

appeal = Table(
    "appeal",
    metadata,
    _text("appeal_id", key=True),
    _link("decision_id", "decision.decision_id"),
    _text("state"),
    _text("opened_at"),
    _text("due_at"),
    _text("assigned_to", null=True),
    _text("closed_at", null=True),
    _seq(),
    Index("ix_appeal_state", "state", "due_at"),
    Index("ix_appeal_decision_id", "decision_id"),
)
"""Appeals: `state` open, in_review, upheld, changed or rejected; `assigned_to` is a reviewer's API key by name."""

batch = Table(
    "batch",
    metadata,
    _text("batch_id", key=True),
    _text("caller"),
    Column("state", Text, nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    _text("at"),
    _seq(),
)
"""Batches of `caller` (an API key's name): `state` is loading until all `rows` are kept, then running."""

batch_row = Table(
    "batch_row",
    metadata,
    _link("batch_id", "batch.batch_id", key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    _person(null=True, index=True),
    _sealed("body", null=True),
    _link("decision_id", "decision.decision_id", null=True),
    _text("error", null=True),
)
"""One `line` (from 1) of a batch: its request (`body`, sealed) until it is decided, then the decision or the `error`.

`error` is JSON with code and field; it never has the value, which may tell about the person.
"""

api_key = Table(
    "api_key",
    metadata,
    _text("name", key=True),
    _text("role"),
    Column("token_sha256", Text, nullable=False, unique=True),
    _link("partner", "partner.name", null=True),
    _text("created_at"),
    _text("revoked_at", null=True),
    _seq(),
)
"""Callers: only the hash of a token is kept; `partner` is whose sub-scores a caller of that role sends."""
