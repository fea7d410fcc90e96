from __future__ import annotations

import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import inference
from inference.extract import Extractor
from inference.gallery.store import Embeddings, Gallery
from inference.index import build_index
from inference.service.gallery import FixedGallery
from inference.service.uploads import Limits
from tests.inference.service.requests import rows_of, upload

Rank = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

PAGE = Path(inference.__file__).parent / "service" / "page"


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "milvus"])
def test_a_photo_finds_the_nearest_images(
    kind: str,
    make_client: Callable[..., TestClient],
    extractor: Extractor,
    gallery: Gallery,
    photos: list[Path],
    rank: Rank,
) -> None:
    answer = make_client(kind).post("/search?k=4", files=upload(photos[0]))
    rows, distances = rank(extractor([photos[0]]).vectors[0])
    assert answer.status_code == 200
    for match, row, distance in zip(answer.json()["matches"], rows[:4], distances[:4], strict=True):
        assert match["row"] == row
        assert match["path"] == gallery.embeddings.paths[row]
        assert (match["person_id"], match["camera_id"]) == (gallery.person_ids[row], gallery.camera_ids[row])
        assert match["distance"] == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize("kind", ["flat", "milvus"])
def test_a_gallery_image_as_the_query_is_no_match_of_itself(
    kind: str, make_client: Callable[..., TestClient], gallery: Gallery, rank: Rank
) -> None:
    rows, _ = rank(gallery.embeddings.vectors[5])
    assert rows[0] == 5
    assert rows_of(make_client(kind), "row=5&k=3") == rows[1:4].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "milvus"])
@pytest.mark.parametrize(
    ("fields", "cameras"),
    [("camera=1", {1}), ("camera=1&camera=2", {1, 2}), ("exclude_camera=1", {2}), ("camera=9", set())],
)
def test_cameras_count_or_do_not(
    kind: str,
    fields: str,
    cameras: set[int],
    make_client: Callable[..., TestClient],
    extractor: Extractor,
    gallery: Gallery,
    photos: list[Path],
    rank: Rank,
) -> None:
    rows, _ = rank(extractor([photos[2]]).vectors[0])
    nearest = [row for row in rows.tolist() if gallery.camera_ids[row] in cameras][:5]
    assert rows_of(make_client(kind), f"k=5&{fields}", photos[2]) == nearest


def test_a_camera_that_nobody_has_costs_no_search(
    make_client: Callable[..., TestClient], gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(gallery.embeddings.vectors)
    monkeypatch.setattr(index, "search", None)
    client = make_client(FixedGallery(gallery, index, "flat"))
    for fields in ("camera=77", "camera=1&exclude_camera=1"):
        assert rows_of(client, f"row=0&{fields}") == []


def test_farther_matches_are_dropped(
    client: TestClient, extractor: Extractor, photos: list[Path], rank: Rank
) -> None:
    rows, distances = rank(extractor([photos[1]]).vectors[0])
    limit = float(distances[2:4].mean())
    assert rows_of(client, f"max_distance={limit}", photos[1]) == rows[:3].tolist()
    assert rows_of(client, "max_distance=0", photos[1]) == []


def test_the_embedding_is_that_of_the_extractor(client: TestClient, extractor: Extractor, photos: list[Path]) -> None:
    answer = client.post("/embed", files=upload(photos[0]))
    np.testing.assert_allclose(answer.json()["embedding"], extractor([photos[0]]).vectors[0], rtol=1e-5, atol=1e-6)


def test_many_clients_get_the_vectors_of_the_extractor_beside_garbage(
    client: TestClient, extractor: Extractor, photos: list[Path]
) -> None:
    vectors = extractor(photos).vectors

    def ask(number: int) -> None:
        if number % 3 == 2:
            answer = client.post("/embed", files=upload(b"\xff\xd8\xff garbage" * number))
            assert answer.status_code == 422
            return
        place = number % len(photos)
        answer = client.post("/embed", files=upload(photos[place]))
        np.testing.assert_allclose(answer.json()["embedding"], vectors[place], rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(96)))
    figures = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert figures["reid_embedded_total"] == "64"
    assert int(figures["reid_embedded_batches_total"]) < 64  # they shared batches
    assert figures['reid_requests_total{route="/embed",status="422"}'] == "32"


@pytest.mark.parametrize(
    ("address", "content", "status", "words"),
    [
        ("/search", None, 422, "either an image"),
        ("/search?row=1", b"x", 422, "either an image"),
        ("/search?k=0", b"x", 422, "k: "),
        ("/search?topk=5", b"x", 422, "topk: there is no such field; GET /openapi.json names all of them"),
        ("/search?k=1001", b"x", 422, "k: "),
        ("/search?k=two", b"x", 422, "k: "),
        ("/search?max_distance=nan", b"x", 422, "max_distance: "),
        ("/search?camera=-1", b"x", 422, "camera.0: "),
        ("/search?row=-1", None, 422, "row: "),
        ("/search?row=9007199254740992", None, 422, "row: "),
        ("/search?row=123456", None, 404, "no image with this row"),
        ("/embed", None, 422, "image: "),
        ("/embed", b"", 422, "the image cannot be read: "),
        ("/embed", b"GIF89a", 422, "the image cannot be read: "),
        ("/embed", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "its content is no image in one of"),
        ("/embed", png(600, 501), 422, "at most 300000 pixels, got 600 x 501"),
        ("/gallery", b"x", 409, "index flat cannot be changed"),
    ],
)
def test_a_wrong_request_gets_one_line(
    address: str, content: bytes | None, status: int, words: str, client: TestClient
) -> None:
    answer = client.post(address, files=None if content is None else upload(content))
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_a_broken_photo_is_told_from_its_beginning(client: TestClient, photos: list[Path]) -> None:
    content = photos[0].read_bytes()
    answer = client.post("/search", files=upload(content[: len(content) // 2]))
    assert answer.status_code == 422
    assert "the image cannot be read: " in answer.json()["detail"]


def test_an_image_field_that_is_text_is_refused(client: TestClient) -> None:
    assert client.post("/search", data={"image": "photo.jpg"}).status_code == 422


def test_the_description(make_client: Callable[..., TestClient], gallery: Gallery) -> None:
    description = make_client(max_distance=0.25).get("/gallery").json()
    assert description.pop("version")
    size = {"images": len(gallery.embeddings), "cameras": [1, 2], "upload_bytes": 200_000}
    assert description == {**size, "index": "flat", "max_distance": 0.25, "changes": False}


def test_health_routes_and_examples(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/search", "/embed", "/gallery", "/images/{row}", "/health", "/metrics"} <= set(paths)
    rows = [match["row"] for match in client.get("/gallery/examples?k=5").json()["matches"]]
    assert len(set(rows)) == 5


def test_the_page_asks_nobody_else(client: TestClient) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for file in PAGE.iterdir():
        addresses = re.findall(r"[a-z]+:?//[\w.-]+", file.read_text(encoding="utf-8"))
        assert [address for address in addresses if "w3.org" not in address] == [], file  # the name of SVG


def test_pictures_are_the_pixels_of_the_gallerys_files(client: TestClient, gallery: Gallery) -> None:
    answer = client.get("/images/3")
    assert answer.headers["content-type"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)), float)
    file = np.asarray(Image.open(gallery.embeddings.paths[3]), float)
    assert picture.shape == file.shape
    assert np.abs(picture - file).mean() < 6


@pytest.mark.parametrize(
    "path",
    [
        "/images/99999", "/images/-1", "/images/1e3", "/images/", "/images/../../etc/hostname", "/images/%2e%2e%2fetc",
        "/images/..%2f..%2fetc%2fhostname", "//etc/hostname", "/images/0/../../etc/hostname", "/page/index.html",
        "/../app.py", "/images/9223372036854775808",
    ],
)  # fmt: skip
def test_no_other_file_is_served(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert list(answer.json()) == ["detail"]


def test_a_list_of_others_shows_no_file_but_images(
    make_client: Callable[..., TestClient], gallery: Gallery, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_text("the secret")
    large = tmp_path / "large.png"
    large.write_bytes(png(1000, 2000))
    paths = [str(secret), str(tmp_path / "gone.jpg"), str(large)]
    embeddings = Embeddings(gallery.embeddings.vectors[:3], np.array(paths))
    hostile = replace(
        gallery, embeddings=embeddings, person_ids=gallery.person_ids[:3], camera_ids=gallery.camera_ids[:3]
    )
    client = make_client(FixedGallery(hostile, build_index(embeddings.vectors), "flat"))
    for row in (0, 1):
        answer = client.get(f"/images/{row}")
        assert answer.status_code == 404
        assert answer.json() == {"detail": "the file of this image cannot be read"}
    assert Image.open(io.BytesIO(client.get("/images/2").content)).size == (320, 640)


def test_names_that_are_no_text_and_no_labels(make_client: Callable[..., TestClient], gallery: Gallery) -> None:
    embeddings = Embeddings(gallery.embeddings.vectors[:1], np.array(["/photos/\udcff\n.jpg"]))
    unknown = np.array([-3])
    strange = replace(gallery, embeddings=embeddings, person_ids=unknown, camera_ids=unknown)
    client = make_client(FixedGallery(strange, build_index(embeddings.vectors), "flat"))
    (match,) = client.get("/gallery/examples").json()["matches"]
    assert match["path"] == "/photos/\\udcff\\n.jpg"
    assert match["person_id"] is match["camera_id"] is None
    assert client.get("/gallery").json()["cameras"] == []


def test_too_large_a_body_is_refused_while_it_comes(
    make_client: Callable[..., TestClient], photos: list[Path]
) -> None:
    client = make_client(limits=Limits(photos[0].stat().st_size + 1000, 300_000))
    assert client.post("/embed", files=upload(photos[0])).status_code == 200
    answer = client.post("/embed", files=upload(photos[0].read_bytes() + bytes(1000)))
    assert answer.status_code == 413
    assert "a request must have at most" in answer.json()["detail"]
