"""P x K batches for metric learning: P identities, K images of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from datasets.batch import SeededIndex
from utils.errors import ReidError

_ABSENT = -1


@dataclass(frozen=True)
class ProcessShare:
    """Which part of every epoch belongs to this process."""

    rank: int = 0
    world_size: int = 1


class PKBatchSampler(Sampler[list[SeededIndex]]):
    """Batches of P identities with K images each, drawn again in every epoch.

    The sampler cuts an identity's images, in random order, into chunks of K (and fills the last one up with other
    images of the same identity), and deals the chunks to the batches so that no batch has an identity twice. So
    each epoch shows every identity, and every image unless one identity has more chunks than there are batches.
    The plan depends on seed and epoch alone: not on workers, not on processes. Every index carries the seed of its
    random transforms, so the number of workers changes no pixel.

    Lightning announces the epoch to the ``sampler`` of a batch sampler, hence that attribute.

    Args:
        labels: the identity of each image.
        identities_per_batch: P.
        instances: K.
        seed: of everything random here.
        share: the part of this process; all processes get the same number of batches.
        resample: True repeats the images of an identity with fewer than K; False takes each once, and the batch is
            smaller: nothing pads it, so no loss and no statistic sees padding.

    Raises:
        ReidError: if there are fewer than P identities.
    """

    def __init__(
        self,
        labels: Sequence[int],
        identities_per_batch: int,
        instances: int,
        seed: int,
        share: ProcessShare = ProcessShare(),
        *,
        resample: bool = True,
    ) -> None:
        unique, self._numbers, self._images = np.unique(labels, return_inverse=True, return_counts=True)
        if len(unique) < identities_per_batch:
            raise ReidError(
                f"identities_per_batch must be the number of identities ({len(unique)}) or less, "
                f"got {identities_per_batch}; give more identities or smaller batches"
            )
        self._per_batch, self._instances, self._seed = identities_per_batch, instances, seed
        self._share, self._resample = share, resample
        chunks = -(-self._images // instances)
        batches = -(-int(chunks.sum()) // identities_per_batch)
        self._batches = -(-batches // share.world_size) * share.world_size
        self._chunks = np.minimum(chunks, self._batches)
        self._epoch = 0
        self._first_batch = 0

    @property
    def sampler(self) -> "PKBatchSampler":
        """This sampler: Lightning looks for ``set_epoch`` here."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        if epoch != self._epoch:
            self._first_batch = 0
        self._epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Start the iteration of ``epoch`` at its ``batch``-th batch, to continue an interrupted run."""
        self._epoch, self._first_batch = epoch, batch

    def __len__(self) -> int:
        """Number of batches of this process in a whole epoch."""
        return self._batches // self._share.world_size

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        """Yield the batches of the current epoch."""
        images, seeds = self._plan(self._epoch)
        mine = slice(self._share.rank, None, self._share.world_size)
        first, self._first_batch = self._first_batch, 0
        for batch_images, batch_seeds in zip(images[mine][first:], seeds[mine][first:], strict=True):
            rows, row_seeds = batch_images.tolist(), batch_seeds.tolist()
            yield [SeededIndex(row, seed) for row, seed in zip(rows, row_seeds, strict=True) if row != _ABSENT]

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (or absent) and seeds of an epoch for all processes, both (batches, P * K)."""
        rng = np.random.default_rng([self._seed, epoch])
        chunks = self._chunks + self._extra_chunks(rng)
        order = rng.permutation(len(chunks))  # of the identities
        identity = np.repeat(order, chunks[order])
        starts = np.cumsum(chunks[order]) - chunks[order]
        number = np.arange(len(identity)) - np.repeat(starts, chunks[order])  # of the chunk in its identity
        slot = np.arange(self._instances)
        count = self._images[identity][:, None]
        position = (number[:, None] * self._instances + slot) % count  # wraps around and so fills the last chunk

        shuffled = rng.permutation(len(self._numbers))
        by_identity = shuffled[np.argsort(self._numbers[shuffled], kind="stable")]
        first_image = np.cumsum(self._images) - self._images
        images = by_identity[first_image[identity][:, None] + position]
        if not self._resample:
            images[slot >= count] = _ABSENT
        # Chunk j goes to batch j modulo the number of batches. The chunks of one identity follow one another, and
        # there are never more of them than batches, so they go to different batches.
        batches = images.reshape(self._per_batch, self._batches, self._instances).transpose(1, 0, 2)
        batches = batches.reshape(self._batches, -1)[rng.permutation(self._batches)]
        return batches, rng.integers(0, 2**63, size=batches.shape)

    def _extra_chunks(self, rng: np.random.Generator) -> np.ndarray:
        """Repeated chunks per identity that make the last batches whole."""
        missing = self._per_batch * self._batches - int(self._chunks.sum())
        room = np.repeat(np.arange(len(self._chunks)), self._batches - self._chunks)
        return np.bincount(rng.choice(room, size=missing, replace=False), minlength=len(self._chunks))


class SequentialShare(Sampler[int]):
    """Every ``world_size``-th index, without repeats: evaluation counts each image once.

    Args:
        length: number of images.
        share: the part of this process; the shares' lengths may differ by one.
    """

    def __init__(self, length: int, share: ProcessShare = ProcessShare()) -> None:
        self._indices = range(share.rank, length, share.world_size)

    def __len__(self) -> int:
        """Number of images of this process."""
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices in rising order."""
        return iter(self._indices)
