"""The lender's part: fusing sub-scores under its ledger, and scoring the held-out persons on its own disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of
from clients.config import Node
from clients.orders import Agreement, once, once_all
from clients.packets import Channel
from clients.scoring import BUCKET_E6, Evidence
from model import estimates, fusion
from model.coherent import standard_errors_e6
from model.descent import Release, sigmoid
from model.federation import LENDER
from model.fusion import Fit, Subscores
from model.inputs import InputError
from model.limits.table import MICRO, FusionTable
from model.points import MAX_SCORE, score_thresholds
from model.wire import ABSENT, HELD_OUT, TRAIN_ROWS, pack, unpack
from privacy.plan import HELD_OUT as HELD_OUT_PERSONS

Floats = NDArray[np.float64]
Groups = NDArray[np.int8]

EVIDENCE = "evidence.parquet"


def open_evidence(
    channel: Channel, sender: str, told: Mapping[str, Any], sealed: bytes, names: tuple[str, ...], group: Groups
) -> Evidence:
    """A partner's evidence of a plan, which only the lender can open.

    Args:
        channel: the lender's.
        sender: the partner, whose announcement is `told`.
        sealed: as it came.
        names: of the families of its block.
        group: of the cohort's persons.

    Raises:
        SealBroken: where it is another's.
        ValueError: where it is no evidence of the cohort.
    """
    evidence = Evidence.from_bytes(channel.open(sender, told, sealed, "subscores"), names)
    return evidence.checked(len(group), int((group == HELD_OUT).sum()))


@dataclass(frozen=True)
class Fused:
    """The lender's answer: the fit, and the noisy histogram of held-out scores, shape (2 * BINS,), if there are any."""

    fit: Fit
    histogram: Floats | None


def fuse(
    node: Node, agreement: Agreement, blocks: Mapping[str, list[Evidence]], own: str | None, given: Fit | None = None
) -> Fused:
    """Fits the fusion table on the training persons and scores the held-out persons on the lender's own disk.

    Args:
        blocks: by domain the evidence of its partners, in the order of preference; the lender's own among them.
        own: the lender's own block, if it has one.
        given: the table of a joint fit, which needs no fusion.
    """
    if (given is None) != (agreement.joint is None):
        raise InputError("order", "table", "is given by a joint fit, and by no other")
    cohort = cohort_of(node)
    held = cohort.group == HELD_OUT
    merged = combined(blocks, held)
    optional = tuple(sorted(d for d in merged if d != own))
    told = subscores_of(merged, optional, own)
    train = cohort.group == TRAIN_ROWS
    fit = given or _fit(node, agreement, Subscores(optional, own, told.values[train]), cohort.labels[train])
    shown = Subscores(optional, own, told.values[held])
    frame = evidence_frame(cohort.ids.filter(pl.Series(held)), shown, fit.table, merged, held)
    write_frame(node.folder(LENDER) / EVIDENCE, frame)
    return Fused(fit, _evaluate(node, agreement, frame["score"].to_numpy(), cohort.labels[held]))


def combined(blocks: Mapping[str, list[Evidence]], held: NDArray[np.bool_]) -> dict[str, Evidence]:
    """By domain the evidence of all its partners as one; reasons are of the persons `held`."""
    return {domain: _merged(evidence, held) for domain, evidence in blocks.items()}


def subscores_of(merged: Mapping[str, Evidence], optional: tuple[str, ...], own: str | None) -> Subscores:
    """Sub-scores in the columns of a table; a domain of which nobody answered is a relationship that nobody has."""
    persons = len(next(iter(merged.values())).subscores)
    nothing = np.full(persons, np.nan)
    columns = [*optional, *([own] if own else [])]
    values = [_log_odds(merged[d].subscores) if d in merged else nothing for d in columns]
    return Subscores(optional, own, np.stack(values, axis=1))


def _fit(node: Node, agreement: Agreement, scores: Subscores, labels: NDArray[np.int8]) -> Fit:
    """Fits once for the plan: a retry gets the first result, whatever sub-scores it came with."""
    layout = fusion.Layout(len(scores.optional), len(scores.blocks))
    lines = {}
    for part, (bound, size) in layout.bounds().items():
        line = agreement.line(f"fusion/{part}", LENDER)
        steps = 1 if part == "centres" else agreement.schedules[line.name].steps
        if line.bound < bound or line.size < size or (line.count, line.probability) != (steps, 1.0):
            raise InputError("order", line.name, "does not pay for this release", line.to_dict())
        lines[part] = replace(line, bound=bound, size=size)
    schedules = {part: agreement.schedules[line.name] for part, line in lines.items()}

    def draw(releases: Sequence[Release]) -> bytes:
        adders = dict(zip(lines, releases, strict=True))
        return fusion.fit(scores, labels.astype(np.float64), adders, schedules).to_json()

    return Fit.from_json(once_all(node, agreement, list(lines.values()), draw))


def _evaluate(node: Node, agreement: Agreement, scores: NDArray[np.int16], labels: NDArray[np.int8]) -> Floats | None:
    """The noisy histogram from which everybody's estimates of quality are made; the held-out persons pay for it."""
    if not len(scores):
        return None
    line = agreement.line("evaluation/scores", LENDER, HELD_OUT_PERSONS)
    cells = 2 * estimates.BINS
    if (line.count, line.size, line.probability) != (1, cells, 1.0):
        raise InputError("order", line.name, "does not pay for this release", line.to_dict())
    counts = estimates.histogram(scores, labels)
    reply = once(node, agreement, line, "", lambda release: pack(counts=release(counts)))
    return unpack(reply)["counts"].astype(np.float64)


def _log_odds(subscores: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.where(subscores == ABSENT, np.nan, subscores / MICRO)


def _merged(evidence: list[Evidence], held: NDArray[np.bool_]) -> Evidence:
    """Partners of one domain as one: each person's first partner speaks for it, never the sum."""
    merged = evidence[0]
    for other in evidence[1:]:
        missing = merged.subscores == ABSENT
        merged = Evidence(
            np.where(missing, other.subscores, merged.subscores),
            np.where(missing, other.errors, merged.errors),
            np.where(missing[held, None], other.families, merged.families),
            np.where(missing[held, None], other.shortfalls, merged.shortfalls),
            merged.names,
        )
    return merged


def evidence_frame(
    ids: pl.Series, scores: Subscores, table: FusionTable, evidence: Mapping[str, Evidence], held: NDArray[np.bool_]
) -> pl.DataFrame:
    """The lender's evidence of persons: z, score, pd, blocks present, sub-scores and families.

    Args:
        ids: the persons, n of them.
        scores: their sub-scores.
        evidence: by domain; of its sub-scores' rows those `held` are these persons, and its reasons are theirs.
    """
    z = fusion.z_e6(table, scores)
    score = (MAX_SCORE - np.searchsorted(np.asarray(score_thresholds()), z, side="right")).astype(np.int16)
    names = np.array([_pattern(scores, p) for p in range(1 << len(scores.optional))])
    frame = pl.DataFrame(
        {
            "id": ids,
            "score": score,
            "pd": sigmoid(z / MICRO),
            "z": z / MICRO,
            "z_e6": z,
            "blocks": names[scores.pattern],
            "se_e6": _standard_errors(evidence, held),
        }
    )
    for i, block in enumerate(scores.blocks):
        micro = np.nan_to_num(scores.values[:, i]) * MICRO
        column = pl.Series(f"sub_{block}", np.rint(micro).astype(np.int32))
        why = reasons_of(evidence[block]) if block in evidence else [""] * len(ids)
        frame = frame.with_columns(
            pl.when(pl.Series(scores.present[:, i])).then(column).otherwise(None).alias(f"sub_{block}"),
            pl.Series(f"why_{block}", why, dtype=pl.String),
        )
    return frame


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Puts a table in place as a whole."""
    temporary = Path(f"{path}.part")
    frame.write_parquet(temporary)
    temporary.replace(path)


def _standard_errors(evidence: Mapping[str, Evidence], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each held person's standard error by noise and sample, from all blocks' parts."""
    parts = [np.where(e.subscores[held] == ABSENT, 0.0, e.errors[held]) for e in evidence.values()]
    return standard_errors_e6(np.sum(parts, axis=0, dtype=np.float64))


def _pattern(scores: Subscores, pattern: int) -> str:
    related = [d for i, d in enumerate(scores.optional) if pattern >> i & 1]
    return "+".join([*related, *([scores.own] if scores.own else [])])


def reasons_of(evidence: Evidence) -> list[str]:
    """Per held-out person `family:micro-logit` joined by `;`."""
    names = np.array([*evidence.names, ""])
    said = names[evidence.families]
    amounts = evidence.shortfalls.astype(np.int64) * BUCKET_E6
    return [
        ";".join(f"{family}:{amount}" for family, amount in zip(row, amount_row, strict=True) if family)
        for row, amount_row in zip(said, amounts, strict=True)
    ]
