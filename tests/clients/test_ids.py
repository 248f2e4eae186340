"""Ids written alike: what is one person in either language, what stays two, and that no message holds an id."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from clients.ids import persons, written_alike
from model.federation import load_federation
from model.inputs import InputError

SAME = {
    "text": [
        ["P001", " P001 ", "P001\t", "Ｐ００１", "P001\u3000", "\ufeffP001", "P\u200b001"],
        ["7", "7.0", "7.00", "７", "７．０"],
        ["王芳", "王芳 ", "\u3000王芳"],
        ["Zoë", unicodedata.normalize("NFD", "Zoë")],
        ["ﬁne", "fine"],
    ],
    "number": [
        ["11010519491231002X", "11010519491231002x", "110105-19491231-002X", "１１０１０５１９４９１２３１００２Ｘ"],
        [
            "DE 89 3704 0044 0532 0130 00",
            "de89370400440532013000",
            "DE89.3704.0044.0532.0130.00",
            "DE89—37040044—0532013000",
        ],
        ["91350100M000100Y43", "91350100m000100y43 "],
        ["42", "42.0", "4 2"],
    ],
    "phone+86": [
        [
            "13800138000",
            "138 0013 8000",
            "138-0013-8000",
            "+86 138 0013 8000",
            "0086 13800138000",
            "８６１３８００１３８０００",
        ],
        ["010-6552 9988", "+86 (0)10 6552 9988", "（010）65529988", "+861065529988"],
    ],
    "phone+44": [["07911 123456", "+44 7911 123456", "+44 (0)7911 123456", "00447911123456", "447911123456"]],
    "phone+1": [["(415) 555-2671", "+1 415 555 2671", "14155552671", "1-415-555-2671"]],
    "phone+39": [["06 6982", "+39 06 6982"]],
}
APART = {
    "text": ["P001", "p001", "P01", "P1", "王芳", "王芬", "1.5", "1,0", "-7", "7"],
    "number": ["110105194912310021", "110105194912310012", "0042", "42", "张3", "章3"],
    "phone+86": ["13800138000", "13800138001", "+1 380 013 8000", "01065529988", "02165529988"],
}
CASES = [(form, group) for form, groups in SAME.items() for group in groups]


@pytest.mark.parametrize(("form", "group"), CASES, ids=[f"{form}-{group[0]}" for form, group in CASES])
def test_one_person_is_one_text_however_written(form: str, group: list[str]) -> None:
    assert len({written_alike(text, form) for text in group}) == 1
    assert written_alike(group[0], form)


@pytest.mark.parametrize("form", APART)
def test_different_persons_stay_different(form: str) -> None:
    assert len({written_alike(text, form) for text in APART[form]}) == len(APART[form])


@pytest.mark.parametrize(("form", "group"), CASES, ids=[f"{form}-{group[0]}" for form, group in CASES])
def test_writing_alike_twice_changes_nothing(form: str, group: list[str]) -> None:
    for text in group:
        once = written_alike(text, form)
        assert written_alike(once, form) == once


@pytest.mark.parametrize("text", ["", "n/a", "1380", "138 0013 8000 转 12", "+0013800138000", "1" * 17, "-"])
def test_what_is_no_telephone_number_is_none(text: str) -> None:
    assert written_alike(text, "phone+86") == ""


def test_a_row_that_is_none_and_two_rows_of_one_person_are_named_by_their_numbers() -> None:
    with pytest.raises(InputError) as none:
        persons(Path("a.csv"), "phone", ["13800138000", "secret"], "phone+86")
    with pytest.raises(InputError) as twice:
        persons(Path("a.csv"), "phone", ["13800138001", "13800138000", "+86 138 0013 8000"], "phone+86")
    assert (none.value.value, twice.value.value) == ("row 2", "rows 2 and 3")
    assert "secret" not in str(none.value)
    assert "8000" not in str(twice.value)
    assert persons(Path("a.csv"), "id", ["b", "a"], "text") == ["b", "a"]


@pytest.mark.parametrize("form", ["phone", "phone+", "phone+0", "phone+86x", "Text", "", 3])
def test_a_form_that_nobody_knows_is_refused(files: Any, form: object) -> None:
    value = f'"{form}"' if isinstance(form, str) else form
    files.toml("[federation]\n", f"[federation]\nid-form = {value}\n")
    with pytest.raises(InputError, match=r"federation\.id-form"):
        load_federation(files.federation)


def test_the_form_is_the_federations(files: Any) -> None:
    assert load_federation(files.federation).id_form == "text"
    files.toml("[federation]\n", '[federation]\nid-form = "phone+86"\n')
    assert load_federation(files.federation).id_form == "phone+86"
