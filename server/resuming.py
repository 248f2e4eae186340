"""Where a run stands: plan and keys outlive a coordinator that dies, so that a new attempt pays nothing twice.

Everybody's replies are stored under the plan's name. A new attempt at the same releases goes on under the same name and
with the same keys, gets the same bytes, and opens nothing a second time. What it asks again is computed again only
where no noise was drawn for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from privacy.durable import write
from server.identity import Coordinator
from server.planning import RunPlan


@dataclass(frozen=True)
class Standing:
    """The keys of an attempt, and where they are kept until its model is published; None keeps nothing."""

    path: Path | None
    keys: Coordinator

    @classmethod
    def of(
        cls, folder: Path | None, plan: RunPlan, resume: bool = True, sign_key: bytes = b""
    ) -> tuple[RunPlan, Standing]:
        """The plan to run, that of an earlier attempt at the same releases or else this one, and where it stands.

        Without `resume` an earlier attempt is given up: what it was charged stays charged. `sign_key` is the
        coordinator's lasting one, where it has one: holders that joined take packets under no other.
        """
        if folder is None:
            return plan, cls(None, Coordinator.fresh(sign_key))
        kind = "joint" if plan.joint else "blocks"
        path = folder / f"{kind}-{replace(plan, run='').id[:16]}.json"  # an attempt at something else keeps its own
        if not resume:
            path.unlink(missing_ok=True)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            earlier = replace(plan, run=str(kept["run"]))
            if earlier.id == kept["plan"]:
                keys = Coordinator(bytes.fromhex(kept["seal"]), sign_key or bytes.fromhex(kept["sign"]))
                return earlier, cls(path, keys)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing usable is kept: this is a new attempt
        standing = cls(path, Coordinator.fresh(sign_key))
        standing._keep(path, plan)
        return plan, standing

    def _keep(self, path: Path, plan: RunPlan) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = {"seal": self.keys.seal_key.hex(), "sign": self.keys.sign_key.hex()}
        write(path, json.dumps({"plan": plan.id, "run": plan.run, **keys}).encode())

    def done(self) -> None:
        """The model is published: the next run is a new one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
