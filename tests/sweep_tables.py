"""Tables of a made-up sweep, shaped as `fedscore sweep` writes them: plausible figures, not measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulations.sweep.arms import ARMS
from simulations.sweep.rows import CURVES, KEY, RESULTS

INF = math.inf
CEILING = {
    "joint": 0.775, "joint-secure": 0.775, "joint-protected": 0.777, "apart": 0.767, "apart-equal": 0.767,
    "network": 0.765, "overlap": 0.764, "home": 0.763, "own-block": 0.62, "dp-ebm": 0.772, "pooled-opacus": 0.76,
    "response-only": 0.77, "logistic": 0.776, "trees": 0.78,
}  # fmt: skip
LOSS = {"dp-ebm": 0.012, "pooled-opacus": 0.02, "response-only": 0.05}  # AUC at epsilon 1
RESAMPLES = 20
GROUPS = {"sex=f": 0.62, "sex=m": 0.55, "age=20-29": 0.40, "age=30-44": 0.60, "age=45-": 0.66}


@dataclass(frozen=True)
class Asked:
    """What is in the tables, and which curves are left out."""

    sets: Sequence[str] = ("uci-default",)
    arms: Sequence[str] = ("joint", "apart", "own-block", "dp-ebm", "trees")
    epsilons: Sequence[float] = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, INF)
    seeds: int = 4
    without: Sequence[str] = ()
    shift: dict[str, float] = field(default_factory=dict)  # of AUC, by arm


def write_tables(out: Path, asked: Asked = Asked()) -> Path:
    """Writes `results.parquet` and `curves.parquet` into a folder that need not exist yet."""
    rng = np.random.default_rng(20261126)
    results, curves = [], []
    for key in _keys(asked):
        row = _result(key, asked, rng)
        results.append(row)
        made = () if row["error"] else _curves(row, rng)
        curves += [dict.fromkeys(CURVES) | key | {"group": ""} | p for p in made if p["curve"] not in asked.without]
    out.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(results, schema=RESULTS).sort(KEY).write_parquet(out / "results.parquet")
    pl.DataFrame(curves, schema=CURVES).write_parquet(out / "curves.parquet")
    return out


def change(out: Path, name: str, **columns: pl.Expr) -> Path:
    """Puts other values into columns of one of the tables."""
    path = out / f"{name}.parquet"
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)
    return out


def _keys(asked: Asked) -> Iterator[dict[str, Any]]:
    for name in asked.sets:
        for arm in asked.arms:
            epsilons = ARMS[arm].epsilons(asked.epsilons) if arm in ARMS else tuple(asked.epsilons)
            for epsilon in epsilons:
                yield from ({"set": name, "arm": arm, "epsilon": epsilon, "seed": s} for s in range(asked.seeds))


def _result(key: dict[str, Any], asked: Asked, rng: np.random.Generator) -> dict[str, Any]:
    name, epsilon = key["arm"], key["epsilon"]
    arm = ARMS.get(name)
    row: dict[str, Any] = dict.fromkeys(RESULTS) | key
    row |= {name: getattr(arm, name, "") for name in ("learner", "trust", "allocation", "within_domain", "private")}
    row |= {
        "protected": bool(arm and arm.protected),
        "split": "pinned",
        "delta": 1e-5,
        "persons": 30_000,
        "train": 21_052,
        "held_out": 8_948,
    }
    if arm is None:
        row |= {"learner": name, "trust": "local", "private": "person"}
    row |= {
        "holders": 1 if name == "own-block" else 3,
        "error": "",
        "versions": '{"fedscore": "0.1.0"}',
        "repeat": "{}",
    }
    row |= {"federation_sha256": "f" * 64, "data_sha256": "d" * 64, "base_rate": 0.2212}
    if name in ("apart", "dp-ebm") and epsilon == 0.1 and key["seed"] == 0:
        return row | {"error": "the run stopped: <too little budget> for 3 holders & one lender"}
    auc = CEILING.get(name, 0.75) + asked.shift.get(name, 0.0) + rng.normal(0, 0.001)
    auc -= LOSS.get(name, 0.006) / epsilon**0.8
    row |= {"epsilon_spent": epsilon, "auc": auc, "auc_error": 0.0058, "ks": 0.55 * (auc - 0.5) / 0.27 * 0.75}
    row |= {
        "ks_error": 0.011,
        "brier": 0.172 - 0.14 * (auc - 0.5),
        "brier_error": 0.002,
        "log_loss": 0.45,
        "pd_mean": 0.22,
    }
    row |= {
        "seconds": 4 + rng.gamma(2, 0.2),
        "bytes": 0,
        "thin_share": 0.21,
        "auc_thin": auc - 0.06,
        "auc_thick": auc + 0.01,
    }
    if arm is None or arm.ours:
        row |= {"auc_own_block": 0.61, "bytes": 44_500_000 if "joint" in name else 3_000_000, "decided": 8_948}
        row |= {"approval": 0.2 + 0.4 * (auc - 0.5), "amount_mean": 2100.0, "audit_at_least": 0.9 * min(epsilon, 8.0)}
        row |= {"expected_loss": 31 + 20 * (0.775 - auc), "realised_loss": 33 + 90 * (0.775 - auc)}
        row |= {"profit_expected": 21 - 80 * (0.775 - auc), "profit_realised": 18 - 160 * (0.775 - auc)}
    return row


def _curves(row: dict[str, Any], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Each of the curves that such a cell has."""
    spread = row["auc"] - 0.5
    for tenth, predicted in enumerate(np.linspace(0.05, 0.6, 10)):
        observed = max(0.0, predicted + rng.normal(0, 0.004) + 0.02 * (tenth - 5) / 5)
        yield {"curve": "calibration", "at": predicted, "value": observed, "weight": 894.0}
    for group, centre in (("good", 640 + 150 * spread), ("bad", 640 - 150 * spread)):
        bins = np.arange(350, 950, 25)
        share = np.exp(-(((bins - centre) / 110) ** 2))
        yield from (
            {"curve": "scores", "group": group, "at": float(b), "value": s, "weight": 1.0}
            for b, s in zip(bins, share / share.sum(), strict=True)
        )
    for sample in range(RESAMPLES):
        moved = np.random.default_rng(sample).normal(0, 0.0058) + rng.normal(0, 0.0006)
        yield {"curve": "resampled", "at": float(sample), "value": row["auc"] + moved}
    alone = row["trust"] == "pooled" or row["learner"] == "own-block"
    for known in range(4):
        value = 0.61 + 0.055 * known * spread / 0.27
        yield {"curve": "known_by", "group": str(known), "value": value, "weight": 2000.0} | (
            {} if alone else {"at": 0.58}
        )
    if alone:
        return
    for kind, share in (("APPROVE", row["approval"] - 0.05), ("TRIAL", 0.05), ("DECLINE", 1 - row["approval"])):
        yield {"curve": "decisions", "group": kind, "value": share}
    for group, share in GROUPS.items():
        more = rng.normal(0, 0.005) + (0.03 if row["protected"] and group.startswith("sex=m") else 0)
        yield {"curve": "fairness", "group": group, "at": share + 0.1 + more, "value": share + more, "weight": 900.0}
    yield {"curve": "fairness", "group": "sex=other", "at": 0.1, "value": 0.1, "weight": 12.0}
    for month in range(24145, 24163):
        yield {
            "curve": "drift_psi",
            "at": float(month),
            "value": 0.012 * (month - 24145),
            "high": 0.08,
            "weight": 500.0,
        }
        rate = {"value": 0.22 + 0.002 * (month - 24145), "low": 0.22}
        yield {"curve": "drift_rate", "at": float(month), "weight": 500.0} | rate
    yield from _ends(row)


def _ends(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Curves of the budget, the audit and the domains."""
    epsilon = row["epsilon"]
    for line, part in (("moments/joint", 0.6), ("refine/joint", 0.75), ("evaluation/scores", 1.0)):
        if math.isfinite(epsilon):
            yield {"curve": "releases", "group": line, "value": part * epsilon}
            yield {"curve": "audit", "group": line, "value": 0.9 * part * epsilon, "high": part * epsilon}
    for domain, part in (("payments", 0.7), ("lender_kyc", 0.25), ("ecommerce", 0.05)):
        value = part * (row["auc"] - 0.5)
        yield {"curve": "shapley", "group": domain, "value": value, "low": value - 0.01, "high": value + 0.01}
    for phase, share in (("load", 0.1), ("align", 0.1), ("train", 0.6), ("decide", 0.2)):
        yield {"curve": "seconds", "group": phase, "value": share * row["seconds"]}
