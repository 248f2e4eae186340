"""The lender's part: fusing sub-scores under its ledger, and scoring the held-out persons on its own disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of, private_key
from clients.config import Node
from clients.scoring import BUCKET_E6, Evidence
from clients.training import MAX_RATE, ledger, noiseless, releasing
from model import fusion
from model.descent import Schedule, sigmoid
from model.federation import LENDER
from model.fusion import Fit, Subscores
from model.inputs import InputError
from model.limits.table import MICRO
from model.points import MAX_SCORE, score_thresholds
from model.wire import ABSENT, HELD_OUT, TRAIN_ROWS
from privacy.envelope import unseal
from privacy.ledger import Ledger
from privacy.plan import Release

EVIDENCE = "evidence.parquet"


@dataclass(frozen=True)
class FuseOrder:
    """What the coordinator asks of the lender: the plan's lines and schedules by the names in `fusion.PARTS`."""

    releases: Mapping[str, Release]
    schedules: Mapping[str, Schedule]


def open_evidence(node: Node, sender: str, sealed: bytes, names: tuple[str, ...]) -> Evidence:
    """A partner's evidence, which only the lender can open."""
    key = private_key(node.folder(LENDER))
    return Evidence.from_bytes(unseal(key, sealed, f"{node.programme}|subscores|{sender}"), names)


def fuse(node: Node, order: FuseOrder, blocks: Mapping[str, list[Evidence]], own: str | None) -> Fit:
    """Fits the fusion table on the training persons and writes the held-out persons' scores to the lender's disk.

    Args:
        blocks: by domain the evidence of its partners, in the order of preference; the lender's own among them.
        own: the lender's own block, if it has one.
    """
    cohort = cohort_of(node)
    held = cohort.group == HELD_OUT
    merged = {domain: _merged(evidence, held) for domain, evidence in blocks.items()}
    optional = tuple(sorted(d for d in merged if d != own))
    columns = [*optional, *([own] if own else [])]
    values = np.stack([_log_odds(merged[d].subscores) for d in columns], axis=1)
    train = cohort.group == TRAIN_ROWS
    _check(order, fusion.Layout(len(optional), len(columns)))
    with ledger(node, LENDER) as book:
        fit = _fit(node, order, Subscores(optional, own, values[train]), cohort.labels[train], book)
    _write(node, cohort.ids.filter(pl.Series(held)), Subscores(optional, own, values[held]), fit, merged)
    return fit


def _check(order: FuseOrder, layout: fusion.Layout) -> None:
    """Refuses lines that do not bound the rows, or that pay for fewer releases than will be made."""
    for name, (bound, size) in layout.bounds().items():
        release, schedule = order.releases[name], order.schedules[name]
        steps = 1 if name == "centres" else schedule.steps
        if not 0 < schedule.rate <= MAX_RATE:
            raise InputError("order", f"fusion/{name}", "has a rate out of range", schedule.rate)
        if release.bound < bound or release.size != size or (release.count, release.probability) != (steps, 1.0):
            raise InputError("order", f"fusion/{name}", "does not pay for this release", release.to_dict())


def _fit(node: Node, order: FuseOrder, scores: Subscores, labels: NDArray[np.int8], book: Ledger | None) -> Fit:
    """Charges every line, then fits, then keeps the result: a retry gets this one."""
    key = f"{node.programme}|fusion"  # one a programme: other lines, schedules or sub-scores are another programme
    adders = {name: releasing(release, noiseless(node)) for name, release in order.releases.items()}
    if book:
        terms = hashlib.sha256(repr(sorted(order.schedules.items())).encode() + scores.values.tobytes()).hexdigest()
        for part, release in order.releases.items():
            book.charge(f"{key}|{part}", release, terms)
        stored = book.stored(key)
        if stored is not None:
            return Fit.from_json(stored)
        book.claim(key)
    fit = fusion.fit(scores, labels.astype(np.float64), adders, dict(order.schedules))
    if book:
        book.store(key, fit.to_json())
    return fit


def _log_odds(subscores: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.where(subscores == ABSENT, np.nan, subscores / MICRO)


def _merged(evidence: list[Evidence], held: NDArray[np.bool_]) -> Evidence:
    """Partners of one domain as one: each person's first partner speaks for it, never the sum."""
    merged = evidence[0]
    for other in evidence[1:]:
        missing = merged.subscores == ABSENT
        merged = Evidence(
            np.where(missing, other.subscores, merged.subscores),
            np.where(missing[held, None], other.families, merged.families),
            np.where(missing[held, None], other.shortfalls, merged.shortfalls),
            merged.names,
        )
    return merged


def _write(node: Node, ids: pl.Series, scores: Subscores, fit: Fit, evidence: Mapping[str, Evidence]) -> None:
    """The lender's evidence: z, score, pd, blocks present, sub-scores and families of each held-out person."""
    z = fusion.z_e6(fit.table, scores)
    score = MAX_SCORE - np.searchsorted(np.asarray(score_thresholds()), z, side="right")
    names = np.array([_pattern(scores, p) for p in range(1 << len(scores.optional))])
    frame = pl.DataFrame(
        {
            "id": ids,
            "score": score.astype(np.int16),
            "pd": sigmoid(z / MICRO),
            "z": z / MICRO,
            "z_e6": z,
            "blocks": names[scores.pattern],
        }
    )
    for i, block in enumerate(scores.blocks):
        micro = np.nan_to_num(scores.values[:, i]) * MICRO
        column = pl.Series(f"sub_{block}", np.rint(micro).astype(np.int32))
        frame = frame.with_columns(
            pl.when(pl.Series(scores.present[:, i])).then(column).otherwise(None).alias(f"sub_{block}"),
            pl.Series(f"why_{block}", _reasons(evidence[block])),
        )
    path = node.folder(LENDER) / EVIDENCE
    temporary = Path(f"{path}.part")
    frame.write_parquet(temporary)
    temporary.replace(path)


def _pattern(scores: Subscores, pattern: int) -> str:
    related = [d for i, d in enumerate(scores.optional) if pattern >> i & 1]
    return "+".join([*related, *([scores.own] if scores.own else [])])


def _reasons(evidence: Evidence) -> list[str]:
    """Per held-out person `family:micro-logit` joined by `;`."""
    names = np.array([*evidence.names, ""])
    said = names[evidence.families]
    amounts = evidence.shortfalls.astype(np.int64) * BUCKET_E6
    return [
        ";".join(f"{family}:{amount}" for family, amount in zip(row, amount_row, strict=True) if family)
        for row, amount_row in zip(said, amounts, strict=True)
    ]
