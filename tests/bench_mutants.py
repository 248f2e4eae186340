"""Known wrong designs of the bench, for `tests/mutants.py`: name, file, its text, the wrong one, the tests."""

from __future__ import annotations

STORE, CELLS = "simulations/sweep/store.py", "simulations/sweep/cells.py"
ORDERS, EXTENDING = "clients/orders.py", "simulations/extending.py"
SWEEP, OWN = "tests/simulations/test_sweep.py", "tests/simulations/test_extending.py"
ESTIMATES, PAIRED = "simulations/estimates.py", "tests/simulations/test_paired_doubt.py"
AVAILABLE, AWAY = "simulations/availability.py", "tests/simulations/test_availability.py"
STORED = ("tests/simulations/test_sweep_store.py",)
REAL_NODE = (f"{OWN}::test_a_real_node_obeys_no_plan_of_an_engine_or_mechanism_from_a_file",)

BENCH_MUTANTS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "bench: finished cells train again",
        *("simulations/sweep/running.py", 'if not cell["result"]["error"]}', "if False}"),
        (f"{SWEEP}::test_the_same_command_keeps_what_is_finished_and_tries_again_what_failed",),
    ),
    (
        "bench: files that changed are mixed",
        *(STORE, '            _unchanged(path, f"sets.{name}", sets[name], files)\n', "            pass\n"),
        STORED,
    ),
    ("bench: tables as cells came", STORE, ".sort(list(order), nulls_last=True, maintain_order=True)", "", STORED),
    (
        "bench: files written meanwhile",
        *(CELLS, "    task.check()  # what was written meanwhile may have been read\n", ""),
        (f"{SWEEP}::test_what_is_edited_while_a_sweep_runs_trains_nothing_under_its_old_name",),
    ),
    (
        "bench: budgets for what has no privacy",
        *("simulations/sweep/arms.py", 'if self.private != "nothing" else (math.inf,)', ""),
        ("tests/simulations/test_sweep_arms.py",),
    ),
    (
        "bench: a ledger that an open sweep does not charge",
        *("simulations/sweep/sweep_cli.py", "    _refuse_others(asked, _PRIVATE, ", "    _refuse_others(asked, (), "),
        ("tests/simulations/test_sweep_cli.py::test_options_that_do_not_belong_together_are_refused",),
    ),
    (
        "bench: a real node takes a file's engine",
        ORDERS,
        "(known() if node.simulated else ENGINES)",
        "known()",
        REAL_NODE,
    ),
    (
        "bench: a real node takes a file's mechanism",
        *(ORDERS, "if not node.simulated and any(line.kind", "if False and any(line.kind"),
        REAL_NODE,
    ),
    (
        "bench: a line that no run releases",
        *(ORDERS, "if not all(isinstance(line, Release | LabelResponse)", "if False and all(isinstance(line, Release)"),
        ("tests/clients/test_hostile_orders.py",),
    ),
    (
        "bench: lasting ledgers of an engine from a file",
        *(EXTENDING, "    if lasting:\n", "    if False:\n"),
        (f"{OWN}::test_other_processes_and_lasting_ledgers_take_no_engine_from_a_file",),
    ),
    (
        "bench: no bound is tried",
        *("simulations/rehearsal.py", "if not moved <= spec.bound * (1 + 1e-6):", "if False:"),
        (f"{OWN}::test_a_rehearsal_tells_what_is_wrong_before_any_data_are_touched",),
    ),
    (
        "bench: DeLong's variances in each other's place",
        *("model/metrics.py", "_variance(safer, bad) / bad.sum()", "_variance(safer, bad) / good.sum()"),
        ("tests/model/test_metric_errors.py::test_the_error_of_auc_is_delongs_over_all_pairs",),
    ),
    (
        "bench: differences without the sample of persons",
        *(ESTIMATES, "half = math.hypot(found.high - mean, ", "half = max(found.high - mean, 0 * "),
        (f"{PAIRED}::test_both_chances_of_a_difference_add_as_squares",),
    ),
    (
        "bench: what is particular to a training counts twice",
        *(ESTIMATES, "(float(covariance.sum()) - own) / (seeds * (seeds - 1))", "float(covariance.mean())"),
        (f"{PAIRED}::test_what_is_particular_to_a_training_is_not_counted_twice",),
    ),
    (
        "bench: every cell resamples other persons",
        *("simulations/sweep/measure.py", "np.random.default_rng(persons)", "np.random.default_rng()"),
        ("tests/simulations/test_measure.py",),
    ),
    (
        "bench: ties cut in a weighted AUC",
        *("model/metrics.py", "good[below] + good[upto]", "2 * good[below]"),
        ("tests/model/test_metric_errors.py",),
    ),
    (
        "bench: what begins later binds now",
        *(AVAILABLE, "now = table.filter(_DAY == 0", "now = table.filter(_DAY >= 0"),
        (f"{AWAY}::test_only_what_holds_at_the_application_binds",),
    ),
    (
        "bench: a partner that does not speak for its domain",
        *(AVAILABLE, "if p.name in present]", "]"),
        (f"{AWAY}::test_a_domain_is_away_only_where_the_partner_that_speaks_for_it_is",),
    ),
    (
        "bench: late data are used",
        *("simulations/deciding.py", "if state in LATE or state in NO_CONSENT:", "if state in NO_CONSENT:"),
        (f"{AWAY}::test_late_data_that_matters_is_waited_for_until_a_deadline",),
    ),
    (
        "bench: tables name folders of the machine",
        *(
            "simulations/sweep/places.py",
            "told(value, base) if isinstance(value, Path)",
            "str(value) if isinstance(value, Path)",
        ),
        ("tests/simulations/test_sweep_places.py::test_sweeps_in_two_places_tell_the_same_and_name_neither",),
    ),
)
