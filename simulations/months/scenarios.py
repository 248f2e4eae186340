"""The worlds a book may meet: how far the score is wrong, how much fraud comes, and when a recession does."""

from __future__ import annotations

from dataclasses import dataclass

from model.inputs import InputError
from model.limits.schema import Confidence, Economics, Policy


@dataclass(frozen=True)
class Scenario:
    """One world.

    Attributes:
        code: its name.
        zh, en: what happens in it.
        thin_logit: what is added to the true log-odds of thin files, unseen by the score.
        fraud_share: of thin applicants, those who draw all of their limit and never pay.
        shock_logit: what a recession adds to everybody's true log-odds.
        shock_month: when it begins, counted from 0.
    """

    code: str
    zh: str
    en: str
    thin_logit: float = 0.0
    fraud_share: float = 0.0
    shock_logit: float = 0.0
    shock_month: int = 18


_LOW, _FRAUD, _SHOCK = 0.7, 0.03, 0.6
SCENARIOS = {
    scenario.code: scenario
    for scenario in (
        Scenario("S0", "评分准确", "scores are right"),
        Scenario("S1", "薄档案的风险被低估(+0.7 logit)", "thin files riskier than scored (+0.7 logit)", _LOW),
        Scenario("S2", "S1 加 3% 首期欺诈", "S1 and 3 % first-payment fraud", _LOW, _FRAUD),
        Scenario("S3", "仅 3% 首期欺诈", "3 % first-payment fraud alone", 0.0, _FRAUD),
        Scenario("S4", "S2 加第 18 月起的衰退(+0.6 logit)", "S2 and a recession from month 18", _LOW, _FRAUD, _SHOCK),
        Scenario("S5", "仅第 18 月起的衰退", "a recession from month 18 alone", 0.0, 0.0, _SHOCK),
    )
}
ALIASES = {"base": "S0", "understated": "S1", "fraud": "S3", "worst": "S4", "recession": "S5"}


def scenarios_of(names: str) -> tuple[Scenario, ...]:
    """The scenarios named, by comma; `all` are all.

    Raises:
        InputError: a name is not known.

    >>> [scenario.code for scenario in scenarios_of("S0,fraud")]
    ['S0', 'S3']
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted == ["all"]:
        return tuple(SCENARIOS.values())
    codes = [ALIASES.get(name.lower(), name.upper()) for name in wanted]
    for name, code in zip(wanted, codes, strict=True):
        if code not in SCENARIOS:
            rule = "must be all, or by comma of " + ", ".join((*SCENARIOS, *ALIASES))
            raise InputError("command line", "--scenario", rule, name)
    if not codes:
        raise InputError("command line", "--scenario", "must name a scenario", names)
    return tuple(SCENARIOS[code] for code in dict.fromkeys(codes))


@dataclass(frozen=True)
class World:
    """What holds whatever the policy: so that two policies are judged in one world.

    Attributes:
        scenario: what happens.
        economics: loss given default, funding and running costs.
        confidence: its thresholds say what counts as a thin file in the figures.
        reward_logit: what points do to the log-odds of default of every account.
    """

    scenario: Scenario
    economics: Economics
    confidence: Confidence
    reward_logit: float = 0.0


def world_of(scenario: Scenario, policy: Policy, reward_logit: float = 0.0) -> World:
    """The world that takes economics and the meaning of "thin" from a policy.

    >>> from model.limits.policy import load_policy
    >>> world_of(SCENARIOS["S0"], load_policy()).economics.lgd_bp
    8500
    """
    return World(scenario, policy.economics, policy.confidence, reward_logit)
