"""What a report may not claim: a lender that is not alone, intervals of copies, drift by chance, failed trainings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import polars as pl
import pytest

from server.failures import RunFailed
from simulations.charts import SETTINGS
from simulations.sweep.report import costs, doubt, drift, gains, lending, quality, rival, summary
from simulations.sweep.report.drawing import Drawn
from simulations.sweep.report.page import write_report
from simulations.sweep.report.quality_table import markdown
from simulations.sweep.report.tables import Part, read_tables
from tests.sweep_tables import Asked, change, write_tables

INF = math.inf
FEW = Asked(arms=("joint", "own-block", "dp-ebm"), epsilons=(1.0, INF), seeds=2)
EARLIER = replace(FEW, without=("resampled",))  # as tables were before cells told their AUC on resampled persons
REFUSED = "audit: scorecard at least 3.10 of 1.00: the model is not published"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A sweep of two seeds."""
    return write_tables(tmp_path / "sweep", FEW)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The same, of an earlier fedscore."""
    return write_tables(tmp_path / "earlier", EARLIER)


def _part(out: Path) -> Part:
    return read_tables(out).parts[0]


def _drawn(part: Part, figure: Callable[[Part], Drawn]) -> dict[str, str]:
    with matplotlib.rc_context(SETTINGS):
        drawn = figure(part)
    assert drawn.chart is not None
    drawn.chart.settle()
    texts = {name: pair.en for name, pair in drawn.numbers.items()}
    return texts | {"labels": drawn.chart.svg}


def _is(arm: str, epsilon: float | None = None) -> pl.Expr:
    there = pl.col("arm") == arm
    return there if epsilon is None else there & (pl.col("epsilon") == epsilon)


def _put(value: object, where: pl.Expr, column: str) -> pl.Expr:
    return pl.when(where).then(value if isinstance(value, pl.Expr) else pl.lit(value)).otherwise(pl.col(column))


def _fail(out: Path, where: pl.Expr, error: str) -> Path:
    return change(out, "results", error=_put(error, where, "error"), auc=_put(None, where, "auc"))


def test_the_lender_alone_is_the_arm_own_block_on_the_same_seeds(out: Path) -> None:
    alone = pl.when(pl.col("seed") == 0).then(0.50).otherwise(0.60)
    known = (pl.col("curve") == "known_by") & (pl.col("group") == "3")
    change(out, "curves", value=_put(alone, known & _is("own-block"), "value"))
    told = _drawn(_part(out), gains.known_by)
    assert told["beside"] == ", beside the lender alone"
    assert "instead of 0.550 (the seeds cannot tell it from none)" in told["most"]
    assert "lender alone" in told["labels"]
    _fail(out, _is("own-block", 1.0) & (pl.col("seed") == 1), "killed")
    seeds = (pl.col("arm") == "own-block") & (pl.col("seed") == 1)
    path = out / "curves.parquet"
    pl.read_parquet(path).filter(~seeds).write_parquet(path)
    assert "instead of 0.500" in _drawn(_part(out), gains.known_by)["most"]


def test_without_own_block_nobody_is_said_to_gain(tmp_path: Path) -> None:
    part = _part(write_tables(tmp_path / "s", Asked(arms=("joint", "dp-ebm"), epsilons=(1.0,), seeds=2)))
    told = _drawn(part, gains.known_by)
    assert (told["most"], told["beside"]) == ("", ", beside the lender's own part of this model")
    assert "the arm own-block tells" in told["lack"]
    assert "lender's own part of this model" in told["labels"]
    assert "lender alone" not in told["labels"]


def test_the_lender_alone_is_beside_nobody(tmp_path: Path) -> None:
    part = _part(write_tables(tmp_path / "s", Asked(arms=("own-block",), epsilons=(1.0,), seeds=1)))
    assert summary.beside(part) == ()
    assert _drawn(part, gains.known_by)["beside"] == _drawn(part, gains.known_by)["lack"] == ""
    assert doubt.intervals(part).en == "one seed leaves no interval"


def test_a_gain_of_few_persons_is_not_the_largest(out: Path) -> None:
    few = (pl.col("curve") == "known_by") & (pl.col("group") == "3")
    change(out, "curves", weight=_put(99.0, few, "weight"))
    assert "2 partners' domains know" in _drawn(_part(out), gains.known_by)["most"]


def test_copies_of_one_training_have_no_interval(out: Path) -> None:
    change(out, "results", auc=_put(0.77, _is("joint", INF), "auc"))
    part = _part(out)
    found = part.estimate("joint", INF, "auc")
    assert (found.mean, found.low, found.high) == (pytest.approx(0.77), None, None)
    assert "| .7700 |" in markdown(read_tables(out))
    assert summary.best_rows(part)[-1].beside[0] == "0.7700"


def test_no_share_is_told_below_zero_or_above_one(out: Path) -> None:
    change(out, "results", auc=_put(0.5 + 0.45 * pl.col("seed"), _is("own-block", 1.0), "auc"))
    part = _part(out)
    found = part.estimate("own-block", 1.0, "auc")
    assert (found.low, found.high) == (0.0, 1.0)
    assert part.difference("joint", "own-block", 1.0).high <= 1.0


def test_seeds_of_one_split_are_said_to_show_training_alone_and_few_seeds_to_be_few(
    earlier: Path,
) -> None:
    out = earlier
    told = doubt.chance(_part(out))
    assert "intervals are over the noise of training, on one held-out sample" in told.en
    assert "may move an AUC by 0.011 either way" in told.en  # 1.96 times .0058
    assert "2 seeds are few: an interval reaches 12.7 standard errors" in told.en
    assert "12.7" in told.zh
    assert "on one held-out sample" in rival.verdict(read_tables(out)).en
    change(out, "results", split=pl.lit("seeded"))
    assert doubt.chance(_part(out)).en.startswith("Seeds redraw split and noise.")
    assert "one held-out sample" not in rival.verdict(read_tables(out)).en


def test_the_verdict_carries_its_doubt_and_names_whom_ours_trusts(earlier: Path) -> None:
    out = earlier
    gap = pl.when(pl.col("seed") == 0).then(0.70).otherwise(0.80)
    change(out, "results", auc=_put(gap, _is("joint", 1.0), "auc"))
    change(out, "results", auc=_put(0.74, _is("dp-ebm", 1.0), "auc"))
    told = rival.verdict(read_tables(out))
    assert "at or above pooled DP-EBM on every set that has both (1), but the seeds cannot tell" in told.en
    assert "但从这些随机种子看" in told.zh
    assert "ours (the joint model with a curator)" in told.en


def test_the_best_is_of_those_that_were_compared(tmp_path: Path) -> None:
    asked = Asked(arms=("joint", "apart", "network", "joint-protected", "dp-ebm"), epsilons=(1.0,), seeds=3)
    out = write_tables(tmp_path / "s", asked)
    part = _part(_fail(out, _is("network"), "killed"))
    assert rival.match(part).of == 2
    assert "the best of our 2 on these persons" in rival.sentence(part).en
    assert "chosen on the same persons" in rival.verdict(read_tables(out)).en


def test_single_figures_show_an_arm_that_trained_with_noise(tmp_path: Path) -> None:
    out = write_tables(tmp_path / "s", Asked(arms=("joint", "apart", "own-block"), epsilons=(1.0, INF), seeds=2))
    part = _part(_fail(out, _is("joint", 1.0), "columns are too many"))
    assert (part.main, part.epsilon) == ("apart", 1.0)
    assert summary.findings(part)[0].en.startswith("With noise the joint model with a curator has no figures")


def test_a_failed_training_is_not_spent_unless_its_audit_refused_it(out: Path) -> None:
    whole = summary.spending(_part(out)).en
    assert "6 private trainings" in whole
    assert "not counted" not in whole
    first = (pl.col("seed") == 0) & (pl.col("epsilon") == 1.0)
    _fail(out, first & _is("joint"), "contract: columns are too many")
    told = summary.spending(_part(out)).en
    assert "5 private trainings" in told
    assert "1 that failed are not counted" in told
    _fail(out, first & _is("joint"), REFUSED)
    assert summary.spending(_part(out)).en == whole


def test_the_strongest_proof_is_the_largest_of_all_and_a_refused_audit_counts(out: Path) -> None:
    seeds = pl.when(pl.col("seed") == 0).then(0.2).otherwise(0.8)
    change(out, "results", audit_at_least=_put(seeds, _is("joint", 1.0), "audit_at_least"))
    told = _drawn(_part(out), costs.audit)
    assert (told["at_least"], told["audited"], told["beyond"]) == ("0.80", "at epsilon 1", "none passed its claim")
    _fail(out, _is("joint", 1.0) & (pl.col("seed") == 1), REFUSED)
    assert _drawn(_part(out), costs.audit)["beyond"].startswith("1 passed their claim")


def test_the_sum_of_releases_leaves_out_what_held_out_persons_pay(out: Path) -> None:
    assert _drawn(_part(out), costs.releases)["sum"] == "1.35"  # .6 + .75, without the 1.0 of evaluation


def test_pooling_is_not_told_as_sending_nothing(out: Path) -> None:
    assert "every row, to one party" in _drawn(_part(out), costs.cost)["labels"]


def test_drift_that_chance_explains_is_not_drift(out: Path) -> None:
    told = _drawn(_part(out), drift.drift)
    assert told["verdict"] == "more than chance and above 0.10: worth watching"
    change(out, "curves", high=_put(0.3, pl.col("curve") == "drift_psi", "high"))
    assert "no more than chance" in _drawn(_part(out), drift.drift)["verdict"]


def test_where_the_tables_do_not_tell_how_far_chance_goes_no_verdict_on_chance_is_given(out: Path) -> None:
    change(out, "curves", high=_put(None, pl.col("curve") == "drift_psi", "high"))
    told = _drawn(_part(out), drift.drift)
    assert told["verdict"] == "above the line at 0.10, but these tables do not tell what chance alone gives"
    assert (told["worst"], told["area"]) == ("0.20", "")
    assert "chance alone" not in told["labels"]
    change(out, "curves", value=_put(0.05, pl.col("curve") == "drift_psi", "value"))
    assert _drawn(_part(out), drift.drift)["verdict"].startswith("below the line at 0.10, but")


def test_the_tables_of_a_sweep_before_a_column_was_added_are_read(out: Path) -> None:
    path = out / "results.parquet"
    pl.read_parquet(path).drop("split").write_parquet(path)
    part = _part(out)
    assert not part.pinned
    assert "whether each also draws its own split of the persons, these tables do not tell" in doubt.chance(part).en


def test_an_audit_of_a_persons_only_line_is_counted_once(out: Path) -> None:
    before = _drawn(_part(out), costs.audit)["audits"]
    path = out / "curves.parquet"
    curves = pl.read_parquet(path)
    lines = curves.filter((pl.col("curve") == "audit") & (pl.col("group") == "evaluation/scores"))
    again = lines.with_columns(group=pl.lit("all lines, held-out persons"))
    pl.concat([curves, again]).write_parquet(path)
    assert _drawn(_part(out), costs.audit)["audits"] == before
    pl.concat([curves, again.with_columns(value=pl.col("value") / 2)]).write_parquet(path)
    assert int(_drawn(_part(out), costs.audit)["audits"]) == int(before) + lines.height


def test_arms_that_decide_nothing_are_named_under_the_decisions(out: Path) -> None:
    told = _drawn(_part(out), lending.decisions)["without"]
    assert told.startswith("Not here: the lender alone, pooled DP-EBM.")


def test_what_a_joint_run_tells_of_domains_is_said_to_be_implied_and_free_only_of_a_release(out: Path) -> None:
    note = _drawn(_part(out), gains.shapley)["note"]
    assert "not the held-out AUC" in note
    assert "cost no budget" in note
    part = _part(_fail(out, _is("joint", 1.0), "killed"))
    assert "cost no budget" not in _drawn(part, gains.shapley)["note"]


def test_a_large_delta_is_said(out: Path) -> None:
    assert doubt.delta(_part(change(out, "results", train=pl.lit(9_000)))) is None
    found = doubt.delta(_part(change(out, "results", train=pl.lit(433_200))))
    assert "training persons times delta is 4.33" in found.en


def test_a_cost_that_the_seeds_cannot_tell_from_none_is_said_to_be_such(out: Path, earlier: Path) -> None:
    values = pl.when(pl.col("seed") == 0).then(0.70).otherwise(0.80)
    for tables, doubts in ((earlier, "cannot tell it from none"), (out, "may be chance, of training or of the pers")):
        change(tables, "results", auc=_put(values, _is("joint", 1.0), "auc"))
        assert doubts in summary.findings(_part(tables))[0].en


def test_a_name_with_a_bar_or_a_tick_leaves_the_table_whole(out: Path) -> None:
    change(out, "results", set=pl.lit("a|b `c`"))
    lines = markdown(read_tables(out)).splitlines()
    assert len({line.replace(r"\|", "").count("|") for line in lines[2:5]}) == 1
    assert r"`` a\|b `c` ``" in lines[4]


def test_the_sentence_of_quality_fits_its_seeds(out: Path) -> None:
    told = _drawn(_part(out), quality.quality)
    assert told["intervals"] == "bars are 95 % intervals over 2 seeds"
    assert "one held-out sample" in told["chance"]


def test_a_partner_that_an_arm_made_up_is_no_holder(tmp_path: Path) -> None:
    out = write_tables(tmp_path / "s", Asked(arms=("apart", "home", "dp-ebm"), epsilons=(1.0,), seeds=1))
    change(out, "results", holders=_put(4, _is("home"), "holders"))
    assert _part(out).holders == 3
    assert "(3, 21,052)" in markdown(read_tables(out))


def test_a_name_that_the_locale_cannot_write_ends_the_report_with_one_line(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.sweep.report.page._save", lambda *_: "\u8054".encode("ascii"))
    with pytest.raises(RunFailed, match="set PYTHONUTF8=1"):
        write_report(out)


def test_cells_that_held_nobody_out_are_not_said_to_have_failed(out: Path) -> None:
    (told,) = summary.findings(_part(change(out, "results", auc=pl.lit(None, pl.Float64), error=pl.lit(""))))
    assert told.en.startswith("No cell has an AUC: nobody is held out")
