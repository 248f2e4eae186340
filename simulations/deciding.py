"""Deciding for the held-out persons of a simulation, with a documented default request.

The default request: a new, identified customer of 30, salaried, with a stated and verified monthly income of 6,000 and
no other debt, asking for 10,000 (whole currency units) over 12 months; every relationship is 24 months old, consented
and fresh, unless the lender's `availability.parquet` says otherwise (`simulations/availability.py`): then the decision
does without that block, whose sub-score the evidence still has. `[lender] income` and `requested` of the federation
file name columns that replace those two amounts; a missing or negative value there falls back to the default. The
decision's moment is the policy's first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from clients.config import Node
from clients.files import number, read_columns
from model.bundle import decision_bundle
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.policy import load_policy
from model.limits.request import Applicant, BlockEvidence, Contribution, DecisionRequest, Quality, StateSnapshot
from model.limits.schema import Policy
from model.limits.table import DecisionBundle
from privacy.alignment import hash_fraction
from server.batches import COLUMNS, columns_of
from simulations.availability import LATE, NO_CONSENT, states_of

INCOME, REQUESTED = 600_000, 1_000_000  # fen
AGE, TERM_MONTHS, TENURE_MONTHS = 30, 12, 24
_MAX_FEN = 10**12


def decide_all(
    node: Node, evidence: pl.DataFrame, model: Path, policy_file: Path | None, present: Collection[str]
) -> pl.DataFrame:
    """One row a held-out person: outcome, amount, price, score, reasons in both languages.

    Args:
        node: of the run.
        evidence: of the persons to decide for.
        model: folder of the published model.
        policy_file: None is the shipped one.
        present: names of the partners whose sub-scores the evidence has.
    """
    policy, bundle = load_policy(policy_file), decision_bundle(model)
    amounts, away = _amounts(node, evidence["id"]), states_of(node, evidence["id"], present)
    decisions = [
        decide(request, policy, bundle, StateSnapshot(), request.as_of, explain=False)
        for request in _requests(evidence, amounts, policy, bundle, away)
    ]
    return _columns(decisions).insert_column(0, evidence["id"])


def sampled(persons: pl.DataFrame, at_most: int) -> pl.DataFrame:
    """At most so many of the rows, by a hash of `id`: the same persons in every run, in the order they had; 0 is all.

    >>> sampled(pl.DataFrame({"id": ["a", "b", "c"]}), 2)["id"].to_list()
    ['b', 'c']
    """
    if not 0 < at_most < persons.height:
        return persons
    place = hash_fraction(persons["id"].to_list(), "decided")
    return persons[np.sort(np.argsort(place, kind="stable")[:at_most])]


def _columns(decisions: list[Decision]) -> pl.DataFrame:
    """What a batch's table has of a decision, but for its request's id and the whole text."""
    shown = {name: kind for name, kind in COLUMNS.items() if name not in ("request_id", "json")}
    return pl.DataFrame([columns_of(decision, b"")[1:-1] for decision in decisions], shown, orient="row")


def _requests(
    evidence: pl.DataFrame,
    amounts: pl.DataFrame,
    policy: Policy,
    bundle: DecisionBundle,
    away: Mapping[tuple[int, str], str],
) -> list[DecisionRequest]:
    optional, own = bundle.table.optional, bundle.table.own
    as_of = policy.effective_from
    columns = [evidence[f"{kind}_{b}"].to_list() for b in bundle.table.blocks for kind in ("sub", "why")]
    errors = evidence["se_e6"].to_list()
    places = {b: 2 * i for i, b in enumerate(bundle.table.blocks)}
    requests = []
    for i, row in enumerate(zip(*columns, amounts["income"].to_list(), amounts["requested"].to_list(), strict=True)):
        blocks = {
            d: _block(row[places[d]], row[places[d] + 1], as_of, away.get((i, d)))
            for d in optional
            if row[places[d]] is not None
        }
        kyc = Applicant(
            True, AGE, "salaried", row[-2], "verified", 0, 0,
            logit_e6=row[places[own]] if own else None,
            reasons=_why(row[places[own] + 1]) if own else (), model_se_e6=errors[i],
        )  # fmt: skip
        requests.append(DecisionRequest(str(i), "", "new", as_of, policy.product, row[-1], TERM_MONTHS, kyc, blocks))
    return requests


def _block(logit_e6: int, why: str, as_of: datetime, state: str | None) -> BlockEvidence:
    """What one domain says now; what is late, or may not be asked, says nothing."""
    if state in LATE or state in NO_CONSENT:
        return BlockEvidence(True, state in LATE, tenure_months=TENURE_MONTHS)
    quality: Quality = "range" if state == "abnormal" else "ok"
    return BlockEvidence(True, True, logit_e6, as_of, quality, TENURE_MONTHS, 0, _why(why))


def _why(text: str) -> tuple[Contribution, ...]:
    """The families of one block, from `family:micro-logit;...`."""
    if not text:
        return ()
    pairs = (part.split(":") for part in text.split(";"))
    return tuple(Contribution(name, int(delta)) for name, delta in pairs)


def _amounts(node: Node, ids: pl.Series) -> pl.DataFrame:
    """Income and requested amount of each person, in fen."""
    federation = node.federation
    result = ids.to_frame("id").with_columns(income=pl.lit(INCOME), requested=pl.lit(REQUESTED))
    for name, column in (("income", federation.income), ("requested", federation.requested)):
        if column is None:
            continue
        for path in federation.lender.data:
            frame = read_columns(path, federation.id, [column])
            if column in frame.columns:
                fen = (number(pl.col(column), frame[column].dtype == pl.String) * 100).round().fill_nan(None)
                given = frame.select(id=pl.col(federation.id), given=fen)
                joined = result.join(given, on="id", how="left", maintain_order="left")
                usable = joined["given"].is_between(0, _MAX_FEN).fill_null(False)
                values = np.where(usable, joined["given"].fill_null(0.0).to_numpy(), result[name].to_numpy())
                result = result.with_columns(pl.Series(name, values.astype(np.int64)))
    return result
