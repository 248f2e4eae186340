"""The cohort: who learns which labels, what a packet opens to, and that absent never looks like missing."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.cohort import accept, aligned, cohort_of, hand_out, sizes_of, table_of
from clients.config import Node
from clients.identity import introduction, private_key
from clients.packets import Channel
from clients.tables import load_cohort
from model.federation import LENDER, load_federation
from model.inputs import InputError
from model.wire import HELD_OUT, TRAIN_ROWS, unpack
from privacy.envelope import SealBroken

NAMES = ("pay-1", "shop-1", "shop-2", "tax-1")


def _node(federation: Path, out: Path, **config: Any) -> Node:
    run = {"federation": str(federation), "out": str(out), **config}
    return Node.of({"partition-id": 0, "num-partitions": 1}, run, 7)


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays every holder of the small sample."""
    return _node(small, tmp_path / "run")


def _packets(node: Node, plan: str = "plan") -> dict[str, bytes]:
    keys = {name: introduction(node, name) for name in NAMES}
    return dict(hand_out(Channel(node, LENDER, plan), keys, cohort_of(node).labels).packets)


def _accept(node: Node, name: str, packet: bytes, plan: str = "plan") -> None:
    accept(Channel(node, name, plan), introduction(node, LENDER), packet)


def _opened(node: Node, name: str, packet: bytes) -> dict[str, Any]:
    return unpack(Channel(node, name, "plan").open(LENDER, introduction(node, LENDER), packet, "cohort"))


def test_a_packet_reveals_labels_of_training_persons_only(node: Node) -> None:
    cohort = load_cohort(node.federation, 0)
    opened = _opened(node, "pay-1", _packets(node)["pay-1"])
    assert set(opened) == {"form", "shown", "answer", "set", "labels", "group"}
    train = cohort.group == TRAIN_ROWS
    np.testing.assert_array_equal(opened["labels"][train], cohort.labels[train])
    assert set(opened["labels"][~train].tolist()) == {-1}
    assert (cohort.group == HELD_OUT).sum() > 100


def test_a_packet_holds_no_id_and_keys_differ_from_run_to_run(node: Node) -> None:
    first, second = (_opened(node, "pay-1", _packets(node)["pay-1"]) for _ in range(2))
    assert first["answer"].tobytes() != second["answer"].tobytes()  # the key
    assert not {t.tobytes() for t in first["shown"]} & {t.tobytes() for t in second["shown"]}
    assert b"P000" not in b"".join(array.tobytes() for array in first.values())


def test_the_sizes_told_are_those_of_the_groups(node: Node) -> None:
    sizes = sizes_of(node)
    group = load_cohort(node.federation, 0).group
    assert sizes == {"train": int((group == TRAIN_ROWS).sum()), "held_out": int((group == HELD_OUT).sum())}


def test_a_packet_of_another_partner_does_not_open(node: Node) -> None:
    packets = _packets(node)
    with pytest.raises(SealBroken):
        _accept(node, "shop-1", packets["pay-1"])


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_packet_with_one_changed_byte_does_not_open(node: Node, at: int) -> None:
    packet = bytearray(_packets(node)["pay-1"])
    packet[at] ^= 1
    with pytest.raises(SealBroken):
        _accept(node, "pay-1", bytes(packet))
    assert not (node.folder("pay-1") / "cohort.npz").exists()


def test_a_packet_of_another_programme_does_not_open(node: Node, small: Path, tmp_path: Path) -> None:
    other = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path / "run")}, 8)
    with pytest.raises(SealBroken):
        _accept(other, "pay-1", _packets(node)["pay-1"])


def test_a_packet_of_another_plan_or_under_another_key_does_not_open(node: Node) -> None:
    packet = _packets(node)["pay-1"]
    with pytest.raises(SealBroken):
        _accept(node, "pay-1", packet, plan="next")
    with pytest.raises(SealBroken, match="signature"):
        accept(Channel(node, "pay-1", "plan"), introduction(node, "shop-1"), packet)  # the wrong name
    accept(Channel(node, "pay-1", "plan"), introduction(node, LENDER), packet)
    forger = _node(node.federation.path, node.state.parent.parent / "forger")  # the same names, other keys
    forged = hand_out(Channel(forger, LENDER, "plan"), {"pay-1": introduction(node, "pay-1")}, cohort_of(node).labels)
    with pytest.raises(SealBroken, match="changed"):
        accept(Channel(node, "pay-1", "plan"), introduction(forger, LENDER), forged.packets["pay-1"])


def test_alignment_finds_each_holders_own_row_and_minus_one_for_the_absent(node: Node) -> None:
    packets = _packets(node)
    ids = load_cohort(node.federation, 0).ids.to_list()
    for name in NAMES:
        _accept(node, name, packets[name])
        own = table_of(node, name).ids.to_list()
        rows = aligned(node, name).rows
        known = set(own)
        assert all((row == -1) == (person not in known) for person, row in zip(ids, rows, strict=True))
        assert all(own[row] == person for person, row in zip(ids, rows, strict=True) if row >= 0)


def test_absent_persons_are_never_counted_as_missing_values(files: Any, tmp_path: Path) -> None:
    """A person without a row stays -1 even where another person's row holds nothing but missing values."""

    def empty_first(table: pl.DataFrame) -> pl.DataFrame:
        first = pl.int_range(pl.len()) == 0
        features = [c for c in table.columns if c != "id"]
        return table.with_columns(pl.when(first).then(None).otherwise(pl.col(c)).alias(c) for c in features)

    files.table("payments.parquet", empty_first)
    node = _node(files.federation, tmp_path / "run")
    _accept(node, "pay-1", _packets(node)["pay-1"])
    table = table_of(node, "pay-1")
    assert table.encoding is not None
    place = load_cohort(node.federation, 0).ids.to_list().index(table.ids[0])
    assert aligned(node, "pay-1").rows[place] == 0
    assert [part.missing for part in table.encoding.parts] == table.codes[:, 0].tolist()


def test_the_lender_keeps_its_own_alignment_without_held_out_labels(node: Node) -> None:
    _packets(node)
    own = aligned(node, "lender")
    assert (own.labels[own.group == HELD_OUT] == -1).all()
    assert (own.rows >= 0).all()


def test_a_table_is_read_again_when_its_file_changes(files: Any, tmp_path: Path) -> None:
    node = _node(files.federation, tmp_path / "run")
    before = table_of(node, "pay-1")
    assert table_of(node, "pay-1") is before
    files.table("payments.parquet", lambda table: table.head(900))
    assert table_of(node, "pay-1").ids.len() == 900


def test_a_changed_contract_is_read_again(files: Any, tmp_path: Path) -> None:
    before = table_of(_node(files.federation, tmp_path / "run"), "pay-1")
    files.text("payments.contract.toml", "range = [0, 180]", "range = [0, 12]")
    after = table_of(_node(files.federation, tmp_path / "run"), "pay-1")
    assert before.encoding != after.encoding


def test_federations_that_differ_in_terms_share_tables_and_those_that_differ_in_persons_do_not(
    files: Any, tmp_path: Path
) -> None:
    node = _node(files.federation, tmp_path / "run")
    other = files.folder / "other.toml"
    other.write_text(files.federation.read_text().replace("epsilon = 1.0", "epsilon = 2.0"), encoding="utf-8")
    assert table_of(_node(other, tmp_path / "run"), "pay-1") is table_of(node, "pay-1")
    assert cohort_of(_node(other, tmp_path / "run")) is cohort_of(node)
    rows = 'data = "payments.parquet"'
    text = files.federation.read_text().replace(rows, f'{rows}\nonly = {{ hkey = ["NE"] }}')
    other.write_text(text, encoding="utf-8")
    assert table_of(_node(other, tmp_path / "run"), "pay-1").ids.len() < table_of(node, "pay-1").ids.len()


def test_a_private_key_is_made_once_and_for_its_owner_only(node: Node) -> None:
    key = private_key(node.folder("pay-1"))
    path = node.folder("pay-1") / "seal.key"
    assert private_key(node.folder("pay-1")) == key
    assert path.stat().st_mode & 0o077 == 0
    assert private_key(node.durable("pay-1")) != private_key(node.durable("shop-1"))


def test_a_partner_outside_the_federation_gets_no_packet(node: Node) -> None:
    """Labels go to declared partners only, whoever the coordinator names."""
    with pytest.raises(InputError):
        hand_out(Channel(node, LENDER, "plan"), {"stranger": introduction(node, "pay-1")}, cohort_of(node).labels)


def test_the_packet_has_one_length_for_every_partner(node: Node) -> None:
    assert len({len(packet) for packet in _packets(node).values()}) == 1


def test_the_cohort_keeps_the_lenders_order(node: Node) -> None:
    federation = load_federation(node.federation.path)
    ids = pl.read_parquet(federation.lender.data[0])["id"].to_list()
    assert load_cohort(federation, 0).ids.to_list() == ids
