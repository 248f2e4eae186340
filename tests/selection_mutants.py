"""Known wrong designs of private selection, for `tests/mutants.py`: name, file, its text, the wrong one, the tests."""

from __future__ import annotations

SELECTION, PRIVATE, PRICING = "privacy/selection.py", "simulations/sweep/private.py", "simulations/sweep/pricing.py"
PRICE = ("tests/privacy/test_selection.py",)
SWEEP = ("tests/simulations/test_private_selection.py",)
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
        PRICE,
    ),
    ("selection: K one too small", SELECTION, 'side="right"))', 'side="right")) - 1', PRICE),
    (
        "selection: noise grid's slack of one run",
        SELECTION,
        "return ratio + self.repeats.steepness * away, ",
        "return ratio, ",
        PRICE,
    ),
    ("selection: the tail of one run", SELECTION, "self.repeats.mean * tail + ", "tail + ", PRICE),
    ("selection: budget spread as epsilon, not mu", SELECTION, "/ math.sqrt(candidates)", "/ candidates", PRICE),
    (
        "sweep: held-out persons are not charged",
        PRICING,
        "for persons in (TRAIN, HELD_OUT)",
        "for persons in (TRAIN,)",
        SWEEP,
    ),
    ("sweep: the weakest candidate is charged for", PRICING, "EVERYBODY, max(c.mu", "EVERYBODY, 0.5 * min(c.mu", SWEEP),
    (
        "sweep: only the coordinator is charged",
        PRICING,
        "                kept.reserve(due.id, lines)\n",
        "",
        (*SWEEP, *REAL),
    ),
    (
        "sweep: only the winner's arm is charged",
        PRICING,
        "for c in candidates for line in c.lines",
        "for c in candidates[:1] for line in c.lines",
        REAL,
    ),
    ("sweep: charged after it ran", PRIVATE, "            charge(node, ready.charge)\n", "", SWEEP),
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
        SWEEP,
    ),
    ("sweep: its end is told by the files", PRIVATE, "os.utime(path, (charged, charged))", "os.stat(path)", SWEEP),
    (
        "sweep: the model says what its own run cost",
        PRIVATE,
        "statement=statement)",
        "statement=bundle.statement)",
        REAL,
    ),
    ("sweep: a run under other noise counts", PRIVATE, "!= candidate.lines:", "!= candidate.lines and False:", SWEEP),
)
