"""Evidence for the lender: sub-scores, reason families in coarse steps, and one voice a domain."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.cohort import aligned, cohort_of, hand_out, table_of
from clients.config import Node
from clients.fusing import _merged, reasons_of
from clients.orders import Agreement
from clients.packets import Channel
from clients.scoring import BUCKET_E6, FAMILIES, Evidence, score
from model.averages import families_of
from model.blocks import Block
from model.encoding import Encoding
from model.inputs import InputError
from model.limits.table import MICRO
from model.wire import ABSENT, HELD_OUT, TRAIN_ROWS
from privacy.plan import BudgetExceeded


@pytest.fixture
def node(node: Node) -> Node:
    """The aligned node, in a simulation without privacy: what reasons are measured against is exact then."""
    return replace(node, epsilon=math.inf)


def _weights(node: Node, name: str, seed: int = 0) -> np.ndarray[Any, Any]:
    encoding = table_of(node, name).encoding
    assert encoding is not None
    return np.random.default_rng(seed).normal(scale=0.3, size=encoding.columns)


def test_sub_scores_are_those_of_the_block_and_absent_where_there_is_no_row(node: Node, scored: Any) -> None:
    weights = _weights(node, "pay-1")
    evidence = scored(node, "pay-1", weights)
    table, rows = table_of(node, "pay-1"), aligned(node, "pay-1").rows
    assert table.encoding is not None
    block = Block.finished("scorecard", table.encoding, weights)
    expected = np.rint(np.clip(block.subscores(table.codes), -20, 20) * MICRO)
    np.testing.assert_array_equal(evidence.subscores[rows >= 0], expected[rows[rows >= 0]])
    assert (evidence.subscores[rows < 0] == ABSENT).all()
    assert (evidence.subscores[rows >= 0] != ABSENT).all()


def test_a_row_of_missing_values_scores_like_any_relationship(node: Node) -> None:
    """The bin `missing` has points of its own: such a person is not absent."""
    table = table_of(node, "pay-1")
    assert table.encoding is not None
    codes = np.array([[p.missing] for p in table.encoding.parts], dtype=np.uint16)
    block = Block.finished("scorecard", table.encoding, _weights(node, "pay-1"))
    assert int(np.rint(block.subscores(codes)[0] * MICRO)) != ABSENT


def test_huge_weights_are_clamped_before_they_leave(node: Node, scored: Any) -> None:
    evidence = scored(node, "pay-1", _weights(node, "pay-1") * 1e6)
    told = evidence.subscores[evidence.subscores != ABSENT]
    assert np.abs(told).max() <= 20 * MICRO


@pytest.fixture
def reasons(node: Node, scored: Any) -> tuple[Evidence, np.ndarray[Any, Any]]:
    """Evidence of one partner, and each held-out person's excess by family, computed afresh."""
    weights = _weights(node, "pay-1")
    table, cohort = table_of(node, "pay-1"), aligned(node, "pay-1")
    assert table.encoding is not None
    block = Block.finished("scorecard", table.encoding, weights)
    groups = block.by_group(table.codes)
    trained = cohort.rows[(cohort.group == TRAIN_ROWS) & (cohort.rows >= 0)]
    held = cohort.rows[cohort.group == HELD_OUT]
    excess = np.stack([groups[n] - groups[n][trained].mean() for n in families_of(table.encoding)], axis=1)[held]
    excess[held < 0] = np.nan
    return scored(node, "pay-1", weights), excess


def test_shortfalls_are_told_in_coarse_steps_only(reasons: Any) -> None:
    evidence, excess = reasons
    steps = evidence.shortfalls
    assert steps.dtype == np.int16
    assert (steps >= 0).all()
    here = evidence.families[:, 0] >= 0
    exact = np.take_along_axis(excess, evidence.families[:, :1].astype(int), axis=1)[:, 0]
    np.testing.assert_array_equal(steps[here, 0], np.floor(exact[here] * MICRO / BUCKET_E6))


def test_the_families_that_hurt_most_are_named_worst_first(reasons: Any) -> None:
    evidence, excess = reasons
    assert evidence.families.shape[1] == FAMILIES
    worst = np.argsort(-np.floor(np.nan_to_num(excess, nan=-1e9) * MICRO / BUCKET_E6), axis=1, kind="stable")
    here = evidence.families[:, 0] >= 0
    np.testing.assert_array_equal(evidence.families[here, 0], worst[here, 0])
    assert (evidence.shortfalls[:, 0] >= evidence.shortfalls[:, 1]).all()


def test_families_without_harm_and_absent_persons_are_not_named(reasons: Any) -> None:
    evidence, excess = reasons
    absent = np.isnan(excess[:, 0])
    assert absent.any()
    assert (evidence.families[absent] == -1).all()
    assert (evidence.shortfalls[absent] == 0).all()
    assert ((evidence.families >= 0) == (evidence.shortfalls > 0)).all()


def test_packed_evidence_is_read_back_and_has_one_length(node: Node, scored: Any) -> None:
    one, other = (scored(node, name, _weights(node, name)) for name in ("pay-1", "shop-2"))
    sure = replace(one, errors=np.random.default_rng(0).random(len(one.errors), dtype=np.float32))
    assert len(one.to_bytes()) == len(other.to_bytes()) == len(sure.to_bytes())
    again = Evidence.from_bytes(one.to_bytes(), one.names)
    np.testing.assert_array_equal(again.subscores, one.subscores)
    np.testing.assert_array_equal(again.errors, one.errors)
    np.testing.assert_array_equal(again.families, one.families)


def _evidence(subscores: list[int], family: int, names: tuple[str, ...] = ("a", "b")) -> Evidence:
    held = len(subscores) - 1  # the first person trains
    families = np.full((held, FAMILIES), family, np.int8)
    shortfalls = np.full((held, FAMILIES), family + 1, np.int16)
    errors = np.full(len(subscores), family + 0.5, np.float32)
    return Evidence(np.array(subscores, np.int32), errors, families, shortfalls, names)


HELD = np.array([False, True, True, True])


def test_the_first_partner_of_a_domain_speaks_for_a_person_never_the_sum() -> None:
    merged = _merged([_evidence([5, ABSENT, 7, ABSENT], 0), _evidence([50, 60, 70, ABSENT], 1)], HELD)
    assert merged.subscores.tolist() == [5, 60, 7, ABSENT]
    assert merged.errors.tolist() == [0.5, 1.5, 0.5, 1.5]
    assert merged.families[:, 0].tolist() == [1, 0, 1]
    assert merged.shortfalls[:, 0].tolist() == [2, 1, 2]


def test_three_partners_are_asked_in_turn() -> None:
    parts = [_evidence([ABSENT] * 4, 0), _evidence([ABSENT, 2, ABSENT, ABSENT], 0), _evidence([3, 3, 3, ABSENT], 1)]
    assert _merged(parts, HELD).subscores.tolist() == [3, 2, 3, ABSENT]


def test_shops_in_the_other_order_give_the_other_voice(files: Any, tmp_path: Path) -> None:
    """End to end: where both shops know a person, the one that stands first in the file speaks."""
    from simulations.run import Settings, simulate

    first = pl.read_parquet(files.folder / "ecommerce-1.parquet")
    features = [c for c in first.columns if c != "id"]
    blank = first.with_columns(pl.lit(None).cast(first.schema[c]).alias(c) for c in features)
    blank.write_parquet(files.folder / "blank.parquet")
    files.toml('"ecommerce-2.csv"', '"blank.parquet"')
    result = simulate(Settings(files.federation, tmp_path / "out", epsilon=float("inf")))
    evidence = pl.read_parquet(result.out / "nodes" / "lender" / "evidence.parquet")
    known = evidence.filter(pl.col("id").is_in(first["id"].implode()))
    assert known["sub_ecommerce"].n_unique() > 0.9 * known.height  # the blank shop would give one value


def test_reasons_are_told_as_family_and_micro_logit() -> None:
    families, shortfalls = np.array([[1, 0], [0, -1]], np.int8), np.array([[3, 1], [2, 0]], np.int16)
    evidence = Evidence(np.zeros(2, np.int32), np.zeros(2, np.float32), families, shortfalls, ("a", "b"))
    assert reasons_of(evidence) == [f"b:{3 * BUCKET_E6};a:{BUCKET_E6}", f"a:{2 * BUCKET_E6}"]


def test_a_holder_without_a_block_scores_nothing(files: Any, tmp_path: Path, scored: Any) -> None:
    files.toml('contract = "lender_kyc.contract.toml"\n', "")
    node = Node.of(
        {"num-partitions": 1}, {"federation": str(files.federation), "out": str(tmp_path), "epsilon": "inf"}, 7
    )
    hand_out(Channel(node, "lender", "plan"), {}, cohort_of(node).labels)
    with pytest.raises(InputError, match="is not this holder's"):
        scored(node, "lender", np.zeros(3))


def test_the_families_of_a_block_are_public_and_sorted(node: Node) -> None:
    contract = node.federation.holder("pay-1").contract
    assert contract is not None
    assert list(families_of(Encoding.of(contract))) == sorted({f.group for f in contract.features})


@pytest.mark.parametrize("change", [{"bound": 1.0}, {"size": 2}, {"count": 2}, {"probability": 0.5}])
def test_averages_that_nothing_pays_for_are_not_told(
    node: Node, lines: Any, document: Any, trained: Any, change: Any
) -> None:
    block, told = lines(node, "pay-1")
    private = replace(node, epsilon=1.0)
    agreement = Agreement.of(document(private, [block, replace(told, **change)]), private)
    weights = trained(private, agreement)
    with pytest.raises(InputError, match="does not pay"):
        score(private, "pay-1", agreement, weights)


def test_without_a_line_for_averages_no_family_is_told(node: Node, lines: Any, document: Any) -> None:
    agreement = Agreement.of(document(node, lines(node, "pay-1")[:1]), node)
    evidence = score(node, "pay-1", agreement, _weights(node, "pay-1"))
    assert (evidence.families == -1).all()
    assert not evidence.shortfalls.any()


def test_the_averages_behind_reasons_are_drawn_once(node: Node, lines: Any, document: Any, trained: Any) -> None:
    private = replace(node, epsilon=1.0)
    agreement = Agreement.of(document(private, lines(node, "pay-1")), private)
    weights = trained(private, agreement)
    one, other = (score(private, "pay-1", agreement, weights) for _ in range(2))
    np.testing.assert_array_equal(one.shortfalls, other.shortfalls)


def test_a_second_plan_for_the_same_averages_is_not_paid(node: Node, lines: Any, document: Any, trained: Any) -> None:
    private = replace(node, epsilon=1.0)
    plans = [Agreement.of(document(private, lines(node, "pay-1"), run=run), private) for run in ("a", "b")]
    weights = trained(private, plans[0])
    score(private, "pay-1", plans[0], weights)
    with pytest.raises(BudgetExceeded, match="would pass"):
        trained(private, plans[1])
    with pytest.raises(BudgetExceeded, match="never charged"):
        score(private, "pay-1", plans[1], weights)
