"""Measuring a finished cell: a row of results and its curves, exact on held-out persons, as only a simulation may."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of, persons_of
from clients.config import Node
from clients.fusing import EVIDENCE
from model import metrics
from model.federation import LENDER
from model.limits.policy import load_policy
from model.limits.table import MICRO
from model.points import MAX_SCORE, MIN_SCORE, score_thresholds
from model.wire import HELD_OUT
from privacy.plan import line_of, spent_by
from server.outcomes import MODEL_FOLDER
from simulations.settings import Settings
from simulations.sweep import drift, fairness, shapley
from simulations.sweep.decided import business, outcomes
from simulations.sweep.points import Point, point

Measured = tuple[dict[str, Any], list[Point]]
Floats = metrics.Floats

BIN = 25  # points of score
SURE = 1e-12  # a baseline's PD is this far from 0 and 1
RESAMPLES = 200
THIN = 1  # domains of partners, at most, that know a person with a thin file


class HasPd(Protocol):
    """What a baseline gives: the PD of every held-out person, in the cohort's order, and what it spent."""

    @property
    def pd(self) -> metrics.Floats:
        """Shape (held_out,)."""

    @property
    def epsilon_spent(self) -> float:
        """Infinite without privacy."""


def measured(folder: Path, node: Node, settings: Settings) -> Measured:
    """The row and the curves of a simulation that `simulate` finished.

    Args:
        folder: what it wrote.
        node: of the simulation, for its cohort and the holders' files.
        settings: it ran with.

    Returns:
        The columns of `rows.RESULTS` that can be measured, and rows of `rows.CURVES` without the cell's key.
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    evidence = pl.read_parquet(folder / "nodes" / LENDER / EVIDENCE)
    cohort = cohort_of(node)
    persons = evidence.with_columns(pl.Series("label", cohort.labels[cohort.group == HELD_OUT]))
    labels, z, pd = (persons[name].cast(pl.Float64).to_numpy() for name in ("label", "z", "pd"))
    own = node.federation.lender.domain if node.federation.lender.contract else None
    part = persons[f"sub_{own}"].cast(pl.Float64).to_numpy() if own else None
    decided = outcomes(pl.read_parquet(folder / "decisions.parquet"), persons.select("id", "z_e6", "label"))
    result, curves = _quality(labels, z, pd)
    for more, points in (
        _gains(labels, z, _domains(persons["blocks"], own), part),
        business(decided, load_policy(settings.policy).economics),
        _told(report),
    ):
        result |= more
        curves += points
    curves += shapley.told(report["contributions"]) or shapley.measured(folder / MODEL_FOLDER, persons)
    return result, curves + fairness.curve(node, decided) + drift.curves(node, persons)


def measured_baseline(fitted: HasPd, node: Node) -> Measured:
    """The row and the curves of a baseline: what can be said of PDs alone.

    Args:
        fitted: its PDs, in the order of the cohort's held-out persons.
        node: whose cohort they are, and whose files say who knows them.
    """
    cohort = cohort_of(node)
    held = cohort.group == HELD_OUT
    labels = cohort.labels[held].astype(np.float64)
    pd = np.clip(np.asarray(fitted.pd, np.float64), SURE, 1.0 - SURE)
    z = np.log(pd / (1.0 - pd))
    result, curves = _quality(labels, z, pd)
    more, points = _gains(labels, z, known_by(node)[held], None)
    sizes = {"persons": len(held), "train": int((~held).sum())}
    return result | more | sizes | {"epsilon_spent": float(fitted.epsilon_spent)}, curves + points


def known_by(node: Node) -> NDArray[np.int64]:
    """How many partners' domains know each person of the cohort, shape (n,)."""
    persons = pl.Series(persons_of(node, LENDER))
    by_domain: dict[str, NDArray[np.bool_]] = {}
    for partner in node.federation.partners:
        here = persons.is_in(persons_of(node, partner.name)).to_numpy()
        by_domain[partner.domain] = by_domain.get(partner.domain, np.zeros(len(here), bool)) | here
    return np.asarray(sum(by_domain.values(), np.zeros(len(persons), np.int64)))


def _domains(blocks: pl.Series, own: str | None) -> NDArray[np.int64]:
    """The number of partners' domains in each pattern `a+b+own`."""
    counts = {pattern: len(set(pattern.split("+")) - {own, ""}) for pattern in blocks.unique()}
    return np.array([counts[pattern] for pattern in blocks], dtype=np.int64)


def _quality(labels: Floats, z: Floats, pd: Floats) -> Measured:
    """How good the score is on all held-out persons."""
    result = {"held_out": len(labels), **dict.fromkeys(("base_rate", "brier", "log_loss", "pd_mean"))}
    if len(labels):
        result |= {
            "base_rate": float(labels.mean()),
            "brier": metrics.brier(labels, pd),
            "log_loss": metrics.log_loss(labels, pd),
            "pd_mean": float(pd.mean()),
        }
    result |= {
        "auc": metrics.auc(labels, z),
        "auc_error": metrics.auc_error(labels, z),
        "ks": metrics.ks(labels, z),
        "ks_error": metrics.ks_error(labels, z),
        "brier_error": metrics.brier_error(labels, pd),
    }
    tenths = metrics.calibration(labels, pd)
    curves = [point("calibration", at=t["predicted"], value=t["observed"], weight=t["persons"]) for t in tenths]
    return result, curves + _scores(labels, z) + _resampled(labels, z)


def _scores(labels: Floats, z: Floats) -> list[Point]:
    """The distribution of the score among good and bad payers."""
    score = MAX_SCORE - np.searchsorted(np.asarray(score_thresholds()), np.rint(z * MICRO), side="right")
    bins = np.arange(MIN_SCORE, MAX_SCORE, BIN)
    place = np.minimum((score - MIN_SCORE) // BIN, len(bins) - 1)  # the best score of all is in the last bin
    curves = []
    for group, wanted in (("good", 0), ("bad", 1)):
        counts = np.bincount(place[labels == wanted], minlength=len(bins))
        if counts.sum():
            pairs = zip(bins.tolist(), counts.tolist(), strict=True)
            curves += [point("scores", group, at=float(b), value=c / int(counts.sum()), weight=c) for b, c in pairs]
    return curves


def _resampled(labels: Floats, z: Floats) -> list[Point]:
    """The AUC on resamples of the persons: every cell with the same held-out persons has the same ones.

    A resample counts each person with a weight of its own, drawn from the unit exponential: no class is ever empty.
    Source: Rubin (1981), "The Bayesian bootstrap", Annals of Statistics 9, 130-134.
    """
    persons = len(labels)
    rng = np.random.default_rng(persons)
    weights = (rng.standard_exponential(persons) for _ in range(RESAMPLES))
    found = enumerate(metrics.weighted_aucs(labels, z, weights))
    return [point("resampled", at=float(b), value=value) for b, value in found if value is not None]


def _gains(labels: Floats, z: Floats, known: NDArray[np.int64], own: Floats | None) -> Measured:
    """The AUC by how many partners' domains know a person, beside that of the lender's own part of this model.

    That part was fitted beside the others, or on a share of the budget: the lender alone may do better without them.
    """
    thin = known <= THIN

    def own_part(here: NDArray[np.bool_]) -> float | None:
        if own is None:
            return None
        has = here & np.isfinite(own)
        return metrics.auc(labels[has], own[has])

    result = {
        "auc_own_block": own_part(np.ones(len(labels), bool)),
        "thin_share": float(thin.mean()) if len(thin) else None,
        "auc_thin": metrics.auc(labels[thin], z[thin]),
        "auc_thick": metrics.auc(labels[~thin], z[~thin]),
    }
    curves = []
    for count in np.unique(known).tolist():
        here = known == count
        value = metrics.auc(labels[here], z[here])
        curves.append(point("known_by", str(count), at=own_part(here), value=value, weight=int(here.sum())))
    return result, curves


def _told(report: Mapping[str, Any]) -> Measured:
    """What the run's report says: persons, epsilon, audit, seconds and bytes."""
    persons, findings = report["persons"], report["audit"]["findings"]
    result = {
        "persons": persons["all"],
        "train": persons["train"],
        "holders": 1 + len(report["partners"]),
        "epsilon_spent": float(report["epsilon_run"]),
        "delta": report["delta"],
        "audit_at_least": max((f["at_least"] for f in findings), default=None),
        "seconds": round(sum(report["seconds"].values()), 3),
        "bytes": sum(report["bytes_sent"].values()),
    }
    curves = [point("seconds", name, value=float(s)) for name, s in sorted(report["seconds"].items())]
    curves += [point("audit", f["name"], value=f["at_least"], high=_finite(f["claim"])) for f in findings]
    return result, curves + _releases(report)


def _releases(report: Mapping[str, Any]) -> list[Point]:
    """The price of each line of the plan if it stood alone; nothing without privacy."""
    epsilon = float(report["epsilon_asked"])
    if math.isinf(epsilon):
        return []
    lines = [line_of(line) for line in report["releases"]]
    prices = {line.name: spent_by([[line]], epsilon, report["delta"]) for line in lines}
    return [point("releases", name, value=_finite(price)) for name, price in sorted(prices.items())]


def _finite(epsilon: float | str) -> float | None:
    return float(epsilon) if math.isfinite(float(epsilon)) else None
