"""The Merkle tree: roots of certificate transparency, every proof of small logs, and no forged one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from privacy.translog import EMPTY, Tree, leaf, verify_consistency, verify_inclusion

# Entries and roots that the reference implementation of certificate transparency tests itself with.
VECTORS = (b"", b"\0", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno")
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _root(entries: Sequence[bytes]) -> bytes:
    """The root as RFC 6962 §2.1 defines it, word by word."""
    if len(entries) < 2:
        return _hash(b"\0" + entries[0]) if entries else _hash(b"")
    half = 1
    while 2 * half < len(entries):
        half *= 2
    return _hash(b"\1" + _root(entries[:half]) + _root(entries[half:]))


def _path(number: int, entries: Sequence[bytes]) -> list[bytes]:
    """The audit path of RFC 6962 §2.1.1."""
    if len(entries) == 1:
        return []
    half = 1
    while 2 * half < len(entries):
        half *= 2
    if number < half:
        return [*_path(number, entries[:half]), _root(entries[half:])]
    return [*_path(number - half, entries[half:]), _root(entries[:half])]


def _proof(old: int, entries: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """The consistency proof of RFC 6962 §2.1.2."""
    if old == len(entries):
        return [] if whole else [_root(entries)]
    half = 1
    while 2 * half < len(entries):
        half *= 2
    if old <= half:
        return [*_proof(old, entries[:half], whole), _root(entries[half:])]
    return [*_proof(old - half, entries[half:], False), _root(entries[:half])]


@pytest.mark.parametrize(("size", "root"), ROOTS.items())
def test_the_roots_of_certificate_transparency(size: int, root: str) -> None:
    assert Tree(VECTORS).root(size).hex() == root
    assert Tree(VECTORS[:size]).root().hex() == root
    assert EMPTY.hex() == ROOTS[0]


def _proofs(most: int) -> int:
    """Makes and checks every proof of logs up to a size, and tries forgeries; returns how many forgeries were taken."""
    entries = [b"%d" % number for number in range(most)]
    tree, roots, forged = Tree(entries), [_root(entries[:n]) for n in range(most + 1)], 0
    assert [tree.root(n) for n in range(most + 1)] == roots
    for size in range(1, most + 1):
        for number in range(size):
            proof, root = tree.inclusion(number, size), roots[size]
            assert verify_inclusion(entries[number], (number, size), proof, root)
            forged += verify_inclusion(b"x", (number, size), proof, root)
            forged += verify_inclusion(entries[number], (number, size), proof, roots[size - 1])
            forged += verify_inclusion(entries[number], (number, size), [*proof, root], root)
            forged += verify_inclusion(entries[number], (number, size), proof[:-1], root) if proof else 0
            forged += size > 1 and verify_inclusion(entries[number], ((number + 1) % size, size), proof, root)
        for old in range(1, size):
            proof = tree.consistency(old, size)
            assert verify_consistency((old, roots[old]), (size, roots[size]), proof)
            forged += verify_consistency((old, roots[old - 1]), (size, roots[size]), proof)
            forged += verify_consistency((old, roots[old]), (size, roots[size - 1]), proof)
            forged += verify_consistency((old, roots[old]), (size, roots[size]), proof[:-1])
            forged += verify_consistency((old, roots[old]), (size, roots[size]), [*proof, roots[old]])
            forged += verify_consistency((old, roots[old]), (size, roots[size]), proof[::-1]) if proof[1:] else 0
    return forged


def test_every_proof_of_a_small_log_holds_and_no_forged_one() -> None:
    assert _proofs(64) == 0


@pytest.mark.statistical
def test_every_proof_of_a_larger_log_holds_and_no_forged_one() -> None:
    assert _proofs(300) == 0


def test_proofs_are_those_of_the_rfc() -> None:
    entries = [b"%d" % number for number in range(33)]
    tree = Tree(entries)
    for size in range(1, 34):
        for number in range(size):
            assert tree.inclusion(number, size) == _path(number, entries[:size])
            assert tree.consistency(number + 1, size) == _proof(number + 1, entries[:size])


def test_a_fork_has_no_proof() -> None:
    """Two logs that part after entry 10: no proof of the one carries a root of the other."""
    mine, other = [Tree([b"%d" % n if n < 10 else b"%d%s" % (n, side) for n in range(20)]) for side in (b"a", b"b")]
    for old in range(11, 20):
        for proof in (mine.consistency(old, 20), other.consistency(old, 20)):
            assert not verify_consistency((old, mine.root(old)), (20, other.root(20)), proof)
    assert verify_consistency((10, mine.root(10)), (20, other.root(20)), other.consistency(10, 20))


def test_a_log_never_shrinks_and_sizes_are_whole() -> None:
    tree = Tree(VECTORS)
    for old, new in ((8, 5), (-1, 5), (0, -1)):
        assert not verify_consistency((old, tree.root(max(old, 0))), (new, tree.root(max(new, 0))), [])
    assert verify_consistency((0, EMPTY), (5, tree.root(5)), [])
    assert not verify_consistency((0, tree.root(1)), (5, tree.root(5)), [])
    assert verify_consistency((5, tree.root(5)), (5, tree.root(5)), [])
    assert not verify_consistency((5, tree.root(5)), (5, tree.root(5)), [leaf(b"")])
    assert not verify_consistency((5, tree.root(5)), (5, tree.root(4)), [])
    assert not verify_inclusion(b"", (1, 1), [], tree.root(1))
    assert not verify_inclusion(b"", (-1, 1), [], tree.root(1))


@pytest.mark.parametrize(("number", "size"), [(3, 3), (-1, 3), (0, 9), (0, 0)])
def test_no_proof_is_made_of_what_is_not_there(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="entr"):
        Tree(VECTORS).inclusion(number, size)


@pytest.mark.parametrize(("old", "new"), [(4, 3), (1, 9), (-1, 3)])
def test_no_proof_is_made_of_a_log_that_shrank(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="entr"):
        Tree(VECTORS).consistency(old, new)
