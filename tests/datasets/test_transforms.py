import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from datasets.erasing import NO_BOX
from datasets.preprocessing import Preprocessing
from datasets.transforms import Augmentation, NetworkInput, TestTransform, TrainTransform
from utils.resolution import degrade

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
PIXELS = Preprocessing(mean=MEAN, std=STD)


def image(seed: int = 0, height: int = 40, width: int = 30) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_test_images_are_only_resized() -> None:
    resized, *rest = TestTransform(Preprocessing((20, 10)))(image())
    assert resized.shape == (3, 20, 10)
    assert resized.dtype == torch.uint8
    assert rest == [NO_BOX, 1, None, {}]


def test_without_augmentation_training_sees_the_test_image() -> None:
    plain = TrainTransform(Preprocessing((20, 10)), Augmentation(flip=0, padding=0, erase=0))
    assert torch.equal(plain(image()).image, TestTransform(Preprocessing((20, 10)))(image()).image)


def test_flip_is_certain_at_probability_one() -> None:
    flipped = TrainTransform(Preprocessing((20, 10)), Augmentation(flip=1, padding=0, erase=0))(image()).image
    assert torch.equal(flipped.flip(-1), TestTransform(Preprocessing((20, 10)))(image()).image)


def test_crops_of_the_padded_image_shift_it_by_at_most_the_padding() -> None:
    white = torch.full((3, 20, 10), 255, dtype=torch.uint8)
    transform = TrainTransform(Preprocessing((20, 10)), Augmentation(flip=0, padding=3, erase=0))
    areas = set()
    for seed in range(40):
        torch.manual_seed(seed)
        crop = transform(white).image
        assert crop.shape == (3, 20, 10)
        rows, columns = int((crop[0].amax(1) > 0).sum()), int((crop[0].amax(0) > 0).sum())
        assert rows >= 17
        assert columns >= 7
        areas.add((rows, columns))
    assert len(areas) > 5


@pytest.mark.parametrize("padding", [0, 1, 3, 25])
def test_the_random_geometry_is_that_of_torchvision(padding: int) -> None:
    transform = TrainTransform(Preprocessing((20, 10)), Augmentation(padding=padding, erase=0))
    plain = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomCrop((20, 10), padding or None)])
    resized = TestTransform(Preprocessing((20, 10)))(image()).image
    for seed in range(60):
        torch.manual_seed(seed)
        ours = transform(image()).image
        torch.manual_seed(seed)
        assert torch.equal(ours, plain(resized))


@pytest.mark.parametrize("size", [(20, 10), (30, 2)])  # few boxes fit into the second
def test_the_erased_box_is_that_of_torchvision(size: tuple[int, int]) -> None:
    transform = TrainTransform(Preprocessing(size), Augmentation(flip=0, padding=0, erase=1))
    plain = v2.RandomErasing(1.0, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))
    boxes = set()
    for seed in range(200):
        torch.manual_seed(seed)
        _, box, *_ = transform(image())
        torch.manual_seed(seed)
        torch.rand(()), torch.randint(1, ()), torch.rand(())  # the flip, the scale, whether to erase
        params = plain.make_params([torch.zeros(3, *size)])
        reference = NO_BOX if params["v"] is None else tuple(params[name] for name in "ijhw")
        assert box == reference
        boxes.add(box)
    assert len(boxes) > 20
    assert (NO_BOX in boxes) == (size == (30, 2))


@pytest.mark.parametrize("erased", [None, torch.tensor([[1, 2, 3, 2], [0, 0, 0, 0]])])
def test_the_layout_in_memory_does_not_change_the_input(erased: torch.Tensor | None) -> None:
    batch = torch.stack([image(), image(1)])
    plain = NetworkInput(PIXELS)(batch, 1, erased)
    for layout in (torch.channels_last, torch.contiguous_format):
        for pixels in (batch, batch.contiguous(memory_format=torch.channels_last)):
            ours = NetworkInput(PIXELS, layout=layout)(pixels, 1, erased)
            assert ours.is_contiguous(memory_format=layout)
            assert torch.equal(ours, plain)


def test_erased_boxes_obey_area_and_probability() -> None:
    transform = TrainTransform(Preprocessing((64, 32)), Augmentation(flip=0, padding=0, erase=0.5))
    boxes = []
    torch.manual_seed(0)
    for _ in range(400):
        y, x, height, width = transform(image(height=64, width=32)).erased
        boxes.append(height * width)
        assert 0 <= y <= y + height <= 64
        assert 0 <= x <= x + width <= 32
    erased = [area for area in boxes if area]
    assert 150 < len(erased) < 250
    assert min(erased) > 0.01 * 64 * 32
    assert max(erased) < 0.45 * 64 * 32


def test_network_input_is_torchvisions_normalization() -> None:
    batch = torch.stack([image(i) for i in range(3)])
    reference = v2.functional.normalize(v2.functional.to_dtype(batch, torch.float32, scale=True), MEAN, STD)
    torch.testing.assert_close(NetworkInput(PIXELS)(batch), reference)


def test_erasing_fills_exactly_the_box_with_the_mean_after_normalization() -> None:
    batch = torch.stack([image(i) for i in range(3)])
    boxes = torch.tensor([NO_BOX, (3, 4, 5, 6), (0, 0, 40, 30)])
    network_input = NetworkInput(PIXELS)
    plain, erased = network_input(batch), network_input(batch, erased=boxes)
    reference = plain.clone()
    for row, (y, x, height, width) in enumerate(boxes.tolist()):
        reference[row, :, y : y + height, x : x + width] = 0.0
    assert torch.equal(erased, reference)


@pytest.mark.parametrize("scale", [2, 4])
def test_degradation_comes_before_normalization_and_erasing(scale: int) -> None:
    batch = torch.stack([image(i) for i in range(2)])
    boxes = torch.tensor([(3, 4, 5, 6), NO_BOX])
    low = degrade(batch.float() / 255, scale)
    reference = v2.functional.normalize(low, MEAN, STD)
    reference[0, :, 3:8, 4:10] = 0.0
    torch.testing.assert_close(NetworkInput(PIXELS)(batch, scale, boxes), reference)


def test_without_a_scale_the_preprocessing_decides() -> None:
    batch = torch.stack([image(i) for i in range(2)])
    for antialias in (True, False):
        network_input = NetworkInput(replace(PIXELS, scale=4, antialias=antialias))
        low = degrade(batch.float() / 255, 4, antialias=antialias)
        torch.testing.assert_close(network_input(batch), v2.functional.normalize(low, MEAN, STD))
        assert torch.equal(network_input(batch, 1), NetworkInput(PIXELS)(batch))


def test_each_image_gets_its_own_scale() -> None:
    batch = torch.stack([image(i) for i in range(4)])
    scales = torch.tensor([4, 1, 2, 4])
    result = NetworkInput(PIXELS, choices=(1, 2, 4))(batch, scales)
    alone = NetworkInput(PIXELS, choices=(4,))
    assert torch.equal(alone(batch, torch.full((4,), 4)), alone(batch, 4))
    for row, scale in enumerate(scales.tolist()):
        torch.testing.assert_close(result[row : row + 1], NetworkInput(PIXELS)(batch[row : row + 1], scale))


def test_scales_are_random_evenly_and_by_the_seed() -> None:
    transform = TrainTransform(Preprocessing((20, 10)), Augmentation(), scales=(1, 2, 8))
    torch.manual_seed(0)
    scales = [transform(image()).scale for _ in range(300)]
    assert {scale: 70 < scales.count(scale) < 130 for scale in (1, 2, 8)} == {1: True, 2: True, 8: True}


def test_a_low_resolution_file_is_restored_as_the_device_restores_it() -> None:
    full, small = image(0)[..., :8, :4], image(1)[..., :8, :4]
    transformed = TestTransform(Preprocessing((32, 16)))(full, {4: small})
    reference = F.interpolate(small[None].float(), (32, 16), mode="bicubic").clamp(0, 255)[0]
    assert set(transformed.low_by_scale) == {4}
    assert (transformed.low_by_scale[4].float() - reference).abs().max() <= 1  # rounded to whole pixel values
    assert torch.equal(transformed.image, TestTransform(Preprocessing((32, 16)))(full).image)


@pytest.mark.parametrize("size", [(32, 12), (32, 30), (90, 12)])
def test_a_low_resolution_file_larger_than_the_input_is_not_aliased(size: tuple[int, int]) -> None:
    small = image(2, height=64, width=24)
    reference = small.double()  # each side alone, as Pillow does it: low-passed where it shrinks
    for side, length in zip((-2, -1), size, strict=True):
        matrix = bicubic(small.shape[side], length)
        reference = (matrix @ reference) if side == -2 else reference @ matrix.T
    low = TestTransform(Preprocessing(size))(image(), {4: small}).low_by_scale[4]
    assert (low.double() - reference.clamp(0, 255)).abs().max() < 0.51
    aliased = F.interpolate(small[None].float(), size, mode="bicubic").clamp(0, 255)[0]
    assert (low - aliased).abs().mean() > 5


def bicubic(before: int, after: int) -> torch.Tensor:
    """(after, before) weights: cubic convolution, a = -0.75 enlarging and -0.5, stretched, shrinking, as torch."""
    step = before / after
    stretch, a = (step, -0.5) if step > 1 else (1.0, -0.75)
    centers = (torch.arange(after, dtype=torch.double) + 0.5) * step - 0.5
    rows = torch.zeros(after, before, dtype=torch.double)
    for row, center in enumerate(centers.tolist()):
        for pixel in range(math.floor(center - 3 * stretch), math.ceil(center + 3 * stretch) + 1):
            x = abs(pixel - center) / stretch
            if x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
            if step > 1 and not 0 <= pixel < before:
                continue  # shrinking leaves out what lies outside, enlarging repeats the border
            rows[row, min(max(pixel, 0), before - 1)] += weight
    return rows / rows.sum(1, keepdim=True)


def test_a_low_resolution_file_moves_with_its_image_and_changes_no_draw() -> None:
    transform = TrainTransform(
        Preprocessing((20, 10)), Augmentation(flip=0.5, padding=4, erase=0.5), scales=(1, 2, 3)
    )
    full = TestTransform(Preprocessing((20, 10)))(image()).image
    for seed in range(20):
        torch.manual_seed(seed)
        alone = transform(full)
        torch.manual_seed(seed)
        paired = transform(full, {2: full, 3: full.flip(-2)})  # files of the input's size: nothing to restore
        assert torch.equal(paired.image, alone.image)
        assert (paired.erased, paired.scale) == (alone.erased, alone.scale)
        if paired.scale < 3:
            assert torch.equal(paired.low, alone.image)
        else:
            torch.manual_seed(seed)
            assert torch.equal(paired.low, transform(full.flip(-2)).image)
