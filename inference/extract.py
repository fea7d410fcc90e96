"""Images to embeddings, as fast as the bare network."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.preprocessing import Preprocessing
from datasets.transforms import NetworkInput, TestTransform
from engine.model import TrainedModel, load_model
from engine.settings import Settings
from inference.device import Precision, choose_device, choose_precision, decoding_workers, prepare, type_of
from inference.image_source import Decoded, DecodedBatch, ImageSequence, ImageSource, collate
from inference.images_given import Images, as_sequence
from inference.store import Embeddings, ModelCard
from utils.errors import ReidError
from utils.processes import leave_interrupts_to_main

logger = logging.getLogger(__name__)


class EmbeddedBatch(NamedTuple):
    """Part of a stream.

    Attributes:
        rows: (N,) int64, which images.
        vectors: (N, D) float32, not normalised.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]


class _UnderWay(NamedTuple):
    """A batch whose vectors, (N, D) float32 in the host's memory, are there once they are copied from the device."""

    rows: NDArray[np.int64]
    vectors: Tensor
    copied: torch.cuda.Event | None  # None on the CPU: they are there


class Extractor:
    """A trained network that embeds files, folders, PIL images and arrays.

    The backbone computes in ``precision``, the head always in float32. Images are decoded in processes beside the
    network. On CUDA the next batch is queued before the vectors of one, copied as soon as they are computed, are
    waited for.

    Args:
        checkpoint: a checkpoint of ours or a trained model of another project; or one that
            :func:`engine.model.load_model` has prepared with other settings (it is moved and converted).
        device: ``auto`` (CUDA where it is), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: images in a batch; bounds the memory.
        precision: of the backbone; ``auto``: see :func:`inference.device.choose_precision`.
        workers: processes that decode; 0 = this process, None = by the machine. One batch or less never starts any.

    Attributes:
        card: what made the embeddings.
        precision: the one chosen.

    Raises:
        ReidError: for a file that is no trained model, a device that is not there, or wrong numbers.
    """

    def __init__(
        self,
        checkpoint: str | Path | TrainedModel,
        device: str = "auto",
        batch_size: int = 128,
        precision: Precision | str = "auto",
        workers: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ReidError(f"batch_size must be 1 or more, got {batch_size}")
        if workers is not None and workers < 0:
            raise ReidError(f"workers must be 0 or more, got {workers}")
        self._device = choose_device(device)
        if not isinstance(checkpoint, TrainedModel):
            checkpoint = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
        self.precision = choose_precision(precision, self._device, checkpoint.record)
        self.card = _card(checkpoint)
        self._dtype = type_of(self.precision)
        self._network = prepare(checkpoint.network, checkpoint.record, self._device, self.precision)
        self._input = NetworkInput(checkpoint.preprocessing).to(self._device)
        self._batch_size = batch_size
        self._workers = decoding_workers(self._device) if workers is None else workers

    def __call__(self, images: Images, *, strict: bool = False, subfolders: bool = False) -> Embeddings:
        """Embed; the result lies in memory (for more than fits, see :meth:`stream`).

        Args:
            images: a folder, a file, a PIL image, an (H, W, 3) uint8 RGB array, or a sequence of the last three.
            strict: an unreadable file is an error instead of a row that is missing.
            subfolders: of a folder, embed the images in its folders too, however deep.

        Returns:
            Rows in the order of ``images``, without the unreadable ones.

        Raises:
            ReidError: for a path that does not exist or an empty folder, for an image of a wrong kind, for
                something that is no sequence, or for an unreadable file under ``strict``.
        """
        given = as_sequence(images, subfolders=subfolders)
        batches = list(self.stream(given, strict=strict))
        vectors = [batch.vectors for batch in batches] or [np.empty((0, self.card.dim), np.float32)]
        rows = [int(row) for batch in batches for row in batch.rows]
        names = [
            str(image) if isinstance(image, (str, os.PathLike)) else "" for image in map(given.__getitem__, rows)
        ]
        return Embeddings(np.concatenate(vectors), np.array(names, dtype=np.str_))

    def stream(
        self, images: Images, rows: NDArray[np.int64] | None = None, *, strict: bool = False
    ) -> Iterator[EmbeddedBatch]:
        """Embed batch by batch, in order, in memory that does not grow with their number.

        Unreadable files are named in the log, counted at the end, and have no row in any batch.

        Args:
            images: see :meth:`__call__`.
            rows: (M,) which of them; None = all.
            strict: see :meth:`__call__`.

        Raises:
            ReidError: as :meth:`__call__`.
        """
        given = as_sequence(images)
        rows = np.arange(len(given)) if rows is None else rows
        begin, unreadable = time.perf_counter(), 0
        waiting: _UnderWay | None = None
        with tqdm(total=len(rows), desc="embed", unit="image", disable=len(rows) <= self._batch_size) as bar:
            for batch in self._loader(given, rows):
                unreadable += _report(batch.faults, strict)
                launched = self._launched(batch) if len(batch.rows) else None
                if waiting is not None:
                    yield self._fetched(waiting)
                waiting = launched
                bar.update(len(batch.rows) + len(batch.faults))
            if waiting is not None:
                yield self._fetched(waiting)
        seconds = time.perf_counter() - begin
        if len(rows) > self._batch_size:
            done = len(rows) - unreadable
            logger.info("%d images embedded in %.1f s, %.1f images/s", done, seconds, done / seconds)
        if unreadable:
            logger.warning("%d of %d images could not be read and are left out", unreadable, len(rows))

    @torch.inference_mode()
    def _launched(self, batch: DecodedBatch) -> _UnderWay:
        """Compute a batch; on CUDA only queue it, its copy to the host included."""
        images = batch.pixels.to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        vectors: Tensor = self._network(self._input(images, self.card.scale).to(self._dtype)).bn
        host = vectors.float().to("cpu", non_blocking=True)
        on_cuda = self._device.type == "cuda"
        copied = torch.cuda.current_stream(self._device).record_event() if on_cuda else None
        return _UnderWay(batch.rows.numpy(), host, copied)

    def _fetched(self, batch: _UnderWay) -> EmbeddedBatch:
        fetched = EmbeddedBatch(batch.rows, batch.vectors.numpy())
        if batch.copied is not None:
            batch.copied.synchronize()
            # The memory of both is pinned, which is scarce: it goes back at once.
            fetched = EmbeddedBatch(fetched.rows.copy(), fetched.vectors.copy())
        if not np.isfinite(fetched.vectors).all():
            raise ReidError(
                f"the network must give finite numbers, but does not in precision {self.precision}; "
                "set precision fp32, or check the weights"
            )
        return fetched

    def _loader(self, images: ImageSequence, rows: NDArray[np.int64]) -> DataLoader[Decoded]:
        preprocessing = Preprocessing(self.card.size, interpolation=self.card.interpolation)
        return DataLoader(
            ImageSource(images, rows, TestTransform(preprocessing)),
            batch_size=self._batch_size,
            num_workers=self._workers if len(rows) > self._batch_size else 0,
            collate_fn=collate,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=leave_interrupts_to_main,
        )


def _card(model: TrainedModel) -> ModelCard:
    images = model.preprocessing
    return ModelCard(
        model.path.name, model.sha256, images.size, images.mean, images.std, images.interpolation, images.scale,
        model.network.dim, images.antialias,
    )  # fmt: skip


def _report(faults: tuple[str, ...], strict: bool) -> int:
    for fault in faults:
        if strict:
            raise ReidError(f"{fault}; repair or remove it, or leave --strict out to skip such files")
        logger.warning("%s", fault)
    return len(faults)
