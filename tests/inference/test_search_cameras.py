from collections.abc import Callable
from pathlib import Path

import pytest

from inference import create_embeddings, get_similar
from tests.inference.searching import lines, search, settings


@pytest.mark.parametrize("index", ["flat", "hnsw", "milvus"])
def test_the_images_of_some_cameras(
    queries: Path, checkpoint: Path, draw: Callable[..., Path], tmp_path: Path, index: str
) -> None:
    pytest.importorskip({"hnsw": "faiss", "milvus": "milvus_lite"}.get(index, "numpy"))
    places, folder = ("gate", "lobby", "yard"), tmp_path / "gallery"
    for number in range(30):
        draw(tmp_path / "photos" / places[number % 3] / f"{number:04d}_c{number % 3}.jpg", number)
    embed = [*settings(tmp_path / "photos", checkpoint, folder), "--precision", "fp32", "--images_in_subfolders"]
    assert create_embeddings.main(embed) == 0
    photo, options = queries / "stranger.png", ("--index", index, "--topk")
    assert search(photo, checkpoint, folder, *options, "0") == 0
    every = lines(folder)
    assert search(photo, checkpoint, folder, *options, "3", "--camera", "0", "2") == 0
    assert lines(folder) == renumbered([line for line in every if line["camera"] in ("0", "2")][:3])
    assert search(photo, checkpoint, folder, *options, "12", "--camera_from_folder", "--camera", "lobby") == 0
    of_lobby = [line for line in every if "/lobby/" in line["path"]]
    assert lines(folder) == renumbered([{**line, "camera": "lobby"} for line in of_lobby])
    assert len(of_lobby) == 10
    own = draw(tmp_path / "queries" / "yard" / "x.jpg", 99)
    both = ("--other_cameras", "folder", "--camera", "yard", "gate")
    assert search(own, checkpoint, folder, *options, "0", *both) == 0
    assert {line["camera"] for line in lines(folder)} == {"gate"}


def renumbered(table: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**line, "rank": str(rank)} for rank, line in enumerate(table, start=1)]


@pytest.mark.parametrize("source", ["name", "folder"])
@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_the_own_camera_is_left_out(
    checkpoint: Path,
    draw: Callable[..., Path],
    tmp_path: Path,
    source: str,
    index: str,
) -> None:
    pytest.importorskip({"hnsw": "faiss"}.get(index, "numpy"))
    places = ("gate", "lobby", "yard")
    for number in range(30):
        camera = number % 3
        draw(tmp_path / "photos" / places[camera] / f"{number:04d}_c{camera}.jpg", number)
    for number, place in enumerate((*places, "attic")):
        draw(tmp_path / "queries" / place / f"0001_c{number}.jpg", 100 + number)
    gallery, found = tmp_path / "gallery", tmp_path / "found"
    embed = [*settings(tmp_path / "photos", checkpoint, gallery), "--precision", "fp32", "--images_in_subfolders"]
    assert create_embeddings.main(embed) == 0
    options = ("--other_cameras", source, "--images_in_subfolders", "--index", index, "--topk", "10")
    command = [
        *settings(tmp_path / "queries", checkpoint, found),
        "--gallery_data",
        str(gallery),
        "--precision",
        "fp32",
    ]
    assert get_similar.main([*command, *options]) == 0
    table = lines(found)
    assert len(table) == 40
    for line in table:
        assert Path(line["path"]).parent.name != Path(line["query"]).parent.name
        assert line["camera"] == (
            Path(line["path"]).parent.name if source == "folder" else Path(line["path"]).stem[-1]
        )
    assert get_similar.main([*command, *options[2:], "--topk", "0"]) == 0
    by_query = {}
    for line in lines(found):
        if Path(line["path"]).parent.name != Path(line["query"]).parent.name:
            by_query.setdefault(line["query"], []).append(line["path"])
    ours = {}
    for line in table:
        ours.setdefault(line["query"], []).append(line["path"])
    assert ours == {query: paths[:10] for query, paths in by_query.items()}


def test_wrong_options_of_cameras(
    queries: Path, images: Path, checkpoint: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "people"
    assert create_embeddings.main([*settings(images, checkpoint, folder), "MODEL.USE_CENTROIDS", "True"]) == 0
    for gallery, options, rule in (
        (folder, ("--other_cameras", "name"), "--camera_from_folder need a gallery of images, got centroids"),
        (folder, ("--camera", "1"), "--camera_from_folder need a gallery of images, got centroids"),
        (output, ("--other_cameras", "name", "--camera_from_folder"), "contradicts --other_cameras name"),
        (output, ("--camera", "7"), "--camera must be a camera of the gallery"),
    ):
        assert search(queries, checkpoint, gallery, *options) == 2
        assert rule in capsys.readouterr().err
    assert not (output / "results.csv").exists()
