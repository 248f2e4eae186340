"""Who the coordinator is to the holders: two keys of one run, in memory only."""

from __future__ import annotations

from dataclasses import dataclass, field

from privacy.envelope import new_key
from privacy.signing import announcement, coordinator_of, new_signing_key


@dataclass(frozen=True)
class Coordinator:
    """The coordinator's private keys, 32 bytes each, fresh in every run.

    >>> Coordinator.fresh() == Coordinator.fresh()
    False
    """

    seal_key: bytes = field(repr=False)
    sign_key: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> Coordinator:
        """New keys, for one run."""
        return cls(new_key(), new_signing_key())

    def public(self, plan: str) -> dict[str, str]:
        """What the orders of a plan tell about it: `key`, `verify` and `bound`, base64, as a holder tells of itself."""
        return announcement(coordinator_of(plan), self.seal_key, self.sign_key)
