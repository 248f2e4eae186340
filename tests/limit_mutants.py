"""Known wrong designs of the limit decision, for `tests/mutants.py`: name, file, its text, the wrong one, the tests.

The first six are those that plain random cases let pass; the others are what a regulator, an applicant who was
unlucky, or a fraudster would find.
"""

from __future__ import annotations

OFFERS, CAUSES, STATES = "model/limits/offers.py", "model/limits/causes.py", "model/limits/states.py"
DECIDE, LADDER, OVERRIDE = "model/limits/decide.py", "model/limits/ladder.py", "model/limits/override.py"
STEPS, COSTS = "model/limits/steps.py", "model/limits/costs.py"


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/model/test_limit_{name}.py" for name in names)


PAIRS, ORACLE, WAITING = _tests("pairs"), _tests("oracle"), _tests("waiting")
TABLE, HISTORIES, REASONS = _tests("ladder"), _tests("histories"), _tests("reasons")
GRANTED = "    amount = granted(min(common, value)) if granted(plain[kind]) else 0\n"
PROFIT = "    amount *= amount * 5500 * (apr_bp - 400) // 10**8 - 1200 >= amount * pd_upper_e8 * 8075 // 10**12\n"
OPEN = "    if standard or thin or classes.thick_trial:\n"

LIMIT_MUTANTS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("limit: class first, then amount", OFFERS, OPEN, "    if not kinds:\n", PAIRS),
    (
        "limit: a rung for thin files only if they are not strong",
        *(OFFERS, OPEN, OPEN.replace("thin or", "(thin and not kinds) or"), PAIRS),
    ),
    ("limit: profit as a gate", OFFERS, GRANTED, GRANTED + PROFIT, PAIRS),
    (
        "limit: points after the caps",
        *(OFFERS, GRANTED, GRANTED.replace("common, value)", "common, value) * share_bp // 9000"), PAIRS),
    ),
    (
        "limit: points lower the PD",
        DECIDE,
        "best_offer(case, standing.pd_upper_e8, standing.thin, points_tier(case).share_bp)",
        "best_offer(case, standing.pd_upper_e8 - 100 * case.request.points, standing.thin, points_tier(case).share_bp)",
        PAIRS,
    ),
    (
        "limit: rounded to the nearest",
        *(OFFERS, "return fen // step * step if", "return (fen + step // 2) // step * step if", PAIRS),
    ),
    (
        "limit: points choose the kind of offer",
        *(OFFERS, 'min(common, usual if kind == "STANDARD" else own[kind][1])', "min(common, own[kind][1])", PAIRS),
    ),
    (
        "limit: the margin moves the score",
        *(DECIDE, "score_of(standing.z_e6)", "score_of(standing.z_e6 + standing.margin_e6)"),
        (f"{_tests('invariants')[0]}::test_m3_less_certainty_never_raises_the_amount_and_never_moves_the_score",),
    ),
    (
        "limit: stale data counts as fresh",
        *(STATES, 'return "stale" if age > freshness.fresh_for else "fresh"', 'return "fresh"', ORACLE),
    ),
    ("limit: data of tomorrow is used", STATES, "    if age < _NO_TIME:\n", "    if False:\n", ORACLE),
    (
        "limit: one wait more than agreed",
        *(DECIDE, "state.deferrals < rule.max_times", "state.deferrals <= rule.max_times", WAITING),
    ),
    (
        "limit: one second of consent too many",
        STATES,
        "now >= evidence.consent_until",
        "now > evidence.consent_until",
        WAITING,
    ),
    (
        "limit: the end of a consent is ignored",
        *(STATES, "evidence.consent_until is not None and now >=", "False and now >=", WAITING),
    ),
    (
        "limit: an answer outlives a consent",
        *(DECIDE, "if evidence.consent_until is not None:", "if False:", WAITING),
    ),
    (
        "limit: disputed data is used",
        *(STATES, 'if evidence.quality != "ok":', 'if evidence.quality not in ("ok", "dispute_open"):', WAITING),
    ),
    ("limit: a hold is ignored", OFFERS, 'or state.status == "hold" ', "", WAITING),
    ("limit: no cap on growth", OFFERS, "    if state.current_limit_fen:\n", "    if False:\n", WAITING),
    (
        "limit: the stop of small limits is ignored",
        *(OFFERS, 'if state.trials_stopped and state.stage == "none":', "if False:", WAITING),
    ),
    (
        "limit: the stop takes away what others have",
        *(OFFERS, "if state.trials_stopped and", "if state.trials_stopped or False and", WAITING),
    ),
    ("limit: points count under a risk hold", OFFERS, "if case.state.risk_hold else", "if False else", ORACLE),
    ("limit: twice the discount", DECIDE, "offer.apr_bp - points_tier", "offer.apr_bp - 2 * points_tier", ORACLE),
    (
        "limit: an override past affordability",
        OVERRIDE,
        "el_budget_fen=budget,",
        "el_budget_fen=budget, dsti_bp=_ALL,",
        _tests("override"),
    ),
    (
        "limit: an override past a gate",
        *(OVERRIDE, "if stopping_reasons(case) or case.state.status", "if case.state.status", _tests("override")),
    ),
    (
        "limit: fees on money that was paid back",
        COSTS,
        "owed * fee.annual_bp",
        "amount_fen * months * fee.annual_bp",
        _tests("tightening"),
    ),
    (
        "limit: a block without weight is blamed",
        *(CAUSES, "for b, w in weights.items() if w}", "for b, w in weights.items()}", REASONS),
    ),
    ("limit: what helped is blamed", CAUSES, "if part.delta_e6 > 0]", "if part.delta_e6 < 0]", REASONS),
    ("limit: a decrease without a reason", CAUSES, "and amount >= least", "", REASONS),
    (
        "ladder: an event told twice counts twice",
        *(LADDER, "{event.event_id: event for event in events}.values()", "list(events)", HISTORIES),
    ),
    (
        "ladder: the order of arrival matters",
        LADDER,
        "in sorted(items, key=lambda item: item[:2])",
        "in items",
        HISTORIES,
    ),
    (
        "ladder: late again shortens a hold",
        *(LADDER, "hold_cycles=max(account.hold_cycles, 1)", "hold_cycles=1", TABLE),
    ),
    (
        "ladder: from a strong start to the last rung",
        *(LADDER, "else rung_of(policy, late.limit_fen - 1)", "else len(rungs) - 1", HISTORIES),
    ),
    ("ladder: cured while money is owed", LADDER, " and account.dpd_now == 0", "", TABLE),
    (
        "ladder: disputed lateness counts",
        *(LADDER, "void = disputed or any(", "void = False and any(", TABLE),
    ),
    (
        "ladder: the clean cycles of a due step count again",
        LADDER,
        "clean_cycles=clean,",
        "clean_cycles=account.clean_cycles,",
        TABLE,
    ),
    (
        "ladder: a demotion before the offer that it follows",
        *(LADDER, "timedelta(days=max(days for days in marks if days <= dpd))", "timedelta(0)", TABLE),
    ),
    (
        "steps: a rung that the year's increases forbid",
        *(STEPS, "+ (0 < state.current_limit_fen < decision.amount_fen),", ",", _tests("steps")),
    ),
    (
        "steps: the ladder's date without its acceptance",
        STEPS,
        "if begun else 0\n    earliest",
        "if here else 0\n    earliest",
        _tests("steps"),
    ),
)
