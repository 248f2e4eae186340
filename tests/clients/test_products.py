"""A holder's table with products: pairs of bins behind the features', also where a feature's bins are private."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.cohort import table_of
from clients.config import Node
from clients.handlers import _families
from clients.tables import load_table
from model.averages import families_of
from model.federation import load_federation
from model.wire import TRAIN
from server.preparing import cut_bins

PAIR = '\n[[product]]\nof = ["tenure_months", "utility_ontime_rate_12m"]\ndegree = 2\ngroup = "repayment"\n'


@pytest.fixture
def node_at() -> Any:
    """The node of a member of a staged run."""

    def node(at: Any, name: str) -> Node:
        context = at.grid._contexts[at.roster.members[name].node]
        return Node.of(context.node_config, context.run_config, context.run_id)

    return node


def test_a_table_holds_the_pair_of_each_persons_bins(write_federation: Any, party: Any) -> None:
    rows = [
        {"name": "x", "kind": "numeric", "range": [0, 10], "edges": [5], "special": [-1]},
        {"name": "home", "kind": "categorical", "values": ["own", "rent"]},
    ]
    table = pl.DataFrame({"id": list("abcd"), "x": [1.0, 7.0, -1.0, None], "home": ["own", "rent", "boat", None]})
    labels = pl.DataFrame({"id": list("abcd"), "label": [0, 1, 0, 1]})
    files = write_federation(labels, party("pay", table, rows), head="")
    path = files.folder / "payments.contract.toml"
    path.write_text(path.read_text() + '\n[[product]]\nof = ["home", "x"]\n')
    federation = load_federation(files.federation)
    found = load_table(federation, federation.holder("pay"))
    assert found.encoding is not None
    part = found.encoding.parts[2]
    assert found.codes.dtype == np.uint16
    assert [part.labels[code] for code in found.codes[2]] == [
        *("own, 0 to 5", "rent, 5 to 10", "other, -1", "missing, missing"),
    ]
    assert np.flatnonzero(part.basis[found.codes[2]].any(axis=1)).tolist() == [0, 1]


@pytest.mark.usefixtures("quick")
def test_edges_that_arrive_with_an_order_move_the_pairs_and_nothing_that_is_paid_for(
    stage: Any, files: Any, node_at: Any
) -> None:
    files.text("payments.contract.toml", "range = [0, 180]", 'range = [0, 180]\nedges = "private"')
    path = files.folder / "payments.contract.toml"
    path.write_text(path.read_text() + PAIR)
    at = stage(files.federation)
    roster, failed = cut_bins(at.exchange, at.roster, at.plan, at.parcels)
    assert failed == set()
    edges = roster.members["pay-1"].edges
    before, after = (
        table_of(n, "pay-1") for n in (node_at(at, "pay-1"), node_at(at, "pay-1").with_edges("pay-1", edges))
    )
    assert before.encoding is not None
    assert after.encoding is not None
    assert before.encoding.columns == after.encoding.columns == at.plan.line("payments/pay-1").size
    assert before.encoding.row_norm == after.encoding.row_norm == at.plan.line("payments/pay-1").bound
    assert not np.array_equal(before.codes[-1], after.codes[-1])
    names = [part.feature.name for part in after.encoding.features]
    first, second = (after.codes[names.index(n)] for n in after.encoding.contract.products[0].of)
    width = len(after.encoding.parts[names.index("utility_ontime_rate_12m")].labels)
    assert after.codes[-1].tolist() == (first * width + second).tolist()
    reply = at.send(TRAIN, at.train("pay-1", edges={k: list(v) for k, v in edges.items()}))
    assert reply.content.config_records["config"].get("error") is None


def test_the_lender_reads_the_families_that_the_holder_told(files: Any) -> None:
    path = files.folder / "payments.contract.toml"
    path.write_text(path.read_text() + PAIR)
    federation = load_federation(files.federation)
    holder = federation.holder("pay-1")
    table = load_table(federation, holder)
    assert holder.contract is not None
    assert table.encoding is not None
    families = _families(holder.contract.to_dict())
    assert families == families_of(table.encoding)
    assert "repayment" in families
