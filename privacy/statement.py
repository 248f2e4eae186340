"""The privacy statement of a programme: who sees what, and which epsilon covers it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from privacy.accounting import shown
from privacy.plan import EVERYBODY, LabelResponse, Plan, Release
from privacy.roles import COLLUSION, Joint
from privacy.selection import POISSON, Repeats

UNIT = "the person, over all partners and all releases of the programme"
RELATION = "zero-out: one person's rows at every holder become null rows; the cohort's size is public"
LABELS = "labels of the training persons, which the lender hands to its partners by declared agreement"
HOMES = (
    "which persons of its own have their home elsewhere, hence are known to another partner of its domain: told to "
    "each partner of a domain with home partners"
)
DEVIATING = (
    "a computing party or dealer that deviates: a coordinator that falsifies its opening of one person in a step can "
    "read that person's row out of the released gradient"
)
HIDDEN = (
    "how many runs the sweep took, and what those released that were not selected: whoever runs it sees both, and "
    "epsilon does not hold against somebody who does"
)
_SELECTED = [
    (
        "outsiders, and whoever is given the sweep's folder",
        "the published model, its noisy quality, which candidate it is",
    )
]
NOT_COVERED = (
    "sub-scores, who has a relationship with which partner, and up to two reason families a person with amounts in "
    "steps of 0.05 against a noisy average, which partners hand to the lender by declared agreement",
    "presence in the alignment: a partner learns which of its persons are in the cohort, and may put guessed ids among "
    "them, up to the lender's limits; by tokens, as simulations align, it can test any guess",
    "a coordinator that deviates from the protocol: leaves holders out, and where holders did not enrol swaps the keys "
    "that it relays when two first meet, and so chooses the cohort; it cannot make a holder release more than the "
    "plan, which each holder checks and charges as a whole",
    "several holders or the coordinator pooling what each was given by agreement",
    "what the population teaches about anybody, whether a holder's files can be read, and how long a holder takes",
)


def statement(plan: Plan, persons: int, joint: Joint | None = None) -> dict[str, Any]:
    """The statement as plain data, to be published with every model.

    Args:
        plan: the priced plan, after which nothing else is released under this budget.
        persons: size of the training cohort, a public number.
        joint: how a joint fit was computed, where that was the engine.
    """
    total = plan.spent()
    response = next((line for line in plan.lines if isinstance(line, LabelResponse)), None)
    shared = [n for n, (owners, _) in joint.blocks.items() if len(owners) > 1] if joint else []
    homes = sorted({line.home for line in plan.releases if line.home} | set(shared))
    observers = _joint_observers(joint) if joint else _observers(response is not None)
    labels = () if response or joint else (LABELS,)
    return {
        "epsilon": _plain(total),
        "epsilon_shown": shown(total),
        "delta": plan.delta,
        "discrete_noise_slack": {"epsilon": plan.slack[0], "delta": plan.slack[1]},
        "persons_times_delta": persons * plan.delta,
        "unit": UNIT,
        "relation": RELATION,
        "accounting": "closed form of the Gaussian" if _closed(plan) else "privacy loss distributions (PLD)",
        "labels": _told_labels(response, joint),
        "trust": joint.trust if joint else "local",
        **({"roles": joint.roles.to_dict(), "collusion": COLLUSION.splitlines()} if joint else {}),
        "within_domain": dict.fromkeys(homes, "each person trains at one home partner"),
        "observers": [{"observer": who, "sees": what, "epsilon": shown(total)} for who, what in observers],
        **_parts(plan),
        "not_covered": [
            *labels,
            *((DEVIATING,) if joint and joint.trust == "secure" else ()),
            *((HOMES,) if homes else ()),
            *NOT_COVERED,
        ],
    }


def selected(told: Mapping[str, Any], plan: Plan, candidates: Sequence[str], repeats: Repeats | None) -> dict[str, Any]:
    """The statement of a model that was selected privately: what its own run's says, at the price of the whole sweep.

    Args:
        told: the statement of the run that was selected.
        plan: what the sweep was charged.
        candidates: of which one was selected.
        repeats: how many runs there were, as far as that is public; None where each candidate ran once.
    """
    total = shown(plan.spent())
    accounting, observers = told["accounting"], [{**row, "epsilon": total} for row in told["observers"]]
    if repeats is not None:
        theorem = "Theorem 6" if repeats.shape == POISSON else "Theorem 2"
        accounting = f"Renyi divergence of private selection (Papernot & Steinke 2022, {theorem})"
        observers = [{"observer": who, "sees": what, "epsilon": total} for who, what in _SELECTED]
    return {
        **told,
        "epsilon": _plain(plan.spent()),
        "epsilon_shown": total,
        "delta": plan.delta,
        "discrete_noise_slack": {"epsilon": plan.slack[0], "delta": plan.slack[1]},
        "accounting": accounting,
        "observers": observers,
        **_parts(plan),
        "not_covered": [*told["not_covered"], *(() if repeats is None else (HIDDEN,))],
        "selection": {
            "candidates": list(candidates),
            "runs": "each candidate once" if repeats is None else f"{repeats}; each of a candidate drawn evenly",
            "by": "the AUC of each run's noisy held-out histogram",
            "quality": "of the best of several noisy estimates: too good on average; its intervals allow for one only",
        },
    }


def _parts(plan: Plan) -> dict[str, dict[str, str]]:
    """What the lines of each holder cost by themselves, and those on each group of persons."""
    holders = sorted({line.holder for line in plan.lines})
    groups = list(dict.fromkeys(line.persons for line in plan.lines))
    return {
        "by_holder": {
            "all together" if h == EVERYBODY else h: shown(plan.spent([x.name for x in plan.lines if x.holder == h]))
            for h in holders
        },
        "by_persons": {g: shown(plan.spent([x.name for x in plan.lines if x.persons == g])) for g in groups},
    }


def _observers(covered: bool) -> list[tuple[str, str]]:
    """Who sees what; `covered` says whether the partners' labels come by randomised response, inside epsilon."""
    labels = "training labels by randomised response" if covered else "training labels (not covered)"
    return [
        (
            "coordinator",
            "noisy weights of every round, noisy counts of private bins and of held-out scores, the fusion table, the "
            "cohort's size, error codes, heads of the ledgers, ciphertexts",
        ),
        ("partners", f"the published model; who of its own is in the cohort, and its order (not covered); {labels}"),
        ("lender", "the published model; sub-scores and reason families of each person (not covered)"),
        ("outsiders", "the published model and its noisy quality"),
        ("coordinator + a partner", f"what each sees; that partner's rows (not covered); {labels}"),
        ("coordinator + lender", "what each sees; sub-scores and reason families (not covered)"),
        ("lender + a partner", "what each sees; that partner's rows of the lender's persons (not covered)"),
        ("two partners", "what each sees; their own rows of common persons (not covered)"),
    ]


def _told_labels(response: LabelResponse | None, joint: Joint | None) -> str:
    if joint:
        return "never leave the lender but in shares" if joint.trust == "secure" else "seen by the curator"
    return f"randomised response, epsilon {response.epsilon:g}, drawn once" if response else "as they are"


def _joint_observers(joint: Joint) -> list[tuple[str, str]]:
    """Who sees what of a joint fit. Every line is post-processing of the noisy matrix and gradients, or uniform."""
    if joint.trust == "curator":
        return [("coordinator", "every row (not covered): a simulation without secure products"), *_JOINT_OTHERS]
    second, dealer = joint.roles.parties[1], joint.roles.dealer
    return [
        ("coordinator", "masked rows and shares, each uniform alone; the noisy matrix and gradients but its own noise"),
        (f"{second} (second party)", "masked rows and shares, each uniform alone; all but its own part of the noise"),
        (f"{dealer} (dealer)", "every mask and nothing that is masked; all but its own part of the noise"),
        *_JOINT_OTHERS,
        (f"coordinator + {second}", "every person's row (not covered): they must not collude"),
        (f"{dealer} + coordinator, {dealer} + {second}", "every person's row (not covered): they must not collude"),
        ("two other holders", "what each sees; less noise than claimed by both their parts (not covered)"),
    ]


_JOINT_OTHERS = [
    (
        "partners",
        "the published model, each its own part of the noise; who of its own is in the cohort, and its order (not "
        "covered)",
    ),
    ("lender", "the published model; sub-scores and reason families of held-out persons (not covered)"),
    ("outsiders", "the published model and its noisy quality"),
]


def _closed(plan: Plan) -> bool:
    return all(isinstance(line, Release) and line.probability == 1.0 for line in plan.lines)


def _plain(epsilon: float) -> float | str:
    return "inf" if math.isinf(epsilon) else math.ceil(epsilon * 1e6 - 1e-6) / 1e6
