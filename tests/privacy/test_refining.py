"""One step on shares: exact against Python's own integers, resumed, refused, and uniform to either party alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.refining import SIZE, Bytes, StepDealer, StepParty, masked_sums
from privacy.ring import Integers, Words, from_ring
from privacy.shares import Blocks, Roots, expand, masked, opened

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=25, database=None)
BLOCKS: Blocks = {"tax": (("bank", "office"), 3), "shop": (("store",), 2)}
OWNERS = {"bank": 3, "office": 3, "store": 2}
HALF = SIZE // 2
U = (np.arange(SIZE) + HALF) % SIZE - HALF  # at its place in a table
LOGISTIC = np.rint(2**20 / (1 + np.exp(-U / 8))).astype(np.int64)
RANDOM = np.random.default_rng(11).integers(-(2**40), 2**40 + 1, SIZE)
Chunk = tuple[dict[str, Integers], dict[str, Integers]]


def drawn(rng: np.random.Generator, rows: int) -> Chunk:
    """Every owner's rows and sums; the sums pass the table's ends and wrap."""
    x = {owner: rng.integers(-(2**10), 2**10 + 1, (rows, width)) for owner, width in OWNERS.items()}
    return x, {owner: rng.integers(-HALF, HALF, rows) for owner in OWNERS}


class Run:
    """A step with both parties in one place."""

    def __init__(self, sizes: list[int], table: Integers = RANDOM, step: int = 0, roots: Roots | None = None) -> None:
        self.roots, self.step = roots or Roots(), step
        dealer = StepDealer(self.roots, BLOCKS, step, table)
        self.tables = [dealer.tables(i, rows) for i, rows in enumerate(sizes)]
        self.parties = [
            StepParty(i, self.roots.both[i], BLOCKS, step, c) for i, c in ((0, None), (1, dealer.correction(sizes)))
        ]

    def sums(self, chunk: int, u: dict[str, Integers]) -> dict[str, Bytes]:
        return {o: masked_sums(v, self.roots.mask_seeds(o), self.step, chunk) for o, v in u.items()}

    def rows(self, chunk: int, x: dict[str, Integers]) -> dict[str, Words]:
        return {o: masked(v, self.roots.mask_seeds(o), chunk) for o, v in x.items()}

    def openings(self, chunk: int, u: dict[str, Integers]) -> list[Words]:
        tables = (None, self.tables[chunk])
        return [p.opening(chunk, self.sums(chunk, u), t) for p, t in zip(self.parties, tables, strict=True)]

    def result(self, chunks: list[Chunk]) -> Integers:
        for chunk, (x, u) in enumerate(chunks):
            first, second = self.openings(chunk, u)
            for party in self.parties:
                party.add(chunk, self.rows(chunk, x), first + second)
        return opened(self.parties[0].share(), self.parties[1].share())


def wrapped(value: int) -> int:
    """The signed integer of 64 bits that `value` is modulo 2^64."""
    return (value + 2**63) % 2**64 - 2**63


def residual(u: dict[str, Integers], table: Integers = RANDOM) -> list[int]:
    return [int(table[int(total) % SIZE]) for total in sum(u.values())]


def plain(chunks: list[Chunk], table: Integers = RANDOM) -> list[int]:
    total = [0] * 5
    for x, u in chunks:
        rows = np.hstack([x["bank"] + x["office"], x["store"]]).tolist()
        for row, r in zip(rows, residual(u, table), strict=True):
            total = [t + q * r for t, q in zip(total, row, strict=True)]
    return [wrapped(t) for t in total]


def residuals_of(run: Run, u: dict[str, Integers]) -> list[int]:
    """The first chunk's, which nobody sees: the opening without its mask."""
    rows = len(u["bank"])
    b = sum(expand(root, "step|0|chunk|0|residual", rows) for root in run.roots.both)
    return from_ring(sum(run.openings(0, u)) + b).tolist()


@DERANDOMIZED
@given(st.lists(st.integers(0, 6), max_size=3), st.integers(0, 2**32 - 1), st.sampled_from([2**7, 2**40, 2**63 - 1]))
def test_the_result_is_the_exact_product_with_any_table(sizes: list[int], seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(-largest, largest, SIZE, endpoint=True)
    chunks = [drawn(rng, rows) for rows in sizes]
    assert Run(sizes, table).result(chunks).tolist() == plain(chunks, table)


@pytest.mark.parametrize("table", [RANDOM, LOGISTIC, U], ids=["random", "logistic", "identity"])
def test_the_residuals_themselves_are_exact_over_more_than_one_slice(table: Integers) -> None:
    x, u = drawn(np.random.default_rng(1), 3000)
    assert residuals_of(Run([3000], table), u) == residual(u, table)
    assert Run([3000], table).result([(x, u)]).tolist() == plain([(x, u)], table)


@pytest.mark.parametrize("parts", [(0, 0), (-1, 0), (-3, -3), (HALF - 1, 1 - HALF)])
def test_every_sum_from_end_to_end_finds_its_entry(parts: tuple[int, int]) -> None:
    """Negative parts, and parts that pass an end and come back; the identity's entry is the sum itself."""
    store, office = (np.full(SIZE, part) for part in parts)
    bank = np.clip(U - store - office, -HALF, HALF - 1)
    u = {"bank": bank, "office": office, "store": U - bank - office}
    assert residuals_of(Run([SIZE], U.copy()), u) == U.tolist()


def test_the_chunks_do_not_change_the_result() -> None:
    x, u = drawn(np.random.default_rng(2), 23)
    for sizes in ([23], [8, 15], [1, 0, 9, 13]):
        ends = np.cumsum(sizes)[:-1]
        pieces = [{o: np.split(v, ends) for o, v in part.items()} for part in (x, u)]
        chunks = [
            ({o: v[k] for o, v in pieces[0].items()}, {o: v[k] for o, v in pieces[1].items()})
            for k in range(len(sizes))
        ]
        assert Run(sizes, LOGISTIC).result(chunks).tolist() == plain([(x, u)], LOGISTIC)


def test_a_chunk_opened_again_gives_the_same_bytes() -> None:
    """By the parties of before, and by a dealer and parties made anew of the same roots."""
    rng, sizes, roots = np.random.default_rng(3), [4, 7], Roots()
    chunks = [drawn(rng, rows) for rows in sizes]
    run, again = Run(sizes, roots=roots), Run(sizes, roots=roots)
    for chunk, (_, u) in enumerate(chunks):
        states = [party.state() for party in run.parties]
        first = [words.tobytes() for words in run.openings(chunk, u)]
        assert [words.tobytes() for words in again.openings(chunk, u)] == first
        run.parties = [StepParty.from_state(i, roots.both[i], BLOCKS, 0, states[i]) for i in (0, 1)]
        assert [words.tobytes() for words in run.openings(chunk, u)] == first


def test_both_parties_restored_from_their_states_end_alike() -> None:
    rng, sizes = np.random.default_rng(6), [5, 0, 8]
    chunks = [drawn(rng, rows) for rows in sizes]
    run = Run(sizes)

    def stop() -> None:
        for i, party in enumerate(run.parties):
            state = {k: np.frombuffer(v.tobytes(), v.dtype) for k, v in party.state().items()}
            run.parties[i] = StepParty.from_state(i, run.roots.both[i], BLOCKS, 0, state)

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
    roots, u, rows = Roots(), np.full(2000, 7), 50
    places = [("bank", 0, 0), ("bank", 0, 1), ("bank", 1, 0), ("bank", 11, 0), ("bank", 1, 10), ("store", 0, 0)]
    for first, second in combinations([masked_sums(u, roots.mask_seeds(o), step, k) for o, step, k in places], 2):
        assert (np.bincount((first - second) % SIZE) < 60).all()  # 16 in the mean
    shown, same = [], {owner: np.full(rows, 7) for owner in OWNERS}
    for step in (0, 1):
        run = Run([rows, rows], step=step, roots=roots)
        shown += [*run.openings(0, same), *run.openings(1, same), *run.tables, run.parties[1].share()]
    for first, second in combinations(shown, 2):
        assert not np.isin(first, second).any()


def even(words: Words) -> bool:
    """Whether no byte and no top is more frequent; 1 in 5 * 10^7 each that uniform words are not even."""
    words = np.ascontiguousarray(words).ravel()
    counts = (np.bincount(words.view(np.uint8)), np.bincount((words >> np.uint64(54)).astype(np.int64)))
    return [len(c) for c in counts] == [2**8, 2**10] and all(stats.chisquare(c).pvalue > 2e-8 for c in counts)


@pytest.mark.parametrize("value", [0, -HALF // 3], ids=["zero", "extreme"])
def test_what_either_party_gets_is_uniform(value: int) -> None:
    """Masked sums with and without a party's own mask, the dealer's tables, and what both parties open."""
    count = 2**16
    u = {owner: np.full(count, value) for owner in OWNERS}
    run = Run([count], LOGISTIC)
    for owner, shown in run.sums(0, u).items():
        own = [expand(s, "step|0|chunk|0|sums", count // 8).view(np.uint8) for s in run.roots.mask_seeds(owner)]
        for view in (shown, (shown + own[0]) % SIZE, (shown + own[1]) % SIZE):
            cells = np.bincount(view)
            assert len(cells) == SIZE
            assert stats.chisquare(cells).pvalue > 2e-8
    first, second = run.openings(0, u)
    own_masks = [expand(root, "step|0|chunk|0|residual", count) for root in run.roots.both]
    views = (first, second, first + second, *(first + second + b for b in own_masks))
    assert all(even(words) for words in (*views, *run.tables[0].T[:: SIZE // 4], run.tables[0][: count // SIZE]))


@pytest.mark.parametrize("value", [HALF, -HALF - 1, 2**8, 2**63 - 1, -(2**63)])
def test_parts_beyond_the_table_are_refused_and_not_told(value: int) -> None:
    seeds = Roots().mask_seeds("bank")
    with pytest.raises(ValueError, match=rf"lie in \[-{HALF}, {HALF}\)$") as caught:
        masked_sums(np.array([3, value, 5]), seeds, 0, 0)
    assert value == HALF or str(value) not in str(caught.value)
    with pytest.raises(ValueError, match="shape"):
        masked_sums(np.zeros((3, 1), dtype=np.int64), seeds, 0, 0)


@pytest.mark.parametrize("table", [RANDOM[1:], RANDOM[:, None], RANDOM.astype(np.float64), RANDOM.view(np.uint64)])
def test_other_tables_are_refused(table: Integers) -> None:
    with pytest.raises(ValueError, match=rf"table must be int64 of shape \({SIZE},\)"):
        StepDealer(Roots(), BLOCKS, 0, table)


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
    bent = [{**sums, "store": v} for v in (sums["store"][:1], sums["store"][:, None], sums["store"].view(np.int8))]
    for wrong in (few, {**sums, "stranger": sums["store"]}, *bent):
        with pytest.raises(ValueError, match="masked sums"):
            party.opening(0, wrong)
    for tables in (None, run.tables[0][:1], run.tables[0][:, :1], run.tables[0].view(np.int64)):
        with pytest.raises(ValueError, match="correction"):
            run.parties[1].opening(0, sums, tables)
    party.opening(0, sums)
    for wrong_e in (e[:1], e[:, None], e.view(np.int64)):
        with pytest.raises(ValueError, match="opened residuals"):
            party.add(0, rows, wrong_e)
    with pytest.raises(ValueError, match="masked rows"):
        party.add(0, {**rows, "store": rows["store"][:1]}, e)
    party.add(0, rows, e)
    with pytest.raises(ValueError, match="chunk 1 is to be opened next"):
        party.opening(0, sums)
