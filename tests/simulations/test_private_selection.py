"""Which run a private sweep selects, what is charged before it runs, and what stays secret."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chi2

from model.bundle import Bundle
from model.inputs import InputError
from model.limits.table import Entry, FusionTable
from privacy.plan import HELD_OUT, TRAIN, BudgetExceeded, Plan, Release, on_one_person, spent_by
from privacy.selection import POISSON, Repeats, Selection
from server.failures import RunFailed
from server.planning import RunPlan
from simulations import preflight
from simulations.run import Result, Settings
from simulations.sweep import private
from simulations.sweep.pricing import Candidate, Priced
from simulations.sweep.private import WORK, PrivateSweep, private_sweep
from tests.private_world import ARMS, LEDGERS, book, charged


@dataclass
class Runs:
    """Stands in for `simulate`: writes the model that it was given under the next quality, where a run would."""

    bundle: Bundle
    aucs: Sequence[float | Exception | None]
    seen: list[str] = field(default_factory=list)
    before: Callable[[Settings], None] = lambda settings: None

    def __call__(self, settings: Settings) -> Result:
        self.before(settings)
        assert not settings.out.exists()
        auc = self.aucs[len(self.seen) % len(self.aucs)]
        self.seen.append(settings.federation.name if settings.federation else "")
        settings.out.mkdir(parents=True)
        (settings.out / "report.json").write_text("exact figures")
        if isinstance(auc, Exception):
            raise auc
        quality = {"auc": {"value": auc, "low": 0.0, "high": 1.0}}
        replace(self.bundle, quality=quality).save(settings.out / "model")
        node = preflight.node_of(settings, settings.out)
        lines = Candidate("", settings, node).priced(settings.epsilon or 0.0, settings.delta or 0.0).lines
        return Result(settings.out, {"releases": [line.to_dict() for line in lines]}, ())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, quick: None) -> Runs:
    """Runs that take no time."""
    statement = {"accounting": "of one run", "observers": [], "not_covered": []}
    made = Runs(Bundle("run", {}, FusionTable((), None, {"|": Entry(0, {})}), {}, statement), [0.5])
    monkeypatch.setattr(private, "simulate", made)
    return made


@pytest.fixture
def ask(small: Path, tmp_path: Path) -> Callable[..., PrivateSweep]:
    """A question about the small sample."""

    def asked(**changes: Any) -> PrivateSweep:
        given = {"out": tmp_path / "out", "ledger": tmp_path / "ledger", "epsilon": 0.6, "arms": ARMS, "select": "once"}
        return PrivateSweep(str(small), **{**given, **changes})

    return asked


def _exactly(monkeypatch: pytest.MonkeyPatch, runs: int) -> None:
    """Makes the number of runs known to a test."""
    monkeypatch.setattr(Repeats, "draw", lambda self, rng: runs)


@pytest.mark.parametrize(("aucs", "best"), [((0.6, 0.7), "apart-equal"), ((0.7, 0.6), "apart"), ((None, 0.4), ARMS[1])])
def test_the_largest_noisy_auc_is_selected(
    runs: Runs, ask: Callable[..., PrivateSweep], aucs: Sequence[float | None], best: str
) -> None:
    runs.aucs = aucs
    told = private_sweep(ask())
    assert told["selected"] == best
    assert told["quality"]["auc"]["value"] == max(a for a in aucs if a is not None)
    assert len(runs.seen) == 2


def test_ties_go_to_the_run_that_came_first_and_a_run_that_stopped_loses(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path
) -> None:
    runs.aucs = [0.6, 0.6]
    assert private_sweep(ask())["selected"] == "apart"
    for count, error in enumerate((RunFailed("audit"), BudgetExceeded("rounding"))):
        runs.seen, runs.aucs = [], [error, None]
        told = private_sweep(ask(out=tmp_path / f"out-{count}", ledger=tmp_path / f"ledger-{count}"))
        assert (told["selected"], told["quality"]["auc"]["value"]) == ("apart-equal", None)


def test_what_a_sweep_left_when_the_machine_stopped_is_deleted_even_where_the_next_is_refused(
    ask: Callable[..., PrivateSweep], tmp_path: Path
) -> None:
    left = tmp_path / "ledger" / f"{WORK}x" / "run"
    left.mkdir(parents=True)
    (left / "report.json").write_text("exact figures")
    with pytest.raises(InputError, match="nothing to select from"):
        private_sweep(ask(arms=("apart",)))
    assert list((tmp_path / "ledger").iterdir()) == []


def test_nothing_is_written_where_no_run_went_well_and_the_charge_stands(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path
) -> None:
    runs.aucs = [RunFailed("audit")]
    with pytest.raises(RunFailed, match="nothing is selected, and its charge stands"):
        private_sweep(ask())
    assert {p.name for p in tmp_path.iterdir()} == {"ledger"}
    assert all(len(plans) == 1 for plans in charged(tmp_path / "ledger"))


def test_a_run_that_released_what_was_not_charged_ends_the_sweep(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def louder(settings: Settings) -> Result:
        result = runs(settings)
        result.report["releases"][0]["noise_multiplier"] *= 0.999
        return result

    monkeypatch.setattr(private, "simulate", louder)
    with pytest.raises(RunFailed, match="released other than what was charged"):
        private_sweep(ask())
    assert not (tmp_path / "out").exists()


def test_everybody_is_charged_before_the_first_run_and_losers_are_gone_before_the_next(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path
) -> None:
    def look(settings: Settings) -> None:
        assert all(len(plans) == 1 for plans in charged(tmp_path / "ledger"))
        assert settings.ledger is None
        assert settings.out.parent.parent == tmp_path / "ledger"
        assert settings.out.parent.name.startswith(WORK)
        assert settings.out.parent.stat().st_mode & 0o077 == 0
        assert list(settings.out.parent.iterdir()) == []

    runs.before = look
    private_sweep(ask())
    assert len(runs.seen) == 2


def test_a_sweep_that_died_has_paid_and_the_next_one_pays_anew(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path
) -> None:
    def die(settings: Settings) -> None:
        if runs.seen:
            raise KeyboardInterrupt

    runs.before = die
    with pytest.raises(KeyboardInterrupt):
        private_sweep(ask(epsilon=0.4))
    assert {p.name for p in tmp_path.iterdir()} == {"ledger"}
    [died, *others] = charged(tmp_path / "ledger")
    assert all(plans == died for plans in others)
    runs.before = lambda settings: None
    told = private_sweep(ask(epsilon=0.4))
    for holder, plans in zip(LEDGERS, charged(tmp_path / "ledger"), strict=True):
        assert set(plans) == {*died, told["plan"]}
        with book(tmp_path / "ledger", holder) as opened:
            assert 0.5 < opened.spent() < 0.8


def test_a_random_number_of_runs_is_charged_as_one_selection_and_kept_secret(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[int, list[str]] = {1: [], 4: []}
    told = {}
    for count in said:
        _exactly(monkeypatch, count)
        runs.seen, runs.aucs = [], [0.6]
        places = {"out": tmp_path / f"out-{count}", "ledger": tmp_path / f"ledger-{count}"}
        told[count] = private_sweep(ask(select="geometric", **places), said[count].append)
        assert len(runs.seen) == count
        assert len({path.stat().st_mtime for path in (places["out"], *places["out"].rglob("*"))}) == 1
        for plans in charged(places["ledger"]):
            lines = plans[told[count]["plan"]]
            assert all(isinstance(line, Selection) for line in lines)
            assert [line.persons for line in lines] == [TRAIN, HELD_OUT]
            assert 0.59 < spent_by([lines], 1.0, 1e-5) <= 0.6
    assert said[1] == said[4]
    own = ("selected", "bundle_sha256", "plan")
    shown = [{name: value for name, value in told[count].items() if name not in own} for count in said]
    assert shown[0] == shown[1]
    assert [row["observer"] for row in told[1]["privacy"]["observers"]] == [
        "outsiders, and whoever is given the sweep's folder"
    ]


def test_one_run_of_a_random_number_is_no_stronger_than_the_selection_is_charged_for(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both groups of persons, held-out ones by the histogram alone: each run's mu is at most the charge's."""
    shares: list[float] = []

    def look(settings: Settings) -> None:
        node = preflight.node_of(settings, tmp_path)
        lines = Candidate("", settings, node).priced(settings.epsilon or 0.0, settings.delta or 0.0).lines
        for group in on_one_person(lines).values():
            assert all(isinstance(line, Release) for line in group)
            shares.append(math.sqrt(sum(line.event.mu_squared for line in group if isinstance(line, Release))))

    _exactly(monkeypatch, 4)
    runs.before = look
    told = private_sweep(ask(select="poisson", arms=("apart", "apart-equal", "home")))
    [train, held_out] = charged(tmp_path / "ledger")[0][told["plan"]]
    assert isinstance(train, Selection)
    assert isinstance(held_out, Selection)
    assert len(shares) == 8
    assert max(shares) <= min(train.mu, held_out.mu) * (1 + 1e-12)


def test_an_arm_is_drawn_evenly_for_each_run(small: Path, tmp_path: Path) -> None:
    """A fair draw fails once in a million million."""
    settings = Settings(small, tmp_path / "out")
    node = preflight.node_of(settings, tmp_path)
    arms = tuple(Candidate(name, settings, node) for name in ("a", "b", "c"))
    due = RunPlan(Plan((), 1.0, 1e-5), {}, "sample", "private sweep", 1, {})
    counts = Counter(c.name for c in private._drawn(Priced(arms, Repeats(400.0, POISSON), due)))
    even = sum(counts.values()) / 3
    assert sum((counts[c.name] - even) ** 2 / even for c in arms) < chi2.isf(1e-12, 2)
    assert [c.name for c in private._drawn(Priced(arms, None, due))] == ["a", "b", "c"]


def test_no_run_at_all_selects_nothing(
    runs: Runs, ask: Callable[..., PrivateSweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _exactly(monkeypatch, 0)
    with pytest.raises(RunFailed, match="nothing is selected"):
        private_sweep(ask(select="poisson"))
    assert runs.seen == []
    assert not (tmp_path / "out").exists()
