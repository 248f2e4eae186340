"""A whole run by private set intersection: the same model as by tokens, and what goes over the wire for it."""

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from flwr.app import Message

from clients.app import app
from model.inputs import InputError
from model.wire import COHORT, DESCRIBE, MATCH
from server.config import RunConfig
from server.failures import RunFailed
from server.phases import Programme
from server.planning import make_plan
from server.preparing import commit_sets, hand_out
from server.roster import discover
from simulations.bench_align import measure
from simulations.loopback import LoopbackGrid
from simulations.settings import Settings

PARTNERS, PERSONS = ("pay-1", "shop-1", "shop-2", "tax-1"), 400

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def few(files: Any) -> Any:
    """The small sample with fewer persons still."""
    last = pl.read_parquet(files.folder / "labels.parquet")["id"].sort()[PERSONS]
    for path in (*files.folder.glob("*.parquet"), *files.folder.glob("*.csv")):
        files.table(path.name, lambda table: table.filter(pl.col("id") < last))
    return files


class Run:
    """A run over nodes of one holder each, and every reply in it."""

    def __init__(self, federation: Path, out: Path, **config: Any) -> None:
        settings = {"federation": str(federation), "out": str(out), "epsilon": "inf", "wait": 0.1, **config}
        self.replies: list[tuple[str, Message]] = []
        replies = self.replies

        class Ear(LoopbackGrid):
            def _deliver(self, message: Message) -> Message | None:
                reply = super()._deliver(message)
                if reply is not None:
                    replies.append((message.metadata.message_type, reply))
                return reply

        grid = Ear(app, [{"partition-id": i, "num-partitions": 5} for i in range(5)], settings)
        self.programme = Programme(grid, RunConfig.parse(settings))
        self.out = out

    def published(self) -> dict[str, bytes]:
        """What the run publishes, by file, and the lender's scores; without what tells when it ran."""
        self.programme.run()
        files = [p for p in (self.out / "model").rglob("*") if p.is_file()]
        assert len(files) == 2
        evidence = self.out / "nodes" / "lender" / "evidence.parquet"
        return {p.name: p.read_bytes() for p in (*files, evidence)}

    def handed(self) -> Any:
        """The parcels of a run that goes no further than to the cohort."""
        programme = self.programme
        roster = programme._agreed(discover(programme.exchange, programme.grid, 0.1))
        plan = make_plan(roster, "scorecard", 1)
        sets, lost = commit_sets(programme.exchange, roster, plan)
        assert lost == set()
        return hand_out(programme.exchange, roster, plan, {}, sets)[0]

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The plain data of all replies of a kind."""
        return [json.loads(str(r.content.config_records["config"]["json"])) for k, r in self.replies if k == kind]


@pytest.fixture
def runs(few: Any, tmp_path: Path) -> Any:
    """Begins runs over the same files."""
    return lambda name, **config: Run(few.federation, tmp_path / name, **config)


def test_both_ways_of_finding_persons_publish_the_same_bytes(runs: Any) -> None:
    by_points, by_tokens = (runs(way, alignment=way) for way in ("psi", "tokens"))
    assert by_points.published() == by_tokens.published()
    assert not by_points.programme.exchange.failures
    assert [kind for kind, _ in by_tokens.replies].count(MATCH) == 0
    kinds = [kind for kind, _ in by_points.replies if kind != DESCRIBE]
    assert kinds[: len(PARTNERS) + 1] == [MATCH] * len(PARTNERS) + [COHORT]  # all are committed before anybody is shown


@pytest.mark.slow
def test_a_joint_fit_takes_the_persons_so_found(runs: Any) -> None:
    run = runs("joint", alignment="psi", engine="moments")
    assert set(run.programme.run().bundle.blocks) == {"ecommerce", "lender_kyc", "payments", "tax_business"}
    assert not run.programme.exchange.failures


def test_only_a_digest_and_a_packet_of_public_size_leave_a_partner(runs: Any, few: Any) -> None:
    run = runs("psi", alignment="psi")
    assert set(run.handed()) == set(PARTNERS)
    few.table("payments.parquet", lambda table: table.slice(1))
    again = runs("again", alignment="psi")
    assert set(again.handed()) == set(PARTNERS)
    lengths = []
    for each in (run, again):
        records = [r.content.config_records["config"] for kind, r in each.replies if kind == MATCH]
        assert all(set(record) == {"json", "sealed"} for record in records)
        lengths.append([{key: len(value) for key, value in record.items()} for record in records])
        assert {told["holder"] for told in each.told(MATCH)} == set(PARTNERS)
        assert all(set(told) == {"holder", "set"} and len(told["set"]) == 64 for told in each.told(MATCH))
        assert [set(told) for told in each.told(COHORT)] == [{"cohort"}]
    assert lengths[0] == lengths[1]


def test_the_log_has_every_set_before_the_cohort_is_shown(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, noted = runs("psi", alignment="psi"), []
    true = run.programme.log.append

    def noting(kind: str, body: Any) -> None:
        if kind == "alignment":
            noted.append((len(run.replies), body))
        true(kind, body)

    monkeypatch.setattr(run.programme.log, "append", noting)
    run.handed()
    sets = {told["holder"]: told["set"] for told in run.told(MATCH)}
    cohort = run.told(COHORT)[0]["cohort"]
    (before, first), (_, second) = noted
    assert first["sets"] == sets
    assert (second["cohort"], second["partners"]) == (cohort, sorted(PARTNERS))
    assert [kind for kind, _ in run.replies][before:] == [COHORT]


def test_a_partner_that_shares_nobody_is_left_out_and_the_rest_goes_on(
    runs: Any, few: Any, caplog: pytest.LogCaptureFixture
) -> None:
    few.table("payments.parquet", lambda table: table.with_columns(id="X" + pl.col("id")))
    run = runs("psi", alignment="psi")
    with caplog.at_level(logging.ERROR):
        outcome = run.programme.run()
    assert run.programme.exchange.failures == {"pay-1": "input"}
    assert "payments" not in outcome.bundle.blocks
    assert "shares no person with the lender's cohort" in caplog.text


def test_a_partner_that_commits_to_no_set_is_left_out_or_ends_the_run(
    runs: Any, few: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients import align_handlers
    from clients.cohort import commit

    def failing(channel: Any, told: Any) -> Any:
        if channel.name == "tax-1":
            raise InputError("a.csv", "", "cannot be read")
        return commit(channel, told)

    monkeypatch.setattr(align_handlers, "commit", failing)
    run = runs("psi", alignment="psi")
    assert "tax_business" not in run.programme.run().bundle.blocks
    assert run.programme.exchange.failures == {"tax-1": "input"}
    with pytest.raises(RunFailed, match="tax-1"):
        runs("stop", alignment="psi", **{"on-failure": "stop"}).programme.run()
    with pytest.raises(RunFailed, match=r"needs every holder.*tax-1"):
        runs("joint", alignment="psi", engine="moments").programme.run()


def test_a_set_that_the_lender_refuses_is_told_by_its_code(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from clients import align_handlers

    true = align_handlers.commit

    def wrong(channel: Any, told: Any) -> Any:
        packet, digest = true(channel, told)
        return (packet[:-1] if channel.name == "shop-1" else packet), digest

    monkeypatch.setattr(align_handlers, "commit", wrong)
    run = runs("psi", alignment="psi")
    assert set(run.handed()) == set(PARTNERS) - {"shop-1"}
    assert run.programme.exchange.failures == {"shop-1": "seal"}
    assert run.told(COHORT)[0]["refused"] == {"shop-1": "seal"}


def test_settings_know_both_ways(tmp_path: Path) -> None:
    assert Settings(None, tmp_path, alignment="psi").run_config(tmp_path)["alignment"] == "psi"
    with pytest.raises(InputError, match=r"--alignment must be psi \| tokens"):
        Settings(None, tmp_path, alignment="plain")


def test_the_bench_aligns_exactly() -> None:
    found = measure(300)
    assert found.exact
    assert found.bytes_sent == (1024 * 32, 300 * 32 + 1024 * 16)
    assert list(found.seconds) == ["partner offers", "lender shows", "lender answers", "partner compares"]
