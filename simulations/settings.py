"""What a simulation is asked for, from the command line or from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients.config import ALIGNMENTS
from model.blocks import AUTO, ENGINES, SUMS, TRUSTS
from model.descent import check_rounds
from model.federation import ON_FAILURE
from model.inputs import InputError, whole
from model.terms import check_delta, check_epsilon
from simulations.extending import named, own

BACKENDS = ("inprocess", "flower", "ray")
_WHERE = "command line"


@dataclass(frozen=True)
class Settings:
    """One simulation. What is None is taken from the federation file.

    Attributes:
        federation: the federation file; None is the embedded sample.
        out: folder to write, which must not exist unless `force`.
        data: folder that data paths are relative to; None is the federation file's own.
        seed: of the split where the federation gives none, and of initialisation; never of noise.
        rounds: of block training; 0 chooses.
        engine: a name of `model.blocks.ENGINES`, `auto`, or FILE.py:NAME, an engine of your own (docs/extend.md), whose
            file is run.
        alignment: how shared persons are found: `psi` as in a deployment, or by tokens, which are faster.
        policy: the limit policy; None is the shipped one.
        ledger: folder of ledgers that span runs under the federation file's budget; None keeps them in `out`, where
            every run is a programme of its own.
        address: of a Ray cluster for the backend `ray`; empty starts one on this machine for the run.
        decide: for how many held-out persons to decide; 0 is all of them.
    """

    federation: Path | None
    out: Path
    data: Path | None = None
    epsilon: float | None = None
    delta: float | None = None
    seed: int = 0
    rounds: int = 0
    engine: str = "scorecard"
    trust: str = "secure"
    secure_sum: str = "off"
    alignment: str = "tokens"
    backend: str = "inprocess"
    on_failure: str = ""
    policy: Path | None = None
    ledger: Path | None = None
    force: bool = False
    decide: int = 0
    address: str = ""

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            check_epsilon(_WHERE, "--epsilon", self.epsilon)
        if self.delta is not None:
            check_delta(_WHERE, "--delta", self.delta)
        whole(_WHERE, "--seed", self.seed)
        whole(_WHERE, "--decide", self.decide)
        check_rounds(_WHERE, "--rounds", self.rounds)
        own_engine = own(self.engine, self.backend, self.ledger is not None)
        for name, value, allowed in (
            ("--engine", self.engine, (self.engine,) if own_engine else (AUTO, *ENGINES)),
            ("--trust", self.trust, TRUSTS),
            ("--secure-sum", self.secure_sum, SUMS),
            ("--alignment", self.alignment, ALIGNMENTS),
            ("--backend", self.backend, BACKENDS),
            ("--on-failure", self.on_failure, ("", *ON_FAILURE)),
        ):
            if value not in allowed:
                raise InputError(_WHERE, name, "must be " + " | ".join(a for a in allowed if a), value)

        if self.address and self.backend != "ray":
            raise InputError(_WHERE, "--address", "is of the backend ray alone", self.address, "add --backend ray")
        if self.engine == "moments" and self.trust == "local":
            rule, remedy = (
                "fits nothing jointly: blocks are trained apart",
                "take --engine scorecard, or --trust secure",
            )
            raise InputError(_WHERE, "--trust", rule, self.trust, remedy)

    def run_config(self, out: Path) -> dict[str, str | bool | int | float]:
        """Flower's run configuration for this simulation, writing into `out`."""
        return {
            "federation": str(self.federation.resolve()) if self.federation else "",
            "data": str(self.data.resolve()) if self.data else "",
            "out": str(out.resolve()),
            "ledger": str(self.ledger.resolve()) if self.ledger else "",
            "epsilon": "" if self.epsilon is None else str(self.epsilon),
            "delta": "" if self.delta is None else str(self.delta),
            "seed": self.seed,
            "rounds": self.rounds,
            "engine": named(self.engine),
            "trust": self.trust,
            "secure-sum": self.secure_sum,
            "on-failure": self.on_failure,
            "alignment": self.alignment,
        }
