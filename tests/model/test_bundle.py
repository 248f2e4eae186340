"""The published model: what was saved scores alike, and what was changed or is missing is refused in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.blocks import Block, network_size
from model.bundle import SCHEMA, Bundle, decision_bundle
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.inputs import InputError
from model.limits.table import Entry, FusionTable

FEATURES = (
    Feature("amt", "numeric", low=0.0, high=9.0, special=("-1",), edges=(1.5, 4.0), direction="riskier", group="money"),
    Feature("home", "categorical", values=("own", "rent", "家")),
    Feature("owner", "flag", values=("0", "1")),
)
HEAD, ARRAYS = "bundle.json", "arrays.safetensors"


def encoding(domain: str) -> Encoding:
    return Encoding.of(Contract(domain, 3, FEATURES, "late", monotone=domain == "payments"))


@pytest.fixture
def bundle() -> Bundle:
    rng = np.random.default_rng(8)
    pay, own = encoding("payments"), encoding("lender_kyc")
    blocks = {
        "payments": Block.finished("scorecard", pay, rng.standard_normal(pay.columns)),
        "lender_kyc": Block.finished("scorecard", own, rng.standard_normal(own.columns)),
    }
    weights = {"payments": 400_000, "lender_kyc": 600_000}
    entries = {
        "|": Entry(-1_000_000, {"lender_kyc": 900_000}),
        "payments|": Entry(-900_000, {"lender_kyc": 800_000}),
        "payments|payments": Entry(-500_000, weights),
    }
    table = FusionTable(("payments",), "lender_kyc", entries)
    told = {"epsilon": 1.0, "unit": "the person", "note": "人"}
    return Bundle("demo-1", blocks, table, {"payments": -2.125, "lender_kyc": -1.9}, told)


def codes(block: Block) -> np.ndarray:
    sizes = [len(p.labels) for p in block.encoding.parts]
    rng = np.random.default_rng(1)
    return np.array([rng.integers(0, size, 200) for size in sizes], dtype=np.uint16)


def test_a_loaded_bundle_is_the_saved_one_and_scores_alike(bundle: Bundle, tmp_path: Path) -> None:
    sha256 = bundle.save(tmp_path / "model")
    again = Bundle.load(tmp_path / "model")
    assert sha256 == hashlib.sha256((tmp_path / "model" / HEAD).read_bytes()).hexdigest()
    assert (again.name, again.table, again.centres) == (bundle.name, bundle.table, bundle.centres)
    assert again.statement == bundle.statement
    assert list(again.blocks) == sorted(bundle.blocks)
    for domain, block in bundle.blocks.items():
        loaded = again.blocks[domain]
        assert loaded.encoding.contract == block.encoding.contract
        assert loaded.subscores(codes(block)).tolist() == block.subscores(codes(block)).tolist()
        assert loaded.by_group(codes(block)).keys() == block.by_group(codes(block)).keys()


def test_a_network_block_survives_too(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    weights = np.random.default_rng(2).standard_normal(network_size(encoding("payments")))
    network = Block.finished("network", encoding("payments"), weights)
    Bundle("n", {"payments": network}, bundle.table, {}, {}).save(tmp_path / "model")
    loaded = Bundle.load(tmp_path / "model").blocks["payments"]
    assert loaded.engine == "network"
    assert loaded.subscores(codes(network)).tolist() == network.subscores(codes(network)).tolist()


def test_one_content_has_one_hash_and_another_content_another(bundle: Bundle, tmp_path: Path) -> None:
    first = bundle.save(tmp_path / "a")
    assert bundle.save(tmp_path / "b") == first
    renamed = Bundle("demo-2", bundle.blocks, bundle.table, bundle.centres, bundle.statement)
    moved = Block("scorecard", encoding("payments"), bundle.blocks["payments"].weights + 1e-12)
    nudged = Bundle("demo-1", {**bundle.blocks, "payments": moved}, bundle.table, bundle.centres, bundle.statement)
    assert len({first, renamed.save(tmp_path / "c"), nudged.save(tmp_path / "d")}) == 3


def test_a_bundle_is_never_written_over_another(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    with pytest.raises(FileExistsError):
        bundle.save(tmp_path / "model")


@pytest.mark.parametrize("place", [0, 9, 100, -1])
def test_a_changed_byte_of_the_weights_is_refused(bundle: Bundle, tmp_path: Path, place: int) -> None:
    bundle.save(tmp_path / "model")
    path = tmp_path / "model" / ARRAYS
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=f"{ARRAYS}: is missing or does not fit bundle.json") as refused:
        Bundle.load(tmp_path / "model")
    assert "\n" not in str(refused.value)


def test_a_changed_head_has_another_hash(bundle: Bundle, tmp_path: Path) -> None:
    """Whoever holds the published hash sees it; the file alone cannot tell."""
    sha256 = bundle.save(tmp_path / "model")
    assert decision_bundle(tmp_path / "model").sha256 == sha256
    head = json.loads((tmp_path / "model" / HEAD).read_text(encoding="utf-8"))
    head["statement"]["epsilon"] = 0.5
    (tmp_path / "model" / HEAD).write_text(json.dumps(head), encoding="utf-8")
    assert decision_bundle(tmp_path / "model").sha256 != sha256


@pytest.mark.parametrize("load", [Bundle.load, decision_bundle])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"{", "is not a model bundle"),
        (b"\xff\xfe", "is not a model bundle"),
        (b"[]", f"schema must be {SCHEMA}"),
        (b'{"schema": "other/9"}', f"schema must be {SCHEMA}, got 'other/9'"),
    ],
)
def test_a_missing_or_foreign_head_is_one_line(bundle: Bundle, tmp_path: Path, load, content, said) -> None:  # type: ignore[no-untyped-def]
    bundle.save(tmp_path / "model")
    path = tmp_path / "model" / HEAD
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        load(tmp_path / "model")
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_missing_weights_are_one_line(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    (tmp_path / "model" / ARRAYS).unlink()
    with pytest.raises(InputError, match=ARRAYS):
        Bundle.load(tmp_path / "model")


@pytest.mark.parametrize("load", [Bundle.load, decision_bundle])
def test_a_head_without_its_keys_is_one_line(bundle: Bundle, tmp_path: Path, load) -> None:  # type: ignore[no-untyped-def]
    bundle.save(tmp_path / "model")
    (tmp_path / "model" / HEAD).write_text(json.dumps({"schema": SCHEMA}))
    with pytest.raises(InputError, match=HEAD):
        load(tmp_path / "model")


def test_the_decision_gets_table_hash_and_reference_in_micro_logit(bundle: Bundle, tmp_path: Path) -> None:
    sha256 = bundle.save(tmp_path / "model")
    seen = decision_bundle(tmp_path / "model")
    assert (seen.bundle_id, seen.sha256, seen.kind) == ("demo-1", sha256, "subscores")
    assert seen.table == bundle.table
    assert seen.reference_e6 == {"payments": -2_125_000, "lender_kyc": -1_900_000}
