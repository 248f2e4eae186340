"""Ours against pooled DP-EBM at epsilon 1: the best of ours on each set, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.estimates import Estimate
from simulations.sweep.report.doubt import counted, unsure
from simulations.sweep.report.tables import Part, Tables
from simulations.sweep.report.words import Pair, arm_told, more_or_less

DP_EBM = "dp-ebm"
ONE = 1.0  # the budget at which they are compared


@dataclass(frozen=True)
class Match:
    """The best of ours with DP-EBM's features on one set.

    Attributes:
        arm: which one, by its mean AUC on the same held-out persons.
        gap: its AUC less DP-EBM's, seed by seed.
        of: how many of ours it is the best of.
        counted: whether the gap's interval holds the sample of persons too.
    """

    arm: str
    gap: Estimate
    of: int
    counted: bool


def match(part: Part) -> Match | None:
    """The comparison on one set; None where either was not trained at epsilon 1."""
    if part.estimate(DP_EBM, ONE, "auc") is None:
        return None
    alike = [arm for arm in part.ours if part.uses_protected(arm) == part.uses_protected(DP_EBM)]
    means = {arm: found.mean for arm in alike if (found := part.estimate(arm, ONE, "auc")) is not None}
    if not means:
        return None
    best = max(means, key=lambda arm: means[arm])
    gap = part.difference(best, DP_EBM, ONE)
    return Match(best, gap, len(means), counted(part, gap)) if gap is not None else None


def sentence(part: Part) -> Pair | None:
    """How ours fares on one set."""
    found = match(part)
    if found is None:
        return None
    several = Pair(f", the best of our {found.of} on these persons,", f"（我们 {found.of} 个方案中在这批人上最好的）")
    return Pair(
        "At epsilon 1 ours is {verdict} pooled DP-EBM: {arm}{several} reaches {gap} in AUC{doubt}.",
        "epsilon 1 时，{arm}{several}{verdict}集中数据的 DP-EBM：AUC {gap}{doubt}。",
    ).filled(
        {
            "verdict": Pair("at or above", "不低于") if found.gap.mean >= 0 else Pair("BELOW", "低于"),
            "arm": arm_told(found.arm),
            "several": several if found.of > 1 else Pair("", ""),
            "gap": more_or_less(found.gap),
            "doubt": unsure(part, found.gap),
        }
    )


def verdict(tables: Tables) -> Pair:
    """Whether ours is at or above pooled DP-EBM at epsilon 1 on every set, with every doubt that there is."""
    found = {part.name: one for part in tables.parts if (one := match(part)) is not None}
    if not found:
        return Pair(
            "Pooled DP-EBM and ours were not both trained at epsilon 1, so they are not compared here.",
            "没有同时在 epsilon 1 训练集中数据的 DP-EBM 与我们的方案，因此未作比较。",
        )
    below = [name for name, one in found.items() if one.gap.mean < 0]
    words = Pair(
        "At epsilon 1 ours ({arms}) is at or above pooled DP-EBM on every set that has both ({n}){doubt}.{more}",
        "epsilon 1 时，在两者都有的全部 {n} 个数据集上，我们的方案（{arms}）都不低于集中数据的 DP-EBM{doubt}。{more}",
    )
    if below:
        words = Pair(
            "At epsilon 1 ours ({arms}) is NOT at or above pooled DP-EBM everywhere: it is below on {below}{doubt}."
            "{more}",
            "epsilon 1 时，我们的方案（{arms}）并非处处不低于集中数据的 DP-EBM：在 {below} 上低于它{doubt}。{more}",
        )
    arms = [arm_told(arm) for arm in dict.fromkeys(one.arm for one in found.values())]
    return words.filled(
        {
            "arms": Pair("; ".join(arm.en for arm in arms), "；".join(arm.zh for arm in arms)),
            "n": Pair.same(str(len(found))),
            "below": _listed(below),
            "doubt": _doubt(found),
            "more": _more(tables, found),
        }
    )


def _doubt(found: dict[str, Match]) -> Pair:
    """On which sets the difference may be chance."""
    names = [name for name, one in found.items() if not one.gap.sure]
    if not names:
        return Pair("", "")
    why = Pair("the seeds cannot tell the difference from none", "从这些随机种子看，差异与零无法区分")
    if all(found[name].counted for name in names):
        why = Pair("the difference may be chance, of training or of the persons", "差异可能只是训练或留出人群的偶然")
    if len(names) == len(found):
        return Pair(f", but {why.en}", f"，但{why.zh}")
    where = _listed(names)
    return Pair(f", but on {where.en} {why.en}", f"，但在 {where.zh} 上，{why.zh}")


def _more(tables: Tables, found: dict[str, Match]) -> Pair:
    """What the seeds do not show, and which sets are not compared."""
    told = [_chances(tables, found)]
    if any(one.of > 1 for one in found.values()):
        told.append(Pair(" The best of ours was chosen on the same persons.", "我们的最佳方案正是在同一批人上选出的。"))
    missing = [part.name for part in tables.parts if part.name not in found]
    if missing:
        names = _listed(missing)
        told.append(Pair(f" Not compared: {names.en}.", f"未比较：{names.zh}。"))
    return Pair("".join(one.en for one in told), "".join(one.zh for one in told))


def _chances(tables: Tables, found: dict[str, Match]) -> Pair:
    """Which chance the intervals hold, and where not both."""
    pinned = [part.name for part in tables.parts if part.pinned and part.name in found]
    alone = [name for name in pinned if not found[name].counted]
    if all(one.counted for one in found.values()):
        lacks = Pair(", not the sample trained on", "，未计入训练人群的抽样") if pinned else Pair("", "")
        return Pair(
            f" This counts the noise of training and the sample of held-out persons{lacks.en}.",
            f"以上计入了训练噪声与留出人群的抽样{lacks.zh}。",
        )
    if not alone:
        return Pair("", "")
    if len(alone) == len(found):
        return Pair(
            " This is over the noise of training, on one held-out sample a set.",
            "以上只计训练噪声，每个数据集只有一批留出的人。",
        )
    names = _listed(alone)
    return Pair(
        f" On {names.en} this is over the noise of training, on one held-out sample.",
        f"在 {names.zh} 上只计训练噪声，只有一批留出的人。",
    )


def _listed(names: Sequence[str]) -> Pair:
    return Pair(", ".join(names), "、".join(names))
