"""A run's settings, parsed once from Flower's run configuration into a frozen dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.blocks import AUTO, ENGINES, SUMS, TRUSTS, known
from model.descent import check_rounds
from model.federation import ON_FAILURE
from model.inputs import InputError, whole
from model.terms import check_delta, check_epsilon

_WHERE = "run configuration"
MODES = ("train", "score")


@dataclass(frozen=True)
class RunConfig:
    """Settings of one run. Empty `epsilon`, `delta` and `on_failure` leave the federation file's.

    Attributes:
        mode: `train` a model, or `score` the lender's new applicants with a published one.
        model: folder of that model; None where a model is trained.
        out: folder for what the run publishes; None writes nothing.
        ledger: folder of the coordinator's ledger; None keeps none.
        coordinator: folder of a coordinator with its key, its roster and its log; None in a simulation.
        rounds: Flower rounds of block training; 0 means 1, or 4 where partners share a domain.
        secure_sum: whose updates are only ever shown as a sum: of no domain (`off`), of those that two or more partners
            share (`on`), or three or more (`auto`).
        resume: whether to go on with an earlier attempt at the same releases, which then costs nothing anew.
        timeout: seconds to wait for a reply.
        wait: seconds to wait for nodes to appear.
    """

    mode: str
    model: Path | None
    out: Path | None
    ledger: Path | None
    coordinator: Path | None
    engine: str
    trust: str
    epsilon: float | None
    delta: float | None
    seed: int
    rounds: int
    on_failure: str
    secure_sum: str
    resume: bool
    timeout: float
    wait: float

    @property
    def home(self) -> Path | None:
        """Where the coordinator's signing key and its log lie; None keeps neither."""
        return self.coordinator or (self.ledger / "coordinator" if self.ledger else None)

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> RunConfig:
        """The settings of a run configuration; raises `InputError` naming the key."""
        out, epsilon, delta = config.get("out", ""), config.get("epsilon", ""), config.get("delta", "")
        ledger = config.get("ledger", "") or (Path(str(out)) / "nodes" if out else "")
        settings = cls(
            mode=str(config.get("mode", "train")),
            model=_folder(config, "model"),
            out=Path(str(out)) if out else None,
            ledger=Path(str(ledger)) if ledger else None,
            coordinator=_folder(config, "coordinator"),
            engine=str(config.get("engine", "scorecard")),
            trust=str(config.get("trust", "secure")),
            epsilon=None if epsilon == "" else check_epsilon(_WHERE, "epsilon", epsilon),
            delta=None if delta == "" else check_delta(_WHERE, "delta", delta),
            seed=whole(_WHERE, "seed", config.get("seed", 0)),
            rounds=check_rounds(_WHERE, "rounds", config.get("rounds", 0)),
            on_failure=str(config.get("on-failure", "")),
            secure_sum=str(config.get("secure-sum", "off")),
            resume=_flag(config, "resume", True),
            timeout=_seconds(config, "timeout", 3600.0),
            wait=_seconds(config, "wait", 60.0),
        )
        if settings.mode not in MODES or (settings.mode == "score") != (settings.model is not None):
            rule, remedy = "must be train, or score with a model", 'give mode = "score" and model together'
            raise InputError(_WHERE, "mode", rule, settings.mode, remedy)
        if settings.engine not in (AUTO, *(ENGINES if settings.coordinator else known())):
            raise InputError(_WHERE, "engine", "must be " + " | ".join((AUTO, *ENGINES)), settings.engine)
        if settings.trust not in TRUSTS:
            raise InputError(_WHERE, "trust", "must be " + " | ".join(TRUSTS), settings.trust)
        if settings.on_failure not in ("", *ON_FAILURE):
            raise InputError(_WHERE, "on-failure", "must be " + " | ".join(ON_FAILURE), settings.on_failure)
        if settings.secure_sum not in SUMS:
            raise InputError(_WHERE, "secure-sum", "must be " + " | ".join(SUMS), settings.secure_sum)
        return settings


def _folder(config: Mapping[str, object], key: str) -> Path | None:
    path = Path(str(config[key])) if config.get(key, "") else None
    if path is not None and not path.is_dir():
        raise InputError(_WHERE, key, "is no folder", path, f"give the {key}'s folder")
    return path


def _flag(config: Mapping[str, object], key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise InputError(_WHERE, key, "must be true or false", value)
    return value


def _seconds(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(_WHERE, key, "must be a number of seconds > 0", value)
    return float(value)
