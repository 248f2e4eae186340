"""Champion and challenger: which subjects another policy decides for, by hash, so that nobody can choose."""

from __future__ import annotations

from hashlib import sha256


def arm_bp(experiment: str, subject_ref: str) -> int:
    """A number from 0 to 9,999 that depends on experiment and subject alone; below the share: the challenger's.

    >>> arm_bp("2026-q4", "a" * 64), arm_bp("2026-q4", "a" * 64) == arm_bp("2027-q1", "a" * 64)
    (5117, False)
    """
    return int.from_bytes(sha256(f"{experiment}\n{subject_ref}".encode()).digest()[:8], "big") % 10_000
