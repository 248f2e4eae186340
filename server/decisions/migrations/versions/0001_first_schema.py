"""The first schema.

The tables stand here as they were, apart from `tables.py`, which goes on changing.
"""

from __future__ import annotations

from alembic import op
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

revision = "0001"
down_revision = None

_metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def upgrade() -> None:
    """Makes all tables, and the head of an empty chain."""
    _metadata.create_all(op.get_bind(), checkfirst=False)
    op.execute(_metadata.tables["chain_head"].insert().values(id=1, seq=0, record_sha256="0" * 64))


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


Table(
    "audit",
    _metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _text("kind"),
    _text("at"),
    _person(null=True, index=True),
    _sealed("body"),
    _text("prev_sha256"),
    _text("record_sha256"),
)

Table(
    "chain_head",
    _metadata,
    _only(),
    Column("seq", BigInteger, nullable=False),
    _text("record_sha256"),
)

Table("person_key", _metadata, _person(key=True), _sealed("wrapped"), _text("created_at"))

Table(
    "policy",
    _metadata,
    _text("sha256", key=True),
    _text("id"),
    _text("version"),
    _text("uploaded_by"),
    _text("approved_by"),
    Column("state", Text, nullable=False, index=True),
    _text("at"),
    _seq(),
)

Table("bundle", _metadata, _text("sha256", key=True), _text("bundle_id"), _text("at"), _seq())

Table(
    "decision",
    _metadata,
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

Table(
    "idempotency",
    _metadata,
    _text("key", key=True),
    _text("caller", key=True),
    _text("body_sha256"),
    _seq(),
    _text("at"),
)

Table("account", _metadata, _person(key=True), _sealed("state"))

Table("waiting", _metadata, _person(key=True), Column("due_at", Text, nullable=False, index=True))

Table("portfolio", _metadata, _only(), _text("body"))

Table(
    "partner",
    _metadata,
    _text("name", key=True),
    _text("domain"),
    _text("public_key"),
    _text("added_at"),
    _text("revoked_at", null=True),
    _seq(),
)

Table(
    "override_order",
    _metadata,
    _text("order_id", key=True),
    _link("decision_id", "decision.decision_id"),
    Column("state", Text, nullable=False, index=True),
    _text("ordered_by"),
    _text("approved_by", null=True),
    _text("ordered_at"),
    _text("closed_at", null=True),
    _seq(),
)

Table(
    "appeal",
    _metadata,
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

Table(
    "batch",
    _metadata,
    _text("batch_id", key=True),
    _text("caller"),
    Column("state", Text, nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    _text("at"),
    _seq(),
)

Table(
    "batch_row",
    _metadata,
    _link("batch_id", "batch.batch_id", key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    _person(null=True, index=True),
    _sealed("body", null=True),
    _link("decision_id", "decision.decision_id", null=True),
    _text("error", null=True),
)

Table(
    "api_key",
    _metadata,
    _text("name", key=True),
    _text("role"),
    Column("token_sha256", Text, nullable=False, unique=True),
    _link("partner", "partner.name", null=True),
    _text("created_at"),
    _text("revoked_at", null=True),
    _seq(),
)
