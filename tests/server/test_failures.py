"""What a run does when a partner fails: go on without its block, or stop with its name and a generic code."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.app import app
from model.wire import COHORT, DESCRIBE, FUSE, SUBSCORES, TRAIN
from server.config import RunConfig
from server.failures import RunFailed
from server.phases import Outcome, Programme
from simulations import run as run_module
from simulations.loopback import FIRST_NODE, LoopbackGrid
from simulations.run import Settings, simulate
from tests.envelopes import key_of, reply_of

MARK = "SECRET-4711"
PAY, SHOP_1, TAX = FIRST_NODE + 1, FIRST_NODE + 2, FIRST_NODE + 4
Tamper = Callable[[int, Message], str | None]

pytestmark = pytest.mark.usefixtures("quick")


def _fails(node: int, kind: str, how: str, after: int = 0) -> Tamper:
    """A node that fails at a kind of message, from the one numbered `after`."""
    seen = [0]

    def tamper(asked: int, message: Message) -> str | None:
        if asked != node or message.metadata.message_type != kind:
            return None
        seen[0] += 1
        return how if seen[0] > after else None

    return tamper


@pytest.fixture
def run(small: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs the coordinator over the small sample with a tampered grid."""

    def made(tamper: Tamper, federation: Path | None = None, nodes: int = 5, **config: Any) -> Outcome:
        settings = {"federation": str(federation or small), "out": str(tmp_path / "out"), "wait": 0.1, **config}
        grid = LoopbackGrid(app, [{"partition-id": i, "num-partitions": 5} for i in range(nodes)], settings, tamper)
        return Programme(grid, RunConfig.parse(settings)).run()

    return made


FAILURES = [
    pytest.param(kind, how, code, after, id=f"{kind}-{how}-{after}")
    for kind, after in ((TRAIN, 0), (TRAIN, 2), (SUBSCORES, 0))
    for how, code in ((MARK, "flower-"), ("silent", "silent"))
]


@pytest.mark.parametrize(("kind", "how", "code", "after"), FAILURES)
def test_with_continue_the_run_ends_without_the_partners_block(
    run: Any, caplog: pytest.LogCaptureFixture, kind: str, how: str, code: str, after: int
) -> None:
    outcome = run(_fails(PAY, kind, how, after))
    assert set(outcome.bundle.blocks) == {"lender_kyc", "ecommerce", "tax_business"}
    assert outcome.bundle.table.optional == ("ecommerce", "tax_business")
    assert set(outcome.facts["partners"]) == {"shop-1", "shop-2", "tax-1"}
    assert outcome.facts["failures"]["pay-1"].startswith(code)
    assert 0.99 < outcome.bundle.statement["epsilon"] <= 1.0  # what was promised is unchanged
    assert MARK not in caplog.text + json.dumps(outcome.facts)


@pytest.mark.parametrize(("kind", "how", "code", "after"), FAILURES)
def test_with_stop_the_run_ends_by_naming_the_partner_and_a_code(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, how: str, code: str, after: int
) -> None:
    with pytest.raises(RunFailed, match=rf"stopped, as configured: pay-1 \({code}") as caught:
        run(_fails(PAY, kind, how, after), **{"on-failure": "stop"})
    assert MARK not in str(caught.value) + caplog.text
    assert not (tmp_path / "out" / "model").exists()


def test_one_of_two_shops_may_fail_and_the_domain_stays(run: Any) -> None:
    outcome = run(_fails(SHOP_1, TRAIN, "silent", 1))
    assert "ecommerce" in outcome.bundle.blocks
    assert set(outcome.facts["partners"]) == {"pay-1", "shop-2", "tax-1"}


def test_a_lender_whose_block_fails_ends_the_run_in_plain_words_if_it_does(run: Any) -> None:
    with contextlib.suppress(RunFailed):
        outcome = run(_fails(FIRST_NODE, TRAIN, "silent"))
        assert set(outcome.bundle.blocks) == {"payments", "ecommerce", "tax_business"}


def test_when_every_partner_fails_the_lender_stands_alone(run: Any) -> None:
    outcome = run(lambda n, m: "silent" if n != FIRST_NODE and m.metadata.message_type == TRAIN else None)
    assert set(outcome.bundle.blocks) == {"lender_kyc"}


def test_when_nobody_trains_the_run_fails_with_codes_only(run: Any) -> None:
    with pytest.raises(RunFailed, match=r"no block was trained: lender \(flower-") as caught:
        run(lambda n, m: MARK if m.metadata.message_type == TRAIN else None)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(("kind", "words"), [(COHORT, "the lender's cohort failed"), (FUSE, "lender's fusion failed")])
@pytest.mark.parametrize("how", [MARK, "silent"])
def test_the_lender_is_needed_whatever_the_terms(run: Any, kind: str, words: str, how: str) -> None:
    with pytest.raises(RunFailed, match=words) as caught:
        run(_fails(FIRST_NODE, kind, how))
    assert MARK not in str(caught.value)


def test_without_a_lender_the_run_says_so(run: Any) -> None:
    with pytest.raises(RunFailed, match=r"no lender appeared within 0.1 s"):
        run(_fails(FIRST_NODE, DESCRIBE, "silent"))


def test_without_any_partner_the_run_says_so(run: Any) -> None:
    with pytest.raises(RunFailed, match="no partner answered"):
        run(lambda n, m: "silent" if n != FIRST_NODE else None)


def test_a_partner_that_never_appears_is_left_out_or_stops_the_run(run: Any) -> None:
    assert set(run(lambda n, m: None, nodes=4).facts["failures"].values()) == {"silent"}


def test_a_partner_that_never_appears_stops_a_run_that_wants_all(run: Any) -> None:
    with pytest.raises(RunFailed, match=r"no answer from tax-1"):
        run(lambda n, m: None, nodes=4, **{"on-failure": "stop"})


def test_two_nodes_that_claim_one_name_end_the_run(small: Path, tmp_path: Path) -> None:
    settings = {"federation": str(small), "out": str(tmp_path), "wait": 0.1}
    grid = LoopbackGrid(app, [{"partition-id": 0, "num-partitions": 1}] * 2, settings)
    with pytest.raises(RunFailed, match="two nodes claim to be lender"):
        Programme(grid, RunConfig.parse(settings)).run()


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_fewer_nodes_than_holders_play_several_each(small: Path, tmp_path: Path, nodes: int) -> None:
    settings = {"federation": str(small), "out": str(tmp_path), "wait": 0.1}
    grid = LoopbackGrid(app, [{"partition-id": i, "num-partitions": nodes} for i in range(nodes)], settings)
    outcome = Programme(grid, RunConfig.parse(settings)).run()
    assert set(outcome.facts["partners"]) == {"pay-1", "shop-1", "shop-2", "tax-1"}
    assert outcome.facts["failures"] == {}


class _Changed(LoopbackGrid):
    """A grid that changes one node's replies to one kind of message before they arrive."""

    state: Path

    def change(self, node: int, kind: str, how: Callable[[Any], None]) -> None:
        self._deliver_plain, self._changed = self._deliver, (node, kind, how)
        self._deliver = self._spoilt  # type: ignore[method-assign]

    def _spoilt(self, message: Message) -> Message | None:
        reply = self._deliver_plain(message)
        node, kind, how = self._changed
        if reply is not None and (message.metadata.dst_node_id, message.metadata.message_type) == (node, kind):
            how(reply.content)
            reply_of(message.content, reply.content, "pay-1", key_of(self.state, "pay-1"))
        return reply


def _no_seal(content: Any) -> None:
    del content.config_records["config"]["sealed"]


def _broken_seal(content: Any) -> None:
    content.config_records["config"]["sealed"] = b"\0" * 99


def _no_json(content: Any) -> None:
    del content.config_records["config"]["json"]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param(SUBSCORES, _no_seal, id="no-seal"),
        pytest.param(SUBSCORES, _broken_seal, id="broken-seal"),
        pytest.param(SUBSCORES, _no_json, id="no-json"),
        pytest.param(TRAIN, _no_json, id="train-no-json"),
        pytest.param(DESCRIBE, _no_json, id="describe-no-json"),
    ],
)
@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_a_partner_that_answers_nonsense_is_treated_like_one_that_fails(
    small: Path, tmp_path: Path, kind: str, how: Callable[[Any], None], on_failure: str
) -> None:
    settings = {"federation": str(small), "out": str(tmp_path), "wait": 0.1, "on-failure": on_failure}
    grid = _Changed(app, [{"partition-id": i, "num-partitions": 5} for i in range(5)], settings)
    grid.change(PAY, kind, how)
    grid.state = tmp_path / "nodes"
    programme = Programme(grid, RunConfig.parse(settings))
    if on_failure == "stop":
        with pytest.raises(RunFailed, match="pay-1"):
            programme.run()
    else:
        assert "payments" not in programme.run().bundle.blocks


@pytest.mark.parametrize("kind", [TRAIN, SUBSCORES])
def test_what_a_failed_partner_spent_stays_in_the_report(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It was charged before it failed, and the coordinator holds what it released."""
    after = 2 if kind == TRAIN else 0

    def tampered(*arguments: Any, **more: Any) -> LoopbackGrid:
        return LoopbackGrid(*arguments, tamper=_fails(TAX, kind, "silent", after), **more)

    monkeypatch.setattr(run_module, "LoopbackGrid", tampered)
    report = simulate(Settings(small, tmp_path / "out")).report
    assert set(report["partners"]) == {"pay-1", "shop-1", "shop-2"}
    assert report["failures"] == {"tax-1": "silent"}
    assert report["epsilon"] == pytest.approx(report["privacy"]["epsilon"], rel=1e-3)
    assert "tax_business" not in report["auc_by_block"]
    assert math.isfinite(report["auc"])
    assert np.isclose(sum(report["decisions"].values()), report["persons"]["held_out"])
