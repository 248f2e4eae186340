"""The limit policy: read strictly, linted, in force or refused."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from model.inputs import InputError
from model.limits import policy as module
from model.limits.policy import NotInForce, check_in_force, load_policy, parse_policy

SHIPPED = tomllib.loads(Path(module.__file__).with_name("policy.toml").read_text(encoding="utf-8"))


def changed(path: str, value: object) -> dict:
    """The shipped policy with one field set, or deleted by `...`."""
    data = deepcopy(SHIPPED)
    at = data
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("limit.dsti_bp", 35.0, "limit.dsti_bp must be a whole number"),
        ("limit.min_fen", 50_000.5, "limit.min_fen must be a whole number"),
        ("limit.min_fen", True, "limit.min_fen must be a whole number"),
        ("limit.minimum", 1, "limit.minimum is not a known key"),
        ("limitt", {}, "limitt is not a known key"),
        ("trial.rungs_fen", ..., "trial.rungs_fen is missing"),
        ("schema", "limit-policy/2", "schema must be one of limit-policy/1"),
        ("effective_from", datetime(2026, 11, 1), "effective_from must be an instant with its offset"),
        ("expires_at", datetime.fromisoformat("2026-11-01T00:00:00+08:00"), "expires_at must be after effective_from"),
        ("legal.max_age", 18, None),
        ("legal.min_age", 66, "legal.max_age must be >= legal.min_age"),
        ("legal.apr_cap.consumer_finance", [], "legal.apr_cap.consumer_finance must be a list with rising since"),
        ("legal.lender_type", "bank_coop", None),
        (
            "fee.0.contingent",
            False,
            r"pricing\[0\].apr_bp must be <= 0, the lowest legal.apr_cap in force less the fees",
        ),
        (
            "programme.excluded_sources",
            ["literacy_module"],
            "programme.earn.literacy_module must not be one of excluded",
        ),
        ("trial.freeze_dpd_days", 8, "trial.demote_dpd_days must be < freeze_dpd_days < close_dpd_days"),
        ("behaviour.late_e6", [0, 2, 1], "behaviour.late_e6 must begin with 0 and never fall"),
        ("behaviour.late_e6", [1], "behaviour.late_e6 must begin with 0 and never fall"),
        ("legal.apr_cap.consumer_finance.0.bp", 1979, r"pricing\[4\].apr_bp must be <= 1979"),
        (
            "legal.apr_cap.consumer_finance.0.since",
            SHIPPED["expires_at"],
            r"legal.apr_cap.consumer_finance\[0\].since must not be after effective_from",
        ),
        ("trial.rungs_fen", [50_000, 50_000], "trial.rungs_fen must rise strictly"),
        ("trial.rungs_fen", [], "trial.rungs_fen must rise strictly"),
        ("trial.rungs_fen", [40_000, 100_000], r"trial.rungs_fen\[0\] must be >= limit.min_fen"),
        ("trial.rungs_fen", [55_000, 100_000], "trial.rungs_fen must be whole increments"),
        ("limit.min_fen", 45_000, "limit.min_fen must be whole increments"),
        ("pricing.1.pd_max_bp", 155, "pricing must have rising pd_max_bp"),
        ("pricing.1.apr_bp", 899, "pricing must never charge less for more risk"),
        ("pricing.4.pd_max_bp", 1299, r"pricing\[4\].pd_max_bp must be classes.trial_pd_max_bp"),
        ("pricing.4.apr_bp", 2001, r"pricing\[4\].apr_bp must be <= 2000"),
        ("pricing.3.apr_bp", 1600, r"pricing\[3\].apr_bp must carry its worst PD of 818 bp"),
        ("economics.lgd_bp", 10_000, r"pricing\[3\].apr_bp must carry its worst PD of 818 bp"),
        ("trial.subsidy_budget_fen", 0, r"pricing\[4\].apr_bp must carry its worst PD of 1300 bp, or trial.subsidy"),
        ("classes.standard_pd_max_bp", 1301, "classes.standard_pd_max_bp must be <= trial_pd_max_bp"),
        ("classes.strong_thin_pd_max_bp", 900, "classes.strong_thin_pd_max_bp must be <= standard_pd_max_bp"),
        ("points.0.points", 1, r"points\[0\].points must be 0"),
        ("points.0.share_bp", 8000, r"points\[0\].share_bp must be limit.base_share_bp"),
        ("points.2.share_bp", 10_001, r"points\[2\].share_bp must be from 0 to 10000"),
        ("points.2.share_bp", 9400, "points must never lower share_bp"),
        ("points.1.points", 1500, "points must rise in points"),
        ("points.2.apr_off_bp", 10, "points must never lower apr_off_bp"),
        ("freshness.payments.stale_hours", 47, "freshness.payments.stale_hours must be >= fresh_hours"),
        ("freshness.default", ..., "freshness.default must be given"),
        ("freshness.Pay", SHIPPED["freshness"]["default"], "freshness.Pay must be a lower_snake_case name"),
        ("confidence.margin_e6", [1, 2], "confidence.margin_e6 must never rise with more blocks"),
        ("confidence.margin_e6", [], "confidence.margin_e6 must never rise"),
        ("confidence.grades_e6", [1, 2], "confidence.grades_e6 must be three margins"),
        ("defer.retry_hours", 73, "defer.retry_hours must be <= max_hours"),
        ("limit.segment_cap_fen.gig", ..., "limit.segment_cap_fen.gig must be given"),
        ("limit.segment_cap_fen.gig", 20_000_001, "limit.segment_cap_fen.gig must be <= legal.consumer_cap_fen"),
        ("limit.segment_cap_fen.farmer", 1, "limit.segment_cap_fen.farmer must be one of salaried"),
        ("limit.income_haircut_bp.declared", ..., "limit.income_haircut_bp.declared must be given"),
    ],
)
def test_lint_names_the_field_and_the_rule(path, value, message):
    if message is None:
        assert parse_policy(changed(path, value), "p.toml")
        return
    with pytest.raises(InputError, match=rf"^p\.toml: {message}"):
        parse_policy(changed(path, value), "p.toml")


def test_a_cap_that_comes_into_force_later_counts_until_the_policy_expires():
    field = "legal.apr_cap.consumer_finance"
    now = SHIPPED["legal"]["apr_cap"]["consumer_finance"]
    later = {"since": datetime.fromisoformat("2027-06-01T00:00:00+08:00"), "bp": 1200}
    with pytest.raises(InputError, match=r"pricing\[2\]\.apr_bp must be <= 1200"):
        parse_policy(changed(field, [*now, later]), "p.toml")
    after = later | {"since": SHIPPED["expires_at"]}
    assert parse_policy(changed(field, [*now, after]), "p.toml")


def test_a_policy_is_refused_before_it_is_effective_and_once_it_expired():
    policy, second = load_policy(), timedelta(seconds=1)
    check_in_force(policy, policy.effective_from)
    check_in_force(policy, policy.expires_at - second)
    with pytest.raises(NotInForce, match="is effective from"):
        check_in_force(policy, policy.effective_from - second)
    with pytest.raises(NotInForce, match="expired at"):
        check_in_force(policy, policy.expires_at)


def test_the_hash_is_of_the_content_not_of_the_spelling():
    keys = list(reversed(SHIPPED))
    assert parse_policy({key: SHIPPED[key] for key in keys}, "other.toml").sha256 == load_policy().sha256
    assert parse_policy(changed("limit.el_budget_fen", 60_001), "p.toml").sha256 != load_policy().sha256


def test_a_policy_is_loaded_from_a_path_and_a_broken_file_is_named(tmp_path):
    source = Path(module.__file__).with_name("policy.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(source, encoding="utf-8")
    assert load_policy(tmp_path / "mine.toml") == load_policy()
    (tmp_path / "mine.toml").write_text("= 1", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.toml: is not valid TOML"):
        load_policy(tmp_path / "mine.toml")


def test_a_domain_without_a_freshness_of_its_own_takes_the_default():
    policy = load_policy()
    assert policy.freshness_of("mobile_phone") == policy.freshness["default"]
    assert policy.freshness_of("tax_business").stale_hours == 2640
