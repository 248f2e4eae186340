"""Figures of what the federation gives: to whom, and from whom."""

from __future__ import annotations

import math

import polars as pl
from matplotlib.axes import Axes

from simulations.charts import BLUE, GREEN, ORANGE, RED, SKY, Chart, chart_of
from simulations.estimates import Estimate
from simulations.sweep.report.drawing import GREY, NOTHING, WIDTH, Budgets, Drawn, about, draw_line, ends, line_of
from simulations.sweep.report.lending import FEWEST
from simulations.sweep.report.tables import OWN_BLOCK, Part
from simulations.sweep.report.words import Look, Pair, budget, called, number, percent


def known_by(part: Part) -> Drawn:
    """Who gains: the AUC of all and of the lender alone, by how many partners' domains know a person; thin files.

    The lender alone is the arm own-block on the same persons. Without its cells, the lender's own part of this model is
    drawn under that name, and nobody is said to gain.
    """
    groups, large = _known_by(part)
    thin = part.has("auc_thin", part.main)
    if not groups and not thin:
        return NOTHING
    chart = chart_of(WIDTH, 3.6)
    panels = list(chart.figure.subplots(1, int(bool(groups)) + int(thin), squeeze=False).flat)
    if groups:
        _by_domains(panels[0], chart, groups)
    if thin:
        _thin_and_thick(panels[-1], chart, part)
    told = {"most": _most({name: groups[name] for name in large}), "share": _thin_share(part)}
    return Drawn(chart, about(part) | told | _beside(part, groups))


def _known_by(part: Part) -> tuple[dict[str, dict[str, Estimate]], list[str]]:
    """By group the AUC of all and, on the same seeds, of the lender `alone` or of its `own` part; the large groups."""
    curve = part.curve("known_by", part.main, part.epsilon).filter(pl.col("value").is_finite())
    lender = part.curve("known_by", OWN_BLOCK, part.epsilon).select("seed", "group", alone="value")
    both = curve.join(lender.filter(pl.col("alone").is_finite()), on=["seed", "group"])
    both = both.with_columns(gain=pl.col("value") - pl.col("alone"))
    if both.is_empty() or part.main == OWN_BLOCK:
        both = curve.rename({"at": "own"})
    groups = _by_group(both, tuple(name for name in ("value", "alone", "own", "gain") if name in both.columns))
    return groups, sorted(set(both.filter(pl.col("weight") >= FEWEST)["group"]))


def _beside(part: Part, groups: dict[str, dict[str, Estimate]]) -> dict[str, Pair]:
    """Whom all are drawn beside, and a word where the lender alone was not trained."""
    keys = {key for found in groups.values() for key in found}
    if "alone" in keys:
        return {"beside": Pair(", beside the lender alone", "，与仅贷款方对比"), "lack": Pair("", "")}
    lack = Pair(
        " What the lender could do alone was not trained at this budget: the arm own-block tells.",
        "此预算下没有训练仅贷款方：请加上方案 own-block。",
    )
    if "own" in keys:
        told = Pair(", beside the lender's own part of this model", "，与本模型中贷款方自己的部分对比")
        return {"beside": told, "lack": lack}
    return {"beside": Pair("", ""), "lack": Pair("", "") if part.main == OWN_BLOCK else lack}


def _most(groups: dict[str, dict[str, Estimate]]) -> Pair:
    """Who gains most against the lender alone."""
    gains = {name: found["gain"].mean for name, found in groups.items() if "gain" in found}
    if not gains:
        return Pair("", "")
    name = max(gains, key=lambda one: gains[one])
    if gains[name] <= 0:
        return Pair("; nobody gains", "；没有人获益")
    low = groups[name]["gain"].low
    doubt = (
        Pair("", "")
        if low is not None and low > 0
        else Pair(" (the seeds cannot tell it from none)", "（从这些随机种子看，与零无法区分）")
    )
    luck = Pair(
        "; this is over seeds alone, and the largest of several may be luck",
        "；仅就随机种子而言，多组中的最大者也可能出于偶然",
    )
    doubt = Pair(doubt.en + luck.en, doubt.zh + luck.zh) if len(gains) > 1 else doubt
    alone, all_of = (number(groups[name][key].mean, 3) for key in ("alone", "value"))
    return Pair(
        f"; the gain is largest for persons whom {_domains_en(name)}: AUC {all_of} instead of {alone}{doubt.en}",
        f"；增益最大的是有 {name} 个领域认识的人：AUC 由 {alone} 变为 {all_of}{doubt.zh}",
    )


def _thin_share(part: Part) -> Pair:
    share = part.estimate(part.main, part.epsilon, "thin_share")
    if share is None:
        return Pair("", "")
    text = percent(share.mean)
    return Pair(f"{text} of the persons have thin files. ", f"{text} 的人为薄档案。")


def _domains_en(count: str) -> str:
    single = {"0": "no partner's domain knows", "1": "one partner's domain knows"}
    return single.get(count, f"{count} partners' domains know")


def _by_domains(axes: Axes, chart: Chart, groups: dict[str, dict[str, Estimate]]) -> None:
    names = sorted(groups, key=lambda name: (len(name), name))
    looks = (
        ("alone", "lender alone", "仅贷款方", ORANGE, "s", -0.08),
        ("own", "lender's own part of this model", "本模型中贷款方自己的部分", SKY, "D", -0.08),
        ("value", "all together", "全部一起", BLUE, "o", 0.08),
    )
    for key, en, zh, colour, marker, shift in looks:
        there = [(place, groups[name][key]) for place, name in enumerate(names) if key in groups[name]]
        if there:
            mean, low, high = ends([found for _, found in there])
            axes.errorbar(
                [place + shift for place, _ in there], mean, [mean - low, high - mean], fmt=marker, color=colour,
                capsize=3, markersize=7, markeredgecolor="white", label=chart.say(en, zh),
            )  # fmt: skip
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(chart.say("partners' domains that know the person", "认识此人的数据方领域数"))
    axes.set_ylabel(chart.say("AUC (0.5 is a coin)", "AUC（0.5 等于抛硬币）"))
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")


def _thin_and_thick(axes: Axes, chart: Chart, part: Part) -> None:
    budgets = Budgets(part.epsilons(part.main))
    looks = (
        ("auc_thick", "thick files", "厚档案", Look(GREEN, "-", "^", "")),
        ("auc_thin", "thin files", "薄档案", Look(RED, "--", "v", "")),
    )
    for column, en, zh, look in looks:
        line = line_of(part, part.main, column)
        if line is not None:
            draw_line(axes, budgets, line, look, chart.say(en, zh))
    budgets.dress(axes, chart)
    axes.set_ylabel(chart.say("AUC, all together", "AUC（全部一起）"))
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")


def shapley(part: Part) -> Drawn:
    """What each domain adds: Shapley values at the main budget, beside those without noise."""
    shown = [e for e in sorted({part.epsilon, *part.epsilons(part.main)[-1:]}) if _shapley(part, e)]
    if not shown:
        return NOTHING
    found = {epsilon: _shapley(part, epsilon) for epsilon in shown}
    first = found[shown[0]]
    names = sorted({name for values in found.values() for name in values}, key=lambda n: (-_mean(first, n), n))
    chart = chart_of(WIDTH, 1.1 + 0.5 * len(names))
    axes = chart.figure.subplots()
    height = 0.72 / len(shown)
    for place, epsilon in enumerate(shown):
        looks, heading = ((BLUE, ""), (SKY, "////"))[place], budget(epsilon)
        for row, name in enumerate(names):
            if name not in found[epsilon]:
                continue
            mean, low, high = found[epsilon][name]
            y = row + (place - (len(shown) - 1) / 2) * height
            axes.barh(
                y, mean, height * 0.92, color=looks[0], hatch=looks[1], edgecolor="white", linewidth=0.5,
                label=chart.say(heading.en, heading.zh) if row == 0 else None,
            )  # fmt: skip
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color="#222222", linewidth=1.2, marker="|", markersize=5)
    axes.set_yticks(range(len(names)), [chart.say(called("domains", n).en, called("domains", n).zh) for n in names])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(chart.say("AUC that the domain adds", "该领域贡献的 AUC"))
    chart.legend([axes])
    total = sum(value for value, _, _ in first.values())
    numbers = {"top": called("domains", names[0]), "adds": Pair.same(number(_mean(first, names[0]), 3))}
    return Drawn(chart, about(part) | numbers | {"total": Pair.same(number(total, 3)), "note": _note(part, first)})


def _shapley(part: Part, epsilon: float) -> dict[str, tuple[float, float | None, float | None]]:
    """By domain: mean over seeds of the value and of the ends of its interval."""
    curve = part.curve("shapley", part.main, epsilon).filter(pl.col("value").is_finite())
    table = curve.group_by("group").agg(pl.col("value", "low", "high").sort().mean()).sort("group")
    return {group: (value, low, high) for group, value, low, high in table.iter_rows()}


def _mean(values: dict[str, tuple[float, float | None, float | None]], name: str) -> float:
    return values[name][0] if name in values else 0.0


def _note(part: Part, values: dict[str, tuple[float, float | None, float | None]]) -> Pair:
    """Where these values come from, and what telling them costs."""
    if part.learner(part.main) != "moments":
        return Pair(
            "They are computed from exact held-out labels: a simulation may show them, a real run may not.",
            "它们用精确的留出标签算出：只可在模拟中展示，真实运行不可公布。",
        )
    told = [
        Pair(
            "They follow from the joint matrix of the training persons: their sum is the AUC that the model itself "
            "implies there, which is not the held-out AUC of the other figures.",
            "它们由训练者的联合矩阵算出：其和是模型自身在训练者上推出的 AUC，不同于其他图中留出者的 AUC。",
        )
    ]
    if math.isfinite(part.epsilon):
        told.append(
            Pair(" That matrix is released already, so they cost no budget.", "该矩阵已加噪发布，因此不再消耗预算。")
        )
    if any(low is not None for _, low, _ in values.values()):
        told.append(
            Pair(
                " Black lines are 90 % intervals of one training, for noise and sample, not over seeds.",
                "黑线为单次训练的 90% 区间（噪声与样本），并非随机种子的区间。",
            )
        )
    return Pair("".join(one.en for one in told), "".join(one.zh for one in told))


def _by_group(curve: pl.DataFrame, columns: tuple[str, ...]) -> dict[str, dict[str, Estimate]]:
    """By group and column the estimate over seeds of an AUC or a difference of two; what no seed has is left out."""
    found: dict[str, dict[str, Estimate]] = {}
    for (group,), points in curve.sort("seed").group_by("group", maintain_order=True):
        values = {name: points[name].drop_nulls().to_numpy() for name in columns}
        found[str(group)] = {
            name: Estimate.of_cells(v, -1.0 if name == "gain" else 0.0, 1.0) for name, v in values.items() if len(v)
        }
    return found
