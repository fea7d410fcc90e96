"""The words of messages, and the table of named choices."""

import pytest

from utils.errors import ReidError, did_you_mean, lookup, one_line


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


NAMES = ("resnet50", "resnet101", "AdamW")


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet5", "; did you mean resnet50?"), ("adamw", "; did you mean AdamW?"), ("zzz", ""), ("", "")],
)
def test_the_candidate_most_like_a_name_is_proposed_whatever_its_case(name: str, words: str) -> None:
    assert did_you_mean(name, NAMES) == words


def test_several_are_proposed_best_first() -> None:
    assert did_you_mean("resnet10", NAMES, count=2) == "; did you mean resnet101, resnet50?"
    assert did_you_mean("resnet10", ()) == ""


def test_an_unknown_choice_is_named_with_all_and_the_nearest() -> None:
    table = {"avg": 1, "max": 2}
    assert lookup(table, "max", "MODEL.POOLING") == 2
    with pytest.raises(ReidError, match=r"^MODEL\.POOLING must be one of avg, max, got 'Max'; did you mean max\?$"):
        lookup(table, "Max", "MODEL.POOLING")
    with pytest.raises(ReidError, match=r"got 'zzz'$"):
        lookup(table, "zzz", "MODEL.POOLING")
