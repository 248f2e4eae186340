"""From months to figures: metrics of each run, means with intervals over seeds, and paired differences of policies."""

from __future__ import annotations

import numpy as np

from simulations.estimates import Estimate
from simulations.months.applicants import Floats
from simulations.months.running import Months

YUAN = 100
FEW = 0.01  # of the approved: fewer begin on the ladder only because their limit is as small as a rung

# name, English, Chinese, unit of every metric
METRICS = (
    ("profit", "Profit", "利润", "cny"),
    ("profit_month_12", "Profit by month 12", "前12个月利润", "cny"),
    ("loss", "Loss", "损失", "cny"),
    ("expected_loss", "Loss the score expected", "评分预期损失", "cny"),
    ("loss_rate", "Loss a year, of what is drawn", "年损失率(占用信余额)", "share"),
    ("approval", "Approved", "通过率", "share"),
    ("thin_approval", "Thin files approved", "薄档案通过率", "share"),
    ("graduation", "Trial accounts that reached a standard limit", "试用账户升为标准额度的比例", "share"),
    ("first_payment_default", "First-payment default", "首期违约率", "share"),
    ("thin_first_payment_default", "First-payment default, thin files", "薄档案首期违约率", "share"),
    ("cost_per_label", "Cost of one outcome learned on trial", "试用期每得一条结果的成本", "cny"),
    ("points_cost", "Cost of points", "积分成本", "cny"),
)


def metrics(months: Months) -> dict[str, Floats]:
    """Each metric of each seed, shape (seeds,); amounts in CNY.

    The loss rate is of a year, on what was drawn on average. An outcome is learned on trial when an account that began
    with a trial limit defaults in its first year, or has lasted it; its cost is what such accounts lost on the rungs.
    Both that and graduation are 0 where hardly any account begins on the ladder.
    """
    total = {name: values.sum(axis=1) for name, values in months.items()}
    last = {name: values[:, -1] for name, values in months.items()}
    begun = np.where(last["trials_ever"] > FEW * total["approved"], last["trials_ever"], 0)
    return {
        "profit": total["profit"] / YUAN,
        "profit_month_12": months["profit"][:, :12].sum(axis=1) / YUAN,
        "loss": total["loss"] / YUAN,
        "expected_loss": total["expected_loss"] / YUAN,
        "loss_rate": _share(total["loss"], total["drawn"] / 12),
        "approval": _share(total["approved"], total["applicants"]),
        "thin_approval": _share(total["thin_approved"], total["thin_applicants"]),
        "graduation": _share(last["graduated"], begun),
        "first_payment_default": _share(total["first_payment_defaults"], total["approved"]),
        "thin_first_payment_default": _share(total["thin_first_payment_defaults"], total["thin_approved"]),
        "cost_per_label": _share(-total["trial_result"] / YUAN, np.where(begun > 0, total["labels"], 0)),
        "points_cost": total["points_cost"] / YUAN,
    }


def cumulative(months: Months, name: str) -> Floats:
    """Running sums in CNY, shape (seeds, months)."""
    return np.asarray(np.cumsum(months[name], axis=1) / YUAN)


def band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and 95 % interval over seeds by month, from shape (seeds, months)."""
    estimates = [Estimate.of(values[:, month]) for month in range(values.shape[1])]
    mean = np.array([e.mean for e in estimates])
    low = np.array([e.mean if e.low is None else e.low for e in estimates])
    high = np.array([e.mean if e.high is None else e.high for e in estimates])
    return mean, low, high


def _share(part: Floats, whole: Floats) -> Floats:
    """Part of whole, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
