"""Tables of cameras, fitted to other networks."""

import pytest
import torch

from modelling.backbones.cameras import fit_cameras


@pytest.mark.parametrize(("table", "target"), [((3, 1, 4), (1, 5, 4)), ((3, 4), (4,))])
def test_the_mean_of_a_table_stands_for_other_cameras(table: tuple[int, ...], target: tuple[int, ...]) -> None:
    vectors, tokens = torch.rand(table), torch.rand(target)
    without = {"table": vectors, "tokens": tokens}
    fit_cameras(without, {"tokens": tokens}, "table", "tokens", 3.0)
    assert without.keys() == {"tokens"}
    torch.testing.assert_close(without["tokens"], tokens + 3 * vectors.mean(dim=0))
    more = {"table": vectors, "tokens": tokens}
    fit_cameras(more, {"tokens": tokens, "table": torch.zeros(6, *table[1:])}, "table", "tokens", 3.0)
    torch.testing.assert_close(more["table"], vectors.mean(dim=0).expand(6, *table[1:]))
    assert torch.equal(more["tokens"], tokens)


def test_the_same_cameras_and_those_of_no_file_stay() -> None:
    own = {"tokens": torch.rand(1, 5, 4), "table": torch.rand(3, 1, 4)}
    vectors = torch.rand(3, 1, 4)
    same, none = {"table": vectors}, dict[str, torch.Tensor]()
    for state in (same, none):
        fit_cameras(state, own, "table", "tokens", 1.0)
    assert same["table"] is vectors
    assert none["table"] is own["table"]


@pytest.mark.parametrize("shape", [(), (3,), (3, 1, 5)])
def test_an_odd_table_is_left_to_the_check_of_the_tensors(shape: tuple[int, ...]) -> None:
    own = {"tokens": torch.rand(1, 5, 4)}
    state = {"table": torch.rand(shape), "tokens": own["tokens"]}
    fit_cameras(state, own, "table", "tokens", 1.0)
    assert state["table"].shape == shape
    assert state["tokens"] is own["tokens"]
