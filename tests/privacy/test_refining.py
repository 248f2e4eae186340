"""One step on shares: exact against Python's own integers, resumed, refused, and uniform to either party alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.refining import StepDealer, StepParty, masked_sums
from privacy.ring import Integers, Words, from_ring
from privacy.shares import Blocks, Roots, expand, masked, opened

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=25, database=None)
BLOCKS: Blocks = {"tax": (("bank", "office"), 3), "shop": (("store",), 2)}
OWNERS = {"bank": 3, "office": 3, "store": 2}
CUBIC = (12, -5, 3, -2)
Chunk = tuple[dict[str, Integers], dict[str, Integers]]
Cubic = tuple[int, int, int, int]


def drawn(rng: np.random.Generator, rows: int, largest: int = 2**10) -> Chunk:
    """Every owner's rows and sums."""
    x = {owner: rng.integers(-largest, largest + 1, (rows, width)) for owner, width in OWNERS.items()}
    return x, {owner: rng.integers(-largest, largest + 1, rows) for owner in OWNERS}


class Run:
    """A step with both parties in one place."""

    def __init__(self, sizes: list[int], cubic: Cubic = CUBIC, step: int = 0, roots: Roots | None = None) -> None:
        self.roots, self.step, self.cubic = roots or Roots(), step, cubic
        dealer = StepDealer(self.roots, BLOCKS, step)
        self.powers = [dealer.deal(rows) for rows in sizes]
        self.parties = [
            StepParty(i, self.roots.both[i], BLOCKS, step, cubic, c) for i, c in ((0, None), (1, dealer.correction()))
        ]

    def sums(self, chunk: int, u: dict[str, Integers]) -> dict[str, Words]:
        return {o: masked_sums(v, self.roots.mask_seeds(o), self.step, chunk) for o, v in u.items()}

    def rows(self, chunk: int, x: dict[str, Integers]) -> dict[str, Words]:
        return {o: masked(v, self.roots.mask_seeds(o), chunk) for o, v in x.items()}

    def openings(self, chunk: int, u: dict[str, Integers]) -> list[Words]:
        powers = (None, self.powers[chunk])
        return [p.opening(chunk, self.sums(chunk, u), g) for p, g in zip(self.parties, powers, strict=True)]

    def result(self, chunks: list[Chunk]) -> Integers:
        for chunk, (x, u) in enumerate(chunks):
            first, second = self.openings(chunk, u)
            for party in self.parties:
                party.add(chunk, self.rows(chunk, x), first + second)
        return opened(self.parties[0].share(), self.parties[1].share())


def residual(u: dict[str, Integers], cubic: Cubic = CUBIC) -> list[int]:
    return [sum(c * int(t) ** k for k, c in enumerate(cubic)) for t in sum(u.values())]


def plain(chunks: list[Chunk], cubic: Cubic = CUBIC) -> list[int]:
    total = [0] * 5
    for x, u in chunks:
        rows = np.hstack([x["bank"] + x["office"], x["store"]]).tolist()
        for row, r in zip(rows, residual(u, cubic), strict=True):
            total = [t + q * r for t, q in zip(total, row, strict=True)]
    return total


@DERANDOMIZED
@given(
    st.lists(st.integers(0, 6), max_size=3),
    st.sampled_from([1, 2**10]),
    st.tuples(*[st.integers(-(2**14), 2**14)] * 4),
    st.integers(0, 2**32 - 1),
)
def test_the_result_is_the_exact_product_with_the_cubic(
    sizes: list[int], largest: int, cubic: Cubic, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    chunks = [drawn(rng, rows, largest) for rows in sizes]
    assert Run(sizes, cubic).result(chunks).tolist() == plain(chunks, cubic)


def test_the_residuals_themselves_are_exact_over_more_than_one_slice() -> None:
    _, u = drawn(np.random.default_rng(1), 3000, 2**15)
    run = Run([3000])
    b = sum(expand(root, "step|0|chunk|0|residual", 3000) for root in run.roots.both)
    assert from_ring(sum(run.openings(0, u)) + b).tolist() == residual(u)


def test_both_parties_restored_from_their_states_end_alike() -> None:
    rng, sizes = np.random.default_rng(6), [5, 0, 8]
    chunks = [drawn(rng, rows) for rows in sizes]
    run = Run(sizes)

    def stop() -> None:
        for i, party in enumerate(run.parties):
            state = {k: np.frombuffer(v.tobytes(), v.dtype) for k, v in party.state().items()}
            run.parties[i] = StepParty.from_state(i, run.roots.both[i], BLOCKS, 0, CUBIC, state)

    openings = []
    for chunk, (_, u) in enumerate(chunks):
        openings.append(sum(run.openings(chunk, u)))
        stop()
    for chunk, (x, _) in enumerate(chunks):
        for party in run.parties:
            party.add(chunk, run.rows(chunk, x), openings[chunk])
        stop()
    assert opened(*(party.share() for party in run.parties)).tolist() == plain(chunks)


def test_no_mask_serves_two_steps_chunks_or_owners() -> None:
    roots, u = Roots(), np.full(50, 7)
    places = [("bank", 0, 0), ("bank", 0, 1), ("bank", 1, 0), ("bank", 11, 0), ("bank", 1, 10), ("store", 0, 0)]
    shown = [masked_sums(u, roots.mask_seeds(owner), step, chunk) for owner, step, chunk in places]
    same = {owner: np.full(50, 7) for owner in OWNERS}
    for step in (0, 1):
        run = Run([50, 50], step=step, roots=roots)
        shown += [*run.openings(0, same), *run.openings(1, same), *run.powers, run.parties[1].share()]
    for first, second in combinations(shown, 2):
        assert not np.isin(first, second).any()


@pytest.mark.parametrize("value", [0, 2**15], ids=["zero", "extreme"])
def test_what_either_party_gets_is_uniform(value: int) -> None:
    """Masked sums without a party's own mask, the dealer's powers, the other's opening; 1 in 5 * 10^7 each."""
    count = 2**20
    u = {owner: np.full(count, value) for owner in OWNERS}
    run = Run([count])
    shown, seeds = run.sums(0, u)["bank"], run.roots.mask_seeds("bank")
    views = [shown + expand(s, "step|0|chunk|0|sums", count) for s in seeds]
    for words in (shown, *views, *run.powers[0], *run.openings(0, u)):
        counts = (np.bincount(words.view(np.uint8)), np.bincount((words >> np.uint64(52)).astype(np.int64)))
        assert [len(c) for c in counts] == [2**8, 2**12]
        assert all(stats.chisquare(c).pvalue > 2e-8 for c in counts)


def test_chunks_that_are_not_next_or_not_complete_are_refused() -> None:
    run = Run([2, 2])
    party = run.parties[0]
    x, u = drawn(np.random.default_rng(0), 2)
    sums, rows, e = run.sums(0, u), run.rows(0, x), np.zeros(2, dtype=np.uint64)
    with pytest.raises(ValueError, match="chunk 0 is to be opened and added next"):
        party.add(0, rows, e)
    with pytest.raises(ValueError, match="chunk 0 is to be opened next"):
        party.opening(1, sums)
    few = {o: v for o, v in sums.items() if o != "store"}
    bent = [{**sums, "store": v} for v in (sums["store"][:1], sums["store"][:, None], sums["store"].view(np.int64))]
    for wrong in (few, {**sums, "stranger": e}, *bent):
        with pytest.raises(ValueError, match="masked sums"):
            party.opening(0, wrong)
    with pytest.raises(ValueError, match="correction"):
        run.parties[1].opening(0, sums)
    party.opening(0, sums)
    for wrong_e in (e[:1], e[:, None], e.view(np.int64)):
        with pytest.raises(ValueError, match="opened residuals"):
            party.add(0, rows, wrong_e)
    with pytest.raises(ValueError, match="masked rows"):
        party.add(0, {**rows, "store": rows["store"][:1]}, e)
    party.add(0, rows, e)
    with pytest.raises(ValueError, match="chunk 1 is to be opened next"):
        party.opening(0, sums)
