"""The ledger: whole plans under two ceilings, replies that are drawn once, and a chain that shows every change."""

from __future__ import annotations

import math
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from privacy.accounting import epsilon_of, gaussian_mu, shown
from privacy.chain import GENESIS
from privacy.ledger import Ledger, LedgerCorrupt, LedgerMismatch, Terms
from privacy.plan import BudgetExceeded, LabelResponse, Release, spent_by

FIT = 5  # so many plans of the line below fit under epsilon = 1, and no more
NOISE = math.sqrt(FIT) / gaussian_mu(1.0, 1e-5) * 1.001
ONE = Release("payments/pay-1", "pay-1", bound=2.0, size=10, count=1, share=1.0, noise_multiplier=NOISE)
SHOP = replace(ONE, name="ecommerce/ec-1", holder="ec-1")
TERMS = Terms("programme", "pay-1", ceiling=1.0, total=1.0, delta=1e-5)
ROWS = FIT + 1  # the first says what the ledger was opened for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pay-1" / "ledger.db"


@pytest.fixture
def book(path: Path) -> Iterator[Ledger]:
    with Ledger(path, TERMS) as ledger:
        yield ledger


def full(book: Ledger) -> None:
    assert [book.reserve(f"plan-{i}", [ONE]) for i in range(FIT)] == [True] * FIT


def changed(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_what_fits_is_charged_and_the_next_plan_is_refused_with_all_four_figures(book: Ledger) -> None:
    full(book)
    before = book.head()
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve("more", [ONE])
    spent, asked = (spent_by([[ONE]] * n, 1.0, 1e-5) for n in (FIT, 1))
    text = str(refused.value)
    for part in (f"requested {shown(asked)}", f"spent {shown(spent)}", "remaining 0.0", "no such plan would fit"):
        assert part in text or (part.startswith("no such") and "times its noise" in text), text
    assert "ceiling of pay-1, epsilon=1 (delta=1e-05, a person)" in text
    assert (book.head(), book.head()[0]) == (before, ROWS)
    assert book.spent() == book.spent(own=True) == pytest.approx(spent)


def test_the_refusal_says_with_how_much_noise_it_would_fit(book: Ledger) -> None:
    book.reserve("a", [replace(ONE, count=3)])
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve("b", [replace(ONE, count=4)])
    times = float(str(refused.value).split("would fit with ")[1].split()[0])
    assert times == pytest.approx(math.sqrt(4 / 2), rel=2e-2)
    assert book.remaining() == pytest.approx(epsilon_of([replace(ONE, count=2).event], 1e-5), rel=2e-2)
    assert book.reserve("c", [replace(ONE, count=4, noise_multiplier=NOISE * times * 1.001)])
    assert book.remaining() < 0.15


def test_other_holders_lines_count_against_the_total_and_not_against_the_own_ceiling(path: Path) -> None:
    with Ledger(path, replace(TERMS, total=2.0)) as book:
        book.reserve("a", [replace(SHOP, count=FIT), replace(ONE, count=2)])
        assert book.spent(own=True) == pytest.approx(spent_by([[replace(ONE, count=2)]], 2.0, 1e-5))
        assert book.spent() == pytest.approx(spent_by([[replace(ONE, count=FIT + 2)]], 2.0, 1e-5), rel=1e-6)
        assert book.remaining() > book.remaining(own=True) > 0
        with pytest.raises(BudgetExceeded, match="ceiling of pay-1"):
            book.reserve("b", [replace(ONE, count=FIT - 1)])
        with pytest.raises(BudgetExceeded, match="budget of the programme, epsilon=2"):
            book.reserve("c", [replace(SHOP, count=4 * FIT)])
        assert book.reserve("d", [replace(SHOP, count=3)])


def test_the_coordinator_has_a_total_and_no_ceiling_of_its_own(path: Path) -> None:
    with Ledger(path, replace(TERMS, holder="", ceiling=1e-6)) as book:
        assert book.reserve("a", [ONE, SHOP])
        assert book.spent(own=True) == 0.0
        with pytest.raises(BudgetExceeded, match="not in a reserved plan of this holder"):
            book.claim("a", ONE)


def test_lines_of_every_kind_count_together(book: Ledger) -> None:
    labels = LabelResponse("labels", "lender", 0.3)
    lines = [replace(ONE, count=1), replace(SHOP, count=400, probability=0.05), labels]
    book.reserve("a", lines)
    assert book.spent() == pytest.approx(spent_by([lines], 1.0, 1e-5))
    assert book.plans() == {"a": lines}
    with pytest.raises(BudgetExceeded):
        book.reserve("b", [replace(ONE, count=FIT - 1)])


def test_a_line_without_noise_never_fits(book: Ledger) -> None:
    with pytest.raises(BudgetExceeded, match="requested inf"):
        book.reserve("bare", [replace(ONE, noise_multiplier=0.0)])
    assert book.head()[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        *({"noise_multiplier": value} for value in (math.nan, -1.0, math.inf)),
        *({"probability": value} for value in (math.nan, 0.0, 1.1)),
        *({name: value} for name in ("count", "size", "bound") for value in (0, -1)),
    ],
)
def test_lines_without_meaning_are_refused_and_leave_no_row(book: Ledger, change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|need"):
        book.reserve("a", [replace(ONE, **change)])
    assert book.head()[0] == 1
    assert book.reserve("b", [ONE])  # nor is the ledger left in a transaction


@pytest.mark.parametrize("name", ["ceiling", "total"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_ledger_needs_finite_limits(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite and > 0"):
        replace(TERMS, **{name: value})


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_ledger_needs_a_delta(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be in"):
        replace(TERMS, delta=delta)


def test_a_plan_is_charged_once_under_its_name_and_for_its_lines_only(book: Ledger) -> None:
    full(book)
    head = book.head()
    assert [book.reserve(f"plan-{i}", [ONE]) for i in range(FIT)] == [False] * FIT
    for other in (replace(ONE, noise_multiplier=NOISE * 2), replace(ONE, bound=1.0), SHOP):
        with pytest.raises(BudgetExceeded, match="charged for other lines"):
            book.reserve("plan-0", [other])
    assert book.head() == head


def test_noise_is_drawn_once_for_what_is_paid_for(book: Ledger, path: Path) -> None:
    book.reserve("a", [ONE, SHOP])
    unpaid = [("b", ONE), ("a", SHOP), ("a", replace(ONE, bound=2.1)), ("a", replace(ONE, noise_multiplier=1.0))]
    for plan, line in unpaid:
        with pytest.raises(BudgetExceeded, match="nothing pays for it"):
            book.claim(plan, line)
    with pytest.raises(LedgerCorrupt, match="after it was claimed"):
        book.store(book.key("a", ONE.name), b"never claimed")
    key = book.claim("a", replace(ONE, size=9, bound=1.0))
    with pytest.raises(BudgetExceeded, match="not kept"):
        book.claim("a", ONE)
    assert (key, book.stored(key)) == (book.key("a", ONE.name), None)
    book.store(key, b"\x00noisy")
    with pytest.raises(LedgerCorrupt, match="stored once"):
        book.store(key, b"drawn again")
    other = book.claim("a", ONE, "round 2")
    with Ledger(path, TERMS) as again:
        assert again.stored(key) == b"\x00noisy"
        assert again.stored(other) is None
        assert again.plans() == {"a": [ONE, SHOP]}


@pytest.mark.parametrize("row", [1, 3, ROWS])
@pytest.mark.parametrize(
    "change",
    [
        *("body = replace(body, '{{', '{{ ')", "body = x'7b80ff7d'", "body = 7", "body = replace(body, 'e', char(0))"),
        *("key = key || 'x'", "key = x'ff'", "hash = '{zeros}'", "hash = x'00'", "prev = 'x'", "seq = seq + 90"),
    ],
)
def test_a_changed_field_is_named_with_its_row(book: Ledger, path: Path, row: int, change: str) -> None:
    full(book)
    changed(path, f"UPDATE entry SET {change.format(zeros=GENESIS)} WHERE seq = {row}")
    with pytest.raises(LedgerCorrupt, match=rf"{path}: ledger row {row} does not continue the chain"):
        Ledger(path, TERMS)


@pytest.mark.parametrize("row", [1, 2, FIT])
@pytest.mark.parametrize("renumbered", [False, True])
def test_a_deleted_row_is_named(book: Ledger, path: Path, row: int, renumbered: bool) -> None:
    full(book)
    closing = [f"UPDATE entry SET seq = seq - 1 WHERE seq > {row}"] if renumbered else []
    changed(path, f"DELETE FROM entry WHERE seq = {row}", *closing)
    with pytest.raises(LedgerCorrupt, match=f"row {row} "):
        Ledger(path, TERMS)


def test_two_swapped_rows_are_named(book: Ledger, path: Path) -> None:
    full(book)
    changed(path, *[f"UPDATE entry SET seq = {b} WHERE seq = {a}" for a, b in ((2, 99), (3, 2), (99, 3))])
    with pytest.raises(LedgerCorrupt, match="row 2 "):
        Ledger(path, TERMS)


@pytest.mark.parametrize("change", ["bytes = x'01'", "hash = 'x'", "bytes = 'text'"])
def test_a_changed_reply_is_never_sent(book: Ledger, path: Path, change: str) -> None:
    book.reserve("a", [ONE])
    key = book.claim("a", ONE)
    book.store(key, b"noisy")
    changed(path, f"UPDATE reply SET {change}")
    with pytest.raises(LedgerCorrupt, match="is not what was stored"):
        book.stored(key)


def test_rows_cut_off_at_the_end_show_to_a_witness_only(book: Ledger, path: Path) -> None:
    full(book)
    witnessed = book.head()
    changed(path, f"DELETE FROM entry WHERE seq = {ROWS}")
    Ledger(path, TERMS).close()  # the file alone cannot tell
    with pytest.raises(LedgerCorrupt, match=f"witness saw at row {ROWS}: a rollback"):
        Ledger(path, TERMS, witnessed)


def test_a_witness_of_any_earlier_row_is_content_and_one_of_another_ledger_is_not(book: Ledger, path: Path) -> None:
    heads = [book.head()]
    for i in range(FIT):
        book.reserve(f"plan-{i}", [ONE])
        heads.append(book.head())
    for head in [*heads, (0, GENESIS)]:
        Ledger(path, TERMS, head).close()
    for number, digest in ((1, heads[2][1]), (ROWS, GENESIS), (ROWS + 1, heads[-1][1])):
        with pytest.raises(LedgerCorrupt, match="a rollback"):
            Ledger(path, TERMS, (number, digest))


@pytest.mark.parametrize(("name", "value"), [("programme", "other"), ("holder", "ec-1"), ("delta", 1e-6)])
def test_a_ledger_of_something_else_is_refused_unchanged(path: Path, name: str, value: object) -> None:
    Ledger(path, TERMS).close()
    before = path.read_bytes()
    with pytest.raises(LedgerMismatch, match=f"{name}: must be .*, for which this ledger was opened, got {value!r}"):
        Ledger(path, replace(TERMS, **{name: value}))
    assert path.read_bytes() == before


@pytest.mark.parametrize("limit", ["ceiling", "total"])
def test_limits_below_what_is_spent_refuse_to_open_and_higher_ones_do_not(path: Path, limit: str) -> None:
    with Ledger(path, TERMS) as book:
        full(book)
    with pytest.raises(BudgetExceeded, match=r"the ceiling 0\.5 is below the epsilon .* already spent"):
        Ledger(path, replace(TERMS, **{limit: 0.5}))
    with Ledger(path, replace(TERMS, ceiling=2.0, total=2.0)) as raised:
        assert raised.reserve("more", [ONE])


def test_every_commit_reaches_the_disk_before_noise_is_drawn(book: Ledger) -> None:
    database = book.chain._db
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "split", [lambda lines: [lines], lambda lines: [[line] for line in lines]], ids=["one", "each"]
)
def test_a_thousand_earlier_lines_do_not_slow_it_down(book: Ledger, split: Callable[..., list[list[Release]]]) -> None:
    lines = [replace(ONE, name=f"line-{i}", noise_multiplier=NOISE * 40 + i, size=1) for i in range(1000)]
    with book.chain.writing():
        for i, plan in enumerate(split(lines)):
            body = {"kind": "plan", "plan": f"{i}", "lines": [line.to_dict() for line in plan]}
            book.chain.append(f"plan|{i}", body)
    took = []
    for i in range(5):
        begun = time.process_time()
        assert book.reserve(f"new-{i}", [replace(ONE, noise_multiplier=NOISE * 40)])
        took.append(time.process_time() - begun)
    print(f"reserve after 1000 lines: {statistics.median(took) * 1000:.1f} ms")
    assert statistics.median(took) < 0.5  # 50 ms on an idle machine
