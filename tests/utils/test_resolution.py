"""Low resolution: bicubic down and up again."""

import pytest
import torch
import torch.nn.functional as F

from utils.errors import ReidError
from utils.resolution import degrade, low_resolution_size


def test_scale_one_is_the_image_itself() -> None:
    images = torch.rand(2, 3, 8, 4)
    assert degrade(images, 1) is images


@pytest.mark.parametrize("antialias", [True, False])
def test_degradation_is_bicubic_down_and_up(antialias: bool) -> None:
    images = torch.rand(2, 3, 32, 16)
    small = F.interpolate(images, (8, 4), mode="bicubic", antialias=antialias).clamp(0, 1)
    reference = F.interpolate(small, (32, 16), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(degrade(images, 4, antialias=antialias), reference)


def test_degradation_keeps_flat_images_and_the_range() -> None:
    flat = torch.full((1, 3, 33, 17), 0.3)
    torch.testing.assert_close(degrade(flat, 4), flat)
    checkers = (torch.arange(32)[:, None] + torch.arange(16)).remainder(2).float().expand(1, 3, 32, 16)
    low = degrade(checkers, 2)
    assert 0 <= float(low.min()) <= float(low.max()) <= 1
    assert float(low[..., 8:-8, 4:-4].std()) < 0.1  # antialiasing grays a pattern above the new Nyquist limit


def test_low_resolution_sizes() -> None:
    assert low_resolution_size(256, 128, 4) == (64, 32)
    assert low_resolution_size(3, 3, 8) == (1, 1)
    with pytest.raises(ReidError, match="scale must be 1 or more, got 0"):
        degrade(torch.rand(1, 3, 8, 8), 0)
