"""Two partners of a domain whose contracts differ, as when only one of them took the next version."""

from pathlib import Path
from typing import Any

import pytest

from server.failures import RunFailed
from tests.joined_world import joined


def _next_version(folder: Path) -> None:
    contract = next(folder.glob("*commerce*.toml"))
    contract.write_text(contract.read_text().replace("version = 1", "version = 2"))


def test_a_domain_with_two_contracts_is_refused_before_anything_is_charged(small: Path, tmp_path: Path) -> None:
    world = joined(tmp_path / "world", small)
    _next_version(world.parties["shop-2"].parent / "files")
    with pytest.raises(RunFailed, match=r"shop-1 and shop-2 share the domain ecommerce .* version 1 .* version 2"):
        world.programme(tmp_path / "out").run()
    assert not list(tmp_path.rglob("ledger.db"))


@pytest.mark.usefixtures("quick")
def test_the_next_version_of_a_contract_trains_once_all_have_it(files: Any, tmp_path: Path) -> None:
    _next_version(files.folder)
    world = joined(tmp_path / "world", files.federation)
    world.programme(tmp_path / "out").run()
    assert (world.state("shop-2") / "ledger.db").exists()
