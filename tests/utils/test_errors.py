import pytest

from utils.errors import ReidError, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ReidError("one\n  two\tthree "), "one two three"),
        (KeyError("key"), "'key'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (ValueError("\n"), "ValueError"),
    ],
)
def test_an_error_on_one_line(error: BaseException, line: str) -> None:
    assert one_line(error) == line
