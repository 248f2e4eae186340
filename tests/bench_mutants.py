"""Known wrong designs of the bench, for `tests/mutants.py`: name, file, its text, the wrong one, the tests."""

from __future__ import annotations

STORE, CELLS = "simulations/sweep/store.py", "simulations/sweep/cells.py"
ORDERS, EXTENDING = "clients/orders.py", "simulations/extending.py"
SWEEP, OWN = "tests/simulations/test_sweep.py", "tests/simulations/test_extending.py"
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
)
