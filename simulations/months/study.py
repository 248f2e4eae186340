"""One study: which books to run, and the summary of what they gave, as plain data for JSON and for the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.limits.schema import Policy
from simulations.estimates import Estimate
from simulations.months.compare import METRICS, metrics
from simulations.months.evidence import Model
from simulations.months.policies import APR_CAPS, GIVEN, Variant, break_even_bp, capped, variants, without_points
from simulations.months.running import Key, Months, Plan, Task
from simulations.months.scenarios import Scenario, world_of

SCHEMA = "fedscore-months/1"
EFFECTS = (0.0, -0.05, -0.10, -0.20, -0.30)  # of points on the log-odds of default
COSTS_FEN = (50, 150, 300)  # of points, an account and month
MAIN, POINTS, CAPS = "main", "points", "caps"
Found = dict[Key, Months]


@dataclass(frozen=True)
class Study:
    """What is asked: policies, worlds, size.

    Attributes:
        policy: the policy that is judged; economics and the meaning of "thin" are its own for all.
        others: policies to judge it against, by name.
        scenarios: the worlds; points and caps are looked at in `focus`.
        months, per_month: how long, and how many apply in a month.
        seeds: of the arrivals.
    """

    policy: Policy
    others: tuple[tuple[str, Policy], ...]
    scenarios: tuple[Scenario, ...]
    months: int
    per_month: int
    seeds: range

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All policies that are compared."""
        return variants(self.policy, self.others)

    @property
    def focus(self) -> Scenario:
        """The world of the sections that look at one: fraud alone, or else the first."""
        return next((s for s in self.scenarios if s.code == "S3"), self.scenarios[0])

    def plan(self, model: Model) -> Plan:
        """Every book to run."""
        tasks = [
            Task((MAIN, variant.code, scenario.code), variant.policy, world_of(scenario, self.policy))
            for scenario in self.scenarios
            for variant in self.variants
        ]
        bare, code = without_points(self.policy), self.focus.code
        tasks += [Task((POINTS, str(e), code), bare, world_of(self.focus, self.policy, e)) for e in EFFECTS]
        tasks += [
            Task((CAPS, str(cap), code), capped(self.policy, cap), world_of(self.focus, self.policy))
            for cap in APR_CAPS
        ]
        return Plan(model, tuple(tasks), self.months, self.per_month)

    def summary(self, found: Found) -> dict[str, Any]:
        """Figures with their intervals; amounts in CNY over all months."""
        return {
            "schema": SCHEMA,
            "note": "a synthetic book: the order of policies may carry over to a real one, the amounts will not",
            "months": self.months,
            "applicants_a_month": self.per_month,
            "seeds": list(self.seeds),
            "focus": self.focus.code,
            "policies": [
                {"code": v.code, "zh": v.zh, "en": v.en, "policy": f"{v.policy.id} {v.policy.version}",
                 "sha256": v.policy.sha256}
                for v in self.variants
            ],
            "scenarios": [asdict(scenario) for scenario in self.scenarios],
            "results": self._results(found),
            "differences": self._differences(found),
            "trials": self._trials(found),
            "points": self._points(found),
            "apr_caps": self._caps(found),
        }  # fmt: skip

    def _results(self, found: Found) -> list[dict[str, Any]]:
        rows = []
        for scenario in self.scenarios:
            for variant in self.variants:
                values = metrics(found[MAIN, variant.code, scenario.code])
                figures = {name: asdict(Estimate.of(values[name])) for name, *_ in METRICS}
                rows.append({"scenario": scenario.code, "policy": variant.code, **figures})
        return rows

    def _differences(self, found: Found) -> list[dict[str, Any]]:
        """The given policy less each other, seed by seed."""
        rows = []
        for scenario in self.scenarios:
            given = metrics(found[MAIN, GIVEN, scenario.code])
            for other in self.variants:
                if other.code != GIVEN:
                    values = metrics(found[MAIN, other.code, scenario.code])
                    names = ("profit", "loss", "approval", "thin_approval")
                    figures = {name: asdict(Estimate.of(given[name] - values[name])) for name in names}
                    rows.append({"scenario": scenario.code, "policy": GIVEN, "against": other.code, **figures})
        return rows

    def _trials(self, found: Found) -> list[dict[str, Any]]:
        """What starting small brings against declining, an approved thin account, and against starting full."""
        rows = []
        for scenario in self.scenarios:
            for code in ("C", GIVEN):
                months = found[MAIN, code, scenario.code]
                profit = metrics(months)["profit"]
                decline, full = (metrics(found[MAIN, other, scenario.code])["profit"] for other in ("A", "B"))
                approved = np.maximum(months["thin_approved"].sum(axis=1), 1)
                rows.append(
                    {
                        "scenario": scenario.code,
                        "policy": code,
                        "against_declining": asdict(Estimate.of(profit - decline)),
                        "a_thin_account": asdict(Estimate.of((profit - decline) / approved)),
                        "against_full": asdict(Estimate.of(profit - full)),
                    }
                )
        return rows

    def _points(self, found: Found) -> dict[str, Any]:
        """Profit gained by points, for each cost and each effect, and the effect that pays for each cost."""
        runs = [found[POINTS, str(effect), self.focus.code] for effect in EFFECTS]
        base = metrics(runs[0])["profit"]
        gains = [metrics(run)["profit"] - base for run in runs]
        accounts = [run["accounts"].sum(axis=1) for run in runs]
        fewer = [1 - run["defaults"].sum() / runs[0]["defaults"].sum() for run in runs]
        table = [
            {"cost_fen": cost, "effect": effect, "profit": asdict(Estimate.of(gain - cost / 100 * months))}
            for cost in COSTS_FEN
            for effect, gain, months in zip(EFFECTS, gains, accounts, strict=True)
        ]
        own = base - metrics(found[MAIN, GIVEN, self.focus.code])["profit"]
        own_fen = 100 * own / found[MAIN, GIVEN, self.focus.code]["accounts"].sum(axis=1)
        worth = [float(100 * gain.mean() / months.mean()) for gain, months in zip(gains, accounts, strict=True)]
        costs = {**{str(cost): float(cost) for cost in COSTS_FEN}, "own": float(own_fen.mean())}
        return {
            "scenario": self.focus.code,
            "table": table,
            "fewer_defaults": dict(zip(map(str, EFFECTS), map(float, fewer), strict=True)),
            "own_cost_fen": asdict(Estimate.of(own_fen)),
            "break_even": {name: _crossing(worth, fewer, cost) for name, cost in costs.items()},
        }

    def _caps(self, found: Found) -> dict[str, Any]:
        rows = []
        for cap in APR_CAPS:
            values = metrics(found[CAPS, str(cap), self.focus.code])
            figures = {n: asdict(Estimate.of(values[n])) for n in ("profit", "approval", "thin_approval")}
            line = break_even_bp(self.policy.economics, cap)
            rows.append({"cap_bp": cap, "break_even_pd_bp": line, **figures})
        return {"scenario": self.focus.code, "table": rows}


def _crossing(worth: list[float], fewer: list[Any], cost: float) -> float | None:
    """The share of defaults that must be spared for points to be worth their cost; None beyond the strongest effect."""
    return float(np.interp(cost, worth, np.array(fewer, dtype=np.float64))) if cost <= worth[-1] else None
