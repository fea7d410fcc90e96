"""What the routes use: from the bytes of an image to a vector, and from a vector to its matches."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import anyio
import numpy as np
import torch
from fastapi import HTTPException, Request, UploadFile
from numpy.typing import NDArray
from torch import Tensor

from inference.extract import Extractor
from inference.indexes.milvus_server import ServerAwayError
from inference.service.batching import Batcher
from inference.service.gallery import Match, Query, ServedGallery
from inference.service.metrics import Counts
from inference.service.uploads import Limits, Upload, decode
from utils.blocks import blocks_of
from utils.errors import ReidError
from utils.processes import usable_cpus
from utils.text import printable

_WAITING = 512  # requests that wait for the network, or for the search
_ASKING = 16  # requests that ask the gallery, or wait for others that ask it

T = TypeVar("T")


class Service:
    """What the routes use.

    Args:
        extractor: that embeds.
        gallery: that is searched.
        limits: of uploads.
        batch_size: images that the extractor gets at once.
        max_distance: a threshold for people to see; it drops nothing.
    """

    def __init__(
        self,
        extractor: Extractor,
        gallery: ServedGallery,
        limits: Limits,
        batch_size: int = 128,
        max_distance: float | None = None,
    ) -> None:
        self.gallery, self.limits, self.max_distance = gallery, limits, max_distance
        self.counts, self.version = Counts(), secrets.token_hex(4)
        self._transform, self._block = extractor.transform, min(batch_size, _WAITING // 8)
        self._embeddings: Batcher[Tensor, NDArray[np.float32]] = Batcher(
            "embed", lambda pixels: list(extractor.embed(torch.stack(list(pixels)))), batch_size, _WAITING
        )
        self._searches: Batcher[Query, list[Match]] = Batcher(
            "search", gallery.search, batch_size, _WAITING, of_all=(ServerAwayError,)
        )
        self._threads = anyio.CapacityLimiter(max(2, usable_cpus()))  # images in memory at once
        self._askers = anyio.CapacityLimiter(_ASKING)  # threads of their own: a gallery may not answer for seconds

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with an image, which takes a while, beside the other requests."""
        return await anyio.to_thread.run_sync(work, limiter=self._threads)

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the gallery beside the other requests."""
        return await anyio.to_thread.run_sync(question, limiter=self._askers)

    async def embed(self, upload: UploadFile, request: Request) -> tuple[Upload, NDArray[np.float32]]:
        """Decode an image and embed it together with those of other requests: (D,).

        Raises:
            HTTPException: if it is no image that can be read, or nobody waits for it any more.
        """

        def prepare() -> Upload:
            image = decode(upload.file.read(), self.limits)
            return image._replace(pixels=self._transform(image.pixels).image)

        try:
            image = await self.in_thread(prepare)
        except ReidError as error:
            raise HTTPException(422, printable(str(error))) from error
        return image, await _result(self._embeddings.submit(image.pixels), request)

    async def embed_many(
        self, uploads: Sequence[UploadFile], request: Request
    ) -> tuple[list[tuple[bytes, str]], NDArray[np.float32]]:
        """Embed all images of a request, a batch at a time, so that other clients have their turns between.

        Returns:
            The content and the ending of each of N files, and (N, D) vectors.

        Raises:
            HTTPException: as :meth:`embed`.
        """
        files, vectors = [], []
        for block in blocks_of(len(uploads), self._block):
            for image, vector in await asyncio.gather(*(self.embed(upload, request) for upload in uploads[block])):
                files.append((image.content, image.ending))
                vectors.append(vector)
        return files, np.stack(vectors)

    async def search(self, query: Query, request: Request) -> list[Match]:
        """The matches of a query, searched together with those of other requests."""
        return await _result(self._searches.submit(query), request)

    def metrics(self) -> str:
        """For Prometheus; it waits for nobody."""
        figures = []
        for name, batcher in (("embedded", self._embeddings), ("searched", self._searches)):
            figures += [(f"{name}_total", "counter", float(batcher.items))]
            figures += [(f"{name}_batches_total", "counter", float(batcher.batches))]
            figures += [(f"{name}_waiting", "gauge", float(batcher.waiting))]
        return self.counts.text([*figures, ("gallery_images", "gauge", float(self.gallery.last_number))])

    def close(self) -> None:
        """Finish what waits."""
        self._embeddings.close()
        self._searches.close()


async def _result(future: "Future[T]", request: Request) -> T:
    """What comes out of a batch; what nobody waits for any more is taken out of those that wait."""

    async def cancel_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        future.cancel()

    watch = asyncio.create_task(cancel_when_gone())
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError as error:
        raise HTTPException(503, "the client has gone, or the service stops") from error
    finally:
        watch.cancel()
