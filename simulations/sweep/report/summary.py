"""What a sweep found, in plain sentences: the best arm, what privacy costs, who gains, what it would spend."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import polars as pl

from privacy.accounting import gaussian_epsilon, gaussian_mu
from simulations.estimates import Estimate
from simulations.sweep.report import doubt, rival
from simulations.sweep.report.tables import OWN_BLOCK, PERSON, Part, Tables
from simulations.sweep.report.words import Pair, arm_name, arm_told, at_budget, budget, estimated, more_or_less, number

DELTA = 1e-5  # where a table has none


@dataclass(frozen=True)
class Row:
    """One budget: the best arm that protects persons and its AUC, and that of each arm of `beside`."""

    budget: Pair
    best: Pair
    auc: str
    beside: tuple[str, ...]


def beside(part: Part) -> tuple[str, ...]:
    """The arms that the best one is told beside: the main arm, and the lender alone."""
    if len(part.arms) < 2:
        return ()
    return tuple(arm for arm in part.arms if arm in (part.main, OWN_BLOCK))


def best_rows(part: Part) -> list[Row]:
    """A row a budget; without noise every arm counts but those whose noise is on labels only: they have none then."""
    rows = []
    for epsilon in part.epsilons():
        found = {
            arm: estimate for arm in part.arms
            if (part.protects_persons(arm) or (math.isinf(epsilon) and not part.is_private(arm)))
            and (estimate := part.estimate(arm, epsilon, "auc")) is not None
        }  # fmt: skip
        if found:
            best = max(found, key=lambda arm: found[arm].mean)
            others = tuple(estimated(found[arm]) if arm in found else "–" for arm in beside(part))
            rows.append(Row(budget(epsilon), arm_name(best), estimated(found[best]), others))
    return rows


def findings(part: Part) -> list[Pair]:
    """What one set says, a sentence each; last how far to trust it."""
    if not part.arms and part.failed.height < part.results.height:
        return [
            Pair(
                "No cell has an AUC: nobody is held out, or none of them, or all, defaulted.",
                "没有任何一格有 AUC：没有留出的人，或留出者无人违约或全部违约。",
            )
        ]
    if not part.arms:
        return [Pair("Every cell failed: there is nothing to compare.", "所有格都失败了：没有可比较的结果。")]
    told = [_instead(part), _cost_of_privacy(part), _gain(part), rival.sentence(part), doubt.delta(part)]
    return [*(sentence for sentence in told if sentence is not None), doubt.chance(part)]


def _instead(part: Part) -> Pair | None:
    """Which arm of ours would have been shown, had it trained with noise."""
    first = next(iter(part.ours), part.main)
    if first == part.main:
        return None
    return Pair(
        "With noise {first} has no figures, so single figures show {arm}.",
        "{first}在有噪声时没有结果，因此单项图表显示{arm}。",
    ).filled({"first": arm_told(first), "arm": arm_told(part.main)})


def _cost_of_privacy(part: Part) -> Pair | None:
    with_noise, without = (part.estimate(part.main, e, "auc") for e in (part.epsilon, math.inf))
    if with_noise is None or without is None or math.isinf(part.epsilon):
        return None
    gap = part.difference(part.main, part.main, math.inf, part.epsilon) or Estimate(without.mean - with_noise.mean)
    words = Pair(
        "Privacy costs {arm} {cost} in AUC {at}: {auc} instead of {free} without noise{doubt}.",
        "隐私的代价：{at}，{arm}的 AUC 降低 {cost}（无噪声 {free}，有噪声 {auc}{doubt}）。",
    )
    if gap.mean <= 0:
        words = Pair(
            "Privacy costs {arm} no AUC that these trainings could show: {auc} {at}, {free} without noise.",
            "这些训练未显示隐私的代价：{arm}的 AUC {at}为 {auc}，无噪声为 {free}。",
        )
    figures = {"cost": estimated(gap), "auc": estimated(with_noise), "free": estimated(without)}
    return words.filled(
        {"arm": arm_told(part.main), "at": at_budget(part.epsilon), "doubt": doubt.unsure(part, gap)}
        | {k: Pair.same(v) for k, v in figures.items()}
    )


def _gain(part: Part) -> Pair | None:
    gap = part.difference(part.main, OWN_BLOCK, part.epsilon) if part.main != OWN_BLOCK else None
    if gap is None:
        return None
    return Pair(
        "{at}, {arm} reaches {gap} in AUC than the lender alone{doubt}.",
        "{at}，{arm}的 AUC 比仅贷款方{gap}{doubt}。",
    ).filled(
        {
            "arm": arm_told(part.main),
            "at": at_budget(part.epsilon),
            "gap": more_or_less(gap),
            "doubt": doubt.unsure(part, gap),
        }
    )


def spending(part: Part) -> Pair:
    """What all trainings of a set would cost if its persons were real.

    Each private training counts as one Gaussian mechanism at its epsilon, so that mu^2 adds up. A training that failed
    counts only where it ran to its end, and its audit refused it.
    """
    asked = part.trained.select("private", "epsilon", "delta").fill_null(0)
    private = asked.filter((pl.col("private") == PERSON) & pl.col("epsilon").is_finite())
    unprotected, failed = asked.height - private.height, part.results.height - asked.height
    lost = Pair("", "")
    if failed:
        lost = Pair(
            f" {failed} that failed are not counted; one that stopped after its first release would count too.",
            f"失败的 {failed} 次未计入；若在首次发布之后才中止，同样应当计入。",
        )
    if asked.is_empty():
        return Pair(
            f"{part.name}: no training ended, so nothing is counted; one that stopped after its first release would "
            "count.",
            f"{part.name}：没有训练完成，因此未作计算；若在首次发布之后才中止，则应当计入。",
        )
    if private.is_empty():
        return Pair(
            f"{part.name}: {unprotected} trainings without a person's budget would protect nobody.{lost.en}",
            f"{part.name}：{unprotected} 次训练没有对“人”的预算，不保护任何人。{lost.zh}",
        )
    spent, delta = _composed(private)
    more = Pair("", "")
    if unprotected:
        more = Pair(
            f"; {unprotected} more have no noise, or protect labels only, and have no bound at all",
            f"；另有 {unprotected} 次无噪声或只保护标签，没有任何上界",
        )
    n = private.height
    return Pair(
        f"{part.name}: {n} private trainings together would amount to about epsilon {spent} at delta {delta}{more.en}."
        f"{lost.en}",
        f"{part.name}：{n} 次带隐私的训练合计约为 epsilon {spent}（delta {delta}）{more.zh}。{lost.zh}",
    )


def _composed(private: pl.DataFrame) -> tuple[str, str]:
    """Epsilon of all these trainings together, and the delta that it holds at."""
    delta = float(private["delta"].to_numpy().max()) or DELTA
    counts = sorted(Counter(private["epsilon"].to_list()).items())
    total = gaussian_epsilon(math.sqrt(math.fsum(n * gaussian_mu(e, delta) ** 2 for e, n in counts)), delta)
    return (number(total, 1) if math.isfinite(total) else "∞"), f"{delta:g}".replace("e-0", "e-")


@dataclass(frozen=True)
class Failure:
    """Cells of one set and arm that ended with the same error."""

    set: str
    arm: str
    epsilons: str
    cells: int
    error: str


def failures(tables: Tables) -> list[Failure]:
    """All failed cells, alike ones together."""
    failed = pl.concat([part.failed for part in tables.parts])
    found = []
    for (name, arm, error), rows in failed.group_by("set", "arm", "error", maintain_order=True):
        epsilons = ", ".join("inf" if math.isinf(e) else f"{e:g}" for e in sorted(set(rows["epsilon"])))
        found.append(Failure(str(name), str(arm), epsilons, rows.height, str(error)))
    return found
