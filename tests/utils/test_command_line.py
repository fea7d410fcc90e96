"""Mistakes on a command line."""

import pytest

from utils.command_line import OneLineParser, number


def test_mistakes_take_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="x")
    parser.add_argument("--share", type=number(float, 0, 1))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--share", "2"])
    with pytest.raises(SystemExit, match="2"):
        parser.fail("a file\nof two lines")
    assert capsys.readouterr().err.splitlines() == [
        "error: argument --share: must be a number from 0 to 1, got '2'; see --help",
        "error: a file of two lines",
    ]


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("9" * 30, int("9" * 30))])
def test_whole_numbers(text: str, value: int) -> None:
    assert number(int, 1)(text) == value


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan", "", "one"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(Exception, match=f"must be a whole number of 1 or more, got '{text}'"):
        number(int, 1)(text)


@pytest.mark.parametrize("text", ["nan", "inf", "1.01"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(Exception, match=f"must be a number from 0 to 1, got '{text}'"):
        number(float, 0, 1)(text)
