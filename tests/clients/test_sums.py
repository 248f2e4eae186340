"""A holder in a secure sum: what it shows, what it refuses, and that a round is opened in one session only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.config import Node
from clients.identity import introduction
from clients.masking import Place
from clients.orders import Agreement
from clients.training import Order, train
from model import wire
from model.inputs import InputError
from privacy.chain import Chain
from server.exchange import Post
from server.planning import make_plan

pytestmark = pytest.mark.usefixtures("quick")
ALL = ("pay-1", "pay-2", "pay-3", "pay-4")
FEATURE = {"name": "x", "kind": "numeric", "range": [-3, 3], "group": "g"}


@dataclass
class Table:
    """Four partners of one domain under a plan that sums their updates; every message is sent by hand."""

    at: Any

    def ask(self, kind: str, name: str, order: Mapping[str, Any], packets: Mapping[str, bytes] = {}) -> Message:
        """One message of a secure sum; `order` says the members, and whatever else."""
        member = self.at.roster.members[name]
        told = {n: self.at.roster.members[n].public for n in order["members"]}
        data = {"plan": self.at.plan.document, "holder": name, "block": "payments", **order, "members": told}
        return self.at.send(kind, Post(name, member.node, data, sealed=packets))  # type: ignore[no-any-return]

    def train(
        self, name: str, members: Sequence[str] = ALL, boxes: Mapping[str, bytes] = {}, number: int = 1
    ) -> Message:
        """A round's order, with the boxes of the others."""
        post = self.at.train(name, number)
        told = {n: self.at.roster.members[n].public for n in members}
        packets = {**post.sealed, **{f"box-{n}": box for n, box in boxes.items()}}
        return self.at.send(wire.TRAIN, replace(post, data={**post.data, "members": told}, sealed=packets))  # type: ignore[no-any-return]

    def boxes(self, members: Sequence[str] = ALL) -> dict[str, dict[str, bytes]]:
        """By receiver, what the others made for it."""
        adverts = {n: _bytes(self.ask(wire.MASK_KEYS, n, {"members": members}))["advert"] for n in members}
        packets = {f"advert-{n}": advert for n, advert in adverts.items()}
        made = {n: _bytes(self.ask(wire.MASK_SHARES, n, {"members": members}, packets)) for n in members}
        return {n: {o: made[o][f"box-{n}"] for o in members if o != n} for n in members}

    def agree(self, name: str, survivors: Sequence[str], members: Sequence[str] = ALL) -> Message:
        """Asks whether these are in the sum of round 1."""
        return self.ask(wire.SUM_AGREE, name, {"members": members, "round": 1, "survivors": list(survivors)})


@pytest.fixture
def table(write_federation: Any, party: Any, persons: Any, stage: Any, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The four partners, aligned; nothing is exchanged yet."""
    summed = {"summed": ("payments",)}
    monkeypatch.setattr("server.planning.make_plan", lambda *given: replace(make_plan(*given), **summed))
    labels, risk = persons(150)
    parties = [party(name, labels.select("id").with_columns(x=risk), [FEATURE]) for name in ALL]
    at = stage(write_federation(labels, *parties).federation, rounds=2)
    return Table(at)


def _bytes(reply: Message) -> dict[str, bytes]:
    return {k: v for k, v in reply.content.config_records["config"].items() if isinstance(v, bytes)}


def _node(table: Table) -> Node:
    return Node.of({"partition-id": 1, "num-partitions": 5}, dict(table.at.grid._contexts[1001].run_config), 1)


def _code(reply: Message) -> Any:
    return reply.content.config_records["config"].get("error")


def _charged(table: Table, name: str) -> bool:
    path = table.at.state / name / "ledger.db"
    return path.exists() and any(row.kind == "plan" for row in Chain(path).checked())


def test_an_update_of_a_summed_block_is_never_shown_by_itself(table: Table) -> None:
    """Whoever leaves the session out of the order gets nothing, and nothing is paid for."""
    reply = table.at.send(wire.TRAIN, table.at.train("pay-1"))
    assert _code(reply) == "protocol"
    assert not _charged(table, "pay-1")
    boxes = table.boxes()
    masked = table.train("pay-1", boxes=boxes["pay-1"])
    assert _code(masked) is None
    assert not masked.content.array_records
    assert list(_bytes(masked)) == [wire.MASKED]


def test_a_retry_gets_the_same_bytes_and_other_boxes_nothing(table: Table) -> None:
    boxes = table.boxes()
    first = _bytes(table.train("pay-1", boxes=boxes["pay-1"]))
    assert _bytes(table.train("pay-1", boxes=boxes["pay-1"])) == first
    assert _bytes(table.train("pay-1")) == first
    assert _code(table.train("pay-1", boxes={"pay-2": boxes["pay-1"]["pay-2"]})) == "protocol"


def test_another_round_is_masked_by_other_masks(table: Table) -> None:
    boxes = table.boxes()
    words = [
        np.frombuffer(_bytes(table.train("pay-1", boxes=boxes["pay-1"], number=n))["masked"], "<i8") for n in (1, 2)
    ]
    assert (np.abs(words[0] - words[1]) > 2**53).mean() > 0.9


def test_a_round_that_was_opened_once_is_not_summed_among_others(table: Table) -> None:
    """Else the difference of two sums would be one partner's update."""
    boxes, fewer = table.boxes(), ALL[:3]
    for name in ALL:
        table.train(name, boxes=boxes[name])
    assert _code(table.agree("pay-1", ALL)) is None
    again = table.boxes(fewer)
    assert _code(table.train("pay-1", fewer, again["pay-1"])) == "input"
    assert _code(table.train("pay-1", fewer, again["pay-1"], number=2)) is None


def test_a_sum_that_was_given_up_for_another_is_never_opened(table: Table) -> None:
    boxes, fewer = table.boxes(), ALL[:3]
    for name in ALL:
        table.train(name, boxes=boxes[name])
    again = table.boxes(fewer)
    assert _code(table.train("pay-1", fewer, again["pay-1"])) is None
    assert _code(table.agree("pay-1", ALL)) == "input"
    assert _code(table.agree("pay-1", fewer, fewer)) is None


def test_survivors_are_agreed_on_once_and_told_again(table: Table) -> None:
    boxes = table.boxes()
    for name in ALL:
        table.train(name, boxes=boxes[name])
    first = _bytes(table.agree("pay-1", ALL))
    assert _bytes(table.agree("pay-1", ALL[:3])) == first
    assert first["survivors"] == b'["pay-1", "pay-2", "pay-3", "pay-4"]'


def test_under_another_plan_the_earlier_sums_are_over(table: Table) -> None:
    """Its keys are deleted, so it must never begin anew: what was opened before is known no longer."""
    boxes = table.boxes()
    table.train("pay-1", boxes=boxes["pay-1"])
    earlier = table.at.plan
    table.at.plan = replace(earlier, run="another")
    table.boxes()
    table.at.plan = earlier
    assert _code(table.train("pay-1", boxes=boxes["pay-1"])) == "input"
    assert _code(table.ask(wire.MASK_KEYS, "pay-1", {"members": ALL})) == "input"


@pytest.mark.parametrize(
    ("members", "changes", "code"),
    [
        (("pay-1",), {}, "input"),
        (("pay-1", "pay-2"), {}, "input"),
        (("pay-2", "pay-3", "pay-4"), {}, "input"),
        ((*ALL, "lender"), {}, "input"),
        (ALL, {"block": "lender_kyc"}, "input"),
        (ALL, {"holder": "pay-9"}, "input"),
    ],
    ids=["alone", "half", "without-me", "a-stranger", "another-block", "another-holder"],
)
def test_orders_that_name_another_group_are_refused(table: Table, members: Any, changes: Any, code: str) -> None:
    assert _code(table.ask(wire.MASK_KEYS, "pay-1", {"members": members, **changes})) == code


@pytest.mark.parametrize("friend", ["tax-1", "lender"])
def test_members_are_of_this_domain_by_the_holders_own_file(table: Table, friend: str) -> None:
    """Whatever holders a coordinator's plan names: a friend's from anywhere would subtract its own update."""
    document = table.at.plan.document
    own = next(line for line in document["lines"] if line["name"] == "payments/pay-1")
    lines = [own, {**own, "name": f"payments/{friend}", "holder": friend}]
    node = _node(table)
    agreement = Agreement.of({**document, "lines": lines}, node)
    told = {name: introduction(node, "pay-1") for name in ("pay-1", friend)}
    with pytest.raises(InputError, match="of this domain"):
        Place.of(node, "pay-1", agreement, {"block": "payments", "members": told})


def test_a_holder_of_summed_updates_only_takes_part_in_no_sum_of_two(table: Table) -> None:
    document = table.at.plan.document
    lines = [line for line in document["lines"] if line["name"] in ("payments/pay-1", "payments/pay-2")]
    node = _node(table)
    agreement = Agreement.of({**document, "lines": lines}, node)
    told = {name: table.at.roster.members[name].public for name in ("pay-1", "pay-2")}
    config = {"block": "payments", "members": told}
    assert set(Place.of(node, "pay-1", agreement, config).group.members) == set(told)
    with pytest.raises(InputError, match="fewer than 3"):
        Place.of(replace(node, limits=replace(node.limits, summed_only=True)), "pay-1", agreement, config)


def test_a_block_of_another_domain_is_not_trained(table: Table) -> None:
    node = _node(table)
    document = table.at.plan.document
    own = next(line for line in document["lines"] if line["name"] == "payments/pay-1")
    schedules = {"ecommerce/pay-1": document["schedules"]["payments/pay-1"]}
    changed = {**document, "lines": [{**own, "name": "ecommerce/pay-1"}], "schedules": schedules}
    agreement = Agreement.of(changed, node)
    with pytest.raises(InputError, match="is not this holder's"):
        train(node, "pay-1", Order(agreement, "ecommerce", 1), np.zeros(own["size"]))
    assert not _charged(table, "pay-1")


def test_a_block_that_the_plan_does_not_sum_is_not_summed(table: Table) -> None:
    table.at.plan = replace(table.at.plan, summed=())
    assert _code(table.ask(wire.MASK_KEYS, "pay-1", {"members": ALL})) == "input"


def test_a_holder_may_refuse_every_plan_that_shows_its_updates_by_themselves(table: Table) -> None:
    """Whatever the coordinator planned: that is for the holder's own file to say, and nothing is charged."""
    name = "pay-1"
    node = _node(table)
    strict = replace(node, limits=replace(node.limits, summed_only=True))
    agreement = Agreement.of(replace(table.at.plan, summed=()).document, node)
    start = np.zeros(agreement.line(f"payments/{name}", name).size)
    with pytest.raises(InputError, match="summed-only"):
        train(strict, name, Order(agreement, "payments", 1), start)
    assert not _charged(table, name)


def test_a_member_with_a_new_key_is_refused(table: Table) -> None:
    table.boxes()
    members = table.at.roster.members
    forged = replace(members["pay-2"], **{k: members["lender"].public[k] for k in ("key", "verify", "bound")})
    table.at.roster = replace(table.at.roster, members={**members, "pay-2": forged})
    assert _code(table.ask(wire.MASK_KEYS, "pay-1", {"members": ALL})) == "seal"
