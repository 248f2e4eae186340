"""A holder's rows for the joint fit: zero where it has nobody, the lender's constant and label excepted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clients import joint
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.federation import LENDER
from model.moments import LABEL, UNIT, BlockRows

ENCODING = Encoding.of(Contract("payments", 1, (Feature("amt", "numeric", high=9.0, special=("-1",)),)))
CODES = np.array([[3, 24, 25]], dtype=np.uint16)  # an ordered bin, the special code, missing
PLACES = np.array([2, -1, 0, -1])


def chunk(monkeypatch: pytest.MonkeyPatch, name: str, encoding: Encoding | None = ENCODING) -> tuple[Any, Any]:
    """The rows that a holder makes of four persons of whom it has two, and its columns."""
    rows = BlockRows(encoding, name == LENDER)
    seat = joint.Seat(*(None, name, None, {}, {}))  # type: ignore[arg-type]
    vars(seat).update(places=PLACES, rows=rows, labels=np.array([1, 1, 0, 0], np.int8))
    codes = CODES if encoding else np.zeros((0, 0), np.uint16)
    monkeypatch.setattr(joint, "table_of", lambda node, holder: SimpleNamespace(codes=codes))
    return seat.chunk(0, 4), rows


def test_a_partners_rows_of_persons_it_does_not_have_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = chunk(monkeypatch, "pay-1")
    assert not made[[1, 3]].any()
    assert np.array_equal(made[[0, 2]], rows.rows(CODES[:, [2, 0]]))
    assert made[[0, 2], 0].tolist() == [UNIT // 2] * 2


@pytest.mark.parametrize("encoding", [ENCODING, None])
def test_the_lender_keeps_everybodys_constant_and_label_only(
    encoding: Encoding | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rows = chunk(monkeypatch, LENDER, encoding)
    assert made[:, 0].tolist() == [UNIT] * 4
    assert made[:, 1].tolist() == [LABEL * UNIT] * 2 + [0] * 2
    assert not made[[1, 3], 2:].any()
    if encoding:
        assert np.array_equal(made[[0, 2]], rows.rows(CODES[:, [2, 0]], np.array([1, 0], np.int8)))
