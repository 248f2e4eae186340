"""node.toml: read strictly, and stronger than whatever a run asks."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.config import Node
from clients.nodefile import NodeFile
from clients.partner import joining
from clients.partner.folder import Folder
from clients.partner.template import node_toml
from model.inputs import InputError
from privacy.signing import new_signing_key, verify_key
from tests.partners import Hub

Change = Callable[..., Path]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.fixture
def joined(small: Path, tmp_path: Path, hub: Hub) -> Folder:
    folder = joining.make(tmp_path / "pay", joining.Wish("pay-1", "", small, ()))
    path = hub.welcome(folder)
    joining.accept(folder, joining.read(folder, path).welcome, path.read_text())
    return folder


@pytest.fixture
def change(joined: Folder) -> Change:
    """Replaces text in the node file and gives its path."""

    def edit(old: str, new: str) -> Path:
        before = joined.node.path.read_text()
        assert old in before
        joined.node.path.write_text(before.replace(old, new, 1))
        return joined.node.path

    return edit


def node_of(path: Path, **run: str | float) -> Node:
    return Node.of({"node": str(path)}, run, 1)


def test_a_node_is_what_its_own_file_and_its_welcome_say(joined: Folder, hub: Hub, small: Path) -> None:
    node = node_of(joined.node.path)
    assert (node.holders, node.simulated, node.programme) == (("pay-1",), False, "sample")
    assert node.coordinator == verify_key(hub.key)
    assert node.durable("pay-1") == joined.root / "state" / "pay-1"
    assert node.federation.path == small
    limits = node.limits
    assert (limits.max_cohort, limits.min_cohort, limits.min_free_disk, limits.kinds) == (2_000_000, 100, 512, ())
    assert (limits.max_alignments, limits.max_models, limits.max_applicants) == (12, 12, 1_000_000)
    assert (node.epsilon, node.total, node.delta) == (1.0, 1.0, 1e-5)
    with pytest.raises(InputError, match="is not played by this node"):
        node.holder("lender")


@pytest.mark.parametrize(
    "run",
    [
        {"epsilon": "inf"},
        {"epsilon": 100.0, "delta": "0.5"},
        {"federation": "/nowhere/federation.toml", "data": "/etc", "out": "/tmp/x", "ledger": "/tmp/y", "seed": 9},
    ],
)
def test_nothing_in_a_run_changes_what_a_node_is(joined: Folder, run: dict[str, str | float]) -> None:
    assert node_of(joined.node.path, **run) == node_of(joined.node.path)


def test_its_own_ceilings_hold(change: Change) -> None:
    change("# epsilon = 1.0", "epsilon = 0.25")
    change("summed-only = false", "summed-only = true")
    node = node_of(change("max-cohort = 2_000_000", "max-cohort = 5000"))
    assert (node.epsilon, node.total, node.limits.max_cohort) == (0.25, 1.0, 5000)
    assert node.limits.summed_only


def test_a_federation_without_privacy_runs_on_no_real_node(joined: Folder, small: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(small.parent, tmp_path / "noiseless") / small.name
    copied.write_text(copied.read_text().replace("epsilon = 1.0", "epsilon = inf"))
    path = joined.node.path
    path.write_text(path.read_text().replace(str(small), str(copied)))
    with pytest.raises(InputError, match="must be finite outside a simulation"):
        node_of(path)


def test_the_split_of_a_lender_is_its_own_to_choose(change: Change) -> None:
    assert node_of(change("[node]", "[node]\nseed = 3"), seed=77).seed == 3


def test_its_own_data_replace_those_of_the_federation_file(change: Change, joined: Folder) -> None:
    node = node_of(change("data = []", 'data = ["mine.parquet"]'))
    assert node.federation.holder("pay-1").data == (joined.root / "mine.parquet",)
    assert node.federation.holder("tax-1").data != node.federation.holder("pay-1").data


def test_a_lenders_own_data_too(small: Path, tmp_path: Path) -> None:
    folder = joining.make(tmp_path / "l", joining.Wish("lender", "", small, (tmp_path / "a.csv", tmp_path / "b.csv")))
    assert folder.node.read_federation().lender.data == (tmp_path / "a.csv", tmp_path / "b.csv")
    assert folder.node.domain == "lender_kyc"


def test_a_node_that_joined_nobody_obeys_nobody(small: Path, tmp_path: Path) -> None:
    folder = joining.make(tmp_path / "pay", joining.Wish("pay-1", "", small, ()))
    with pytest.raises(InputError, match=r"trust\.json: does not exist: this node joined no federation; run `fedscore"):
        node_of(folder.node.path)


def test_a_welcome_that_was_edited_counts_for_nothing(joined: Folder) -> None:
    joined.trust.write_text(joined.trust.read_text().replace("127.0.0.1:1", "127.0.0.1:2"))
    with pytest.raises(InputError, match="was changed after it was signed"):
        node_of(joined.node.path)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('domain = "payments"', 'domain = "ecommerce"', r"node\.domain is not what federation\.toml says of pay-1"),
        ('domain = "payments"', 'domain = "Pay Ments"', r"node\.domain must be lower-case words"),
        ('holder = "pay-1"', 'holder = "pay-9"', "is not in this federation, got 'pay-9'"),
        ("# delta = 1e-5", "delta = 1e-9", r"limits\.delta is below the 1e-05 of federation\.toml"),
        ("# epsilon = 1.0", "epsilon = inf", r"limits\.epsilon must be finite outside a simulation"),
        *(
            ("# epsilon = 1.0", f"epsilon = {value}", r"limits\.epsilon must be a number > 0")
            for value in ("-1", "0", "nan", '"much"', "true")
        ),
        ('federation = "', 'federal = "', r"node\.federal is not a known key; did you mean 'federation'"),
        ("min-free-disk = 512", "min-free-disk = 9_000_000_000", r"limits\.min-free-disk is 9000000000 MiB, but less"),
        ("max-cohort", "max-cohrt", r"limits\.max-cohrt is not a known key; did you mean 'max-cohort'\."),
        ("[limits]", "[limit]", "limit is not a known key; did you mean 'limits'"),
        ("min-cohort = 100", 'min-cohort = "few"', r"limits\.min-cohort must be a whole number >= 0"),
        ("summed-only = false", "summed-only = 1", r"limits\.summed-only must be true or false"),
        ("port = 0", "port = 70000", r"link\.port must be 0 to 65535"),
        ('superlink = ""', 'superlink = "https://x"', r"link\.superlink must be host:port"),
        ("kinds = []", 'kinds = ["train.blok"]', r"limits\.kinds\.train\.blok is not a known key; did you mean 'train"),
        ("kinds = []", 'kinds = "all"', r"limits\.kinds must be a list"),
        ("data = []", "data = 5", r"node\.data must be a file name"),
        ("[node]", "node = 3\n[other]", "is not a known key"),
        ("[check]", "[check", "is not valid TOML"),
    ],
)
def test_a_wrong_node_file_is_one_line_with_its_field(change: Change, old: str, new: str, rule: str) -> None:
    path = change(old, new)
    with pytest.raises(InputError, match=rule) as told:
        node_of(path)
    assert "\n" not in str(told.value)


def test_a_node_answers_the_kinds_that_its_file_lists(change: Change) -> None:
    limits = node_of(change("kinds = []", 'kinds = ["query.describe"]')).limits
    limits.refuse("query.describe")
    with pytest.raises(InputError, match=r"kinds does not list what was asked, got 'train\.block'"):
        limits.refuse("train.block")


def test_without_a_list_all_kinds_are_answered(joined: Folder) -> None:
    node_of(joined.node.path).limits.refuse("train.block")


def describe(node: Path, key: bytes, home: Path) -> Any:
    """What a real node answers to the first question of a coordinator with this key."""
    from clients.app import app
    from model import wire
    from server.exchange import Exchange, Post
    from server.identity import SIGN_KEY
    from server.outbox import Outbox
    from simulations.loopback import FIRST_NODE, LoopbackGrid

    (home / SIGN_KEY).parent.mkdir(parents=True, exist_ok=True)
    (home / SIGN_KEY).write_bytes(key)
    grid = LoopbackGrid(app, [{"node": str(node)}], {})
    exchange = Exchange(grid, 5.0, Outbox.of("1", home, None))
    answers = exchange.ask(wire.DESCRIBE, [Post(f"node-{FIRST_NODE}", FIRST_NODE, {})])
    return [answer.data for answer in answers.values()] or list(exchange.failures.values())


def test_a_real_node_obeys_the_coordinator_that_it_joined_and_no_other(
    change: Change, joined: Folder, hub: Hub, tmp_path: Path
) -> None:
    (told,) = describe(joined.node.path, hub.key, tmp_path / "hub")
    assert [(row["name"], row["domain"]) for row in told["holders"]] == [("pay-1", "payments")]
    assert describe(joined.node.path, new_signing_key(), tmp_path / "other") == ["seal"]
    change("kinds = []", 'kinds = ["train.block"]')
    assert describe(joined.node.path, hub.key, tmp_path / "hub") == ["input"]
    joined.trust.unlink()
    (refused,) = describe(joined.node.path, hub.key, tmp_path / "hub")
    assert refused != "internal"


def test_names_that_need_quotes_survive_the_template(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(node_toml("pay-1", "payments", '/data "of" 支付\\x/f.toml', ["a'b.csv"]))
    node = NodeFile.load(tmp_path / "node.toml")
    assert (node.federation, node.data) == (Path('/data "of" 支付\\x/f.toml'), (tmp_path / "a'b.csv",))


def test_the_pins_are_those_of_the_welcome(joined: Folder, hub: Hub, small: Path, tmp_path: Path) -> None:
    from clients.identity import pinned
    from privacy.envelope import SealBroken

    other = joining.make(tmp_path / "tax", joining.Wish("tax-1", "", small, ()))
    node = node_of(joined.node.path)
    key = base64.b64decode(joining.request_of(other).holder.verify)
    with pytest.raises(SealBroken, match="nobody vouched for the key of tax-1"):
        pinned(node, "pay-1", "tax-1", key)
    path = hub.welcome(joined, other, number=2)
    joining.accept(joined, joining.read(joined, path).welcome, path.read_text())
    assert pinned(node, "pay-1", "tax-1", key) == key
    path = hub.welcome(joined, number=3)
    joining.accept(joined, joining.read(joined, path).welcome, path.read_text())
    with pytest.raises(SealBroken, match="nobody vouched"):  # it was expelled
        pinned(node, "pay-1", "tax-1", key)
