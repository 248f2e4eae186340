"""Ours against pooled DP-EBM at epsilon 1: the best of ours on each set, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.estimates import Estimate
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
    """

    arm: str
    gap: Estimate
    of: int

    @property
    def sure(self) -> bool:
        """Whether the seeds can tell the gap from none."""
        return self.gap.low is not None and self.gap.high is not None and (self.gap.low > 0 or self.gap.high < 0)


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
    return Match(best, gap, len(means)) if gap is not None else None


def sentence(part: Part) -> Pair | None:
    """How ours fares on one set."""
    found = match(part)
    if found is None:
        return None
    several = Pair(f", the best of our {found.of} on these persons,", f"（我们 {found.of} 个方案中在这批人上最好的）")
    doubt = Pair("; the seeds cannot tell it from none", "；从这些随机种子看，与零无法区分")
    return Pair(
        "At epsilon 1 ours is {verdict} pooled DP-EBM: {arm}{several} reaches {gap} in AUC{doubt}.",
        "epsilon 1 时，{arm}{several}{verdict}集中数据的 DP-EBM：AUC {gap}{doubt}。",
    ).filled(
        {
            "verdict": Pair("at or above", "不低于") if found.gap.mean >= 0 else Pair("BELOW", "低于"),
            "arm": arm_told(found.arm),
            "several": several if found.of > 1 else Pair("", ""),
            "gap": more_or_less(found.gap),
            "doubt": Pair("", "") if found.sure else doubt,
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
    """On which sets the seeds cannot tell."""
    unsure = [name for name, one in found.items() if not one.sure]
    if not unsure:
        return Pair("", "")
    if len(unsure) == len(found):
        return Pair(", but the seeds cannot tell the difference from none", "，但从这些随机种子看，差异与零无法区分")
    names = _listed(unsure)
    return Pair(
        f", but on {names.en} the seeds cannot tell the difference from none",
        f"，但在 {names.zh} 上，从这些随机种子看，差异与零无法区分",
    )


def _more(tables: Tables, found: dict[str, Match]) -> Pair:
    """What the seeds do not show, and which sets are not compared."""
    told = []
    if any(part.pinned for part in tables.parts if part.name in found):
        told.append(
            Pair(
                " This is over the noise of training, on one held-out sample a set.",
                "以上只计训练噪声，每个数据集只有一批留出的人。",
            )
        )
    if any(one.of > 1 for one in found.values()):
        told.append(Pair(" The best of ours was chosen on the same persons.", "我们的最佳方案正是在同一批人上选出的。"))
    missing = [part.name for part in tables.parts if part.name not in found]
    if missing:
        names = _listed(missing)
        told.append(Pair(f" Not compared: {names.en}.", f"未比较：{names.zh}。"))
    return Pair("".join(one.en for one in told), "".join(one.zh for one in told))


def _listed(names: Sequence[str]) -> Pair:
    return Pair(", ".join(names), "、".join(names))
