"""Finding shared persons by private set intersection at the holders: exact, committed first, within limits."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients import matching
from clients.cohort import Handed, accept, aligned, cohort_of, commit, hand_out, persons_of, table_of
from clients.config import Node
from clients.identity import introduction
from clients.nodefile import Limits
from clients.packets import Channel
from model.federation import LENDER
from model.inputs import InputError
from model.wire import pack, unpack
from privacy.envelope import SealBroken
from privacy.matching import MatchRefused

NAMES, PERSONS = ("pay-1", "tax-1"), 200


def _node(federation: Path, out: Path, **changes: Any) -> Node:
    made = Node.of({"num-partitions": 1}, {"federation": str(federation), "out": str(out), "alignment": "psi"}, 7)
    return replace(made, **changes)


@pytest.fixture(autouse=True)
def few(files: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A federation of so few persons that points are quickly multiplied, with sets filled up to little."""
    monkeypatch.setattr("privacy.matching.SMALLEST", 16)
    last = pl.read_parquet(files.folder / "labels.parquet")["id"].sort()[PERSONS]
    for path in (*files.folder.glob("*.parquet"), *files.folder.glob("*.csv")):
        files.table(path.name, lambda table: table.filter(pl.col("id") < last))
    return files


@pytest.fixture
def node(few: Any, tmp_path: Path) -> Node:
    """A node that plays every holder and aligns as a deployment does."""
    return _node(few.federation, tmp_path / "run")


def _at(node: Node, name: str) -> Channel:
    return Channel(node, name, "plan")


def _offer(node: Node, name: str) -> tuple[bytes, str]:
    return commit(_at(node, name), introduction(node, LENDER))


def _handed(node: Node, **offers: tuple[bytes, str]) -> Handed:
    """What the lender answers to these sets; names with `_` for `-`."""
    sets = {name.replace("_", "-"): packet for name, packet in offers.items()}
    keys = {name: introduction(node, name) for name in sets}
    return hand_out(_at(node, LENDER), keys, cohort_of(node).labels, sets)


def _accept(node: Node, name: str, packet: bytes) -> np.ndarray[Any, Any]:
    accept(_at(node, name), introduction(node, LENDER), packet)
    return aligned(node, name).rows


def _aligned(node: Node, name: str) -> np.ndarray[Any, Any]:
    handed = _handed(node, **{name: _offer(node, name)})
    return _accept(node, name, handed.packets[name])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed anew, in order."""
    done: list[str] = []
    for step in ("offer", "shown", "answered", "rows"):
        true = getattr(matching.Psi, step)

        def counting(self: Any, *given: Any, step: str = step, true: Callable[..., Any] = true) -> Any:
            done.append(step)
            return true(self, *given)

        monkeypatch.setattr(matching.Psi, step, counting)
    return done


def test_every_partner_finds_its_own_rows_and_a_retry_costs_nothing(node: Node, counted: list[str]) -> None:
    cohort = cohort_of(node).ids.to_list()
    sealed = {name: _offer(node, name) for name in NAMES}
    packets = _handed(node, **sealed).packets
    for name in NAMES:
        own = {person: row for row, person in enumerate(table_of(node, name).ids)}
        assert _accept(node, name, packets[name]).tolist() == [own.get(person, -1) for person in cohort]
    assert sorted(counted) == sorted(["offer", "answered", "rows"] * 2 + ["shown"])
    again = _handed(node, **{name: _offer(node, name) for name in NAMES}).packets
    for name in NAMES:
        _accept(node, name, again[name])
    assert len(counted) == 7
    opened = [
        unpack(_at(node, "pay-1").open(LENDER, introduction(node, LENDER), p["pay-1"], "cohort"))
        for p in (packets, again)
    ]
    assert all(opened[0][part].tobytes() == opened[1][part].tobytes() for part in opened[0])


def test_all_partners_and_the_lender_hold_the_same_digest(node: Node) -> None:
    packets = _handed(node, **{name: _offer(node, name) for name in NAMES}).packets
    for name in NAMES:
        _accept(node, name, packets[name])
    assert len({aligned(node, name).digest for name in (LENDER, *NAMES)}) == 1


def test_a_spoilt_cache_is_made_again(node: Node, counted: list[str]) -> None:
    first = _aligned(node, "pay-1")
    for path in node.durable("pay-1").glob("match-*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(_aligned(node, "pay-1"), first)
    assert counted.count("offer") == 2


def test_what_a_partner_sends_opens_for_the_lender_alone_and_for_its_plan_alone(node: Node) -> None:
    packet, digest = _offer(node, "pay-1")
    told = introduction(node, "pay-1")
    items = unpack(_at(node, LENDER).open("pay-1", told, packet, "offer"))["items"]
    assert digest == hashlib.sha256(items.tobytes()).hexdigest()
    assert set(unpack(_at(node, LENDER).open("pay-1", told, packet, "offer"))) == {"items"}
    for channel, what in ((Channel(node, LENDER, "next"), "offer"), (_at(node, LENDER), "presence")):
        with pytest.raises(SealBroken):
            channel.open("pay-1", told, packet, what)
    with pytest.raises(SealBroken):
        _at(node, "tax-1").open("pay-1", told, packet, "offer")


def test_a_set_that_cannot_be_answered_costs_only_its_sender(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    good, told = _offer(node, "pay-1"), introduction(node, LENDER)
    items = np.zeros((192, 32), np.uint8)
    wrong = (
        _at(node, "tax-1").seal(LENDER, told, pack(items=items), "offer"),
        hashlib.sha256(items.tobytes()).hexdigest(),
    )
    other = _offer(node, "shop-2")[0], good[1]  # logged is another set than was sent
    handed = _handed(node, pay_1=good, tax_1=wrong, shop_1=good, shop_2=other)  # shop-1 sends another's set
    assert set(handed.packets) == {"pay-1"}
    for junk in (b"", b"PK\3\4 no archive", pack(other=np.zeros(3)), _squeezed(items)):
        junk = _at(node, "tax-1").seal(LENDER, told, junk, "offer"), good[1]
        assert dict(_handed(node, pay_1=good, tax_1=junk).refused) == {"tax-1": "protocol"}
    assert dict(handed.refused) == {"tax-1": "protocol", "shop-1": "seal", "shop-2": "protocol"}
    assert "192" not in caplog.text


def _squeezed(items: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, items=items)
    return buffer.getvalue()


def test_the_answer_to_an_older_set_is_refused(files: Any, tmp_path: Path) -> None:
    """A partner whose file changed after it committed takes no part: the answer is to other persons."""
    node = _node(files.federation, tmp_path / "run")
    packet = _handed(node, pay_1=_offer(node, "pay-1")).packets["pay-1"]
    files.table("payments.parquet", lambda table: table.head(-1))
    with pytest.raises(InputError, match="answers another set"):
        _accept(node, "pay-1", packet)


def test_a_partner_has_so_many_different_sets_answered_and_the_same_one_as_often_as_it_likes(
    files: Any, tmp_path: Path
) -> None:
    node = _node(files.federation, tmp_path / "run", limits=Limits(max_alignments=2))
    whole = (files.folder / "payments.parquet").read_bytes()
    for rows in (0, 1, 1, 0):
        files.raw("payments.parquet", whole).table("payments.parquet", lambda t, rows=rows: t.slice(rows))  # type: ignore[misc]
        assert _handed(node, pay_1=_offer(node, "pay-1")).refused == {}
    files.table("payments.parquet", lambda table: table.slice(2))
    handed = _handed(node, pay_1=_offer(node, "pay-1"), tax_1=_offer(node, "tax-1"))
    assert dict(handed.refused) == {"pay-1": "input"}
    assert set(handed.packets) == {"tax-1"}
    after = _node(files.federation, tmp_path / "run", limits=Limits(max_alignments=2))  # after a restart
    assert dict(_handed(after, pay_1=_offer(after, "pay-1")).refused) == {"pay-1": "input"}


def test_a_partner_takes_so_many_different_cohorts(files: Any, tmp_path: Path) -> None:
    """Else a lender could ask for one person at a time."""
    node = _node(files.federation, tmp_path / "run", limits=Limits(max_alignments=1))
    _aligned(node, "pay-1")
    _aligned(node, "pay-1")
    files.table("labels.parquet", lambda table: table.head(-1))
    with pytest.raises(InputError, match="one more than may be aligned"):
        _aligned(node, "pay-1")


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(min_cohort=190), "fewer persons"),
        (Limits(max_cohort=199), "larger than limits.max-cohort"),
    ],
)
def test_a_partners_own_limits_hold_whatever_the_lender_asks(node: Node, limits: Limits, rule: str) -> None:
    packet = _handed(node, pay_1=_offer(node, "pay-1")).packets["pay-1"]
    with pytest.raises(InputError, match=rule) as error:
        _accept(replace(node, limits=limits), "pay-1", packet)
    assert error.value.value is None  # no count
    assert not (node.folder("pay-1") / "cohort.npz").exists()


def test_a_lender_below_its_least_cohort_and_a_set_above_its_most_are_refused(node: Node) -> None:
    offer = _offer(node, "pay-1")
    with pytest.raises(InputError, match="fewer persons than limits"):
        _handed(replace(node, limits=Limits(min_cohort=201)), pay_1=offer)
    assert dict(_handed(replace(node, limits=Limits(max_cohort=50)), pay_1=offer).refused) == {"pay-1": "input"}
    with pytest.raises(InputError, match="fewer persons than limits"):
        _offer(replace(node, limits=Limits(min_cohort=500)), "pay-1")


def test_nobody_in_common_is_one_line_without_a_number(files: Any, tmp_path: Path) -> None:
    files.table("payments.parquet", lambda table: table.with_columns(id="X" + pl.col("id")))
    with pytest.raises(InputError, match=r"shares no person with the lender's cohort; .*id-form") as error:
        _aligned(_node(files.federation, tmp_path / "run"), "pay-1")
    assert error.value.value is None


def test_two_ways_of_writing_one_form_are_the_same_persons(files: Any, tmp_path: Path) -> None:
    """The lender writes telephone numbers nationally, the partner with the country's code and hyphens."""
    phone = "138" + pl.col("id").str.slice(1).str.zfill(8)
    for path in (*files.folder.glob("*.parquet"), *files.folder.glob("*.csv")):
        spaced = phone if path.name != "payments.parquet" else "+86 " + phone.str.replace(r"(...)(....)", "$1-$2-")
        files.table(path.name, lambda table, spaced=spaced: table.with_columns(id=spaced))  # type: ignore[misc]
    files.toml("[federation]\n", '[federation]\nid-form = "phone+86"\n')
    node = _node(files.federation, tmp_path / "run")
    rows, own = _aligned(node, "pay-1"), persons_of(node, "pay-1")
    assert table_of(node, "pay-1").ids[0].startswith("+86 138-")
    assert [own[row] for row in rows if row >= 0] == [p for p in persons_of(node, LENDER) if p in set(own)]
    assert (rows >= 0).sum() > 20


def test_another_form_of_ids_than_the_lenders_is_refused(files: Any, tmp_path: Path) -> None:
    node = _node(files.federation, tmp_path / "run")
    packet = _handed(node, pay_1=_offer(node, "pay-1")).packets["pay-1"]
    files.toml("[federation]\n", '[federation]\nid-form = "number"\n')
    with pytest.raises(InputError, match="id-form is not the lender's"):
        _accept(_node(files.federation, tmp_path / "run"), "pay-1", packet)


def test_an_answer_that_does_not_hold_together_is_refused(node: Node) -> None:
    packet = _handed(node, pay_1=_offer(node, "pay-1")).packets["pay-1"]
    told = introduction(node, "pay-1")
    arrays = unpack(_at(node, "pay-1").open(LENDER, introduction(node, LENDER), packet, "cohort"))
    spoilt = {"shown": np.repeat(arrays["shown"][:1], len(arrays["shown"]), axis=0), "answer": arrays["answer"][:-1]}
    for part, value in spoilt.items():
        changed = _at(node, LENDER).seal("pay-1", told, pack(**{**arrays, part: value}), "cohort")
        with pytest.raises(MatchRefused):
            _accept(node, "pay-1", changed)


def test_a_real_node_takes_no_tokens_and_hides_its_files_order(files: Any, tmp_path: Path) -> None:
    simulated = _node(files.federation, tmp_path / "run")
    real = replace(simulated, simulated=False)
    with pytest.raises(InputError, match="must be psi outside a simulation"):
        matching.matcher(replace(real, alignment="tokens"), LENDER)
    plain, turned = cohort_of(simulated), cohort_of(real)
    assert plain.ids.to_list() != turned.ids.to_list()
    by_id = dict(zip(plain.ids, zip(plain.labels, plain.group, strict=True), strict=True))
    assert by_id == dict(zip(turned.ids, zip(turned.labels, turned.group, strict=True), strict=True))
    places = {person: place for place, person in enumerate(plain.ids)}
    order = np.array([places[person] for person in turned.ids])
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 5 / np.sqrt(len(order))
    other = replace(_node(files.federation, tmp_path / "other"), simulated=False)
    assert cohort_of(other).ids.to_list() != turned.ids.to_list()


def test_an_alignment_that_nobody_knows_is_refused(small: Path) -> None:
    with pytest.raises(InputError, match=r"alignment must be psi \| tokens"):
        Node.of({"num-partitions": 1}, {"federation": str(small), "alignment": "plain"}, 7)


def test_no_log_holds_an_id_or_a_number_of_persons(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        rows = _aligned(node, "pay-1")
    assert str(int((rows >= 0).sum())) not in caplog.text
    assert "P0" not in caplog.text
    assert json.loads((node.durable(LENDER) / matching.COUNTED).read_text()).keys() == {f"{node.programme}|pay-1"}
