"""What one partner sends the lender: whatever it is, the others get their answer and are fused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.applicants import Scoring, show
from clients.cohort import cohort_of, commit, hand_out
from clients.config import Node
from clients.fusing import open_evidence
from clients.identity import introduction
from clients.packets import Channel
from clients.scoring import CLAMP, FAMILIES, VARIANCE, Evidence
from model.federation import LENDER
from model.limits.table import MICRO
from model.wire import ABSENT, HELD_OUT, pack
from privacy.matching import POINT

NAMES = ("activity", "payment")
MOST = round(CLAMP * MICRO)


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays every holder of the small sample."""
    return Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path)}, 7)


def _honest(node: Node) -> Evidence:
    group = cohort_of(node).group
    held = int((group == HELD_OUT).sum())
    scores = np.full(len(group), ABSENT, np.int32)
    scores[:3] = (-MOST, 0, MOST)
    families = np.full((held, FAMILIES), -1, np.int8)
    families[0] = (0, 1)
    return Evidence(scores, np.ones(len(group), np.float32), families, np.zeros((held, FAMILIES), np.int16), NAMES)


def _opened(node: Node, raw: bytes) -> Evidence:
    sealed = Channel(node, "pay-1", "plan").seal(LENDER, introduction(node, LENDER), raw, "subscores")
    lender, group = Channel(node, LENDER, "plan"), cohort_of(node).group
    return open_evidence(lender, "pay-1", introduction(node, "pay-1"), sealed, NAMES, group)


def _set(part: str, value: float) -> Callable[[Evidence], bytes]:
    def spoil(told: Evidence) -> bytes:
        array = getattr(told, part).copy()
        array.flat[0] = value
        return replace(told, **{part: array}).to_bytes()

    return spoil


def _fewer(*parts: str) -> Callable[[Evidence], bytes]:
    return lambda told: replace(told, **{part: getattr(told, part)[:5] for part in parts}).to_bytes()


BROKEN: dict[str, Callable[[Evidence], bytes]] = {
    "no archive": lambda told: b"x" * 100,
    "nothing in it": lambda told: pack(),
    "another part": lambda told: pack(subscores=told.subscores, more=told.errors),
    "fewer persons": _fewer("subscores", "errors"),
    "fewer of all": _fewer("subscores", "errors", "families", "shortfalls"),
    "fewer reasons": _fewer("families"),
    "a scalar": lambda told: replace(told, subscores=np.array(1, np.int32)).to_bytes(),
    "wider numbers": lambda told: replace(told, subscores=told.subscores.astype(np.int64)).to_bytes(),
    "fractions": lambda told: replace(told, families=told.families.astype(np.float64)).to_bytes(),
    "a family that is none": _set("families", 2),
    "a family below": _set("families", -2),
    "too high": _set("subscores", MOST + 1),
    "too low": _set("subscores", -MOST - 1),
    "no number": _set("errors", np.nan),
    "no end": _set("errors", np.inf),
    "too unsure": _set("errors", 10 * VARIANCE),
    "less than sure": _set("errors", -1.0),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN.keys())
def test_evidence_that_no_holder_can_mean_is_refused(node: Node, spoil: Callable[[Evidence], bytes]) -> None:
    with pytest.raises(ValueError, match=r"^(?!$)"):
        _opened(node, spoil(_honest(node)))


def test_honest_evidence_comes_through(node: Node) -> None:
    told = _honest(node)
    found = _opened(node, told.to_bytes())
    for part in ("subscores", "errors", "families", "shortfalls"):
        np.testing.assert_array_equal(getattr(found, part), getattr(told, part))


def test_one_partners_bad_set_leaves_the_others_the_applicants(node: Node, small: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(small.parent / "lender_kyc.parquet").head(20)
    table.write_parquet(tmp_path / "new.parquet")
    node = replace(node, applicants=tmp_path / "new.parquet")
    scoring = Scoring.of({"programme": node.programme, "model": "m", "run": "r"}, node)
    lender, keys = introduction(node, LENDER), {name: introduction(node, name) for name in ("pay-1", "tax-1")}
    bad = Channel(node, "pay-1", scoring.id).seal(LENDER, lender, pack(items=np.array(7, np.uint8)), "score-offer")
    assert set(show(Channel(node, LENDER, scoring.id), scoring, keys, {"pay-1": bad})) == {"tax-1"}
    with pytest.raises(ValueError, match="no list of points"):
        show(Channel(node, LENDER, scoring.id), scoring, {"pay-1": keys["pay-1"]}, {"pay-1": bad})


@pytest.mark.parametrize("items", [np.array(7, np.uint8), np.zeros(POINT, np.uint8), np.zeros((2, 5), np.uint8)])
def test_one_partners_bad_set_leaves_the_others_theirs(small: Path, tmp_path: Path, items: Any) -> None:
    node = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path), "alignment": "tokens"}, 7)
    lender, keys = introduction(node, LENDER), {name: introduction(node, name) for name in ("pay-1", "tax-1")}
    good = commit(Channel(node, "tax-1", "plan"), lender)
    bad = Channel(node, "pay-1", "plan").seal(LENDER, lender, pack(items=items), "offer")
    offers = {"pay-1": (bad, hashlib.sha256(items.tobytes()).hexdigest()), "tax-1": good}
    handed = hand_out(Channel(node, LENDER, "plan"), keys, cohort_of(node).labels, offers)
    assert (set(handed.packets), dict(handed.refused)) == ({"tax-1"}, {"pay-1": "protocol"})
