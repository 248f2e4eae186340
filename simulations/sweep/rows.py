"""What a sweep writes down: one row a cell in `results.parquet`, and its curves in `curves.parquet`.

A cell is one training: a set of persons under one arm (learner, trust, allocation), one epsilon and one seed. Every
figure of the report is drawn from these two tables and nothing else.
"""

from __future__ import annotations

import polars as pl

KEY = ("set", "arm", "epsilon", "seed")

# One row a cell. Figures are on held-out persons and exact, which only a simulation may show; None where not measured.
RESULTS: dict[str, type[pl.DataType]] = {
    "set": pl.String,  # the federation's name
    "arm": pl.String,
    "learner": pl.String,  # scorecard | moments | network | opacus | own-block, or a baseline's name
    "trust": pl.String,  # local | secure | curator | pooled (one party has all rows in the clear)
    "allocation": pl.String,  # of the budget over the holders: norm (by their rows' norm) | equal | given; else empty
    "within_domain": pl.String,  # overlap | home
    "protected": pl.Boolean,  # whether features marked protected train
    "split": pl.String,  # pinned (one split of the persons for all seeds) | seeded (each seed draws its own)
    "private": pl.String,  # what epsilon covers: person | labels | nothing
    "epsilon": pl.Float64,  # asked for; inf without noise
    "delta": pl.Float64,
    "seed": pl.Int64,
    "epsilon_spent": pl.Float64,
    "persons": pl.Int64,
    "train": pl.Int64,
    "held_out": pl.Int64,
    "holders": pl.Int64,
    "base_rate": pl.Float64,  # of the held-out persons
    "auc": pl.Float64,
    "auc_error": pl.Float64,  # standard error from the sample of held-out persons (DeLong et al. 1988)
    "ks": pl.Float64,
    "ks_error": pl.Float64,
    "brier": pl.Float64,
    "brier_error": pl.Float64,
    "log_loss": pl.Float64,
    "pd_mean": pl.Float64,
    "auc_own_block": pl.Float64,  # of the lender's own sub-score within this run; the lender alone is the arm own-block
    "thin_share": pl.Float64,  # held-out persons whom at most one partner's domain knows
    "auc_thin": pl.Float64,
    "auc_thick": pl.Float64,
    "decided": pl.Int64,  # held-out persons that were decided for; the shares and sums below are over these
    "approval": pl.Float64,  # share with an offer, trial offers among them
    "amount_mean": pl.Float64,  # currency units an applicant, 0 where there is no offer
    "expected_loss": pl.Float64,  # currency units a year and applicant, by the model's PD and the policy's economics
    "profit_expected": pl.Float64,
    "realised_loss": pl.Float64,  # the same with what truly happened instead of the PD
    "profit_realised": pl.Float64,
    "audit_at_least": pl.Float64,  # the largest lower bound on epsilon that canaries gave
    "seconds": pl.Float64,
    "bytes": pl.Int64,
    "error": pl.String,  # empty, or why the cell has no figures
    "federation_sha256": pl.String,  # of the federation file, its contracts and the policy
    "data_sha256": pl.String,  # of the holders' files
    "versions": pl.String,  # JSON: fedscore, Python and the packages that matter
    "repeat": pl.String,  # JSON: every setting, enough to run this cell again
}

ADDED = ("split",)  # columns that tables of earlier sweeps lack: a reader takes null for them

# Long form: one row a point. `at` is the place on the x-axis, `weight` how many persons a value stands for.
CURVES: dict[str, type[pl.DataType]] = {
    "set": pl.String,
    "arm": pl.String,
    "epsilon": pl.Float64,
    "seed": pl.Int64,
    "curve": pl.String,
    "group": pl.String,
    "at": pl.Float64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "weight": pl.Float64,
}

# By curve: what group, at, value and weight mean.
CURVE_MEANINGS: dict[str, str] = {
    "calibration": "at: mean predicted PD of a tenth of the persons; value: share that defaulted; weight: persons",
    "scores": "group: good | bad; at: lower end of a bin of 25 points; value: share of the group",
    "resampled": "at: resample of the held-out persons, the same of all cells with these persons; value: AUC on it",
    "known_by": "group: number of partners' domains that know the person; value: AUC; at: AUC of the lender's own "
    "part of this model, which is not the lender alone (that is `value` under the arm own-block); weight: persons",
    "decisions": "group: APPROVE | TRIAL | DECLINE | DEFER | REFER; value: share of the persons decided for",
    "fairness": "group: FEATURE=value; at: share with an offer among those who did not default; value: share with an "
    "offer; weight: persons",
    "drift_psi": "at: months since year 0; value: population stability index of the score against the first "
    "held-out months; high: what chance alone would stay below in all months; weight: persons",
    "drift_rate": "at: months since year 0; value: share that defaulted; low: mean predicted PD; weight: persons",
    "releases": "group: the plan's line; value: epsilon of this line alone",
    "audit": "group: what was audited; value: lower bound on epsilon; high: the claim",
    "shapley": "group: domain; value: its Shapley value in AUC; low, high: 90 % interval where there is one",
    "seconds": "group: phase; value: seconds",
}
