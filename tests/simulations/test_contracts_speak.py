"""The contracts that ship with fedscore speak to applicants in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.contract import load_contract
from model.limits.reasons import CATALOGUE

ROOT = Path(__file__).parents[2]
CONTRACTS = sorted(
    [*ROOT.glob("clients/sample/*.contract.toml"), *ROOT.glob("simulations/federations/*/*.contract.toml")]
)


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_reason_family_of_a_shipped_contract_has_a_name_in_both_languages(path: Path) -> None:
    named = {group for group, words in CATALOGUE.group.items() if words.zh and words.en}
    contract = load_contract(path)
    assert {part.group for part in (*contract.features, *contract.products)} <= named


def test_there_are_contracts_to_look_at() -> None:
    assert len(CONTRACTS) > 15
