"""Whatever is done to a valid request, it is decided or refused in one line: never anything else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import clients
from model.inputs import InputError
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot
from model.limits.table import DecisionBundle, Default, FusionTable
from server.books import Row, parse

BASE: dict[str, Any] = json.loads((Path(clients.__file__).parent / "sample" / "request.json").read_text("utf-8"))
DOMAINS = ("ecommerce", "payments", "tax_business")
ODD = [
    None,
    True,
    -1,
    0,
    2**53,
    10**18,
    0.5,
    "",
    "x",
    BASE["as_of"],
    "\ud800",
    [],
    [None],
    {},
    {"a": 1},
    "drift",
    "E01",
]
PIECES = ['"', "{", "]", ",", "9" * 30, "\\", "\x00", "NaN", "", '"a": 1, ', "\u2028"]


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value where another could stand."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from spots(value[key])


def mutated(draw: random.Random) -> str:
    """The sample's request with one to three things changed in it, or in its text."""
    request = deepcopy(BASE)
    for _ in range(draw.randrange(1, 4)):
        inside, key = draw.choice(list(spots(request)))
        how = draw.randrange(4) if isinstance(inside, dict) else 3
        if how == 0:
            del inside[key]
        elif how == 1:
            inside[draw.choice(["a", "A\n", f"{key}s", "x" * 500])] = inside[key]
        else:
            inside[key] = deepcopy(draw.choice(ODD))
    text = json.dumps(request)
    if draw.random() < 0.2:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(PIECES) + text[at + draw.randrange(3) :]
    return text


def test_ten_thousand_mutations_are_decided_or_refused_with_the_field_named() -> None:
    weights = dict.fromkeys((*DOMAINS, "lender_kyc"), 300_000)
    nothing = dict.fromkeys(DOMAINS, 0)
    table = FusionTable(DOMAINS, "lender_kyc", default=Default(-500_000, weights, nothing, nothing))
    bundle = DecisionBundle("made", "0" * 64, table, "subscores", dict.fromkeys(weights, -2_500_000))
    draw, policy = random.Random(20261123), load_policy()
    refusals = []
    for _ in range(10_000):
        text = mutated(draw)
        try:
            parse(Row(Path("f"), "line 1", text), StateSnapshot()).decide(policy, bundle, explain=draw.random() < 0.1)
        except InputError as error:
            refusals.append((error, text))
    for error, text in refusals:
        assert "\n" not in str(error), text
        assert len(str(error)) < 600, text
        whole = ("is not valid JSON", "must be a table", "must have names", "must not be nested")
        assert error.field or error.rule.startswith(whole), text
    assert len(refusals) < 9_800
    assert sum(bool(error.field) for error, _ in refusals) > 6_000
