"""What a domain's record says of a person, before units: logs of money, log1p of counts, log-odds of shares.

On these scales a feature is a mean, moved by traits, with noise around it. `records.py` gives the units; the lending
months take them as they are. The order of the draws is part of both: append, never insert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.descent import sigmoid
from simulations.population.traits import GIG, SELF_EMPLOYED, Floats, Traits

Signals = dict[str, NDArray[Any]]

_GRADES = (-1.6, -0.7, 0.3, 1.2)  # where the tax office's grades D, C, M, B, A part


def ecommerce(who: Traits, tenure: Floats) -> Signals:
    """What a shop records, by column."""
    A, S, P, normal = who.A, who.S, who.P, who.normal
    W, lasting = who.facets[0], 1 - who.faded
    active = 0.35 * A + 0.25 * S + normal(0.9)
    orders = who.count(2.9 + 0.35 * active + np.log(np.minimum(1, tenure / 12 + 0.05)))
    later = who.happens(-0.6 + 0.5 * P)  # uses buy now, pay later: only then it has a record
    return {
        "ec_tenure_months": np.log1p(tenure),
        "ec_orders_12m": orders,
        "ec_gmv_12m_cny": orders + 4.4 + 0.25 * A + normal(0.45),
        "ec_active_months_12m": np.clip(np.round(6 + 2.2 * (0.5 * S + 0.4 * A) + normal(2.6)), 0, 12),
        "ec_return_rate_12m": -2.2 - 0.35 * W + 0.15 * P + normal(0.8),
        "ec_delivery_refusal_rate_12m": -4.2 - 0.75 * W + normal(1.1),
        "ec_night_order_share": -1.8 - 0.30 * lasting * W + 0.20 * lasting * P - 0.015 * (who.age - 35) + normal(0.8),
        "ec_essentials_share": -0.4 + 0.25 * S - 0.25 * P + normal(0.8),
        "ec_address_changes_12m": who.count(-0.4 - 0.45 * S + normal(0.5)),
        "ec_device_changes_12m": who.count(-1.1 - 0.25 * S - 0.15 * W + normal(0.4)),
        "ec_bnpl_used": later,
        "ec_bnpl_ontime_rate_12m": later * (0.85 * (1 + who.faded / 2) * W - 0.55 * P + normal(1.0)),
        "ec_virtual_goods_share": -2.4 + 0.30 * P - 0.25 * W + normal(0.9),
    }


def payments(who: Traits, tenure: Floats) -> Signals:
    """What a bank or wallet records, by column."""
    A, S, P, normal = who.A, who.S, who.P, who.normal
    W, gig, own_boss = who.facets[1], who.segment == GIG, who.segment == SELF_EMPLOYED
    return {
        "pay_tenure_months": np.log1p(tenure),
        "pay_inflow_median_6m_cny": np.log(who.income) + normal(0.35),
        "pay_inflow_cv_6m": -1.1 - 0.30 * S - 0.12 * A + 0.25 * gig + normal(0.35),
        "pay_salary_like_months_12m": np.round(
            12 * sigmoid(0.8 + 0.7 * S + 0.3 * A - 1.6 * own_boss - 1.2 * gig + normal(0.9))
        ),
        "pay_outflow_inflow_ratio_6m": -0.06 + 0.08 * P - 0.06 * A + normal(0.14),
        "pay_low_balance_days_90d": np.round(90 * sigmoid(-1.5 - 0.45 * A + 0.45 * P + normal(0.85))),
        "pay_failed_debits_90d": who.count(-2.1 - 0.25 * W - 0.35 * A + 0.35 * P + normal(0.5)),
        "pay_utility_ontime_rate_12m": 2.3 + 0.45 * W + 0.25 * S + normal(0.95),
        "pay_loan_repay_share_6m": -2.2 + 0.60 * P + normal(0.75),
        "pay_distinct_lenders_90d": who.count(-1.0 + 0.45 * P - 0.1 * W + normal(0.4)),
        "pay_savings_balance_cny": 7.2 + 0.9 * A + 0.2 * W - 0.25 * P + normal(1.1),
        "pay_highrisk_mcc_share": -4.4 + 0.40 * P - 0.25 * W + normal(0.9),
        "pay_counterparties_90d": who.count(2.6 + 0.15 * A + 0.15 * S + normal(0.4)),
    }


def tax_business(who: Traits, tenure: Floats, merit: float = 0.0) -> Signals:
    """What tax and business registers record, by column: zero in the half that does not apply, owners' or others'.

    `merit` moves the tax office's grades.
    """
    A, S, P, B, normal = who.A, who.S, who.P, who.B, who.normal
    W, owner, other = who.facets[2], who.owner, ~who.owner
    arrears = who.happens(-2.0 - 0.5 * W - 0.5 * B + 0.3 * P) * (6 + 0.6 * P - 0.6 * W - 0.4 * B + normal(1.2))
    return {
        "tx_is_owner": owner,
        "tx_biz_age_months": owner * np.log1p(tenure),
        "tx_sales_12m_cny": owner * (0.75 * B + 0.25 * A + normal(0.7)),
        "tx_sales_growth_yoy": owner * (0.04 + 0.16 * B - 0.06 * P + normal(0.28)),
        "tx_sales_cv_12m": owner * (-1.0 - 0.25 * B - 0.2 * S + normal(0.35)),
        "tx_zero_filing_months_12m": owner * np.round(12 * sigmoid(-3.0 - 0.8 * B - 0.3 * S + normal(0.9))),
        "tx_filing_ontime_rate_24m": owner * (2.4 + 0.55 * W + 0.35 * B + normal(0.8)),
        "tx_credit_grade_ord": owner * np.digitize(0.50 * W + 0.45 * B + 0.2 * S + normal(0.7) + merit, _GRADES),
        "tx_arrears_cny": owner * np.maximum(0, arrears),
        "tx_litigation_24m": owner * who.count(-2.2 - 0.3 * B - 0.25 * W + 0.3 * P + normal(0.3)),
        "tx_top5_customer_share": owner * (-0.3 * B + normal(0.9)),
        "tx_iit_income_monthly_cny": other * (np.log(who.income) - 8.55 + normal(0.25)),
        "tx_social_ins_months_24m": other * tenure,
    }


def lender_kyc(who: Traits) -> Signals:
    """What the lender asks itself, by column, the segment apart."""
    n, rng = len(who), who.noise
    return {
        "age_years": np.floor(who.age),
        "declared_income_cny": np.log(who.income) + 0.10 + rng.normal(0, 0.55 * who.blur, n),
        "employment_months": np.log1p(np.clip(rng.gamma(1.6, 24, n) * np.exp(0.30 * who.S), 0, 480)),
        "city_tier": np.clip(np.round(2.8 - 0.25 * who.A + rng.normal(0, 1, n)), 1, 5),
        "phone_tenure_months": np.log1p(np.clip(rng.gamma(2, 26, n) * np.exp(0.20 * who.S + 0.06 * who.W), 0, 300)),
        "requested_amount_cny": 8.7 + 0.30 * who.A + 0.18 * who.P + rng.normal(0, 0.7, n),
    }


def further_ecommerce(who: Traits, main: Mapping[str, NDArray[Any]]) -> Signals:
    """What else a shop records; it says little that the main columns do not."""
    normal = who.normal
    busy = 0.5 * (main["ec_orders_12m"] - 2.5) + 0.15 * who.S
    return {
        "ec_aov_cny": main["ec_gmv_12m_cny"] - main["ec_orders_12m"],
        "ec_coupon_share": -1.0 - 0.10 * who.A + 0.10 * who.P + normal(0.8),
        "ec_category_entropy_nats": np.clip(1.4 + 0.3 * busy + normal(0.3), 0, 2.48),
        "ec_days_since_last_order": np.clip(2.6 - 0.6 * busy + normal(0.6), 0, np.log1p(365)),
        "ec_dispute_rate_12m": -4.8 - 0.15 * who.facets[0] + normal(0.9),
    }


def further_payments(who: Traits, main: Mapping[str, NDArray[Any]]) -> Signals:
    """What else a bank or wallet records."""
    normal = who.normal
    return {
        "pay_min_balance_cny": 0.7 * main["pay_savings_balance_cny"]
        - 0.02 * main["pay_low_balance_days_90d"]
        + normal(0.8),
        "pay_rent_like_months_12m": np.round(12 * sigmoid(-0.8 + 0.15 * who.S + normal(1.2))),
        "pay_weekend_share": -0.9 + 0.1 * (who.segment == GIG) + normal(0.4),
        "pay_days_since_last_txn": np.clip(0.9 - 0.15 * who.S + normal(0.6), 0, np.log1p(180)),
    }


def further_tax_business(who: Traits) -> Signals:
    """What else registers record of owners; the industry is drawn where the partner is known."""
    normal, owner, B = who.normal, who.owner, who.B
    return {
        "tx_invoice_count_12m": owner * who.count(4.2 + 0.5 * B + normal(0.6)),
        "tx_upstream_concentration": owner * (-0.2 - 0.2 * B + normal(0.8)),
        "tx_legal_rep_changes_24m": owner * who.count(-2.5 - 0.25 * who.S + normal(0.3)),
        "tx_abnormal_list_flag": owner * who.happens(-4.2 - 0.4 * who.facets[2] - 0.3 * B + 0.3 * who.P),
    }
