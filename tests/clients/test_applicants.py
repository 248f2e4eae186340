"""Applicants of a lender that tries ids, and sets of a partner that does: every list counts, found or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients import applicants
from clients.applicants import Scoring
from clients.cohort import table_of
from clients.config import Node
from clients.identity import introduction
from clients.packets import Channel
from clients.published import Known, remember
from clients.scoring import Evidence
from model.averages import families_of
from model.blocks import Block
from model.inputs import InputError
from model.wire import ABSENT

FEW = 20


class Desk:
    """A lender's and one partner's side of batches, by private set intersection."""

    def __init__(self, node: Node, small: Path, file: Path) -> None:
        self.node = replace(node, alignment="psi", applicants=file)
        self.table, self.file = pl.read_parquet(small.parent / "lender_kyc.parquet"), file
        encoding = table_of(node, "pay-1").encoding
        assert encoding is not None
        weights = np.random.default_rng(0).normal(size=1 + sum(len(part.labels) for part in encoding.parts))
        self.block = Block("scorecard", encoding, weights)
        remember(node, "pay-1", self.block, Known())

    def ask(self, first: int = 0, model: str = "m", run: str = "r") -> int:
        """How many of some applicants, from a row of the lender's file on, the partner has."""
        self.table.slice(first, FEW).write_parquet(self.file)
        scoring = Scoring.of({"programme": self.node.programme, "model": model, "run": run}, self.node)
        channels = {name: Channel(self.node, name, scoring.id) for name in ("lender", "pay-1")}
        told = {name: introduction(self.node, name) for name in channels}
        offers = {"pay-1": applicants.offer(channels["pay-1"], scoring, told["lender"])}
        packet = applicants.show(channels["lender"], scoring, {"pay-1": told["pay-1"]}, offers)["pay-1"]
        sealed = applicants.answer(channels["pay-1"], scoring, told["lender"], packet, self.block)
        opened = channels["lender"].open("pay-1", told["pay-1"], sealed, "score")
        return int((Evidence.from_bytes(opened, families_of(self.block.encoding)).subscores != ABSENT).sum())

    def limit(self, **limits: Any) -> None:
        self.node = replace(self.node, limits=replace(self.node.limits, **limits))


@pytest.fixture
def desk(node: Node, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("privacy.matching.SMALLEST", 16)
    return Desk(node, small, tmp_path / "applicants.parquet")


def test_ids_that_are_tried_count_whether_they_are_found_or_not(desk: Desk) -> None:
    desk.limit(max_applicants=FEW + 1)
    found = desk.ask()
    assert 0 < found < FEW
    with pytest.raises(InputError, match="max-applicants"):
        desk.ask(first=1)
    assert desk.ask(run="again") == found  # the same list is free


def test_a_list_counts_under_each_model_that_it_is_shown_for(desk: Desk) -> None:
    """Its points are other ones, so nobody can know that it is the same."""
    desk.limit(max_applicants=2 * FEW - 1)
    desk.ask()
    with pytest.raises(InputError, match="max-applicants"):
        desk.ask(model="other")


def test_sets_of_a_partner_are_counted_over_all_models(desk: Desk) -> None:
    desk.limit(max_alignments=1)
    desk.ask()
    desk.ask(first=1)  # its persons are the same
    with pytest.raises(InputError, match="max-alignments"):
        desk.ask(model="other")
