"""What the intervals of a report can say and what they cannot: which chance they show, of how many seeds."""

from __future__ import annotations

import math

import polars as pl
from scipy.stats import t as student

from simulations.estimates import CONFIDENCE, Estimate
from simulations.sweep.report.drawing import NORMAL
from simulations.sweep.report.tables import PERSON, Part
from simulations.sweep.report.words import Pair, number

FEW = 5  # with fewer seeds than this, Student's interval is very wide
MANY_DELTA = 0.1  # persons times delta: above it, delta is no small chance any more


def intervals(part: Part) -> Pair:
    """What the bars of the main arm's figures are, within a sentence."""
    found, seeds = part.estimate(part.main, part.epsilon, "auc"), part.seeds(part.main, part.epsilon)
    if seeds < 2:
        return Pair("one seed leaves no interval", "只有一个随机种子，没有区间")
    if found is None or found.low is None:
        return Pair("all seeds gave the same model, which leaves no interval", "各随机种子得到同一模型，没有区间")
    return Pair(f"bars are 95 % intervals over {seeds} seeds", f"竖线为 {seeds} 个随机种子的 95% 区间")


def chance(part: Part) -> Pair:
    """What seeds redraw, what they do not, and whether they are few."""
    told = Pair("Seeds redraw split and noise.", "随机种子重抽划分与噪声。")
    if not part.split_known:
        told = Pair(
            "Seeds redraw the noise; whether each also draws its own split of the persons, these tables do not tell.",
            "随机种子重抽噪声；是否也各自重抽划分，这些表没有记录。",
        )
    elif part.pinned:
        told = Pair(
            "All seeds share one split of the persons, so intervals are over the noise of training, on one held-out "
            "sample{more}.",
            "所有随机种子共用同一划分，区间只反映训练噪声，测试的是同一批留出的人{more}。",
        ).filled({"more": _sample(part)})
    seeds = part.seeds(part.main, part.epsilon)
    found = part.estimate(part.main, part.epsilon, "auc")
    few = _few(seeds) if seeds < 2 or (found is not None and found.low is not None) else Pair("", "")
    more = _differences(part) if seeds > 1 and len(part.arms) > 1 else Pair("", "")
    return Pair(told.en + few.en + more.en, told.zh + few.zh + more.zh)


def _differences(part: Part) -> Pair:
    """Which chance the intervals of differences hold."""
    if part.resampled:
        return Pair(
            " Differences in AUC between arms are of the same persons: over all of them, their intervals hold the "
            "noise of training and the sample of held-out persons.",
            "方案之间的 AUC 差异来自同一批人：就全体留出的人而言，其区间同时计入训练噪声与留出人群的抽样。",
        )
    return Pair(
        " How another sample of persons would move a difference between arms, these tables do not tell.",
        "换一批人会使方案之间的差异如何变动，这些表没有记录。",
    )


def counted(part: Part, gap: Estimate) -> bool:
    """Whether the interval of a difference holds the sample of persons beside the noise of training."""
    return part.resampled and gap.low is not None


def unsure(part: Part, gap: Estimate) -> Pair:
    """What a difference that may be chance is followed by, at the end of a sentence; nothing where it is sure."""
    if gap.sure:
        return Pair("", "")
    if counted(part, gap):
        return Pair("; it may be chance, of training or of the persons", "；这可能只是训练或留出人群的偶然")
    return Pair("; the seeds cannot tell it from none", "；从这些随机种子看，与零无法区分")


def _sample(part: Part) -> Pair:
    """By how much the sample of persons may move the main arm's AUC."""
    error = part.estimate(part.main, part.epsilon, "auc_error")
    if error is None:
        return Pair("", "")
    size = number(NORMAL * error.mean, 3)
    return Pair(f": another sample may move an AUC by {size} either way", f"：换一批人，AUC 可能上下变动 {size}")


def _few(seeds: int) -> Pair:
    if seeds < 2:
        return Pair(" One seed cannot tell how much noise moves a figure.", "只有一个种子，无法知道噪声的影响。")
    if seeds >= FEW:
        return Pair("", "")
    factor = number(float(student.ppf((1 + CONFIDENCE) / 2, seeds - 1)), 1)
    return Pair(
        f" {seeds} seeds are few: an interval reaches {factor} standard errors to each side and says little.",
        f"{seeds} 个种子太少：区间向两侧各延伸 {factor} 个标准误，说明不了多少。",
    )


def delta(part: Part) -> Pair | None:
    """A warning where delta is so large for so many persons that it promises a person little."""
    private = part.cells.filter((pl.col("private") == PERSON) & pl.col("epsilon").is_finite())
    leaks = [n * d for n, d in private.select("train", "delta").drop_nulls().iter_rows()]
    worst = max(leaks, default=0.0)
    if not math.isfinite(worst) or worst <= MANY_DELTA:
        return None
    size = number(worst, 2)
    return Pair(
        f"Delta is large here: training persons times delta is {size}, where well below 1 is customary, so every "
        "epsilon of this set promises less than it seems to.",
        f"此处 delta 偏大：训练人数乘以 delta 为 {size}，通常应远小于 1，因此本数据集的每个 epsilon 都不如看上去可靠。",
    )
