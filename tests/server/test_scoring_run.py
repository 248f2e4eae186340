"""A batch of new applicants: scored as a run would score them, by versions that partners know, and for nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Message

from clients.app import app as client_app
from clients.published import allow, version_of
from model import wire
from model.bundle import Bundle
from model.inputs import InputError
from privacy.chain import Chain
from server.config import RunConfig
from server.failures import RunFailed
from server.phases import Programme
from server.scoring import Scored, ScoringRun
from simulations.loopback import FIRST_NODE, LoopbackGrid

NAMES = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")
REQUEST = {
    "schema": "limit-request/1", "purpose": "new", "as_of": "2026-11-23T10:00:00+08:00", "product": "consumer",
    "requested_fen": 1_000_000, "term_months": 12,
    "kyc": {"passed": True, "age_years": 30, "segment": "salaried", "income_fen_month": 600_000,
            "income_source": "verified", "existing_debt_service_fen_month": 0, "other_consumer_credit_fen": 0},
    "blocks": {"payments": {"covered": True, "consent": True, "tenure_months": 24},
               "ecommerce": {"covered": True, "consent": False}, "tax_business": None},
}  # fmt: skip


@dataclass
class Batch:
    """A finished run, a copy of its folders, and a file of applicants: held-out persons of the same federation."""

    federation: Path
    out: Path
    config: dict[str, Any] = field(default_factory=dict)
    tamper: Callable[[str, Message], str | None] = lambda name, message: None
    replies: list[Message] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.out / "model"

    @property
    def applicants(self) -> Path:
        return self.out / "applicants.parquet"

    @property
    def evidence(self) -> pl.DataFrame:
        return pl.read_parquet(self.out / "nodes" / "lender" / "applicants-evidence.parquet")

    def score(self, **config: Any) -> Scored:
        settings = {"federation": str(self.federation), "out": str(self.out), "wait": 0.1, "mode": "score"}
        settings |= {"model": str(self.model), "applicants": str(self.applicants), **config}
        nodes = [{"partition-id": i, "num-partitions": len(NAMES)} for i in range(len(NAMES))]
        grid = LoopbackGrid(client_app, nodes, settings, lambda n, m: self.tamper(NAMES[n - FIRST_NODE], m))
        deliver = grid._deliver

        def overheard(message: Message) -> Message | None:
            reply = deliver(message)
            if reply is not None:
                self.replies.append(reply)
            return reply

        grid._deliver = overheard  # type: ignore[method-assign]
        return ScoringRun(Programme(grid, RunConfig.parse(settings)), self.model).run()


@pytest.fixture
def batch(small: Path, private_run: Any, tmp_path: Path) -> Batch:
    """The session's private run, to be scored with."""
    shutil.copytree(private_run.out, tmp_path / "out")
    made = Batch(small, tmp_path / "out")
    held = pl.read_parquet(made.out / "nodes" / "lender" / "evidence.parquet")["id"].to_list()
    table = pl.read_parquet(small.parent / "lender_kyc.parquet").filter(pl.col("id").is_in(held))
    table.head(60).write_parquet(made.applicants)
    return made


def _same(a: pl.DataFrame, b: pl.DataFrame, columns: list[str]) -> bool:
    both = a.join(b, on="id", suffix="_other")
    return len(both) == len(a) and all(both[c].eq_missing(both[f"{c}_other"]).all() for c in columns)


def _rows(out: Path, name: str) -> int:
    return len(list(Chain(out / "nodes" / name / "ledger.db").checked()))


def test_new_persons_get_the_scores_and_reasons_that_the_run_itself_gave_them_and_nothing_is_paid(batch: Batch) -> None:
    before = [_rows(batch.out, name) for name in NAMES]
    scored = batch.score()
    assert (scored.partners, scored.failures) == (("pay-1", "shop-1", "shop-2", "tax-1"), {})
    trained = pl.read_parquet(batch.out / "nodes" / "lender" / "evidence.parquet")
    assert len(batch.evidence) == 60
    assert _same(batch.evidence, trained, [c for c in trained.columns if c != "id"])
    assert [_rows(batch.out, name) for name in NAMES] == before


def test_replies_carry_ciphertext_and_no_number(batch: Batch) -> None:
    batch.score()
    for reply in batch.replies[len(NAMES) :]:
        assert not reply.content.array_records
        record = reply.content.config_records[wire.CONFIG]
        assert set(json.loads(str(record[wire.JSON]))) <= {"holder", "head"}
        assert {k.partition("-")[0] for k in record} <= {wire.JSON, wire.SEALED, wire.UNOPENED}


def test_asked_again_a_partner_gives_what_it_gave_before_though_its_data_changed(batch: Batch, files: Any) -> None:
    batch.score()
    first = batch.evidence
    files.table("payments.parquet", lambda table: table.with_columns(pl.selectors.numeric() * 2))
    batch.federation = files.federation
    batch.score()
    assert _same(batch.evidence, first, ["sub_payments", "why_payments", "z_e6"])
    (batch.out / "nodes" / "pay-1" / "answers.db").unlink()  # what a partner must never do
    batch.score()
    assert not _same(batch.evidence, first, ["sub_payments"])


def _other_weights(batch: Batch) -> str:
    """The published model with one block's weights made up to read a feature out; returns that version's name."""
    bundle = Bundle.load(batch.model)
    block = bundle.blocks["payments"]
    made_up = replace(block, weights=np.eye(1, len(block.weights), 3)[0])
    shutil.rmtree(batch.model)
    replace(bundle, blocks={**bundle.blocks, "payments": made_up}).save(batch.model)
    return version_of(made_up)


def test_weights_that_a_partner_never_scored_in_a_run_are_refused_until_its_people_allow_them(batch: Batch) -> None:
    version = _other_weights(batch)
    scored = batch.score()
    assert (scored.partners, scored.failures) == (("shop-1", "shop-2", "tax-1"), {"pay-1": "input"})
    assert batch.evidence["sub_payments"].null_count() == 60
    allow(batch.out / "nodes" / "pay-1", version)
    assert "pay-1" in batch.score().partners
    assert batch.evidence["sub_payments"].null_count() < 60
    assert set(batch.evidence["why_payments"]) == {""}  # it keeps no averages to measure reasons against
    with pytest.raises(InputError, match="hexadecimal"):
        allow(batch.out, "payments")


def test_a_model_of_another_contract_is_refused(batch: Batch, files: Any) -> None:
    files.text("payments.contract.toml", "version = 1", "version = 2")
    batch.federation = files.federation
    assert batch.score().failures == {"pay-1": "input"}


@pytest.mark.parametrize("kind", [wire.SCORE, wire.APPLICANTS, wire.SCORED])
def test_who_does_not_answer_is_left_out_and_without_the_lender_there_is_no_batch(batch: Batch, kind: str) -> None:
    batch.tamper = lambda name, message: (
        "silent" if message.metadata.message_type == kind and name in ("tax-1", "lender") else None
    )
    if kind == wire.SCORE:
        assert batch.score().failures == {"tax-1": "silent"}
        assert set(batch.evidence["blocks"].str.contains("tax_business")) == {False}
        with pytest.raises(RunFailed, match=r"stopped, as configured: tax-1 \(silent\)"):
            batch.score(**{"on-failure": "stop"})
    else:
        with pytest.raises(RunFailed, match="lender's"):
            batch.score()


def test_without_a_file_of_applicants_the_run_says_so(batch: Batch) -> None:
    with pytest.raises(RunFailed, match="applicants cannot be shown: input"):
        batch.score(applicants="")


def test_their_requests_come_back_ready_to_be_decided(batch: Batch, run_cli: Callable[..., Any]) -> None:
    table = pl.read_parquet(batch.applicants)
    ids = [f"0b9c4a52-6c1f-4f6e-9d3e-{i:012x}" for i in range(len(table))]
    texts = [json.dumps({**REQUEST, "request_id": i, "subject_ref": 2 * i.replace("-", "")}) for i in ids]
    table.with_columns(request=pl.Series(texts)).write_parquet(batch.applicants)
    batch.score()
    book = batch.out / "nodes" / "lender" / "requests.parquet"
    filled = [json.loads(text) for text in pl.read_parquet(book)["request"]]
    told = dict(zip(batch.evidence["id"], batch.evidence.iter_rows(named=True), strict=True))
    for person, request in zip(batch.evidence["id"], filled, strict=True):
        assert request["kyc"]["logit_e6"] == told[person]["sub_lender_kyc"]
        assert request["blocks"]["payments"].get("logit_e6") == told[person]["sub_payments"]
        assert "logit_e6" not in request["blocks"]["ecommerce"]  # no consent
        assert request["blocks"]["tax_business"] is None
    ended = run_cli("decide", batch.model, "--requests", book, "--out", batch.out / "decisions.jsonl")
    assert ended.code == 0, ended.err
    decided = [json.loads(line) for line in (batch.out / "decisions.jsonl").read_text().splitlines()]
    assert len(decided) == 60
    assert len({d["decision"] for d in decided}) >= 2


@pytest.mark.parametrize("bad", ["no JSON", "[]", '{"kyc": 1}', '{"kyc": {}, "blocks": {"payments": 3}}'])
def test_a_request_that_is_none_is_refused(batch: Batch, bad: str) -> None:
    pl.read_parquet(batch.applicants).with_columns(request=pl.lit(bad)).write_parquet(batch.applicants)
    with pytest.raises(RunFailed, match="scoring failed: input"):
        batch.score()


@pytest.mark.parametrize(
    "config", [{"mode": "score"}, {"mode": "guess"}, {"model": "."}, {"mode": "score", "model": "no"}]
)
def test_mode_and_model_go_together(config: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"mode|model"):
        RunConfig.parse(config)


@pytest.mark.slow
def test_a_private_set_intersection_finds_the_same_applicants(batch: Batch) -> None:
    batch.score()
    first = batch.evidence
    batch.score(alignment="psi")
    assert _same(batch.evidence, first, [c for c in first.columns if c != "id"])
