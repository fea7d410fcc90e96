"""Each input of an exported file becomes the images that the network wants."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import normalize

from datasets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from datasets.transforms import NetworkInput
from inference.choices import INPUTS as CHOICES
from inference.exports import ExportOptions
from inference.exports.inputs import INPUTS
from utils.errors import ReidError

NETWORKS = (Preprocessing((6, 4)), Preprocessing((6, 4), (0.5, 0.4, 0.3), (0.5, 0.25, 0.125)))


def plain(name: str, pixels: Tensor, images: Preprocessing) -> Tensor:
    """What a caller of the file makes of (N, 3, H, W) uint8 pixels."""
    if name == "pixels":
        return pixels.permute(0, 2, 3, 1)
    fractions = pixels.float() / 255
    means = {"normalized": (images.mean, images.std), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}
    return fractions if name == "fractions" else normalize(fractions, *map(list, means[name]))


@pytest.mark.parametrize("images", NETWORKS)
@pytest.mark.parametrize("name", INPUTS)
def test_both_directions_agree_with_a_plain_caller(name: str, images: Preprocessing) -> None:
    pixels = torch.randint(256, (3, 3, 6, 4), dtype=torch.uint8)
    network_images, of_caller = NetworkInput(images)(pixels), plain(name, pixels, images)
    torch.testing.assert_close(INPUTS[name].entry(images)(of_caller), network_images, rtol=0, atol=1e-5)
    fed = INPUTS[name].feed(network_images, images)
    assert (fed.dtype, fed.shape) == (of_caller.dtype, of_caller.shape)
    torch.testing.assert_close(fed, of_caller, rtol=0, atol=0 if name == "pixels" else 1e-5)


def test_bytes_beyond_their_range_are_clipped() -> None:
    images = Preprocessing((1, 1))
    fed = INPUTS["pixels"].feed(torch.tensor([-9.0, 9.0, 9.0]).view(1, 3, 1, 1), images)
    assert fed.flatten().tolist() == [0, 255, 255]


def test_the_command_line_lists_them() -> None:
    assert tuple(INPUTS) == CHOICES
    with pytest.raises(
        ReidError, match=r"--input must be one of normalized, pixels.*got 'pixel'; did you mean pixels"
    ):
        ExportOptions("pixel")
