"""Which reasons a decision has: rules that stopped it, too little record, a score below the line, late data, caps.

A score is explained by shortfall: weight x (log-odds - reference), the reference being the average applicant. For an
additive model that is the exact Shapley value with that baseline. Ties are broken by code, then source.
"""

from __future__ import annotations

from datetime import datetime

from model.limits.offers import RISK_CAPS, Offer, income_fen, increase_blocked, line_bp
from model.limits.reasons import MAX_REASONS, Reason, reason
from model.limits.states import DISPUTED, Case, Standing, evidence_of
from model.limits.table import MICRO
from model.points import pd_e8

_CAP_CODES = {"SEGMENT": "C02", "LEGAL_CONSUMER": "L03", "PORTFOLIO": "P01"}


def stopping_reasons(case: Case) -> list[Reason]:
    """The rules that stop the application whatever its score, in their fixed order."""
    kyc, state, policy = case.request.kyc, case.state, case.policy
    applied = case.request.purpose in ("new", "increase")
    gates = (
        ("K01", not kyc.passed),
        ("K02", not kyc.matched),
        ("L01", not policy.legal.min_age <= kyc.age_years <= policy.legal.max_age),
        ("L02" if kyc.segment == "student" else "L05", kyc.segment in policy.legal.ineligible_segments),
        ("F01", kyc.fraud_flag),
        ("B03", state.dpd_now >= policy.trial.freeze_dpd_days),
        ("B04", state.status == "frozen"),
        ("B05", state.status == "closed"),
        ("V01", applied and state.applications_30d >= policy.velocity.max_applications_30d),
    )
    return [reason(code) for code, stops in gates if stops][:MAX_REASONS]


def waiting_reasons(case: Case, standing: Standing, deadline: datetime) -> list[Reason]:
    """Why a decision waits: one reason for each late domain."""
    return [reason(late_code(case, standing, d), d, deadline=deadline) for d in standing.late][:MAX_REASONS]


def late_code(case: Case, standing: Standing, domain: str) -> str:
    """D03 disputed, D02 abnormal, D01 delayed."""
    if evidence_of(case, domain).quality in DISPUTED:
        return "D03"
    return "D02" if standing.states[domain] == "abnormal" else "D01"


def offer_reasons(case: Case, standing: Standing, offer: Offer, missed: bool) -> list[Reason]:
    """Why nothing, or less than asked, or only a start, is offered; nothing where all that was asked is.

    Args:
        case: the inputs of the decision.
        standing: the applicant's blocks, PD and margin.
        offer: the best one.
        missed: whether late data that could have changed the answer was not waited for.
    """
    if offer.kind is None:
        found = _below_line(case, standing)
    elif _is_full(case, offer):
        return []
    else:
        found = _by_cap(case, standing, offer)
    unheard = [reason("D04", domain) for domain in standing.late] if missed and found else []
    kept = max(MAX_REASONS - len(unheard), 2)
    return list(dict.fromkeys(found[:kept] + unheard))[:MAX_REASONS]


def _is_full(case: Case, offer: Offer) -> bool:
    """What was asked; where no amount was named, a standard limit as high as before, for an increase a higher one."""
    asked, amount = case.request.requested_fen, offer.amount_fen
    if not amount:
        return False
    if asked is not None:
        return amount >= asked or offer.binding_cap == "REQUESTED"
    least = case.state.current_limit_fen + (case.request.purpose == "increase")
    return offer.kind == "STANDARD" and amount >= least


def _below_line(case: Case, standing: Standing) -> list[Reason]:
    """The upper PD is above the line: by the margin alone, or by the score."""
    if pd_e8(standing.z_e6) <= line_bp(case.policy, standing.thin) * 10_000:
        return _thin_reasons(case, standing)
    return [reason("S01"), *_pulled_down(case, standing)]


def _thin_reasons(case: Case, standing: Standing) -> list[Reason]:
    """Too little record: too few blocks, too short a relationship, data that is not recent."""
    rule, used = case.policy.confidence, standing.used
    months = sum(evidence_of(case, d).tenure_months for d in used)
    found = []
    if used and months < rule.thin_min_tenure_months:
        found.append(reason("T02"))
    if len(used) < rule.thin_min_blocks or not found:
        found.insert(0, reason("T01"))
    found += [reason("L04", d) for d, state in standing.states.items() if state == "no_consent"]
    return found + [reason("T03", d) for d in used if standing.states[d] == "stale"]


def _pulled_down(case: Case, standing: Standing) -> list[Reason]:
    """What pulled the score down, the heaviest first: at least one."""
    weights = case.bundle.table.entry(standing.related, standing.used).weights_e6
    reference, own = case.bundle.reference_e6, case.bundle.table.own
    shortfall = {b: w * (standing.logits_e6[b] - reference[b]) // MICRO for b, w in weights.items() if w}
    parts: list[tuple[int, str, str, str]] = []  # (-weight, code, source, group): sorts as it is to be told
    for block, short in shortfall.items():
        told = case.request.kyc.reasons if block == own else evidence_of(case, block).reasons
        hurting = [part for part in told if part.delta_e6 > 0]
        for part in hurting:
            code, group = (part.code, "") if part.code[0].isupper() else ("S03", part.code)
            parts.append((-weights[block] * part.delta_e6 // MICRO, code, block, group))
        if not hurting and short > 0:
            parts.append((-short, "S02", block, ""))
    if standing.behaviour_e6 > 0:
        parts.append((-standing.behaviour_e6, _late_payments(case), "rule", ""))
    absence, lateness = _gaps_e6(case, standing)
    if absence > 0:
        parts.append((-absence, "T01", "rule", ""))
    if lateness > 0:
        parts += [(-lateness, "D04", domain, "") for domain in standing.late]
    if not parts and shortfall:
        block = max(sorted(shortfall), key=shortfall.__getitem__)
        parts.append((0, "S02", block, ""))
    told_once = dict.fromkeys((code, source, group) for _, code, source, group in sorted(parts))
    return [reason(code, source, group=group) for code, source, group in told_once] or [reason("T01")]


def _late_payments(case: Case) -> str:
    return "B01" if case.state.lates_12m == 1 else "B02"


def _gaps_e6(case: Case, standing: Standing) -> tuple[int, int]:
    """How much no relationship with some domains, and late data, raise z: everything else at the reference."""
    table, reference, related = case.bundle.table, case.bundle.reference_e6, standing.related
    if standing.used == table.optional:
        return 0, 0
    here = table.z_e6(related, related, reference)
    absence = here - table.z_e6(table.optional, table.optional, reference)
    return absence, table.z_e6(related, standing.used, reference) - here


def _by_cap(case: Case, standing: Standing, offer: Offer) -> list[Reason]:
    """The reasons of the cap that set the amount; for a start of a thin file, that it is thin."""
    cap, caps = offer.binding_cap, offer.caps or {}
    if cap in ("SEASONING", "LADDER"):
        if standing.thin:
            return _thin_reasons(case, standing)
        risky = standing.pd_upper_e8 > case.policy.classes.standard_pd_max_bp * 10_000
        cap = "EL_BUDGET" if risky else min(RISK_CAPS, key=caps.__getitem__)
    if cap == "EL_BUDGET":
        return [reason("C01"), *_pulled_down(case, standing)]
    if cap in ("AFFORDABILITY", "INCOME_MULTIPLE"):
        return _by_income(case, cap)
    if cap == "VELOCITY":
        held = case.state.status == "hold"
        return [reason("B01" if held else "V02" if increase_blocked(case) else "V03")]
    if cap == "REQUESTED":
        return [] if offer.amount_fen else [reason("Q01")]
    return [reason(_CAP_CODES[cap or ""], "system" if cap == "PORTFOLIO" else "rule")]


def _by_income(case: Case, cap: str) -> list[Reason]:
    """Income too small, or too much of it taken already; and that it is not verified, where that cost something."""
    kyc, income = case.request.kyc, income_fen(case)
    taken = 2 * kyc.existing_debt_service_fen_month * 10_000 >= income * case.policy.limit.dsti_bp
    burdened = cap == "AFFORDABILITY" and kyc.existing_debt_service_fen_month > 0 and taken
    found = [reason("A02" if burdened else "A01")]
    return [*found, reason("A03")] if income < kyc.income_fen_month else found
