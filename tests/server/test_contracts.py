"""Two partners of a domain whose contracts differ, as when only one of them took the next version."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from server.failures import RunFailed
from simulations.loopback import LoopbackGrid

HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


def _run(folders: dict[str, Path], state: Path) -> None:
    from clients.app import app as client_app
    from server.app import app as server_app

    nodes = [
        {"holder": name, "federation": str(folder / "federation.toml"), "state": str(state)}
        for name, folder in folders.items()
    ]
    config: dict[str, Any] = {"ledger": str(state), "wait": 0.1}
    grid = LoopbackGrid(client_app, nodes, config)
    server_app(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))


def test_a_domain_with_two_contracts_is_refused_before_anything_is_charged(files: Any, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(files.folder, newer)
    contract = next(newer.glob("*commerce*.toml"))
    contract.write_text(contract.read_text().replace("version = 1", "version = 2"))
    folders = {name: newer if name == "shop-2" else files.folder for name in HOLDERS}
    with pytest.raises(RunFailed, match=r"shop-1 and shop-2 share the domain ecommerce .* version 1 .* version 2"):
        _run(folders, tmp_path / "state")
    assert not list((tmp_path / "state").rglob("ledger.db"))


@pytest.mark.usefixtures("quick")
def test_the_next_version_of_a_contract_trains_once_all_have_it(files: Any, tmp_path: Path) -> None:
    contract = next(files.folder.glob("*commerce*.toml"))
    contract.write_text(contract.read_text().replace("version = 1", "version = 2"))
    _run(dict.fromkeys(HOLDERS, files.folder), tmp_path / "state")
    assert (tmp_path / "state" / "shop-2" / "ledger.db").exists()
