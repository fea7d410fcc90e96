import pytest
import torch

from datasets.colors import Colors
from datasets.preprocessing import Preprocessing
from datasets.transforms import Augmentation, TrainTransform


def image(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 20, 10), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_nothing_is_drawn_where_no_color_changes() -> None:
    assert Colors().transform() is None


@pytest.mark.parametrize("name", ["auto_augment", "jitter", "gray", "blur"])
def test_each_change_has_its_probability_and_follows_the_seed(name: str) -> None:
    transform = Colors(**{name: 0.5}).transform()
    assert transform is not None
    changed = []
    for seed in range(60):
        results = []
        for _ in range(2):
            torch.manual_seed(seed)
            results.append(transform(image()[None])[0])
        assert torch.equal(*results)
        assert results[0].shape == (3, 20, 10)
        assert results[0].dtype == torch.uint8
        changed.append(not torch.equal(results[0], image()))
    assert 15 <= sum(changed) <= 45


def test_gray_has_three_equal_channels() -> None:
    transform = Colors(gray=1.0).transform()
    assert transform is not None
    red, green, blue = transform(image()[None])[0]
    assert torch.equal(red, green)
    assert torch.equal(red, blue)


def test_a_low_resolution_file_changes_like_its_image() -> None:
    colors = Colors(auto_augment=0.5, jitter=1.0, blur=0.5)
    augmentation = Augmentation(flip=0, padding=0, erase=0, colors=colors)
    transform = TrainTransform(Preprocessing((20, 10)), augmentation, (2,))
    for seed in range(8):
        torch.manual_seed(seed)
        result = transform(image(), {2: image()})
        assert result.low is not None
        difference = (result.image.float() - result.low.float()).abs().mean()
        assert float(difference) < 8  # the file is enlarged by another kernel
