"""The test of the tests (T8): breaks the implementation in every known way; each break must fail at least one test.

Run by `make mutants`. Each mutant is one replacement in a copy of the repository, against which a few tests run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("privacy", "model", "clients", "server", "simulations", "tests", "docs", "pyproject.toml", "README.md")
SENSITIVITY, NETWORK = "tests/model/test_sensitivity.py", "tests/model/test_network.py"
MECHANISMS, NOISE = "tests/privacy/test_mechanisms.py", "tests/privacy/test_noise.py"
LEDGER, PLAN, AUDIT = "tests/privacy/test_ledger.py", "tests/privacy/test_plan.py", "tests/privacy/test_audit.py"
TRAINING, HOSTILE = "tests/clients/test_training.py", "tests/clients/test_hostile_orders.py"
CANARIES = "tests/simulations/test_auditing.py"
MOVES = f"{SENSITIVITY}::test_t1_one_person_moves_no_exact_sum_by_more_than_its_bound"
DIVIDES = f"{SENSITIVITY}::test_t1_training_divides_by_the_expected_batch_whoever_is_in_it"


@dataclass(frozen=True)
class Mutant:
    """One way to break a promise: a replacement in a file, and the test files, or tests, of which one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FACTOR = "factor = (clip_norm / squares.sqrt()).clamp_(max=1.0) * usable"
DRAW = "noise = discrete_gaussian(rng, self.noise_stddev * GRID, self.size)"
ZEROS = "total = np.zeros(shape.size)\n    with torch.no_grad()"
MUTANTS = (
    Mutant("no clip", "model/network.py", FACTOR, "factor = usable * 1.0", (f"{MOVES}[network-gradient]",)),
    Mutant(
        "clip 2 C",
        "model/network.py",
        FACTOR,
        FACTOR.replace("clip_norm /", "2 * clip_norm /"),
        (f"{MOVES}[network-gradient]",),
    ),
    Mutant(
        "batch-coupled clip, as [B, 1] broadcasting gives",
        *("model/network.py", FACTOR, FACTOR.replace("squares.sqrt()", "squares.sqrt().mean()")),
        (f"{MOVES}[network-gradient]",),
    ),
    Mutant(
        "a sum left from the batch before",
        *(
            "model/network.py",
            ZEROS,
            ZEROS.replace("np.zeros(shape.size)", "_STALE.setdefault(1, np.zeros(shape.size))"),
        ),
        (NETWORK, SENSITIVITY),
    ),
    Mutant(
        "a row that is not finite is kept",
        *("model/network.py", "(np.abs(chunk) <= LARGEST_INPUT).all(1) & ", ""),
        (f"{NETWORK}::test_t1_a_row_out_of_range_counts_as_exactly_zero_and_harms_no_other",),
    ),
    Mutant("noise x 0.5", "privacy/mechanisms.py", DRAW, DRAW.replace("* GRID", "* GRID * 0.5"), (MECHANISMS,)),
    Mutant("noise x 0.9", "privacy/mechanisms.py", DRAW, DRAW.replace("* GRID", "* GRID * 0.9"), (MECHANISMS,)),
    Mutant(
        "noise x 0.5, for canaries", "privacy/mechanisms.py", DRAW, DRAW.replace("* GRID", "* GRID * 0.5"), (CANARIES,)
    ),
    Mutant(
        "noise / sqrt(size)",
        *("privacy/mechanisms.py", DRAW, DRAW.replace("* GRID", "* GRID / math.sqrt(self.size)")),
        (MECHANISMS,),
    ),
    Mutant(
        "the same noise at every step",
        *("privacy/mechanisms.py", DRAW, f"{DRAW}\n        noise = _SAME.setdefault(self.size, noise)"),
        (f"{MECHANISMS}::test_two_releases_of_one_sum_differ",),
    ),
    Mutant(
        "floating-point noise, off the grid",
        *("privacy/mechanisms.py", "(np.rint(total * GRID) + noise) / GRID", "total + noise / GRID"),
        (MECHANISMS,),
    ),
    Mutant(
        "rounding left out of the sensitivity",
        *("privacy/mechanisms.py", "return self.bound + math.sqrt(self.size) / GRID", "return self.bound"),
        (f"{MECHANISMS}::test_the_rounding_part_of_the_sensitivity_is_used_up_by_an_adversary",),
    ),
    Mutant(
        "a sum that is not finite is released",
        *("privacy/mechanisms.py", "total = np.where(np.isfinite(total), total, 0.0)", "pass"),
        (MECHANISMS,),
    ),
    Mutant(
        "a fixed seed",
        *("privacy/noise.py", "algorithms.AES(os.urandom(32))", "algorithms.AES(bytes(32))"),
        (f"{NOISE}::test_t4_no_seed_reaches_the_noise",),
    ),
    Mutant(
        "a forked child draws",
        *("privacy/noise.py", "if os.getpid() != self._pid:", "if False:"),
        (f"{NOISE}::test_t4_a_forked_child_is_refused_and_its_parent_goes_on",),
    ),
    Mutant(
        "batches of a fixed size, as shuffling gives",
        "privacy/noise.py",
        "return np.flatnonzero(rng.words(persons) <= np.uint64(threshold))",
        "return np.sort(np.argsort(rng.words(persons))[: int(persons * probability)] + 0 * threshold)",
        (f"{NOISE}::test_t5_batches_are_independent_coins_for_every_person_and_step",),
    ),
    Mutant(
        "two rows a person",
        *("privacy/alignment.py", "once[first] = used", "once = found"),
        ("tests/privacy/test_envelope_alignment.py",),
    ),
    Mutant(
        "weighted cross-entropy",
        "model/scorecard.py",
        "residuals = sigmoid(encoding.gather(packed, constant, points)) - labels",
        "residuals = (sigmoid(encoding.gather(packed, constant, points)) - labels) * (1 + 4 * labels)",
        (f"{MOVES}[scorecard-gradient]",),
    ),
    Mutant(
        "the last step without noise",
        "model/descent.py",
        "release(gradient_sum(theta))",
        "(release if step < schedule.steps - 1 else np.asarray)(gradient_sum(theta))",
        (DIVIDES,),
    ),
    Mutant(
        "the accountant forgets at every plan",
        *("privacy/ledger.py", "self._spent([*before, *asked])", "self._spent(asked)"),
        (LEDGER,),
    ),
    Mutant(
        "a second draw for one claim",
        *("privacy/ledger.py", "            if self.chain.get(key) is not None:", "            if False:"),
        (LEDGER,),
    ),
    Mutant(
        "a line that nothing pays for",
        *("privacy/ledger.py", "if not any(own.covers(line) for own in paid):", "if False:"),
        (LEDGER,),
    ),
    Mutant("an edited row", "privacy/chain.py", "if (row.seq, row.prev, row.hash) !=", "if False and", (LEDGER,)),
    Mutant(
        "noise before its claim",
        "clients/orders.py",
        "        keys = [book.claim(agreement.id, line, part) for line in lines]\n        reply = draw(releases)\n",
        "        reply = draw(releases)\n        keys = [book.claim(agreement.id, line, part) for line in lines]\n",
        (HOSTILE, TRAINING),
    ),
    Mutant(
        "responses drawn again at every asking",
        "clients/responses.py",
        'new = asked.join(kept, on="id", how="anti", maintain_order="left")',
        "new, kept = asked, kept.clear()",
        ("tests/clients/test_responses.py",),
    ),
    Mutant(
        "every response counts once, as in dp_accounting",
        *("privacy/accounting.py", "for _ in range(count):", "for _ in range(1):"),
        (
            "tests/privacy/test_accounting.py::test_many_labels_cost_what_a_loop_costs_though_dp_accounting_ignores_their_count",
        ),
    ),
    Mutant(
        "unbiased labels without their longer residual",
        *("model/blocks.py", "encoding.row_norm * stretch, plan)", "encoding.row_norm, plan)"),
        ("tests/server/test_planning.py::test_told_labels_are_inside_epsilon_and_lengthen_partners_residuals",),
    ),
    Mutant(
        "everybody trains at every home",
        *("clients/training.py", "    if not line.home:\n", "    if True:\n"),
        ("tests/clients/test_homes.py::test_only_the_persons_whose_home_it_is_train_there",),
    ),
    Mutant(
        "divided by the persons that are there",
        *("clients/training.py", 'agreement.sizes["train"] /', "len(aligned(node, name).trainable) /"),
        (DIVIDES,),
    ),
    Mutant(
        "a refuted model is published",
        *("simulations/gate.py", "if found.exceeded:", "if False:"),
        ("tests/simulations/test_gate.py::test_a_claim_below_what_the_releases_cost_is_refuted",),
    ),
)
PRELUDE = {"model/network.py": "_STALE = {}\n", "privacy/mechanisms.py": "_SAME = {}\n"}  # what some mutants use


ALONE = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def copied(copy: Path) -> Path:
    """The repository in a folder of its own, with what is compiled: a mutant's file is newer than that."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name)
        else:
            shutil.copy(source, copy / name)
    return copy


def survives(mutant: Mutant, copy: Path) -> str:
    """Why the mutant was not killed; empty where a test failed. The copy is then as it was."""
    path = copy / mutant.file
    text, before = path.read_text(encoding="utf-8"), path.stat()
    if text.count(mutant.old) != 1:
        return f"its text stands {text.count(mutant.old)} times in {mutant.file}: mend the mutant"
    broken = text.replace(mutant.old, mutant.new)
    top = "from __future__ import annotations\n"
    path.write_text(broken.replace(top, f"{top}\n{PRELUDE.get(mutant.file, '')}", 1), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *mutant.tests]
    environment = {**os.environ, **ALONE, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # what was compiled of it holds again
    last = done.stdout.strip().splitlines()[-1:] or [done.stderr[-200:]]
    return "" if done.returncode == 1 and " failed" in last[0] else f"tests passed or did not run: {last[0]}"


def judged(mutants: Sequence[Mutant]) -> Iterator[str]:
    """`survives` of each, as many at a time as there are cores, in a copy for each core."""
    cores, copies = os.cpu_count() or 1, SimpleQueue[Path]()

    def one(mutant: Mutant) -> str:
        copy = copies.get()
        try:
            return survives(mutant, copy)
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory(prefix="fedscore-mutants-") as folder, ThreadPoolExecutor(cores) as pool:
        for core in range(cores):
            copies.put(copied(Path(folder, str(core))))
        yield from pool.map(one, mutants)


def main() -> int:
    """Runs all mutants, or those whose names hold the argument; returns how many were not killed."""
    # found where this file is run, not where pytest looks into it
    from bench_mutants import BENCH_MUTANTS
    from federation_mutants import FEDERATION_MUTANTS
    from joint_mutants import JOINT_MUTANTS, SIGNING_MUTANTS
    from limit_mutants import LIMIT_MUTANTS
    from selection_mutants import SELECTION_MUTANTS

    rows = (*LIMIT_MUTANTS, *JOINT_MUTANTS, *SIGNING_MUTANTS, *FEDERATION_MUTANTS, *SELECTION_MUTANTS, *BENCH_MUTANTS)
    every = (*MUTANTS, *(Mutant(*row) for row in rows))
    wanted = [m for m in every if sys.argv[1:] == [] or any(text in m.name for text in sys.argv[1:])]
    alive = 0
    for mutant, why in zip(wanted, judged(wanted), strict=True):
        print(f"{'ALIVE ' + why if why else 'killed'}: {mutant.name}", flush=True)
        alive += bool(why)
    print(f"{len(wanted) - alive} of {len(wanted)} mutants killed")
    return alive


if __name__ == "__main__":
    sys.exit(main())
