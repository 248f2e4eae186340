"""A partner's own message of a sub-score, made from its files, as the decision service takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.applicants import block_of
from clients.config import Node
from clients.published import Known, allow, remember, version_of
from clients.receipts import Asked, subscore_message
from model.blocks import Block
from model.inputs import InputError

AS_OF = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)
LATE = {"covered": True, "consent": True}
FRESH = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z", "tenure_months": 24}
FEATURES = [
    {"name": "orders", "kind": "numeric", "range": [0, 4], "edges": [1, 2, 3], "group": "activity"},
    {"name": "late", "kind": "flag", "group": "payment"},
]


@pytest.fixture
def shop(write_federation: Callable[..., Any], party: Any, shop_key: bytes, tmp_path: Path) -> tuple[Node, Block]:
    """The shop's node, with the key that the service knows it by, and a model that it knows."""
    ids = ["a1", "a2", "a3", "a4"]
    labels = pl.DataFrame({"id": ids, "label": [0, 1, 0, 1], "split": ["train"] * 4})
    table = pl.DataFrame({"id": ids, "orders": [0.0, 1.5, 2.5, 3.5], "late": [1, 0, 0, 1]})
    files = write_federation(labels, party("shop", table, FEATURES, "ecommerce"), privacy="epsilon = 1.0")
    run = {"federation": str(files.federation), "out": str(tmp_path / "state")}
    node = Node.of({"num-partitions": 1}, run, 1)
    (node.durable("shop") / "sign.key").write_bytes(shop_key)
    contract = node.federation.holder("shop").contract
    assert contract is not None
    weights = np.zeros(1 + sum(len(part.labels) for part in _encoding(node).parts))
    weights[0], weights[1:5] = -1.0, [0.9, 0.3, -0.2, -0.6]
    block = block_of(node, "shop", "scorecard", contract.sha256, weights)
    remember(node, "shop", block, Known(average=np.array([-0.1, 0.0])))
    return node, block


def _encoding(node: Node) -> Any:
    from clients.cohort import table_of

    return table_of(node, "shop").encoding


def test_the_service_takes_it_and_decides_by_it(shop: tuple[Node, Block], api: Any, asked: Any) -> None:
    body = asked(1, kyc={"logit_e6": 700_000}, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    assert api.ask(body).json()["decision"]["decision"] == "DEFER"
    api.later(hours=5)
    message = subscore_message(*_of(shop), Asked("a1", body["subject_ref"], AS_OF, 24))
    assert message is not None
    told = json.loads(message)
    assert (told["logit_e6"], told["reasons"]) == (-100_000, [{"code": "activity", "delta_e6": 1_000_000}])
    sent = api.call("shop", "POST", "/v1/subscores", told)
    assert (sent.status_code, sent.json()) == (202, {"received": 1})
    newest = api.call("officer", "GET", f"/v1/subjects/{body['subject_ref']}").json()["decisions"][0]
    assert newest["decision"] != "DEFER"


def _of(shop: tuple[Node, Block]) -> tuple[Node, str, Block]:
    return shop[0], "shop", shop[1]


def test_asked_again_of_the_same_data_it_is_the_same_bytes_and_of_newer_data_another_message(
    shop: tuple[Node, Block],
) -> None:
    asked = Asked("a2", "0" * 64, AS_OF, 3)
    first = subscore_message(*_of(shop), asked)
    assert subscore_message(*_of(shop), asked) == first
    later = subscore_message(*_of(shop), Asked("a2", "0" * 64, AS_OF + timedelta(days=30), 4))
    assert later not in (first, None)


def test_somebody_unknown_and_a_model_unknown_get_no_message(shop: tuple[Node, Block]) -> None:
    node, block = shop
    assert subscore_message(node, "shop", block, Asked("nobody", "0" * 64, AS_OF, 3)) is None
    other = Block(block.engine, block.encoding, block.weights + 1)
    with pytest.raises(InputError, match="no version that this holder knows"):
        subscore_message(node, "shop", other, Asked("a1", "0" * 64, AS_OF, 3))
    allow(node.durable("shop"), version_of(other))
    message = subscore_message(node, "shop", other, Asked("a1", "0" * 64, AS_OF, 3))
    assert json.loads(message or b"{}")["reasons"] == []
    with pytest.raises(InputError, match="offset"):
        subscore_message(node, "shop", block, Asked("a1", "0" * 64, AS_OF.replace(tzinfo=None), 3))
