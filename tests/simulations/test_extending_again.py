"""A researcher's file that changes: several engines of one text, another text, and one that was mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model import blocks
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.inputs import InputError
from privacy.mechanisms import GAUSSIAN_SUM, GaussianSum, UnknownMechanism, mechanism_of
from simulations.extending import named

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extend.md"
TEXT = PAGE.read_text("utf-8").partition("# coarse.py\n")[2].partition("```")[0]
ENCODING = Encoding.of(Contract("payments", 1, (Feature("late", "flag"),)))
SECOND = "\n\nclass Second(CoarseScorecard):\n    pass\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes the file; what is added to a process lasts for one test."""
    monkeypatch.setattr(blocks, "_ENGINES", dict(blocks._ENGINES))
    monkeypatch.setattr("privacy.mechanisms._MECHANISMS", {GAUSSIAN_SUM: GaussianSum})

    def write(text: str) -> str:
        (tmp_path / "coarse.py").write_text(text, encoding="utf-8")
        return f"{tmp_path / 'coarse.py'}"

    return write


def _sensitivity(engine: str) -> float:
    """What one coordinate of a sum costs beside the bound, by the mechanism that the engine's lines are released by."""
    kind = mechanism_of(blocks.spec(engine, ENCODING, 1000, 0.2).mechanism)
    return kind(2.0, 1, 3.0).sensitivity - 2.0


def test_two_engines_of_one_file_are_loaded(written: Callable[[str], str]) -> None:
    file = written(TEXT + SECOND)
    first, second = named(f"{file}:CoarseScorecard"), named(f"{file}:Second")
    assert first != second
    assert _sensitivity(first) == _sensitivity(second) == 1 / 64


def test_two_texts_with_one_name_of_a_mechanism_keep_each_its_own(written: Callable[[str], str]) -> None:
    first = named(f"{written(TEXT)}:CoarseScorecard")
    second = named(f"{written(TEXT.replace(', 64', ', 4'))}:CoarseScorecard")
    assert (_sensitivity(first), _sensitivity(second)) == (1 / 64, 1 / 4)
    assert named(f"{written(TEXT)}:CoarseScorecard") == first
    assert (_sensitivity(first), _sensitivity(second)) == (1 / 64, 1 / 4)


def test_a_file_that_failed_is_loaded_once_it_is_mended(written: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match=r"cannot be loaded .ZeroDivisionError"):
        named(f"{written(TEXT + '1 / 0')}:CoarseScorecard")
    assert _sensitivity(named(f"{written(TEXT)}:CoarseScorecard")) == 1 / 64


def test_a_file_whose_mechanism_is_none_is_one_line(written: Callable[[str], str]) -> None:
    text = TEXT.replace("return discreteness", "return -1.0, 0.0  #")
    with pytest.raises(InputError, match=r"cannot be loaded .*slack must be two finite numbers >= 0") as refused:
        named(f"{written(text)}:CoarseScorecard")
    assert "\n" not in str(refused.value)


def test_an_engine_that_names_a_mechanism_of_nobody_has_none(written: Callable[[str], str]) -> None:
    engine = named(f"{written(TEXT.replace('mechanism=NAME', 'mechanism=NAME[1:]'))}:CoarseScorecard")
    with pytest.raises(UnknownMechanism):
        _sensitivity(engine)
