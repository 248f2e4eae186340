"""An engine of a researcher's own on a few made-up persons, before anybody's data: mistakes in plain words."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model import blocks
from model.blocks import Block, Engine, Spec
from model.contract import Contract
from model.encoding import Codes, Encoding
from model.inputs import InputError
from simulations.canaries import worst_canary
from simulations.extending import named
from simulations.synthetic import population

Floats = NDArray[np.float64]

PERSONS = 40
SCALES = (0.3, 1.0, 3.0, 10.0)  # of the weights at which a bound is tried
STRETCHES = (1.0, 1.5)  # of the residuals: labels as they are, and unbiased after randomised response


def rehearse(asked: str, contracts: Iterable[Contract]) -> None:
    """Takes an engine, asked for as FILE.py:NAME, through a block of each contract.

    Each person is taken away once: a sum that moves by more than the bound shows that the bound is wrong, while none
    that does proves nothing. What the engine's code raises is told with its line, which a run keeps to itself.

    Raises:
        InputError: where the code fails, gives arrays of another form, or breaks its bound.
    """
    name, path = named(asked), Path(asked.rpartition(":")[0])
    for contract in contracts:
        where = f"on the contract of {contract.domain}"
        try:
            told = _faults(name, contract)
        except Exception as error:  # whatever the researcher's own code raises
            steps = traceback.extract_tb(error.__traceback__)
            lines = [f"line {s.lineno}" for s in steps if Path(s.filename) == path.absolute()]
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(path, "".join(lines[-1:]), f"fails {where} ({why})", remedy="mend it") from None
        if told:
            raise InputError(path, asked.rpartition(":")[2], f"{told}, {where}", remedy="mend it")


def _faults(name: str, contract: Contract) -> str:
    """What is wrong with an engine's block, in words; empty where nothing was found."""
    engine, encoding, rng = blocks.engine(name), Encoding.of(contract), np.random.default_rng(0)
    drawn = population({contract.domain: contract}, PERSONS, rng)
    canary = worst_canary(encoding, drawn.effects[contract.domain])
    codes: Codes = np.concatenate([drawn.codes[contract.domain], canary], axis=1)
    defaulted, start = np.append(drawn.labels, 1.0), engine.start(encoding, rng)
    for stretch in STRETCHES:
        spec, same = (engine.spec(encoding, 1000, mu, 1, stretch) for mu in (0.05, math.inf))
        if not isinstance(spec, Spec) or (spec.size, spec.bound) != (same.size, same.bound):
            return "spec must give a Spec whose size and bound do not hang on mu"
        if start.shape != (spec.size,):
            return f"start must have the shape ({spec.size},), got {start.shape}"
        labels = np.where(defaulted == 1, stretch, 1 - stretch)
        tried = (start, *(scale * rng.standard_normal(spec.size) for scale in SCALES))
        moved = max(_moved(engine, encoding, codes, labels, weights) for weights in tried)
        if not moved <= spec.bound * (1 + 1e-6):
            return f"one person moves the gradient sum by {moved:.4g}, above its bound {spec.bound:.4g}"
    scored = Block.finished(name, encoding, start).subscores(codes)
    if scored.shape != (PERSONS + 1,) or not np.isfinite(scored).all():
        return f"subscores must be a finite number for each of {PERSONS + 1} persons, got the shape {scored.shape}"
    return ""


def _moved(engine: Engine, encoding: Encoding, codes: Codes, labels: Floats, weights: Floats) -> float:
    """By how much the person who matters most moves the gradient sum."""
    total, everybody = engine.gradient_sum(encoding, codes, labels)(weights), np.arange(PERSONS + 1)
    if total.shape != weights.shape:
        raise ValueError(f"gradient_sum must have the shape {weights.shape}, got {total.shape}")
    others = [np.delete(everybody, person) for person in everybody]
    rests = [engine.gradient_sum(encoding, codes[:, rest], labels[rest])(weights) for rest in others]
    return float(np.linalg.norm(total - np.stack(rests), axis=1).max())
