import pytest

from utils.errors import did_you_mean

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
