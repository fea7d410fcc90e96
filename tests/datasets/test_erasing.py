import pytest
import torch

from datasets.preprocessing import Preprocessing
from datasets.transforms import NetworkInput

PIXELS = Preprocessing((8, 6), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
BOXES = torch.tensor([(1, 2, 3, 2), (0, 0, 0, 0), (1, 2, 3, 2), (0, 1, 7, 3)])


def batch() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 8, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def inside() -> torch.Tensor:
    mask = torch.zeros(4, 1, 8, 6, dtype=torch.bool)
    for index, (y, x, height, width) in enumerate(BOXES.tolist()):
        mask[index, :, y : y + height, x : x + width] = True
    return mask.expand(4, 3, 8, 6)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("fill", ["mean", "zero", "noise"])
def test_boxes_are_filled_and_the_rest_stays(fill: str, layout: torch.memory_format) -> None:
    network_input = NetworkInput(PIXELS, layout=layout, fill=fill)
    plain, erased = network_input(batch(), 1), network_input(batch(), 1, BOXES)
    mask = inside()
    assert torch.equal(erased[~mask], plain[~mask])
    black = torch.tensor([-0.4 / 0.2, -0.5 / 0.3, -0.6 / 0.4]).view(3, 1, 1).expand(4, 3, 8, 6)
    if fill == "mean":
        assert bool((erased[mask] == 0).all())
    elif fill == "zero":
        torch.testing.assert_close(erased[mask], black[mask])
    else:
        assert len(erased[mask].unique()) > 30
        assert torch.equal(erased[0][mask[0]], erased[2][mask[2]])  # one box, one noise


def test_noise_is_normal_and_does_not_depend_on_batch_or_layout() -> None:
    boxes = torch.tensor([(0, 0, 64, 32)] + [(1, row, 50, 20) for row in range(7)])
    images = torch.zeros(8, 3, 64, 32, dtype=torch.uint8)
    inputs = [
        NetworkInput(Preprocessing((64, 32)), layout=layout, fill="noise")
        for layout in (torch.channels_last, torch.contiguous_format)
    ]
    whole = inputs[0](images, 1, boxes)
    assert torch.equal(whole, inputs[1](images, 1, boxes))
    assert torch.equal(whole[3:4], inputs[0](images[3:4], 1, boxes[3:4]))
    assert float(whole[0].mean()) == pytest.approx(0, abs=0.05)
    assert float(whole[0].std()) == pytest.approx(1, abs=0.05)
    assert not torch.equal(whole[1, :, 1:51, 1:20], whole[2, :, 1:51, 1:20])
