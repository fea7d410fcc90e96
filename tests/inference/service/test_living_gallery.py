"""A gallery that clients change: what an interruption leaves, a server that is away, many clients at once."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from inference.gallery.store import Gallery
from inference.indexes.milvus import MilvusIndex
from inference.indexes.milvus_server import ServerAwayError
from inference.service.gallery import FixedGallery, Match, ServedGallery
from inference.service.living_gallery import LivingGallery
from utils.errors import ReidError

pytest.importorskip("milvus_lite")

Open = Callable[[str], ServedGallery]


@pytest.fixture
def living(open_served: Open) -> LivingGallery:
    gallery = open_served("milvus")
    assert isinstance(gallery, LivingGallery)
    return gallery


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "added").iterdir() if not path.name.startswith("."))


def away_after(method: Callable[..., None], patch: pytest.MonkeyPatch) -> None:
    """Let requests of this kind be done without an answer, and all later ones fail."""
    ask = MilvusIndex._ask

    def fail(*_: object, **__: object) -> None:
        raise ServerAwayError("Milvus must answer at nowhere")

    def lost(index: MilvusIndex, *arguments: object) -> None:
        method(index, *arguments)
        patch.setattr(MilvusIndex, "_ask", fail)
        assert ask is not MilvusIndex._ask
        fail()

    patch.setattr(MilvusIndex, method.__name__, lost)


def test_an_addition_without_an_answer_is_undone_later(
    living: LivingGallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = len(living)
    vectors = np.random.default_rng(0).standard_normal((2, 512), np.float32)
    with monkeypatch.context() as patch:
        away_after(MilvusIndex.upsert, patch)
        with pytest.raises(ServerAwayError):
            living.add(vectors, [(b"one", ".jpg"), (b"two", ".png")], 7, 2)
    assert len(images_of(tmp_path)) == 2  # while their records are there
    living._away_until = 0.0
    assert len(living) == number + 2
    (match,) = living.add(vectors[:1], [(b"three", ".jpg")], 7, 2)
    assert len(living) == number + 1
    assert images_of(tmp_path) == [Path(match.path)]


@pytest.mark.parametrize("change", ["add", "delete"])
def test_what_an_interrupted_change_leaves_is_removed_at_the_start(
    change: str, living: LivingGallery, open_served: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = len(living)
    vectors = np.random.default_rng(0).standard_normal((3, 512), np.float32)
    stays, goes = living.add(vectors[:2], [(b"one", ".jpg"), (b"two", ".jpg")], 7, 2)
    with monkeypatch.context() as patch:
        away_after(MilvusIndex.upsert if change == "add" else MilvusIndex.delete, patch)
        with pytest.raises(ServerAwayError):
            living.add(vectors[2:], [(b"three", ".jpg")], 7, 2) if change == "add" else living.delete([goes.row, 3])
    (note,) = (tmp_path / "added").glob(".unfinished_*")
    note.write_text(note.read_text() + f"../{tmp_path.name}.jpg\nmine.jpg\n../milvus.db\n")
    (tmp_path / "added" / "mine.jpg").touch()  # which no note of ours can name
    again = open_served("milvus")
    assert {path.name for path in images_of(tmp_path)} == {
        Path(stays.path).name,
        "mine.jpg",
        *([Path(goes.path).name] if change == "add" else []),
    }
    assert len(again) == number + (2 if change == "add" else 0)
    assert not list((tmp_path / "added").glob(".unfinished_*"))


def test_an_addition_that_is_refused_leaves_nothing(living: LivingGallery, tmp_path: Path) -> None:
    number = len(living)
    with pytest.raises(ReidError, match="must be finite"):
        living.add(np.full((1, 512), np.nan, np.float32), [(b"x", ".jpg")], 7, 2)
    assert images_of(tmp_path) == []
    assert not list((tmp_path / "added").glob(".unfinished_*"))
    assert len(living) == number


def test_cameras_are_known_after_a_start(living: LivingGallery, open_served: Open) -> None:
    vector = np.ones((1, 512), np.float32)
    for person, camera in ((-3, 9), (7, 12), (7, -3)):
        living.add(vector, [(b"x", ".jpg")], person, camera)
    assert living.cameras == [1, 2, 9, 12]
    assert open_served("milvus").cameras == [1, 2, 9, 12]


def test_what_needs_no_milvus_does_not_wait_for_it(
    make_client: Callable[..., TestClient], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client("milvus")
    requests, end = [], threading.Event()
    photo = {"image": ("a.jpg", photos[0].read_bytes(), "image/jpeg")}

    def ask(_: MilvusIndex, request: str, *__: object, **___: object) -> None:
        requests.append(request)
        assert end.wait(60)
        raise ServerAwayError("Milvus must answer at nowhere")

    with ThreadPoolExecutor(24) as threads:
        monkeypatch.setattr(MilvusIndex, "_ask", ask)
        waiting = [threads.submit(client.get, address) for address in ["/gallery", "/images/3"] * 4]
        waiting += [threads.submit(client.post, f"/search?row={row}") for row in range(4)]
        waiting += [threads.submit(client.post, "/search", files=photo) for _ in range(8)]
        while not requests:
            time.sleep(0.01)
        for address in ("/metrics", "/health", "/"):
            assert client.get(address).status_code == 200
        assert client.post("/embed", files=photo).status_code == 200
        assert not wait(waiting, 0).done
        end.set()
        for answer in waiting:
            assert answer.result(60).status_code == 503
            assert answer.result().headers["retry-after"] == "5"
            assert answer.result().json() == {"detail": "Milvus must answer at nowhere"}
    assert len(requests) <= 3  # those that waited learned it from the first one
    monkeypatch.undo()
    time.sleep(1.1)
    assert client.get("/gallery").status_code == 200


class Crowd:
    """Clients that use a service at the same time.

    Args:
        client: of the service.
        contents: of photos.

    Attributes:
        rows: of the images that were added and must stay.
        end: of those that look.
    """

    def __init__(self, client: TestClient, contents: Sequence[bytes]) -> None:
        self.client, self._contents = client, contents
        self.rows: list[int] = []
        self.end = threading.Event()

    def change(self, person: int) -> None:
        """Add four times three images of a person, and delete one of each three."""
        chance = random.Random(person)
        for camera in range(3, 7):
            files = [("image", chance.choice(self._contents)) for _ in range(3)]
            answer = self.client.post(f"/gallery?person_id={person}&camera_id={camera}", files=files)
            assert answer.status_code == 201, answer.text
            first, second, third = (match["row"] for match in answer.json()["matches"])
            answer = self.client.post(f"/search?k=50&camera={camera}", files=files[:1])
            assert first in [match["row"] for match in answer.json()["matches"]]  # who has added finds it at once
            assert self.client.delete(f"/gallery?row={second}").json() == {"deleted": 1}
            self.rows += [first, third]

    def look(self, row: int) -> int:
        """Search until the end; how often."""
        times = 0
        while not self.end.is_set():
            answer = self.client.post(f"/search?row={row}&k=20")
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["matches"]) == 20
            assert self.client.get(f"/images/{row}").status_code == 200
            times += 1
        return times


def test_clients_add_delete_and_search_at_once(
    make_client: Callable[..., TestClient], gallery: Gallery, photos: list[Path], tmp_path: Path
) -> None:
    client = make_client("milvus")
    crowd = Crowd(client, [photo.read_bytes() for photo in photos[:4]])
    with ThreadPoolExecutor(8) as threads:
        looks = [threads.submit(crowd.look, row) for row in range(3)]
        changes = [threads.submit(crowd.change, person) for person in range(50, 55)]
        wait(changes)
        crowd.end.set()
        assert [change.result() for change in changes] == [None] * 5
        assert all(look.result() for look in looks)
    description = client.get("/gallery").json()
    assert (description["images"], description["cameras"]) == (len(gallery.embeddings) + 40, [1, 2, 3, 4, 5, 6])
    assert len(images_of(tmp_path)) == len(set(crowd.rows)) == 40
    assert all(client.get(f"/images/{row}").status_code == 200 for row in crowd.rows)


def test_examples_of_a_large_gallery_take_little_memory(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    large = FixedGallery(gallery, None, "flat")  # type: ignore[arg-type]
    large.num_first = 20_000_000

    def records(rows: Sequence[int]) -> list[Match]:
        return [Match(row, "", 0, 0, 0.0) for row in rows]

    monkeypatch.setattr(large, "records", records)
    tracemalloc.start()
    try:
        draws = [{match.row for match in large.examples(12)} for _ in range(2)]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert [len(rows) for rows in draws] == [12, 12]
    assert draws[0] != draws[1]
    large.num_first = 5
    assert sorted(match.row for match in large.examples(12)) == [0, 1, 2, 3, 4]
