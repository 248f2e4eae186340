"""Shares of products: exact against the plain product, whatever the chunks, and refused where a chunk is not right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.noise import Csprng
from privacy.ring import Integers, Words
from privacy.shares import Blocks, Dealer, Party, Roots, masked, opened, split

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=25, database=None)
BLOCKS: Blocks = {"tax": (("bank", "office"), 3), "shop": (("store",), 2), "own": (("lender",), 4)}
Rows = Mapping[str, Integers]


def drawn(rng: np.random.Generator, rows: int, largest: int = 2**20) -> dict[str, Integers]:
    return {o: rng.integers(-largest, largest + 1, (rows, w)) for owners, w in BLOCKS.values() for o in owners}


def shown(roots: Roots, rows: Rows, chunk: int) -> dict[str, Words]:
    return {owner: masked(x, roots.mask_seeds(owner), chunk) for owner, x in rows.items()}


def computed(chunks: Sequence[Rows], roots: Roots) -> Integers:
    """The whole protocol; what both parties' shares open to."""
    correction = Dealer(roots, BLOCKS).deal([len(rows["lender"]) for rows in chunks])
    parties = (Party(0, roots.both[0], BLOCKS), Party(1, roots.both[1], BLOCKS, correction))
    for chunk, rows in enumerate(chunks):
        for party in parties:
            party.add(chunk, shown(roots, rows, chunk))
    return opened(parties[0].share(), parties[1].share())


def plain(chunks: Sequence[Rows]) -> Integers:
    """X^T X, without the products within a block."""
    x = np.concatenate([np.hstack([c["bank"] + c["office"], c["store"], c["lender"]]) for c in chunks])
    total, place = x.T @ x, np.repeat([0, 1, 2], [3, 2, 4])
    return np.where(place[:, None] < place[None, :], total, 0)


@DERANDOMIZED
@given(st.lists(st.integers(0, 6), max_size=4), st.sampled_from([1, 2**10, 2**20]), st.integers(0, 2**32 - 1))
def test_the_shares_add_up_to_the_exact_products_between_blocks(sizes: list[int], largest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chunks = [drawn(rng, rows, largest) for rows in sizes]
    assert np.array_equal(computed(chunks, Roots()), plain(chunks) if chunks else np.zeros((9, 9)))


@pytest.mark.parametrize("value", [0, 2**20, -(2**20)])
def test_constant_extreme_rows_are_exact_over_more_than_one_slice(value: int) -> None:
    chunks = [{owner: np.full_like(x, value) for owner, x in drawn(np.random.default_rng(0), 2500).items()}]
    assert np.array_equal(computed(chunks, Roots()), plain(chunks))


def test_chunking_changes_nothing() -> None:
    whole = drawn(np.random.default_rng(5), 300)
    cuts = [[], [1], [0, 100, 100, 299], list(range(1, 300, 7))]
    results = []
    for cut in cuts:
        edges = [0, *cut, 300]
        chunks = [{o: x[a:b] for o, x in whole.items()} for a, b in pairwise(edges)]
        results.append(computed(chunks, Roots()))
    assert all(np.array_equal(result, plain([whole])) for result in results)


def test_a_party_restored_from_its_state_ends_with_the_same_share() -> None:
    roots, rng = Roots(), np.random.default_rng(6)
    chunks = [drawn(rng, rows) for rows in (5, 0, 8)]
    correction = Dealer(roots, BLOCKS).deal([5, 0, 8])
    for index, gift in ((0, None), (1, correction)):
        straight = Party(index, roots.both[index], BLOCKS, gift)
        stopping = Party(index, roots.both[index], BLOCKS, gift)
        for chunk, rows in enumerate(chunks):
            straight.add(chunk, shown(roots, rows, chunk))
            state = {name: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape) for name, x in stopping.state().items()}
            stopping = Party.from_state(index, roots.both[index], BLOCKS, state)
            stopping.add(chunk, shown(roots, rows, chunk))
        assert np.array_equal(straight.share(), stopping.share())


def test_a_state_and_a_share_are_copies() -> None:
    roots = Roots()
    party = Party(0, roots.both[0], BLOCKS)
    before = party.share()
    party.share()[:] = 1
    party.state()["total"][:] = 1
    assert np.array_equal(party.share(), before)


def test_split_values_open_again_and_either_share_is_new_every_time() -> None:
    values = np.array([[0, 1, -1], [2**63 - 1, -(2**63), 5]])
    (a, b), (c, d) = split(values, Csprng()), split(values, Csprng())
    assert np.array_equal(opened(a, b), values)
    assert np.array_equal(opened(c, d), values)
    assert not (a == c).any()
    assert not (b == d).any()
    assert np.array_equal(sum(split(values.view(np.uint64), Csprng())), values.view(np.uint64))


@pytest.mark.parametrize("chunk", [0, 2, -1])
def test_another_chunk_than_the_next_is_refused(chunk: int) -> None:
    roots, rows = Roots(), drawn(np.random.default_rng(0), 2)
    party = Party(0, roots.both[0], BLOCKS)
    party.add(0, shown(roots, rows, 0))
    with pytest.raises(ValueError, match="chunk 1 is next"):
        party.add(chunk, shown(roots, rows, 1))


def test_a_chunk_that_is_not_complete_is_refused_and_leaves_the_party_as_it_was() -> None:
    roots = Roots()
    party = Party(0, roots.both[0], BLOCKS)
    before, good = party.share(), shown(roots, drawn(np.random.default_rng(0), 3), 0)
    wrong = [
        {o: x for o, x in good.items() if o != "office"},
        {**good, "stranger": good["store"]},
        {**good, "store": good["store"][:2]},
        {**good, "store": good["store"][:, :1]},
        {**good, "store": good["store"][:, 0]},
        {**good, "store": good["store"].view(np.int64)},
        {},
    ]
    for chunk in wrong:
        with pytest.raises(ValueError, match=r"masked rows"):
            party.add(0, chunk)
    assert np.array_equal(party.share(), before)
    party.add(0, good)


def test_a_party_without_its_part_of_the_dealers_gift_is_refused() -> None:
    root, gift = Roots().both[0], np.zeros((9, 9), dtype=np.uint64)
    for index, correction in [(0, gift), (1, None), (2, None), (1, gift[:8]), (1, gift.view(np.int64))]:
        with pytest.raises(ValueError, match=r"correction|index"):
            Party(index, root, BLOCKS, correction)


@pytest.mark.parametrize("blocks", [{"a": (("x", "y"), 1), "b": (("x",), 2)}, {"a": ((), 1)}, {"a": (("x",), 0)}])
def test_blocks_that_would_use_a_mask_twice_or_hold_nothing_are_refused(blocks: Blocks) -> None:
    with pytest.raises(ValueError, match="block"):
        Dealer(Roots(), blocks)
    with pytest.raises(ValueError, match="block"):
        Party(0, Roots().both[0], blocks)
