"""A service on drawn people, behind a client of tests or behind a port."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.readers.market import labels_of
from inference.extract import Extractor
from inference.gallery.index import load_or_build_index, open_living
from inference.gallery.store import ADDED, Gallery

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from inference.service.access import Access  # noqa: E402
from inference.service.app import create_app  # noqa: E402
from inference.service.gallery import FixedGallery, ServedGallery  # noqa: E402
from inference.service.living_gallery import LivingGallery  # noqa: E402
from inference.service.service import Service  # noqa: E402
from inference.service.uploads import Limits  # noqa: E402

LIMITS = Limits(size=200_000, pixels=300_000)


@pytest.fixture(scope="session")
def extractor(checkpoint: Path) -> Extractor:
    return Extractor(checkpoint, "cpu", batch_size=8, precision="fp32", workers=0)


@pytest.fixture(scope="session")
def gallery(extractor: Extractor, tiny_market: Path) -> Gallery:
    """36 images of 6 people by 2 cameras, and some of nobody."""
    embeddings = extractor(sorted((tiny_market / "bounding_box_test").glob("*.jpg")))
    return Gallery(embeddings, extractor.card, False, *labels_of(embeddings.paths))


@pytest.fixture(scope="session")
def photos(tiny_market: Path) -> list[Path]:
    return sorted((tiny_market / "query").glob("*.jpg"))


@pytest.fixture
def open_served(gallery: Gallery, tmp_path: Path) -> Callable[[str], ServedGallery]:
    """The gallery with an index of some kind."""

    def serve(kind: str) -> ServedGallery:
        pytest.importorskip({"hnsw": "faiss", "milvus": "milvus_lite"}.get(kind, "numpy"))
        if kind == "milvus":
            return LivingGallery(gallery, open_living(gallery, tmp_path), tmp_path / ADDED)
        return FixedGallery(gallery, load_or_build_index(gallery, tmp_path, kind), kind)

    return serve


@pytest.fixture
def make_app(extractor: Extractor, open_served: Callable[[str], ServedGallery]) -> Callable[..., FastAPI]:
    """An application: its gallery or the kind of its index, its token, limits, threshold."""

    def make(
        of: ServedGallery | str = "flat", token: str = "", limits: Limits = LIMITS, max_distance: float | None = None
    ) -> FastAPI:
        gallery = open_served(of) if isinstance(of, str) else of
        return create_app(Service(extractor, gallery, limits, 8, max_distance), Access(token, "testserver"))

    return make


@pytest.fixture
def make_client(make_app: Callable[..., FastAPI]) -> Iterator[Callable[..., TestClient]]:
    """A client of an application, see ``make_app``."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(TestClient(make_app(*args, **kwargs)))


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def listen(make_app: Callable[..., FastAPI]) -> Iterator[Callable[..., int]]:
    """Serve an application, see ``make_app``, on a free port of this machine."""
    import uvicorn

    servers: list[tuple[Any, threading.Thread]] = []

    def start(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401 (those of make_app)
        server = uvicorn.Server(uvicorn.Config(make_app(*args, **kwargs), port=0, log_config=None))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return int(server.servers[0].sockets[0].getsockname()[1])

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def rank(gallery: Gallery) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The rows of the gallery from the nearest to the farthest, and their distances, by a plain product."""

    def rows_and_distances(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        units = gallery.embeddings.vectors / np.linalg.norm(gallery.embeddings.vectors, axis=1, keepdims=True)
        distances = 1 - units.astype(np.float64) @ (vector / np.linalg.norm(vector))
        order = distances.argsort(kind="stable")
        return order, distances[order]

    return rows_and_distances
