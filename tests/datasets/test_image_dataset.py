import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from datasets.batch import SeededIndex, View
from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.image_dataset import ImageDataset, collate
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.sample import ReidSplits, Sample
from datasets.transforms import Augmentation, TestTransform, TrainTransform
from utils.errors import ReidError
from utils.images import read_image

SMALL = Preprocessing((32, 16))
SETTINGS = LoaderSettings(SMALL, (32, 16), Augmentation(padding=2), batch=8, instances=2, test_batch=5, workers=0)


@pytest.fixture
def splits(tiny_market: Path) -> ReidSplits:
    return read_dataset(str(tiny_market), Path())


def test_a_draw_depends_on_its_seed_and_leaves_the_random_state_alone(splits: ReidSplits) -> None:
    labels = [s.person_id for s in splits.train]
    dataset = ImageDataset(splits.train, labels, TrainTransform(SMALL, Augmentation(padding=4)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again = dataset[SeededIndex(3, 7)], dataset[SeededIndex(3, 7)]
    others = [dataset[SeededIndex(3, seed)].image for seed in range(20)]
    assert torch.equal(first.image, again.image)
    assert first.erased == again.erased
    assert any(not torch.equal(first.image, other) for other in others)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_carry_rows_that_lead_back_to_the_samples(splits: ReidSplits) -> None:
    batch = collate([ImageDataset(splits.query, [9] * 99, TestTransform(SMALL))[row] for row in (2, 0)])
    assert batch.images.shape == (2, 3, 32, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.rows.tolist() == [2, 0]
    assert batch.labels.tolist() == [9, 9]


def test_the_views_of_a_batch_are_files_where_they_are_read(splits: ReidSplits) -> None:
    """Full resolution, a random scale for each image, and one scale for all; with and without files."""
    labels, augmentation = [0] * len(splits.train), Augmentation(flip=0, padding=0, erase=0)
    paths = [sample.path for sample in splits.train]
    train, test = TrainTransform(SMALL, augmentation, (2, 4)), TestTransform(SMALL)
    rows = [SeededIndex(row, row) for row in range(6)]
    online = collate([ImageDataset(splits.train, labels, train)[row] for row in rows])
    assert set(online.scales.tolist()) == {2, 4}
    assert torch.equal(online.full_resolution().images, online.images)
    assert online.low_resolution() == View(online.images, online.scales)
    assert online.at_scale(4) == View(online.images, 4)

    files = {2: paths[::-1], 4: paths[1:] + paths[:1]}  # each another image, so that it can be told from the first
    disk = collate([ImageDataset(splits.train, labels, train, files)[row] for row in rows])
    assert torch.equal(disk.images, online.images)
    assert torch.equal(disk.scales, online.scales)
    view = disk.low_resolution()
    assert view.scale == 1
    for row, scale in enumerate(disk.scales.tolist()):
        reference = test(online.images[row], {scale: read_image(files[scale][row])}).low_by_scale[scale]
        assert torch.equal(view.images[row], reference)

    whole = collate([ImageDataset(splits.train, labels, test, files)[row] for row in range(6)])
    assert whole.at_scale(2) == View(whole.low_by_scale[2], 1)
    assert whole.at_scale(3) == View(whole.images, 3)


@pytest.mark.parametrize("with_files", [True, False])
def test_a_part_of_a_batch_has_the_same_rows_of_everything(splits: ReidSplits, with_files: bool) -> None:
    labels, paths = list(range(len(splits.train))), [sample.path for sample in splits.train]
    files = {2: paths[::-1], 4: paths} if with_files else {}
    for transform in (TrainTransform(SMALL, Augmentation(padding=2), (1, 2, 4)), TestTransform(SMALL)):
        items = [ImageDataset(splits.train, labels, transform, files)[SeededIndex(row, 3)] for row in range(4)]
        part, reference = collate(items).part(torch.tensor([True, False, False, True])), collate(items[::3])
        torch.testing.assert_close(tuple(part), tuple(reference))


@pytest.mark.slow
def test_the_number_of_workers_changes_no_pixel(splits: ReidSplits) -> None:
    def images(workers: int) -> torch.Tensor:
        settings = replace(SETTINGS, workers=workers)
        loader = ReidDataModule(splits, settings).train_dataloader()
        loader.batch_sampler.set_epoch(1)
        return torch.cat([batch.images for batch in loader])

    assert torch.equal(images(0), images(2))


def test_training_labels_number_the_identities_in_sorted_order(splits: ReidSplits) -> None:
    data = ReidDataModule(splits, SETTINGS)
    people = sorted({s.person_id for s in splits.train})
    assert data.num_ids == len(people)
    for batch in data.train_dataloader():
        for label, row in zip(batch.labels.tolist(), batch.rows.tolist(), strict=True):
            assert people[label] == splits.train[row].person_id


def test_validation_gives_query_then_gallery_once_each(splits: ReidSplits) -> None:
    rows = torch.cat([batch.rows for batch in ReidDataModule(splits, SETTINGS).val_dataloader()])
    assert rows.tolist() == list(range(len(splits.query) + len(splits.gallery)))


@pytest.mark.slow
def test_a_bad_file_in_a_worker_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    dataset = ImageDataset([Sample(tmp_path / "text.jpg", 0, 1)], [0], TestTransform(SMALL))
    with pytest.raises(ReidError, match=r"cannot read image .*text\.jpg.*DATASETS\.CHECK_FILES True names all"):
        list(DataLoader(dataset, batch_size=1, sampler=[0], num_workers=1, collate_fn=collate))
    gc.collect()  # the error's traceback holds the worker
