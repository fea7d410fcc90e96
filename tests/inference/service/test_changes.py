"""Images that clients add and delete."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from inference.gallery.index import load_or_build_index
from inference.gallery.store import Gallery
from inference.service import service as service_module
from tests.inference.service.requests import rows_of, upload


def test_images_are_added_and_deleted_in_milvus(
    make_client: Callable[..., TestClient],
    gallery: Gallery,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    number, client = len(gallery.embeddings), make_client("milvus")
    files = [("image", ("../../evil.jpg", photo.read_bytes(), "image/jpeg")) for photo in photos[:2]]
    answer = client.post("/gallery?person_id=77&camera_id=5", files=files)
    assert answer.status_code == 201
    matches = answer.json()["matches"]
    assert {(match["person_id"], match["camera_id"]) for match in matches} == {(77, 5)}
    assert {Path(match["path"]).parent for match in matches} == {tmp_path / "added"}
    assert [Path(match["path"]).read_bytes() for match in matches] == [photo.read_bytes() for photo in photos[:2]]
    description = client.get("/gallery").json()
    assert (description["images"], description["cameras"], description["changes"]) == (number + 2, [1, 2, 5], True)

    nearest = client.post("/search?k=2", files=upload(photos[0])).json()["matches"]
    assert nearest[0]["row"] == matches[0]["row"]
    assert nearest[0]["distance"] == pytest.approx(0, abs=1e-5)
    assert rows_of(client, f"row={matches[0]['row']}&k=1") != [matches[0]["row"]]
    assert client.get(f"/images/{matches[1]['row']}").status_code == 200

    assert client.delete(f"/gallery?row={matches[0]['row']}&row=3&row=987654").json() == {"deleted": 2}
    assert not Path(matches[0]["path"]).exists()
    assert Path(gallery.embeddings.paths[3]).exists()
    for address in (f"/images/{matches[0]['row']}", "/images/3"):
        assert client.get(address).status_code == 404
    assert client.post("/search?row=3").status_code == 404
    assert client.get("/gallery").json()["images"] == number

    again = make_client("milvus")  # what was deleted does not come back, and what was added stays
    assert again.get("/images/3").status_code == 404
    assert again.get(f"/images/{matches[1]['row']}").status_code == 200
    assert again.get("/gallery").json()["cameras"] == [1, 2, 5]
    assert len(load_or_build_index(gallery, tmp_path, "milvus")) == number  # that of the scripts stays as it was


def test_many_images_come_in_one_request_and_leave_room_for_others(
    make_client: Callable[..., TestClient], gallery: Gallery, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_WAITING", 16)
    client = make_client("milvus")
    content = photos[0].read_bytes()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.post, "/gallery?person_id=5", files=[("image", content)] * 70)
        others = 0
        while not answer.done():
            assert client.post("/embed", files=upload(content)).status_code == 200
            others += 1
    assert answer.result().status_code == 201, answer.result().text
    assert len(answer.result().json()["matches"]) == 70
    assert others
    assert client.get("/gallery").json()["images"] == len(gallery.embeddings) + 70


def test_a_photo_without_labels_is_added(make_client: Callable[..., TestClient], photos: list[Path]) -> None:
    (match,) = make_client("milvus").post("/gallery", files=upload(photos[0])).json()["matches"]
    assert match["person_id"] is match["camera_id"] is None


def test_a_damaged_image_among_others_adds_nothing(
    make_client: Callable[..., TestClient], gallery: Gallery, photos: list[Path], tmp_path: Path
) -> None:
    client = make_client("milvus")
    answer = client.post("/gallery", files=[("image", photos[0].read_bytes()), ("image", b"garbage")])
    assert answer.status_code == 422
    assert client.get("/gallery").json()["images"] == len(gallery.embeddings)
    assert not list(tmp_path.glob("added/*"))


def test_deleting_needs_rows_and_an_index_that_changes(
    client: TestClient, make_client: Callable[..., TestClient]
) -> None:
    assert client.delete("/gallery?row=1").status_code == 409
    living = make_client("milvus")
    assert living.delete("/gallery").status_code == 422
    answer = living.post("/gallery?person=8", files=upload(b"x"))
    assert (answer.status_code, answer.json()["detail"][:30]) == (422, "person: there is no such field")
