import json

import pytest

from datasets.preprocessing import Difference, Preprocessing
from utils.errors import ReidError

OTHER = Preprocessing((64, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 4, antialias=False)


def test_what_json_keeps_is_read_again() -> None:
    for preprocessing in (Preprocessing(), OTHER):
        assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.as_dict()))) == preprocessing


def test_a_missing_field_is_named() -> None:
    values = OTHER.as_dict()
    del values["scale"]
    with pytest.raises(ReidError, match=r"must have size, mean, .*antialias, but scale is missing"):
        Preprocessing.from_dict(values)


def test_a_difference_names_the_field_and_both_values() -> None:
    assert OTHER.difference(OTHER) == []
    assert [row.name for row in Preprocessing().difference(OTHER)] == ["size", "mean", "std", "interpolation"]
    assert Preprocessing((64, 32)).difference(Preprocessing((64, 64))) == [Difference("size", (64, 32), (64, 64))]
