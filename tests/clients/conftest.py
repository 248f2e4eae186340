"""What the tests of a holder share: an aligned node, lines of its own, and plans made of them by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.cohort import accept, cohort_of, hand_out, table_of
from clients.config import Node
from clients.identity import introduction
from clients.orders import Agreement
from clients.packets import Channel
from clients.scoring import Evidence, score
from clients.training import Order, train
from model import averages
from model.federation import LENDER
from model.wire import LAST, MEAN
from privacy.plan import LabelResponse, Line, Release, price

STEPS = 20


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays every holder of the small sample, aligned, at epsilon 1."""
    made = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path)}, 7)
    names = ("pay-1", "shop-1", "shop-2", "tax-1")
    align(made, names)
    return made


def align(node: Node, names: Sequence[str], labels: np.ndarray[Any, Any] | None = None) -> dict[str, bytes]:
    """Hands a node's partners the cohort, and has them take it; the packets by name."""
    told = cohort_of(node).labels if labels is None else labels
    keys = {name: introduction(node, name) for name in names}
    packets = hand_out(Channel(node, LENDER, "plan"), keys, told).packets
    for name in names:
        accept(Channel(node, name, "plan"), introduction(node, LENDER), packets[name])
    return dict(packets)


@pytest.fixture
def lines() -> Callable[..., list[Release]]:
    """A holder's block and the averages behind its reasons, not yet priced; none without a block."""

    def made(node: Node, name: str, stretch: float = 1.0) -> list[Release]:
        encoding = table_of(node, name).encoding
        if encoding is None:
            return []
        domain = node.federation.holder(name).domain
        block = Release(f"{domain}/{name}", name, encoding.row_norm * stretch, encoding.columns, STEPS, 0.9)
        families = averages.families_of(encoding)
        return [block, Release(f"reasons/{name}", name, averages.BOUND, len(families) + 1, 1, 0.1)]

    return made


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """The document of a plan of these lines, priced at the node's epsilon."""

    def made(node: Node, lines: Sequence[Line], rate: float = 0.1, rounds: int = 1, run: str = "1") -> dict[str, Any]:
        priced = price(lines, node.epsilon, node.delta).lines if lines else ()
        counts = {line.name: line.count for line in priced if isinstance(line, Release)}
        return {
            **{"programme": node.programme, "run": run, "delta": node.delta, "engine": "scorecard", "rounds": rounds},
            "epsilon": "inf" if np.isinf(node.epsilon) else node.epsilon,
            "sizes": {"train": 1000, "held_out": 0},
            "lines": [line.to_dict() for line in priced],
            "schedules": {name: {"steps": count, "rate": rate, "burn_in": 0.25} for name, count in counts.items()},
        }

    return made


@pytest.fixture
def agreed() -> Callable[..., Agreement]:
    """The agreement of a plan of exactly these lines, as they are."""

    def made(node: Node, *lines: Release) -> Agreement:
        schedules = {line.name: {"steps": line.count, "rate": 0.1, "burn_in": 0.25} for line in lines}
        document = {
            **{"programme": node.programme, "run": "1", "delta": node.delta, "engine": "scorecard", "rounds": 1},
            "epsilon": "inf" if np.isinf(node.epsilon) else node.epsilon,
            "sizes": {"train": 1000, "held_out": 0},
            "lines": [line.to_dict() for line in lines],
            "schedules": schedules,
        }
        return Agreement.of(document, node)

    return made


@pytest.fixture
def scored(lines: Any, document: Any) -> Callable[..., Evidence]:
    """Scores at a node under a plan that pays for the averages behind the reasons."""

    def made(node: Node, name: str, weights: np.ndarray[Any, Any]) -> Evidence:
        return score(node, name, Agreement.of(document(node, lines(node, name)), node), weights)

    return made


@pytest.fixture
def trained() -> Callable[..., np.ndarray[Any, Any]]:
    """What a holder that alone has its block trains under a plan: the weights that it will score with."""

    def made(node: Node, agreement: Agreement, name: str = "pay-1") -> np.ndarray[Any, Any]:
        domain, encoding = node.federation.holder(name).domain, table_of(node, name).encoding
        assert encoding is not None
        weights, means = np.zeros(encoding.columns), []
        for number in range(1, agreement.rounds + 1):
            update = train(node, name, Order(agreement, domain, number), weights)
            weights = update[LAST]
            means.append(update[MEAN])
        return np.mean(means[len(means) // 4 :], axis=0)  # type: ignore[no-any-return]

    return made


@pytest.fixture
def response() -> LabelResponse:
    """Labels told at a label-epsilon that leaves most of the budget to the blocks."""
    return LabelResponse("labels/lender", "lender", 0.5)
