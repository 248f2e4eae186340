"""What either party sees alone is uniform, whatever the rows are; and no mask is ever used for two things.

Each chi-square test fails by chance once in 5 * 10^7 runs, all of them together about once in 10^6.
"""

from __future__ import annotations

import hmac
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from privacy.noise import Csprng
from privacy.ring import Words
from privacy.shares import Dealer, Roots, expand, mask_seed, masked, masks, split

WORDS = 2**20
values = pytest.mark.parametrize("value", [0, 2**20], ids=["zero", "extreme"])


def looks_uniform(words: Words) -> bool:
    """Over the values of all bytes, and over the highest twelve bits, where shares of small integers would differ."""
    assert words.size >= WORDS
    flat = words.ravel()
    low = np.bincount(flat.view(np.uint8), minlength=2**8)
    high = np.bincount((flat >> np.uint64(52)).astype(np.int64), minlength=2**12)
    return all(stats.chisquare(counts).pvalue > 2e-8 for counts in (low, high))


def test_the_test_sees_what_is_not_uniform() -> None:
    words = Csprng().words(WORDS)
    assert looks_uniform(words)
    assert not looks_uniform(np.zeros(WORDS, dtype=np.uint64))
    assert not looks_uniform(words >> np.uint64(1))
    assert not looks_uniform(words & np.uint64(2**64 - 2))


@values
@pytest.mark.parametrize("index", [0, 1])
def test_masked_rows_without_a_partys_own_mask_are_still_uniform(value: int, index: int) -> None:
    roots, rows = Roots(), np.full((WORDS // 16, 16), value)
    shown = masked(rows, roots.mask_seeds("bank"), 0)
    assert looks_uniform(shown)
    assert looks_uniform(shown + masks({"tax": (("bank",), 16)}, roots.both[index], 0, len(rows)))


def test_the_dealers_correction_is_uniform_between_blocks_and_nothing_elsewhere() -> None:
    correction = Dealer(Roots(), {"tax": (("bank",), 1024), "shop": (("store",), 1024)}).deal([2, 1])
    assert looks_uniform(np.ascontiguousarray(correction[:1024, 1024:]))
    assert not correction[:, :1024].any()
    assert not correction[1024:].any()


@values
@pytest.mark.parametrize("index", [0, 1])
def test_either_share_of_split_values_is_uniform(value: int, index: int) -> None:
    assert looks_uniform(split(np.full(WORDS, value), Csprng())[index])


def test_every_dealer_draws_fresh_roots() -> None:
    roots = [root for _ in range(3) for root in Roots().both]
    assert len(set(roots)) == 6
    assert {len(root) for root in roots} == {32}
    shown = [masked(np.full((4, 2), 7), Roots().mask_seeds("bank"), 0) for _ in range(2)]
    assert not (shown[0] == shown[1]).any()


def test_a_mask_hides_one_owners_one_chunk() -> None:
    """Equal rows look different wherever they stand: their difference would show if a mask served twice."""
    roots, rows = Roots(), np.full((4, 2), 7)
    shown = [masked(rows, roots.mask_seeds(owner), chunk) for owner in ("bank", "store") for chunk in (0, 1, 10)]
    for first, second in combinations(shown, 2):
        assert not np.isin(first, second).any()


def test_a_seed_tells_nothing_of_the_root_or_of_another_owner() -> None:
    both = Roots().both
    seeds = [mask_seed(root, owner) for root in both for owner in ("bank", "store", "")]
    assert len({*both, *seeds}) == 8
    assert all(len(s) == 32 for s in seeds)


def test_an_expansion_is_the_same_for_all_who_hold_the_key_and_other_for_another_label() -> None:
    key = b"\7" * 32
    assert np.array_equal(expand(key, "a", (3, 2)), expand(key, "a", 6).reshape(3, 2))
    assert not np.isin(expand(key, "a", 50), expand(key, "b", 50)).any()
    assert not np.isin(expand(key, "a", 50), expand(b"\6" * 32, "a", 50)).any()
    assert expand(key, "a", (0, 4)).shape == (0, 4)


def test_an_expansion_is_what_hkdf_and_aes_say() -> None:
    """By their definitions (RFC 5869; counter blocks through AES alone), as another machine would make it."""
    key = b"\7" * 32
    extracted = hmac.digest(bytes(32), key, "sha256")
    derived = hmac.digest(extracted, b"fedscore-expand-1|chunk|3\1", "sha256")
    blocks = b"".join(i.to_bytes(16, "big") for i in range(300))
    stream = Cipher(algorithms.AES(derived), modes.ECB()).encryptor().update(blocks)
    assert expand(key, "chunk|3", 600).tolist() == [
        int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(600)
    ]


def test_roots_do_not_show_in_a_log() -> None:
    assert repr(Roots()) == "Roots()"
