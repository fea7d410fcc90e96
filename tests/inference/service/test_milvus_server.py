"""The service on a gallery in a real server of Milvus, which is stopped and started again meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from inference.gallery.index import open_living
from inference.gallery.store import ADDED, Gallery
from inference.indexes.milvus_server import Server
from inference.service.living_gallery import LivingGallery
from tests.inference.indexes.standalone import Standalone

pytest.importorskip("pymilvus")
pytestmark = pytest.mark.slow

_PATIENCE = 300.0  # seconds, on a busy machine


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    server = Standalone(tmp_path_factory.mktemp("standalone") / "milvus")
    try:
        server.start()
        yield server
    finally:
        server.remove()


def until(answers: Callable[[], httpx2.Response], status: int) -> httpx2.Response:
    """The first answer with this status."""
    end = time.monotonic() + _PATIENCE
    while (answer := answers()).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.5)
    return answer


def check_refused(request: Callable[[], httpx2.Response]) -> None:
    """The request fails within seconds, and says when to come again."""
    begin = time.monotonic()
    answer = request()
    assert time.monotonic() - begin < 20  # five, on a machine that does nothing else
    assert answer.status_code == 503
    assert "Milvus must answer at" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "5"


def test_a_server_that_stops_and_starts_again(
    standalone: Standalone,
    listen: Callable[..., int],
    gallery: Gallery,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inference.index.Server", partial(Server, timeout=120.0, attempts=5))  # of the start
    number = len(gallery.embeddings)

    def start() -> httpx2.Client:
        living = LivingGallery(gallery, open_living(gallery, tmp_path, standalone.uri), tmp_path / ADDED)
        return httpx2.Client(base_url=f"http://127.0.0.1:{listen(living)}", timeout=60)

    client = start()
    files = [("image", photo.read_bytes()) for photo in photos[:3]]
    assert until(lambda: client.get("/gallery"), 200).json()["images"] == number
    answer = until(lambda: client.post("/gallery?person_id=77&camera_id=5", files=files), 201)
    rows = [match["row"] for match in answer.json()["matches"]]

    def search() -> httpx2.Response:
        return client.post("/search?k=1", files=files[:1])

    assert until(search, 200).json()["matches"][0]["row"] == rows[0]
    assert until(lambda: client.delete(f"/gallery?row={rows[1]}&row=3"), 200).json()["deleted"] in (0, 2)

    standalone.stop()
    requests = [search, *(partial(client.get, address) for address in ("/gallery", f"/images/{rows[0]}"))]
    requests += [lambda: client.post("/search?row=1"), lambda: client.post("/gallery", files=files)]
    for request in [*requests, lambda: client.delete(f"/gallery?row={rows[2]}")]:
        check_refused(request)
    assert client.get("/metrics").status_code == 200
    assert client.post("/embed", files=files[:1]).status_code == 200

    standalone.start()
    assert until(search, 200).json()["matches"][0]["row"] == rows[0]
    assert client.get("/gallery").json()["images"] == number + 1
    assert until(lambda: client.post("/gallery", files=files[:1]), 201)
    assert not list((tmp_path / ADDED).glob(".unfinished_*"))
    client.close()

    again = start()
    description = until(lambda: again.get("/gallery"), 200).json()
    assert (description["images"], description["cameras"]) == (number + 2, [1, 2, 5])
    assert again.get("/images/3").status_code == 404
    assert again.get(f"/images/{rows[2]}").status_code == 200
    again.close()
