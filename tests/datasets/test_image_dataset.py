from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.file_check import check_files
from datasets.image_dataset import ImageDataset, collate
from datasets.readers import read_dataset
from datasets.sample import Draw, ReidSplits, Sample
from datasets.transforms import Augmentation, TestTransform, TrainTransform
from utils.errors import ReidError

SETTINGS = LoaderSettings(
    (32, 16), (32, 16), augmentation=Augmentation(padding=2), batch=8, instances=2, test_batch=5, workers=0
)


@pytest.fixture
def splits(tiny_market: Path) -> ReidSplits:
    return read_dataset(str(tiny_market), Path())


def test_a_draw_depends_on_its_seed_and_leaves_the_random_state_alone(splits: ReidSplits) -> None:
    labels = [s.person_id for s in splits.train]
    dataset = ImageDataset(splits.train, labels, TrainTransform((32, 16), Augmentation(padding=4)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again = dataset[Draw(3, 7)], dataset[Draw(3, 7)]
    others = [dataset[Draw(3, seed)].image for seed in range(20)]
    assert torch.equal(first.image, again.image)
    assert first.erased == again.erased
    assert any(not torch.equal(first.image, other) for other in others)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_carry_rows_that_lead_back_to_the_samples(splits: ReidSplits) -> None:
    batch = collate([ImageDataset(splits.query, [9] * 99, TestTransform((32, 16)))[row] for row in (2, 0)])
    assert batch.images.shape == (2, 3, 32, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.rows.tolist() == [2, 0]
    assert batch.labels.tolist() == [9, 9]


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


@pytest.fixture
def damaged(tmp_path: Path) -> ReidSplits:
    good, truncated, text = tmp_path / "good.jpg", tmp_path / "truncated.jpg", tmp_path / "text.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(good)
    truncated.write_bytes(good.read_bytes()[:700])
    text.write_text("no image")
    train = tuple(Sample(path, i, 1) for i, path in enumerate((good, truncated, text, tmp_path / "gone.jpg")))
    return ReidSplits("damaged", train, train[:1], train[:1])


def test_bad_files_are_named_at_set_up(damaged: ReidSplits) -> None:
    with pytest.raises(
        ReidError, match=r"(?s)3 of 6 images of damaged cannot be read.*truncated\.jpg.*text\.jpg.*gone"
    ):
        check_files(damaged, "error", workers=2)


def test_bad_files_are_skipped_and_counted(damaged: ReidSplits, caplog: pytest.LogCaptureFixture) -> None:
    kept = check_files(damaged, "skip", workers=2)
    assert [s.path.name for s in kept.train] == ["good.jpg"]
    assert "3 of 6 images" in caplog.text
    assert not check_files(ReidSplits("damaged", (), damaged.query, damaged.train), "skip", workers=1).train
    with pytest.raises(ReidError, match="train split of damaged has no readable image left"):
        check_files(ReidSplits("damaged", damaged.train[1:], damaged.query, damaged.gallery), "skip", workers=1)


@pytest.mark.slow
def test_a_bad_file_in_a_worker_is_named(damaged: ReidSplits) -> None:
    dataset = ImageDataset(damaged.train, [0, 1, 2, 3], TestTransform((32, 16)))
    with pytest.raises(ReidError, match=r"cannot read image .*text\.jpg.*DATASETS\.CHECK_FILES True names all"):
        list(DataLoader(dataset, batch_size=1, sampler=[2], num_workers=1, collate_fn=collate))
