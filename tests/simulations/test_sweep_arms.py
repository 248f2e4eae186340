"""What a sweep compares: arms by name, the federation files that are made for some, and the cells of the grid."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.federation import Federation, load_federation
from model.inputs import InputError
from server.planning import FUSION_SHARE
from simulations.sweep.arms import ARMS, Arm, Skipped, arms_of, derived
from simulations.sweep.grid import Cell, Sweep, cells_of, lanes_of, sets_of, settings_of, terms_of
from simulations.sweep.progress import Clock

INF = math.inf
FEATURES = [{"name": "x", "kind": "numeric", "unit": "1", "range": [-3, 3], "group": "record"}]
MORE = [*FEATURES, FEATURES[0] | {"name": "y"}, {"name": "sex", "kind": "flag", "group": "person", "protected": True}]


def _made(path: Path, name: str, data: Path | None = None) -> Federation:
    """The federation that is made for an arm, written elsewhere and loaded from there."""
    text = derived(load_federation(path, data), data, ARMS[name])
    assert text is not None
    made = path.parent.parent / "elsewhere.toml"
    made.write_text(text, encoding="utf-8")
    return load_federation(made)


def _copied(federation: Path, folder: Path) -> Path:
    return Path(shutil.copytree(federation.parent, folder / "copy")) / federation.name


@pytest.fixture
def two(write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any) -> Callable[..., Any]:
    """A lender with a column hkey of these values, and two partners of different domains."""

    def write(values: list[str], **parts: Any) -> Any:
        labels, risk = persons(60)
        if values:
            labels = labels.with_columns(hkey=pl.Series([values[i % len(values)] for i in range(60)]))
        table = pl.DataFrame({"id": labels["id"], "x": risk, "y": risk, "sex": [0, 1] * 30})
        return write_federation(
            labels, party("pay", table, FEATURES), party("shop", table, MORE, "ecommerce", {}), **parts
        )

    return write


def test_groups_name_arms_and_each_arm_comes_once() -> None:
    ours, baselines = arms_of(["ours"]), arms_of(["baselines"])
    assert [arm.name for arm in arms_of(["own-block", "joint", "joint"])] == ["joint", "own-block"]
    assert {arm.name for arm in ours}.isdisjoint(arm.name for arm in baselines)
    assert set(arms_of(["all"])) == {*ours, *baselines} == set(ARMS.values())
    assert all(arm.ours for arm in ours)
    assert not any(arm.ours for arm in baselines)


def test_an_unknown_arm_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--arms is not an arm, got 'jiont'; known: joint, joint-secure"):
        arms_of(["joint", "jiont"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package torch, got 'network'; pip install"):
        arms_of(["network"])


def test_most_arms_run_on_the_given_file(small: Path) -> None:
    federation = load_federation(small)
    for name in ("joint", "joint-secure", "apart", "network"):
        assert derived(federation, None, ARMS[name]) is None


def test_equal_shares_leave_the_fusion_its_own(small: Path, tmp_path: Path, two: Callable[..., Any]) -> None:
    files = two([])
    made = _made(files.federation, "apart-equal")
    assert made.privacy.shares == {"pay": 0.45, "shop": 0.45, "fusion": FUSION_SHARE}
    assert terms_of(made, ARMS["apart-equal"], Sweep(("x",), tmp_path))["allocation"] == "equal"
    assert "lender" in _made(_copied(small, tmp_path), "apart-equal").privacy.shares  # it has a block of its own


def test_a_made_file_means_the_same_wherever_it_lies(small: Path, tmp_path: Path) -> None:
    federation = _copied(small, tmp_path)
    for data in (None, small.parent):
        before, made = load_federation(federation, data), _made(federation, "home", data)
        assert made.privacy == replace(before.privacy, within_domain="home")
        for old, new in zip(before.holders, made.holders, strict=True):
            assert new.contract == old.contract
            assert [path.resolve() for path in new.data] == [path.resolve() for path in old.data]


def test_a_split_by_date_survives_in_a_made_file(two: Callable[..., Any]) -> None:
    files = two([], head='cut = { column = "day", train-before = 2020-01-01, test-before = 2021-01-01 }')
    assert _made(files.federation, "apart-equal").cut == load_federation(files.federation).cut


def test_where_no_domain_has_several_partners_the_widest_is_split_by_hkey(two: Callable[..., Any]) -> None:
    files = two(["a", "b", "c", "d", "e"])
    for name in ("overlap", "home"):
        made = _made(files.federation, name)
        assert [partner.name for partner in made.partners] == ["pay", "shop-a", "shop-b"]
        assert made.privacy.within_domain == name
        first, second = (set(partner.only["hkey"]) for partner in made.partners[1:])
        assert first | second == set("abcde")
        assert min(len(first & second), len(first - second), len(second - first)) > 0


def test_three_values_of_hkey_still_overlap_and_two_do_not(two: Callable[..., Any]) -> None:
    made = _made(two(["7.0", "8", "9"]).federation, "home")
    assert [partner.only["hkey"] for partner in made.partners[1:]] == [("7", "8"), ("8", "9")]


@pytest.mark.parametrize(
    ("values", "arm", "why"),
    [
        ([], "home", "the lender has no column hkey"),
        (["a", "b"], "overlap", "fewer than 3 values"),
        (["a", "b", "c"], "joint-protected", "uses its protected features already"),
    ],
)
def test_an_arm_with_nothing_to_compare_is_left_out_with_a_word_why(
    two: Callable[..., Any], values: list[str], arm: str, why: str
) -> None:
    files = two(values)
    if "protected" in arm:
        files.toml('split = "split"', 'split = "split"\nuse-protected = true')
    with pytest.raises(Skipped, match=why):
        derived(load_federation(files.federation), None, ARMS[arm])


def test_protected_features_train_in_their_own_arm_only(two: Callable[..., Any], tmp_path: Path) -> None:
    files, asked = two([]), Sweep(("x",), tmp_path)
    before, made = load_federation(files.federation), _made(files.federation, "joint-protected")
    names = [[f.name for f in federation.holder("shop").contract.features] for federation in (before, made)]  # type: ignore[union-attr]
    assert names == [["x", "y"], ["x", "y", "sex"]]
    assert [terms_of(f, ARMS["joint"], asked)["protected"] for f in (before, made)] == [False, True]


def test_no_protected_feature_means_no_such_arm(two: Callable[..., Any]) -> None:
    files = two([])
    files.text("ecommerce.contract.toml", "protected = true", "protected = false")
    with pytest.raises(Skipped, match="no feature is marked protected"):
        derived(load_federation(files.federation), None, ARMS["joint-protected"])


def test_every_cell_is_trained_once_and_what_has_no_privacy_only_without_noise(small: Path, tmp_path: Path) -> None:
    asked = Sweep((str(small),), tmp_path / "out", epsilons=(INF, 0.5, 0.5), seeds=3)
    (data,) = sets_of(asked).values()
    lanes, notes = lanes_of(data, [ARMS["joint"], ARMS["logistic"], ARMS["home"]])
    cells = list(cells_of(lanes, asked))
    assert notes == []
    assert len({cell.key for cell in cells}) == len(cells) == 3 * 2 + 3 + 3 * 2
    assert {(cell.arm, cell.epsilon) for cell in cells if cell.arm == "logistic"} == {("logistic", INF)}
    assert {cell.set for cell in cells} == {"sample"}
    assert [cell.arm for cell in cells[:3]] == ["joint", "logistic", "home"]  # one of each first: the clock needs them
    assert [cell.seed for cell in cells[3:]] == sorted(cell.seed for cell in cells[3:])


def test_a_cell_is_simulated_as_its_arm_says(small: Path, tmp_path: Path) -> None:
    asked = Sweep((str(small),), tmp_path / "out", delta=1e-6, decide=50)
    (data,) = sets_of(asked).values()
    lanes, _ = lanes_of(data, [ARMS["joint-secure"], ARMS["home"], ARMS["trees"]])
    secure, home, trees = (settings_of(Cell("sample", "x", 0.5, 4), lane, asked, tmp_path / "made") for lane in lanes)
    assert (secure.engine, secure.trust, secure.federation, secure.data) == ("moments", "secure", small, small.parent)
    assert (home.engine, home.trust, home.data) == ("scorecard", "local", None)
    assert home.federation == tmp_path / "made" / "sample.home.toml"
    assert trees.federation == small
    assert all((s.epsilon, s.delta, s.seed, s.decide) == (0.5, 1e-6, 4, 50) for s in (secure, home, trees))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federations": ()}, "FEDERATION is empty"),
        ({"epsilons": ()}, "--epsilons is empty"),
        ({"epsilons": (1.0, -1.0)}, r"--epsilons must be a number > 0, got -1.0"),
        ({"seeds": 0}, "--seeds must be a whole number >= 1, got 0"),
        ({"jobs": -1}, "--jobs must be a whole number >= 0, got -1"),
        ({"delta": 1.0}, "--delta must be a number in"),
        ({"backend": "rays"}, r"--backend must be process \| ray, got 'rays'"),
        ({"address": "auto"}, "--address is of the backend ray alone"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sweep(**{"federations": ("x",), "out": Path("out"), **change})


def test_sets_are_found_by_name_or_path_and_two_of_one_name_are_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is neither a file nor a benchmark set, got 'uci'; known: .*uci_default"):
        sets_of(Sweep(("uci",), tmp_path))
    with pytest.raises(InputError, match="sample: is a folder; give the federation file in it"):
        sets_of(Sweep((str(small.parent),), tmp_path))
    with pytest.raises(InputError, match="--data holds no data of uci_default"):
        sets_of(Sweep(("uci_default",), tmp_path, data=tmp_path))
    with pytest.raises(InputError, match=r"nowhere\.toml: does not exist"):
        sets_of(Sweep((str(tmp_path / "nowhere.toml"),), tmp_path))
    with pytest.raises(InputError, match="is the name of another federation of this sweep, got 'sample'"):
        sets_of(Sweep((str(small), str(_copied(small, tmp_path))), tmp_path))


def test_sets_of_chinese_names_are_told_apart(small: Path, tmp_path: Path) -> None:
    paths = []
    for name in ("联邦一", "联邦二"):
        paths.append(_copied(small, tmp_path / name))
        paths[-1].write_text(paths[-1].read_text().replace('name = "sample"', f'name = "{name}"'))
    assert list(sets_of(Sweep(tuple(map(str, paths)), tmp_path))) == ["联邦一", "联邦二"]
    assert Cell("联邦一", "joint", 1.0, 0).key != Cell("联邦二", "joint", 1.0, 0).key


def test_a_lender_without_a_contract_has_no_block_of_its_own(two: Callable[..., Any], tmp_path: Path) -> None:
    (data,) = sets_of(Sweep((str(two([]).federation),), tmp_path)).values()
    lanes, notes = lanes_of(data, [ARMS["joint"], ARMS["own-block"]])
    assert [lane.arm.name for lane in lanes] == ["joint"]
    assert notes[0].endswith("own-block is left out: the lender has no contract")


def test_nobody_is_told_a_time_before_one_cell_of_each_kind_left_is_finished() -> None:
    cells = [Cell("s", arm, 1.0, seed) for arm in ("joint", "apart") for seed in range(4)]
    clock = Clock(2, list(cells))
    clock.finish(cells[0], 10.0)
    assert clock.remaining() is None
    clock.finish(cells[4], 1.0)
    assert clock.remaining() == (3 * 10 + 3 * 1) / 2
    clock.finish(cells[1], 30.0)
    clock.finish(cells[2], 20.0)
    assert clock.remaining() == (20 + 3) / 2  # the median of what was seen
    for cell in cells[4:]:
        clock.finish(cell, 1.0)
    assert clock.remaining() == 20  # one cell left keeps one worker busy, not two
    clock.finish(cells[3], 1.0)
    assert clock.remaining() == 0


def test_cells_of_an_earlier_call_tell_the_clock_too() -> None:
    clock = Clock(1, [Cell("s", "joint", 1.0, 1)])
    clock.finish(Cell("s", "joint", 1.0, 0), 7.0)
    assert clock.remaining() == 7.0


def test_what_an_arm_is_called_is_where_it_is_found() -> None:
    assert all(name == arm.name for name, arm in ARMS.items())
    assert Arm("x", "trees", "pooled", private="nothing").epsilons([1.0]) == (INF,)
