"""The loaders of one run, as a Lightning data module."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from datasets.batch import Item
from datasets.image_dataset import ImageDataset, collate
from datasets.loader import Loader
from datasets.low_resolution import LowResolutionFiles
from datasets.preprocessing import Preprocessing
from datasets.sample import ReidSplits, identities
from datasets.samplers import PKBatchSampler, ProcessShare, SequentialShare
from datasets.transforms import Augmentation, TestTransform, TrainTransform
from utils.processes import check_shared_memory


@dataclass(frozen=True)
class LoaderSettings:
    """How images become batches.

    Attributes:
        preprocessing: of test images.
        train_size: height and width of training images, pixels; otherwise their preprocessing is the same.
        augmentation: the random part of training.
        batch: images in a training batch, P x K.
        instances: K.
        resample: True repeats images of identities with fewer than K; False makes smaller batches.
        test_batch: images in a test batch.
        workers: processes that decode.
        seed: of the sampler and the random transforms.
        scales: low-resolution scales; each training image gets one of them at random.
        first_camera: of training images, the number of the camera that the network knows as its first; None = the
            network is not told the cameras.
        first_test_camera: the same of test images.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    train_size: tuple[int, int] = (256, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)
    batch: int = 64
    instances: int = 4
    resample: bool = True
    test_batch: int = 128
    workers: int = 4
    seed: int = 0
    scales: tuple[int, ...] = (1,)
    first_camera: int | None = None
    first_test_camera: int | None = None


class ReidDataModule(LightningDataModule):
    """Loaders over the splits of a data set.

    Args:
        splits: the data set; its training split may be empty for a test.
        settings: see :class:`LoaderSettings`.
        resume_at: epoch and batch at which training goes on after an interruption.
        low_resolution: files that replace what the device would make; None = none.

    Raises:
        ReidError: if the workers' batches do not fit the shared memory.
    """

    def __init__(
        self,
        splits: ReidSplits,
        settings: LoaderSettings,
        resume_at: tuple[int, int] = (0, 0),
        low_resolution: LowResolutionFiles | None = None,
    ) -> None:
        super().__init__()
        self.splits, self.low_resolution = splits, low_resolution or LowResolutionFiles()
        self._settings, self._resume_at = settings, resume_at
        self._loaders: list[Loader[Item]] = []
        check_shared_memory(settings.workers, len(splits.train), settings.batch, settings.train_size)
        check_shared_memory(settings.workers, len(splits.test), settings.test_batch, settings.preprocessing.size)
        self._label_of = {person: label for label, person in enumerate(identities(splits.train))}

    @property
    def num_ids(self) -> int:
        """Number of training identities."""
        return len(self._label_of)

    def close(self) -> None:
        """End the workers of all loaders."""
        for loader in self._loaders:
            loader.close()

    def train_dataloader(self) -> Loader[Item]:
        """P x K batches with labels from 0 to ``num_ids`` - 1."""
        settings = self._settings
        labels = [self._label_of[sample.person_id] for sample in self.splits.train]
        preprocessing = replace(settings.preprocessing, size=settings.train_size)
        sampler = PKBatchSampler(
            labels,
            settings.batch // settings.instances,
            settings.instances,
            settings.seed,
            self._share(),
            resample=settings.resample,
        )
        sampler.start_at(*self._resume_at)
        transform = TrainTransform(preprocessing, settings.augmentation, settings.scales)
        loader = ResumableLoader(
            ImageDataset(self.splits.train, labels, transform, self.low_resolution.train, settings.first_camera),
            batch_sampler=sampler,
            **self._loader_options(),
        )
        self._loaders.append(loader)
        return loader

    def val_dataloader(self) -> Loader[Item]:
        """This process's share of query, then gallery, in order; the labels are the identities of the files."""
        samples = self.splits.test
        labels = [sample.person_id for sample in samples]
        transform = TestTransform(self._settings.preprocessing)
        loader = Loader(
            ImageDataset(samples, labels, transform, self.low_resolution.test, self._settings.first_test_camera),
            batch_size=self._settings.test_batch,
            sampler=SequentialShare(len(samples), self._share()),
            **self._loader_options(),
        )
        self._loaders.append(loader)
        return loader

    def test_dataloader(self) -> Loader[Item]:
        """The same as :meth:`val_dataloader`."""
        return self.val_dataloader()

    def _share(self) -> ProcessShare:
        if self.trainer is None:
            return ProcessShare()
        return ProcessShare(self.trainer.global_rank, self.trainer.world_size)

    def _on_cuda(self) -> bool:
        if self.trainer is None:
            return torch.cuda.is_available()
        return self.trainer.strategy.root_device.type == "cuda"

    def _loader_options(self) -> dict[str, Any]:
        workers = self._settings.workers
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "collate_fn": collate,
            "pin_memory": self._on_cuda(),
            # A separate generator: a new iterator must not draw from the state that a resumed run restores.
            "generator": torch.Generator().manual_seed(self._settings.seed),
        }


class ResumableLoader(Loader[Item]):
    """A loader that can start in the middle of an epoch.

    The sampler holds the position (:meth:`PKBatchSampler.start_at`) and the checkpoint stores it, so the loader has
    no state. The two methods tell Lightning that resuming within an epoch is exact.
    """

    def state_dict(self) -> dict[str, object]:
        """Nothing: see the class."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Nothing: see the class."""
