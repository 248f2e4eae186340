"""Known wrong designs of private selection, for `tests/mutants.py`: name, file, its text, the wrong one, the tests."""

from __future__ import annotations

SELECTION, PRIVATE, PRICING = "privacy/selection.py", "simulations/sweep/private.py", "simulations/sweep/pricing.py"
PRICE = ("tests/privacy/test_selection.py",)
DRAWS = ("tests/privacy/test_selection.py::test_draws_of_k_follow_it",)
SLACK = ("tests/privacy/test_selection.py::test_the_slack_covers_runs_whose_noise_is_a_little_wrong",)
SWEEP = ("tests/simulations/test_private_selection.py",)
SECRET = (f"{SWEEP[0]}::test_a_random_number_of_runs_is_charged_as_one_selection_and_kept_secret",)
STANDS = (f"{SWEEP[0]}::test_nothing_is_written_where_no_run_went_well_and_the_charge_stands",)
REAL = ("tests/simulations/test_private_sweep.py",)

SELECTION_MUTANTS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("selection: log E[K] forgotten", SELECTION, " + math.log(mean) / (order - 1)\n", "\n", PRICE),
    ("selection: Liu and Talwar's 1 + shape forgotten", SELECTION, "(1 + shape) * ((other", "1 * ((other", PRICE),
    ("selection: log(1/g) forgotten", SELECTION, " + told / other)", ")", PRICE),
    (
        "selection: an order below 1 for the other divergence",
        SELECTION,
        "max(1.0, math.sqrt",
        "max(0.0, math.sqrt",
        PRICE,
    ),
    (
        "selection: Poisson without its delta",
        SELECTION,
        "extra = mean * gaussian_delta",
        "extra = 0 * gaussian_delta",
        PRICE,
    ),
    (
        "selection: Poisson's delta at an epsilon that the theorem does not allow",
        *(SELECTION, "math.log1p(1 / (order - 1))", "math.log1p(4 / (order - 1))"),
        PRICE,
    ),
    (
        "selection: gamma of another mean",
        SELECTION,
        "math.expm1(x) / x - self.mean",
        "math.expm1(x) / x - 2 * self.mean",
        PRICE,
    ),
    (
        "selection: K is its mean",
        SELECTION,
        "return int(np.searchsorted(",
        "return round(self.mean) or int(np.searchsorted(",
        DRAWS,
    ),
    ("selection: K one too small", SELECTION, 'side="right"))', 'side="right")) - 1', DRAWS),
    (
        "selection: noise grid's slack of one run",
        SELECTION,
        "return ratio + self.repeats.steepness * away, ",
        "return ratio, ",
        SLACK,
    ),
    ("selection: the tail of one run", SELECTION, "self.repeats.mean * tail + ", "tail + ", SLACK),
    (
        "selection: budget spread as epsilon, not mu",
        SELECTION,
        "/ math.sqrt(candidates)",
        "/ candidates",
        (f"{PRICE[0]}::test_each_candidate_once_composes",),
    ),
    (
        "sweep: held-out persons are not charged",
        PRICING,
        "for persons in (TRAIN, HELD_OUT)",
        "for persons in (TRAIN,)",
        SECRET,
    ),
    (
        "sweep: the weakest candidate is charged for",
        PRICING,
        "EVERYBODY, max(c.mu",
        "EVERYBODY, 0.5 * min(c.mu",
        SECRET,
    ),
    (
        "sweep: only the coordinator is charged",
        PRICING,
        "                kept.reserve(due.id, lines)\n",
        "",
        STANDS,
    ),
    (
        "sweep: only the winner's arm is charged",
        PRICING,
        "for c in candidates for line in c.lines",
        "for c in candidates[:1] for line in c.lines",
        (f"{REAL[0]}::test_every_ledger_carries_the_whole_sweep",),
    ),
    ("sweep: charged after it ran", PRIVATE, "            charge(node, ready.charge)\n", "", STANDS),
    (
        "sweep: losers stay",
        PRIVATE,
        "            shutil.rmtree(place, ignore_errors=True)\n",
        "            pass\n",
        SWEEP,
    ),
    ("sweep: the last of equals", PRIVATE, "score > best[0]", "score >= best[0]", SWEEP),
    (
        "sweep: each arm a fixed number of times",
        PRIVATE,
        "rng.below(ready.repeats.draw(rng), len(ready.candidates))",
        "range(len(ready.candidates))",
        SECRET,
    ),
    ("sweep: its end is told by the files", PRIVATE, "os.utime(path, (charged, charged))", "os.stat(path)", SECRET),
    (
        "sweep: the model says what its own run cost",
        PRIVATE,
        "statement=statement)",
        "statement=bundle.statement)",
        REAL,
    ),
    ("sweep: a run under other noise counts", PRIVATE, "!= candidate.lines:", "!= candidate.lines and False:", SWEEP),
)
