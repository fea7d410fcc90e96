"""Images to embeddings, as fast as the bare network."""

import logging
import os
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from datasets.loader import Loader
from datasets.transforms import NetworkInput, TestTransform
from engine.model import TrainedModel
from engine.settings import Settings
from inference.device import decoding_workers
from inference.engines import ENGINES, Plan, Source, fastest_plan
from inference.exports.opened import ExportedModel, open_model
from inference.gallery.store import Embeddings
from inference.images import DecodedBatch, DecodedImage, Images, ImageSequence, ImageSource, collate, image_sequence
from inference.known_cameras import CameraNumbers
from inference.models import prepare
from modelling.deployment import LAYOUTS
from utils.cpu import flushing_thread
from utils.errors import ReidError
from utils.processes import check_shared_memory

logger = logging.getLogger(__name__)


class EmbeddedBatch(NamedTuple):
    """Part of a stream.

    Attributes:
        rows: (N,) int64, which images.
        vectors: (N, D) float32, not normalized.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]


class PendingBatch(NamedTuple):
    """A batch whose vectors lie in the host's memory once they are copied from the device.

    Attributes:
        rows: (N,) int64, which images.
        vectors: (N, D) float32.
        copied: the end of the copy; None on the CPU, where there is none.
    """

    rows: NDArray[np.int64]
    vectors: Tensor
    copied: torch.cuda.Event | None

    def wait(self) -> EmbeddedBatch:
        """The batch once it is copied, in memory of its own: pinned memory is scarce."""
        if self.copied is None:
            return EmbeddedBatch(self.rows, self.vectors.numpy())
        self.copied.synchronize()
        return EmbeddedBatch(self.rows.copy(), self.vectors.numpy().copy())


class Extractor:
    """A trained network that embeds files, folders, PIL images and arrays.

    The backbone computes in ``precision``, the head always in float32. Images are decoded in processes beside the
    network. On CUDA the extractor queues the next batch, whose pixels are copied beside the computation, before it
    waits for the vectors of the present one.

    ``auto`` is decided by measuring, see :meth:`choose`.

    Args:
        checkpoint: a checkpoint of ours, a trained model of another project, or a file of inference/export.py; or
            what :func:`inference.exports.opened.open_model` has made of one with other settings.
        device: ``auto`` (CUDA where it is; an exported file takes the CPU), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: images in a batch; bounds the memory.
        precision: of the backbone, one of :data:`inference.choices.PRECISIONS`; ``auto``: see
            :func:`inference.engines.plans`.
        workers: processes that decode; 0 = this process, None = by the machine. One batch or less never starts any.
        engine: that computes, one of :data:`inference.engines.ENGINES`, or ``auto``; None = torch, or the usual one
            of an exported file.

    Attributes:
        card: what made the embeddings.
        device: that computes.
        cameras: that the network knows.
        report: of a test of the weights, see :func:`engine.reports.report_of`; empty = there is none.
        transform: from the pixels of an image to those of the network's size; any thread may call it.

    Raises:
        ReidError: for a file that is no trained model, a device that is not there, or wrong numbers.
    """

    def __init__(
        self,
        checkpoint: str | Path | TrainedModel | ExportedModel,
        device: str = "auto",
        batch_size: int = 128,
        precision: str = "auto",
        workers: int | None = None,
        engine: str | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ReidError(f"batch_size must be 1 or more, got {batch_size!r}")
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise ReidError(f"workers must be 0 or more, got {workers!r}")
        if isinstance(checkpoint, (str, Path)):
            checkpoint = open_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
        self.report = checkpoint.report
        model = prepare(checkpoint, device, precision, engine)
        self.card, self.cameras, self.device, self._plans = model.card, model.cameras, model.device, model.plans
        self._source: Source | None = model.source
        images = model.card.preprocessing
        self._workers = decoding_workers(self.device) if workers is None else workers
        self._batch_size = batch_size
        self._thread = flushing_thread()
        self.transform, self._input = TestTransform(images), NetworkInput(images).to(self.device)
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def choose(self, num_images: int) -> Plan:
        """Decide how to compute, once: the first call counts, and a stream makes it if nobody has.

        What ``auto`` leaves open is measured on this network, machine and size of images where there are at least
        1000 images, and stored for later runs; a few images take the stored choice, or fp32 in torch without one.

        Args:
            num_images: that are going to be embedded.
        """
        if self._source is not None:
            work = self._thread.submit(fastest_plan, self._plans, self._source, self._batch_size, num_images)
            self._plan, self._embed = work.result()
            logger.info("%s embeds on %s", self._plan, self.device)
            self._source = None
        return self._plan

    @property
    def precision(self) -> str:
        """In which the backbone computes; decided as for a few images if nothing was embedded yet."""
        return self.choose(0).precision

    def __call__(
        self,
        images: Images,
        cameras: CameraNumbers | None = None,
        *,
        strict: bool = False,
        subfolders: bool = False,
    ) -> Embeddings:
        """Embed; the result lies in memory (for more than fits, see :meth:`stream`).

        Args:
            images: a folder, a file, a PIL image, an (H, W, 3) uint8 RGB array, or a sequence of the last three.
            cameras: the camera of each image, for a network that looks at cameras: its place among those of the
                training, from 0 on; -1 = unknown. None = all are unknown.
            strict: an unreadable image is an error instead of a row that is missing.
            subfolders: of a folder, embed the images in its folders too, however deep.

        Returns:
            Rows in the order of ``images``, without the unreadable ones.

        Raises:
            ReidError: for a path that does not exist or an empty folder, for an image of a wrong kind, for
                something that is no sequence, for cameras that the network or the engine does not take, or for an
                unreadable image under ``strict``.
        """
        sequence = image_sequence(images, subfolders=subfolders)
        batches = list(self.stream(sequence, cameras=cameras, strict=strict))
        vectors = [batch.vectors for batch in batches] or [np.empty((0, self.card.dim), np.float32)]
        sources = [sequence[int(row)] for batch in batches for row in batch.rows]
        names = [str(source) if isinstance(source, (str, os.PathLike)) else "" for source in sources]
        return Embeddings(np.concatenate(vectors), np.array(names, dtype=np.str_))

    def stream(
        self,
        images: Images,
        rows: NDArray[np.int64] | None = None,
        cameras: CameraNumbers | None = None,
        *,
        strict: bool = False,
    ) -> Generator[EmbeddedBatch]:
        """Embed batch by batch, in order, in memory that does not grow with their number.

        Unreadable images are named in the log, counted at the end, and have no row in any batch.

        Args:
            images: see :meth:`__call__`.
            rows: (M,) which of them; None = all.
            cameras: of all images, see :meth:`__call__`.
            strict: see :meth:`__call__`.

        Raises:
            ReidError: as :meth:`__call__`.
        """
        sequence = image_sequence(images)
        rows = np.arange(len(sequence)) if rows is None else rows
        self.choose(len(rows))
        if cameras is not None and not ENGINES[self._plan.engine].takes_cameras:
            raise ReidError(
                f"engine {self._plan.engine} takes no cameras; set engine torch, or leave the cameras out"
            )
        places = self.cameras.places(cameras, len(sequence))
        begin, unreadable = time.perf_counter(), 0
        waiting: PendingBatch | None = None
        quiet = True if len(rows) <= self._batch_size else None  # None: where stderr is no terminal
        with (
            tqdm(total=len(rows), desc="embed", unit="image", disable=quiet) as bar,
            closing(self._loader(sequence, rows)) as loader,
        ):
            for batch in loader:
                unreadable += _report(batch.faults, strict)
                launched = self._thread.submit(self._launch, batch, places).result() if len(batch.rows) else None
                if waiting is not None:
                    yield self._check(waiting.wait())
                waiting = launched
                bar.update(len(batch.rows) + len(batch.faults))
            if waiting is not None:
                yield self._check(waiting.wait())
        seconds = time.perf_counter() - begin
        if len(rows) > self._batch_size:
            done = len(rows) - unreadable
            logger.info("%d images embedded in %.1f s, %.1f images/s", done, seconds, done / seconds)
        if unreadable:
            logger.warning("%d of %d images could not be read and are left out", unreadable, len(rows))

    def embed(self, pixels: Tensor) -> NDArray[np.float32]:
        """Embed images that are decoded already, all at once.

        Args:
            pixels: (N, 3, H, W) uint8 as :attr:`transform` makes them; N of ``batch_size`` at most is meant.

        Returns:
            (N, D), not normalized.

        Raises:
            ReidError: if the network does not give finite numbers.
        """
        self.choose(len(pixels))
        batch = DecodedBatch(torch.arange(len(pixels)), pixels, ())
        places = self.cameras.places(None, len(pixels))
        return self._check(self._thread.submit(self._launch, batch, places).result().wait()).vectors

    @torch.inference_mode()
    def _launch(self, batch: DecodedBatch, cameras: Tensor | None) -> PendingBatch:
        """Compute a batch; on CUDA only queue it, its copies from and to the host included."""
        pixels = self._on_device(batch.pixels).contiguous(memory_format=LAYOUTS[self._plan.layout])
        arguments = () if cameras is None else (cameras[batch.rows].to(self.device),)
        host = self._embed(self._input(pixels), *arguments).to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream(self.device).record_event() if self._copies else None
        return PendingBatch(batch.rows.numpy(), host, copied)

    def _on_device(self, pixels: Tensor) -> Tensor:
        """The pixels on the device; on CUDA they are copied while the batch before is computed."""
        if self._copies is None:
            return pixels
        with torch.cuda.stream(self._copies):
            copy = pixels.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copies)
        copy.record_stream(computing)  # its memory stays until it is read
        return copy

    def _check(self, batch: EmbeddedBatch) -> EmbeddedBatch:
        if not np.isfinite(batch.vectors).all():
            remedy = (
                "with these weights values grow beyond float32: take a checkpoint from before the training diverged"
                if self.precision == "fp32"
                else "set precision fp32"
            )
            raise ReidError(
                f"the network must give finite numbers, but does not in precision {self.precision}; {remedy}"
            )
        return batch

    def _loader(self, images: ImageSequence, rows: NDArray[np.int64]) -> Loader[DecodedImage]:
        workers = self._workers if len(rows) > self._batch_size else 0
        check_shared_memory(workers, len(rows), self._batch_size, self.card.preprocessing.size)
        return Loader(
            ImageSource(images, rows, self.transform),
            batch_size=self._batch_size,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
        )


def _report(faults: tuple[str, ...], strict: bool) -> int:
    for fault in faults:
        if strict:
            raise ReidError(f"{fault}; repair or remove it, or leave --strict out to skip such files")
        logger.warning("%s", fault)
    return len(faults)
