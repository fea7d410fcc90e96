"""Names of files in logs, on the console and in tables."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.text import as_cell, as_rows, from_cell, printable

ANY_TEXT = st.text(st.characters() | st.sampled_from("=+-@'\t\r\n\x1b\u202e\udc80"))


@given(ANY_TEXT)
def test_printable_text_has_no_control_character(text: str) -> None:
    line = printable(text)
    assert not any(unicodedata.category(sign).startswith(("Cc", "Cf", "Cs", "Zl", "Zp")) for sign in line)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize("text", ["", "0007_c1s1.jpg", "사람 3", "a\\b", "J\u00fcrgen"])
def test_plain_text_stays(text: str) -> None:
    assert printable(text) == as_cell(text) == from_cell(text) == text


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable("a\x1b[2J\n12:00:00 ERROR forged\u202e\udcff") == r"a\x1b[2J\n12:00:00 ERROR forged\u202e\udcff"


@given(ANY_TEXT)
def test_a_cell_is_no_formula_and_gives_its_text_back(text: str) -> None:
    cell = as_cell(text)
    assert from_cell(cell) == text
    is_number = text[1:].replace(".", "", 1).isdecimal()
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@") or is_number


@pytest.mark.parametrize(
    "text", ["=cmd|'/C calc'!A0", "+A1", "-A1", "@SUM(A1)", "\t=A1", " =A1", "＝A1", "'=A1", "=5"]
)
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+12", "-0.25", "0.5", "a=b", "'tis", "x_=1.jpg"])
def test_numbers_and_names_stay(text: str) -> None:
    assert as_cell(text) == text


def test_rows() -> None:
    assert list(as_rows([("a", "=b"), ("@c",)])) == [["a", "'=b"], ["'@c"]]
