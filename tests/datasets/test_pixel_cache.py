"""Cached pixels are those of the files, whatever becomes of the cache's file."""

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import image_dataset
from datasets.batch import Batch
from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.low_resolution import LowResolutionFiles
from datasets.pixel_cache import PixelCache
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.sample import ReidSplits
from datasets.transforms import Augmentation
from tests.support import largest_file, message_with
from utils.errors import ReidError
from utils.images import read_image

SIZE = (34, 15)  # its bytes are no whole words
SMALL = Preprocessing(SIZE)
SETTINGS = LoaderSettings(
    SMALL, SIZE, Augmentation(padding=2), batch=8, instances=2, test_batch=5, workers=0, scales=(1, 2)
)


@pytest.fixture
def splits(tiny_market: Path, tmp_path: Path) -> ReidSplits:
    """A copy, whose files a test may change."""
    return read_dataset(str(shutil.copytree(tiny_market, tmp_path / "data")), Path())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded."""
    paths: list[Path] = []

    def read(path: Path) -> torch.Tensor:
        paths.append(path)
        return read_image(path)

    monkeypatch.setattr(image_dataset, "read_image", read)
    return paths


def batches(
    splits: ReidSplits, cache: Path | None, epochs: int = 2, workers: int = 0, **options: object
) -> list[Batch]:
    """All batches of some epochs."""
    data = ReidDataModule(splits, replace(SETTINGS, cache_dir=cache, workers=workers), **options)  # type: ignore[arg-type]
    loader = data.train_dataloader()
    result = []
    for epoch in range(epochs):
        loader.batch_sampler.set_epoch(epoch)
        result += list(loader)
    data.close()
    return result


def assert_same(ours: list[Batch], reference: list[Batch]) -> None:
    assert len(ours) == len(reference) > 0
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(tuple(one), tuple(other), rtol=0, atol=0)
        assert one.images.stride() == other.images.stride()


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_cached_batches_are_those_of_the_files(splits: ReidSplits, tmp_path: Path, decoded: list[Path]) -> None:
    reference = batches(splits, None)
    decoded.clear()
    assert_same(batches(splits, tmp_path / "made" / "here"), reference)
    assert sorted(decoded) == sorted(sample.path for sample in splits.train)  # each image once
    decoded.clear()
    assert_same(batches(splits, tmp_path / "made" / "here"), reference)  # as the next run does
    assert decoded == []


@pytest.mark.slow
def test_workers_fill_and_read_one_file(splits: ReidSplits, tmp_path: Path, decoded: list[Path]) -> None:
    reference = batches(splits, None)
    assert_same(batches(splits, tmp_path / "cache", workers=2), reference)
    assert_same(batches(splits, tmp_path / "cache", workers=2), reference)
    decoded.clear()
    assert_same(batches(splits, tmp_path / "cache"), reference)
    assert decoded == []  # the workers have stored all of them


def test_low_resolution_files_go_with_a_cache(splits: ReidSplits, tmp_path: Path) -> None:
    files = LowResolutionFiles({2: [sample.path for sample in splits.train[::-1]]})
    reference = batches(splits, None, low_resolution=files)
    for _ in range(2):
        assert_same(batches(splits, tmp_path / "cache", low_resolution=files), reference)


def test_a_change_that_decides_pixels_begins_another_file(splits: ReidSplits, tmp_path: Path) -> None:
    paths, folder = [sample.path for sample in splits.train], tmp_path / "cache"

    def name(files: list[Path], preprocessing: Preprocessing = SMALL) -> str:
        return PixelCache(folder, files, preprocessing).path.name

    first = name(paths)
    assert name(paths) == first
    assert name(paths, replace(SMALL, mean=(0.1, 0.2, 0.3), scale=4)) == first  # the device's work
    names = {first, name(paths[::-1]), name(paths[1:])}
    names |= {name(paths, replace(SMALL, size=(16, 8))), name(paths, replace(SMALL, interpolation="bicubic"))}
    os.utime(paths[3], ns=(0, 0))
    names.add(name(paths))
    with paths[3].open("ab") as file:
        file.write(b"more")
    os.utime(paths[3], ns=(0, 0))
    names.add(name(paths))
    assert len(names) == 7
    assert {path.name for path in folder.iterdir()} == names  # none is removed


@pytest.mark.parametrize("damage", ["short", "long", "empty", "noise", "zeros", "half a record"])
def test_damaged_files_give_the_right_pixels(
    splits: ReidSplits, tmp_path: Path, damage: str, decoded: list[Path]
) -> None:
    reference, folder = batches(splits, None, 1), tmp_path / "cache"
    batches(splits, folder, 1)
    path = only_file(folder)
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, len(content), np.uint8).tobytes()
    middle = len(content) // 2 + 100
    damaged = {
        "short": content[:middle],
        "long": content + b"more",
        "empty": b"",
        "noise": noise,
        "zeros": bytes(len(content)),
        "half a record": content[:middle] + bytes(64) + content[middle + 64 :],
    }[damage]
    path.write_bytes(damaged)
    decoded.clear()
    assert_same(batches(splits, folder, 1), reference)
    number = {"short": len(splits.train) // 2, "long": 0, "half a record": 1}.get(damage, len(splits.train))
    assert len(decoded) == number
    assert path.read_bytes() == content


def test_a_removed_folder_does_not_stop_training(
    splits: ReidSplits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference, folder = batches(splits, None, 1), tmp_path / "cache"
    data = ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))
    shutil.rmtree(folder)
    assert_same(list(data.train_dataloader()), reference)
    assert "training goes on" in message_with(caplog, "DATASETS.CACHE_DIR", "No such file")


def test_a_disk_that_fills_up_does_not_stop_training(
    splits: ReidSplits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference, folder = batches(splits, None, 1), tmp_path / "cache"
    data = ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))
    with largest_file(3000):
        assert_same(list(data.train_dataloader()), reference)
    assert "training goes on" in message_with(caplog, "DATASETS.CACHE_DIR", "File too large")
    assert_same(batches(splits, folder, 1), reference)


def test_too_little_space_is_refused(
    splits: ReidSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, images = tmp_path / "cache", len(splits.train)
    size = images * (34 * 15 * 3 + 6 + 8)  # whole words, and a checksum
    caplog.set_level(logging.INFO)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(ReidError, match=rf"DATASETS\.CACHE_DIR must have {size} bytes free.*cache has {size - 1}"):
        ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size))
    ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))
    assert only_file(folder).stat().st_size == size
    assert str(only_file(folder)) in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))  # it has its space


def test_a_folder_that_cannot_be_written_is_refused(splits: ReidSplits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ReidError, match=r"DATASETS\.CACHE_DIR must be a folder that can be written, got .*file"):
            ReidDataModule(splits, replace(SETTINGS, cache_dir=folder))


def test_a_test_alone_needs_no_folder(splits: ReidSplits, tmp_path: Path) -> None:
    data = ReidDataModule(replace(splits, train=()), replace(SETTINGS, cache_dir=tmp_path / "cache"))
    assert len(list(data.test_dataloader())) > 0
    assert not (tmp_path / "cache").exists()
