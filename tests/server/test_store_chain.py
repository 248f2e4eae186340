"""The audit chain shows every change (A1), however it was made, and survives erasures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text, update

from model.limits.fields import canonical
from server.decisions import chain
from server.decisions.chain import ChainBroken, Head
from server.decisions.database import begin, snapshot
from server.decisions.store import Store
from server.decisions.tables import audit, decision
from server.decisions.vault import Forgotten

CHAINED = [column.name for column in audit.c if column.name != "subject_ref"]


@pytest.fixture
def five(store: Store, person: Callable[[int], str], decide: Any) -> Store:
    """A store with five records: who began it, two events, a decision, one without a person."""
    with begin(store.engine) as connection:
        chain.append(connection, store.vault, "event", person(1), {"paid_fen": 5000})
        chain.append(connection, store.vault, "event", person(2), {"paid_fen": 7000})
    decide(store, 1)
    with begin(store.engine) as connection:
        chain.append(connection, store.vault, "policy_activated", None, {"by": "ann", "名": "分"})
    return store


def flips(value: Any) -> list[Any]:
    """The value with each of its bytes or characters changed, one at a time; a number changed in each of 20 bits."""
    if isinstance(value, int):
        return [value ^ 1 << bit for bit in range(4, 24)]
    if isinstance(value, str):
        return [value[:i] + chr(ord(value[i]) ^ 1) + value[i + 1 :] for i in range(len(value))]
    return [value[:i] + bytes([value[i] ^ 1 << i % 8]) + value[i + 1 :] for i in range(len(value))]


def test_what_was_appended_is_read_back(five: Store, person: Callable[[int], str]) -> None:
    with snapshot(five.engine) as connection:
        records = list(chain.records(connection, five.vault))
        mine = list(chain.records(connection, five.vault, subject_ref=person(1)))
        assert chain.read(connection, five.vault, 99) is None
        assert chain.head(connection) == Head(5, records[-1].record_sha256)
        assert chain.read(connection, five.vault, 2) == records[1]
        assert list(chain.records(connection, five.vault, after=3)) == records[3:]
    assert [r.kind for r in records] == ["opened", "event", "event", "decision", "policy_activated"]
    assert [r.seq for r in mine] == [2, 4]
    assert records[1].text == canonical({"paid_fen": 5000})
    assert records[3].body["index"]["subject_ref"] == person(1)
    assert records[4].body == {"by": "ann", "名": "分"}


@pytest.mark.parametrize("column", CHAINED)
@pytest.mark.parametrize("vault", [True, False], ids=["with vault", "without vault"])
def test_a_change_of_any_byte_of_any_column_is_detected(five: Store, changed: Any, column: str, vault: bool) -> None:
    tried = 0
    for seq in (2, 5):  # one sealed, one plain
        with snapshot(five.engine) as connection:
            value = connection.execute(select(audit.c[column]).where(audit.c.seq == seq)).scalar_one()
        for other in flips(value):
            told = changed(five, update(audit).where(audit.c.seq == seq).values({column: other}), vault=vault)
            assert f"record {seq} " in told or (seq == 5 and "record 6 " in told), (other, told)
            tried += 1
    assert tried >= 20


def test_a_record_given_to_another_person_or_to_nobody_is_detected(five: Store, changed: Any, person: Any) -> None:
    to = "UPDATE audit SET subject_ref = {} WHERE seq = {}"
    assert "record 2 does not open" in changed(five, to.format(f"'{person(2)}'", 2))
    assert "record 2 has lost its person's key" in changed(five, to.format(f"'{person(9)}'", 2))
    assert "0 records were erased but 1 have no person" in changed(five, to.format("NULL", 2), vault=False)
    assert "record 5 names a person" in changed(five, to.format(f"'{person(1)}'", 5), vault=False)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["DELETE FROM audit WHERE seq = 3"], "record 3 is missing"),
        (["DELETE FROM audit WHERE seq = 1"], "record 1 is missing"),
        (["DELETE FROM audit WHERE seq = 5"], "record 5 is where the chain ends, but its head is record 5"),
        (["DELETE FROM audit"], "record 1 is where the chain ends"),
        (["DELETE FROM chain_head"], "record 1 begins a chain whose head is missing"),
        (["UPDATE chain_head SET seq = 4"], "record 6 is where the chain ends, but its head is record 4"),
        (["UPDATE chain_head SET record_sha256 = 'f'"], "record 6 is where the chain ends"),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 99",
            ],
            "record 2 was changed",
        ),
        (
            [
                "INSERT INTO audit (seq, kind, at, subject_ref, body, prev_sha256, record_sha256) "
                "SELECT 6, kind, at, subject_ref, body, prev_sha256, record_sha256 FROM audit WHERE seq = 5"
            ],
            "record 6 was changed",
        ),
        (["DELETE FROM person_key"], "record 2 has lost its person's key"),
    ],
)
def test_missing_moved_and_doubled_rows_are_detected(five: Store, changed: Any, statements: Any, told: str) -> None:
    assert told in changed(five, *statements)


def test_a_tail_cut_off_with_the_head_put_back_shows_against_a_kept_head(five: Store, changed: Any) -> None:
    with snapshot(five.engine) as connection:
        kept = chain.head(connection)
        third = connection.execute(select(audit.c.record_sha256).where(audit.c.seq == 3)).scalar_one()
    cut = ["DELETE FROM decision", "DELETE FROM audit WHERE seq > 3"]
    cut.append(f"UPDATE chain_head SET seq = 3, record_sha256 = '{third}'")
    assert changed(five, *cut) == ""
    assert "record 5 is missing" in changed(five, *cut, expect_head=kept)
    assert changed(five, *cut, expect_head=Head(3, third)) == ""
    assert "record 3 is not the one that was kept" in changed(five, expect_head=Head(3, "f" * 64))


def test_a_verified_part_is_not_read_again_but_must_still_be_there(five: Store, changed: Any, verified: Any) -> None:
    with snapshot(five.engine) as connection:
        third = Head(3, connection.execute(select(audit.c.record_sha256).where(audit.c.seq == 3)).scalar_one())
    assert verified(five, since=third).count == 2
    assert verified(five, since=verified(five).head).count == 0
    assert "record 3 is not the one that was kept" in changed(five, since=Head(3, "f" * 64))
    assert "record 5 was changed" in changed(five, "UPDATE audit SET kind = 'x' WHERE seq = 5", since=third)


@pytest.mark.parametrize("column", sorted({c.name for c in decision.c} - {"seq"}))
def test_the_index_of_decisions_must_say_what_the_record_says(five: Store, changed: Any, column: str) -> None:
    value = "7" if column == "amount_fen" else "'decision-3'" if column == "parent_id" else "'changed'"
    told = changed(five, f"UPDATE decision SET {column} = {value} WHERE seq = 4")
    assert "record 4 disagrees with its row in the table decision" in told


def test_decisions_that_vanish_or_appear_beside_the_chain_are_detected(five: Store, changed: Any) -> None:
    assert "record 4 disagrees" in changed(five, "DELETE FROM decision")
    assert "record 4 disagrees" in changed(five, "UPDATE decision SET seq = 5")
    with snapshot(five.engine) as connection:
        row = dict(connection.execute(decision.select()).mappings().one())
    orphan = insert(decision).values({**row, "seq": 77, "decision_id": "other"})
    assert "lacks some of the stored decisions" in changed(five, orphan)


def test_the_row_of_an_erased_decision_must_be_there_and_name_nobody(five: Store, changed: Any, person: Any) -> None:
    with begin(five.engine) as connection:
        chain.erase(connection, five.vault, person(1), "ann")
    assert changed(five) == ""
    assert "record 4 disagrees" in changed(five, "DELETE FROM decision")
    assert "record 4 disagrees" in changed(five, f"UPDATE decision SET subject_ref = '{person(1)}'")


def test_what_a_savepoint_undid_is_forgotten(five: Store, verified: Any, person: Any) -> None:
    """Head and keys are remembered within a transaction; the key of a person who was not there before was undone."""
    with begin(five.engine) as connection:
        with connection.begin_nested() as inner:
            assert chain.append(connection, five.vault, "event", person(8), {"n": 1}).seq == 6
            inner.rollback()
        with connection.begin_nested():
            assert chain.append(connection, five.vault, "event", person(8), {"n": 2}).seq == 6
        assert chain.append(connection, five.vault, "event", person(8), {"n": 3}).seq == 7
    with snapshot(five.engine) as connection:
        assert [r.body["n"] for r in chain.records(connection, five.vault, subject_ref=person(8))] == [2, 3]
    assert verified(five).count == 7


def test_a_head_that_somebody_else_moved_is_not_forked(five: Store, changed: Any) -> None:
    with five.engine.connect() as connection, connection.begin() as transaction:
        chain.append(connection, five.vault, "event", None, {})
        connection.execute(text("UPDATE chain_head SET seq = 5"))
        with pytest.raises(RuntimeError, match="continued by somebody else"):
            chain.append(connection, five.vault, "event", None, {})
        transaction.rollback()
    assert changed(five) == ""


def test_a_rolled_back_transaction_leaves_no_head_behind(five: Store, verified: Any) -> None:
    with five.engine.connect() as connection:
        for _ in range(2):
            with connection.begin() as transaction:
                assert chain.append(connection, five.vault, "event", None, {}).seq == 6
                transaction.rollback()
    with begin(five.engine) as connection:
        assert chain.append(connection, five.vault, "event", None, {}).seq == 6
    assert verified(five).count == 6


def test_256_records_of_one_transaction_read_the_head_once(store: Store, verified: Any) -> None:
    from sqlalchemy import event

    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    with begin(store.engine) as connection:
        for number in range(256):
            chain.append(connection, store.vault, "event", None, {"n": number})
    assert sum("FROM chain_head" in statement for statement in asked) == 1
    assert verified(store).head.seq == 257


def test_a_head_is_written_as_it_is_read() -> None:
    head = Head(12, "ab" * 32)
    assert Head.parse(str(head)) == head
    for wrong in ("", "12", "12:ab", f"-1:{'a' * 64}", f"1:{'A' * 64}", f"{'9' * 19}:{'a' * 64}"):
        with pytest.raises(ValueError, match="must be a record's number"):
            Head.parse(wrong)


STEPS = st.lists(st.tuples(st.sampled_from(["append", "plain", "erase"]), st.integers(0, 3)), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(steps=STEPS)
def test_any_history_of_writes_and_erasures_verifies(sqlite_store: Store, verified: Any, steps: Any) -> None:
    """Against a model that keeps counts; the store goes on from example to example, and so does the model."""
    store = sqlite_store
    with snapshot(store.engine) as connection:
        begun = chain.verify(connection, store.vault)
        counts = select(audit.c.subject_ref, func.count()).group_by(audit.c.subject_ref)
        held = dict(connection.execute(counts).all())
    count, erased = begun.count, begun.erased
    for kind, number in steps:
        who = f"{number:064x}"
        with begin(store.engine) as connection:
            if kind != "erase":
                chain.append(connection, store.vault, "event", who if kind == "append" else None, {"n": number})
                held[who] = held.get(who, 0) + (kind == "append")
                count += 1
            elif held.get(who):
                assert chain.erase(connection, store.vault, who, "test") == held[who]
                count, erased = count + 1, erased + held.pop(who)
            else:
                with pytest.raises(Forgotten):
                    chain.erase(connection, store.vault, who, "test")
    found = verified(store, since=None, expect_head=begun.head)
    assert (found.count, found.erased) == (count, erased)


def test_what_is_no_text_or_no_readable_page_is_a_broken_chain(sqlite_store: Store, changed: Any) -> None:
    with begin(sqlite_store.engine) as connection:
        for number in range(300):
            chain.append(connection, sqlite_store.vault, "event", f"{number:064x}", {"text": "t" * 200})
    assert "record 7 was changed" in changed(sqlite_store, "UPDATE audit SET kind = x'ff41' WHERE seq = 7")
    assert "record 7 was changed" in changed(sqlite_store, "UPDATE audit SET at = CAST(x'ff41' AS TEXT) WHERE seq = 7")
    assert "record 7 was changed" in changed(sqlite_store, "UPDATE audit SET body = 'text' WHERE seq = 7")
    assert "record 7 was changed" in changed(sqlite_store, "UPDATE audit SET body = 5 WHERE seq = 7")
    with snapshot(sqlite_store.engine) as connection:
        page = connection.execute(text("SELECT pageno FROM dbstat WHERE name = 'audit' LIMIT 1 OFFSET 9")).scalar_one()
    with sqlite_store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    sqlite_store.close()
    with open(sqlite_store.engine.url.database or "", "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(ChainBroken, match="cannot be read"), snapshot(sqlite_store.engine) as connection:
        chain.verify(connection, sqlite_store.vault)
