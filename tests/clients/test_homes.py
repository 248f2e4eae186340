"""Home partners: one for each person, chosen by the lender, told sealed, and what trains there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.cohort import aligned
from clients.config import Node
from clients.homes import _secret
from clients.training import places
from model.inputs import InputError
from model.wire import HOMES, PRESENCE, TRAIN
from privacy.alignment import homes
from privacy.plan import Release

NAMES = ["a", "b", "c", "d"]
PERSONS = 100_000


@pytest.fixture(scope="module")
def chosen() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Many persons, who has whom, and the homes."""
    ids = [f"P{i:06d}" for i in range(PERSONS)]
    present = np.random.default_rng(1).random((4, PERSONS)) < 0.6
    return ids, present, homes(ids, NAMES, present, b"secret")


def test_every_person_whom_anybody_has_gets_one_home_among_those_who_have_it(chosen: Any) -> None:
    _, present, home = chosen
    assert home.shape == (PERSONS,)
    np.testing.assert_array_equal(home >= 0, present.any(axis=0))
    known = np.flatnonzero(home >= 0)
    assert present[home[known], known].all()


def test_homes_fall_evenly(chosen: Any) -> None:
    ids, _, _ = chosen
    counts = np.bincount(homes(ids, NAMES, np.ones((4, PERSONS), bool), b"secret"), minlength=4)
    assert np.abs(counts - PERSONS / 4).max() < 5 * np.sqrt(PERSONS * 0.25 * 0.75)


@pytest.mark.parametrize("left", range(4))
def test_when_a_partner_leaves_only_its_own_persons_move(chosen: Any, left: int) -> None:
    ids, present, home = chosen
    stay = [i for i in range(4) if i != left]
    after = homes(ids, [NAMES[i] for i in stay], present[stay], b"secret")
    moved = np.where(after >= 0, np.array(stay)[after], -1) != home
    assert (home[moved] == left).all()


def test_another_secret_chooses_other_homes(chosen: Any) -> None:
    ids, present, home = chosen
    assert (homes(ids, NAMES, present, b"other") != home).mean() > 0.2


@pytest.fixture
def at(stage: Any, files: Any, quick: None) -> Any:
    """A run of which the two shops are home partners, up to its first round."""
    files.toml("[privacy]\n", '[privacy]\nwithin-domain = "home"\n')
    return stage(files.federation)


def _node(at: Any, name: str) -> Node:
    context = at.grid._contexts[at.roster.members[name].node]
    return Node.of(context.node_config, context.run_config, context.run_id)


def _told(at: Any, name: str) -> Any:
    """Runs one round at a holder, which brings it its homes."""
    reply = at.send(TRAIN, at.train(name))
    assert "error" not in reply.content.config_records["config"]
    return aligned(_node(at, name), name, at.plan.id)


def test_the_shops_divide_the_persons_they_have_without_overlap(at: Any) -> None:
    one, two = (_told(at, name) for name in ("shop-1", "shop-2"))
    assert one.home is not None
    assert two.home is not None
    assert not (one.home & two.home).any()
    np.testing.assert_array_equal(one.home | two.home, (one.rows >= 0) | (two.rows >= 0))
    assert (one.rows[one.home] >= 0).all()
    both = (one.rows >= 0) & (two.rows >= 0)
    assert 0.2 < one.home[both].mean() < 0.8


def test_only_the_persons_whose_home_it_is_train_there(at: Any) -> None:
    line = at.plan.line("ecommerce/shop-1")
    assert line.home == "ecommerce"
    shop = _told(at, "shop-1")
    chosen = places(shop, line)
    assert set(chosen) == set(shop.trainable) & set(np.flatnonzero(shop.home))
    assert len(chosen) < len(shop.trainable)


def test_homes_stay_for_the_programme_when_they_are_told_again(at: Any, stage: Any) -> None:
    from server.preparing import hand_out, tell_homes

    before = _told(at, "shop-1").home
    at.parcels.update(hand_out(at.exchange, at.roster, at.plan, {})[0])
    assert tell_homes(at.exchange, at.roster, at.plan, at.parcels) == set()
    np.testing.assert_array_equal(_told(at, "shop-1").home, before)


@pytest.mark.usefixtures("quick")
def test_an_order_for_a_home_line_without_a_told_home_is_refused(at: Any) -> None:
    post = at.train("shop-1")
    post.sealed.clear()
    assert at.send(TRAIN, post).content.config_records["config"]["error"] == "input"


def test_a_home_packet_of_the_other_shop_does_not_open(at: Any) -> None:
    post = at.train("shop-1")
    post.sealed["home"] = at.parcels["shop-2"]["home"]
    assert at.send(TRAIN, post).content.config_records["config"]["error"] == "seal"


def test_homes_are_told_for_one_choice_of_partners_a_plan(at: Any) -> None:
    """Asked for each shop alone, the lender would make every person that both have everybody's home."""
    from server.exchange import Post

    names = ("shop-1", "shop-2")

    def asked(*some: str, **changes: Any) -> Any:
        document, members = at.document("ecommerce/shop-1", **changes), [at.roster.members[n] for n in names]
        lender = {"lenders": json.dumps(at.roster.lender.public).encode()}
        posts = [Post(m.name, m.node, {"holder": m.name, "plan": document}, sealed=lender) for m in members]
        sealed = {n: answer.sealed("sealed") for n, answer in at.exchange.ask(PRESENCE, posts).items()}
        order = {"plan": document, "keys": {n: at.roster.members[n].public for n in some}}
        post = Post("lender", at.roster.lender.node, order, sealed={f"sealed-{n}": sealed[n] for n in some})
        answer = at.exchange.ask(HOMES, [post]).get("lender")
        return answer.content.config_records["config"] if answer else {"error": at.exchange.failures["lender"]}

    assert "error" not in asked(*names)  # the same choice again
    assert asked("shop-1")["error"] == "input"
    told = asked("shop-1", run="another plan")
    post = at.train("shop-1")
    post.sealed["home"] = told["sealed-shop-1"]  # homes of one plan do not open for another
    assert at.send(TRAIN, post).content.config_records["config"]["error"] == "seal"


def test_a_home_line_of_another_domain_is_refused(at: Any) -> None:
    reply = at.send(TRAIN, at.train("pay-1", release__home="ecommerce"))
    assert reply.content.config_records["config"]["error"] == "input"


def test_without_a_told_home_there_are_no_places(node: Node) -> None:
    line = Release("ecommerce/shop-1", "shop-1", 1.0, 1, 1, 1.0, home="ecommerce")
    with pytest.raises(InputError, match="never told"):
        places(aligned(node, "shop-1"), line)


def test_a_home_is_charged_once_over_both_shops(at: Any, small: Path) -> None:
    lines = {line["name"]: line for line in json.loads(json.dumps(at.plan.document))["lines"]}
    assert lines["ecommerce/shop-1"]["noise_multiplier"] == lines["ecommerce/shop-2"]["noise_multiplier"]
    assert at.plan.plan.spent() <= 1.0 + 1e-9


def test_a_presence_that_does_not_open_costs_the_others_nothing(at: Any) -> None:
    from server.exchange import Post

    document, shops = at.document("ecommerce/shop-1", run="another plan"), ("shop-1", "shop-2")
    members = [at.roster.members[name] for name in shops]
    lender = {"lenders": json.dumps(at.roster.lender.public).encode()}
    posts = [Post(m.name, m.node, {"holder": m.name, "plan": document}, sealed=lender) for m in members]
    sealed = {f"sealed-{n}": answer.sealed("sealed") for n, answer in at.exchange.ask(PRESENCE, posts).items()}
    sealed["sealed-shop-2"] = b"x" * 200
    order = {"plan": document, "keys": {m.name: m.public for m in members}}
    answer = at.exchange.ask(HOMES, [Post("lender", at.roster.lender.node, order, sealed=sealed)])["lender"]
    assert [answer.sealed(f"sealed-{name}") is None for name in shops] == [False, True]


def test_the_key_of_the_choice_is_whole_or_refused(at: Any) -> None:
    """A torn one would choose other homes, and a person pay at two."""
    node = _node(at, "lender")
    path = node.durable("lender") / "home.key"
    key = _secret(node)
    assert (len(key), path.stat().st_mode & 0o777, _secret(node)) == (32, 0o600, key)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is not 32 bytes long"):
        _secret(node)
