from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from evaluation.ranking import RankingResult
from evaluation.report.pictures import draw_ranked_list, write_pictures
from evaluation.report.ranked_lists import RankedList, Selection
from utils.errors import ReidError

SIZES = [(128, 64), (40, 90), (300, 150), (1, 1), (128, 64), (700, 20)]  # (height, width)


class Image(NamedTuple):
    path: Path
    person_id: int
    camera_id: int


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    """Six plain gray files of odd sizes."""
    (tmp_path / "images").mkdir()
    files = []
    for number, size in enumerate(SIZES):
        path = tmp_path / "images" / f"000{number}_c{number}.png"
        cv2.imwrite(str(path), np.full((*size, 3), 128, np.uint8))
        files.append(Image(path, 10 + number, number))
    return files


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written, in order."""
    texts, write = [], cv2.putText

    def keep(image: np.ndarray, text: str, *rest: object) -> None:
        texts.append(text)
        write(image, text, *rest)

    monkeypatch.setattr(cv2, "putText", keep)
    return texts


def ranked(matches: list[bool], query_row: int = 0) -> RankedList:
    rows = np.arange(1, 1 + len(matches))
    return RankedList(query_row, rows, 0.1 * rows + 0.0141, np.array(matches))


def frames(picture: np.ndarray, channel: int) -> list[int]:
    """Left edges of the frames in which one channel stands out, from left to right."""
    others = np.delete(picture.astype(int), channel, axis=2).max(axis=2)
    mask = (picture[:, :, channel] > others + 40).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(mask)[2][1:]
    return sorted(int(x) for x, _, _, tall, _ in stats if tall > 100)


def test_frames_tell_query_match_and_other_apart(images: list[Image]) -> None:
    matches = [False, True, True, False, True]
    picture = draw_ranked_list(ranked(matches), images, images, average_precision=0.5)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    red, green, blue = (frames(picture, channel) for channel in range(3))
    assert len(blue) == 1
    assert blue[0] < min(red + green)
    assert [x in green for x in sorted(red + green)] == matches


def test_a_mark_tells_them_apart_without_color(images: list[Image]) -> None:
    gray = [
        cv2.cvtColor(draw_ranked_list(ranked([match]), images, images, average_precision=0.5), cv2.COLOR_RGB2GRAY)
        for match in (True, False)
    ]
    below = slice(-60, None)  # under the pictures
    assert (np.abs(gray[0][below].astype(int) - gray[1][below]) > 60).sum() > 10


def test_texts_name_everything(images: list[Image], texts: list[str]) -> None:
    draw_ranked_list(ranked([True, False]), images, images, average_precision=0.7321, first_match_rank=4)
    assert texts[:6] == ["query", "id 10", "c0", "1", "id 11", "c1  0.114"]
    assert texts.index("2") < texts.index("id 12") < texts.index("c2  0.214")
    for name in ("0001_c1.png", "0002_c2.png"):  # of the gallery, on as many lines as it needs
        assert name in "".join(texts[6:-1])
    assert "0000_c0.png" in texts[-1]
    assert "AP 73.2 %, first match at rank 4" in texts[-1]
    draw_ranked_list(ranked([False]), images, images, average_precision=float("nan"))
    assert "no match in the gallery" in texts[-1]


def test_what_is_not_known_is_left_out(images: list[Image], texts: list[str]) -> None:
    strangers = [Image(image.path, -3, -3) for image in images]
    draw_ranked_list(ranked([False]), strangers, strangers, average_precision=None)
    assert texts[:3] == ["query", "1", "0.114"]
    assert not [text for text in texts if "?" in text or text.startswith("id")]


def test_a_long_name_is_shortened_in_its_middle(images: list[Image], tmp_path: Path, texts: list[str]) -> None:
    long = [Image(tmp_path / f"start{'x' * 150}end.jpg", 1, 1), *images[1:]]
    draw_ranked_list(ranked([True] * 5), long, images, average_precision=1.0)
    assert texts[-1].startswith("start")
    assert "..." in texts[-1]
    assert "end.jpg " in texts[-1]
    assert texts[-1].endswith("AP 100.0 %")


def test_a_name_that_is_no_unicode_is_shown_as_far_as_it_goes(images: list[Image], texts: list[str]) -> None:
    odd = [Image(Path("a\udcffb.jpg"), 1, 1), *images[1:]]
    draw_ranked_list(ranked([True]), odd, images, average_precision=1.0)
    assert texts[-1].startswith("a?b")


def test_an_image_keeps_its_shape(images: list[Image], tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.full((30, 90, 3), (0, 0, 255), np.uint8))  # BGR: a red image, 3 x as wide as tall
    wide = [Image(path, 1, 1), *images[1:]]
    picture = draw_ranked_list(ranked([True]), wide, images, average_precision=1.0, height=180)
    red = (picture == (255, 0, 0)).all(axis=2)
    assert (red.any(axis=1).sum(), red.any(axis=0).sum()) == (30, 90)


@pytest.mark.parametrize("content", [None, b"no image"])
def test_an_unreadable_image_is_a_gray_tile_that_says_so(
    images: list[Image], tmp_path: Path, content: bytes | None, texts: list[str]
) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    broken = [images[0], Image(path, 1, 1)]
    picture = draw_ranked_list(ranked([False]), images, broken, average_precision=0.0)
    whole = draw_ranked_list(ranked([False]), images, images, average_precision=0.0)
    assert picture.shape == whole.shape
    assert (picture == 170).all(axis=2).sum() > 0.8 * 128 * 64
    assert "unreadable" in texts


def test_an_empty_list_shows_the_query_alone(images: list[Image]) -> None:
    picture = draw_ranked_list(ranked([]), images, images, average_precision=float("nan"), height=64)
    assert picture.shape[0] > 64


def test_too_small_a_height_is_refused(images: list[Image]) -> None:
    with pytest.raises(ReidError, match="height must be at least 32 pixels, got 8; 128 is usual"):
        draw_ranked_list(ranked([True]), images, images, average_precision=1.0, height=8)


SELECTION = Selection(worst=(3, 1), median=(), best=(0,))


def result(precision: np.ndarray) -> RankingResult:
    """Of these queries, whose first match is at rank 7."""
    number = len(precision)
    return RankingResult(0.5, 0.5, {1: 0.0}, precision, precision, *[np.full(number, 7)] * 2, number, number, 100)


def lists() -> list[RankedList]:
    return [ranked([True, False], row) for row in SELECTION.rows]


def test_files_are_named_by_group_place_and_query(images: list[Image], tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    precision = np.linspace(0, 1, len(images))
    paths = write_pictures(folder, SELECTION, lists(), images, images, result(precision), height=64)
    names = ["worst_0001_0003_c3.png", "worst_0002_0001_c1.png", "best_0001_0000_c0.png"]
    assert paths == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    picture = draw_ranked_list(
        lists()[0], images, images, average_precision=float(precision[3]), first_match_rank=7, height=64
    )
    np.testing.assert_array_equal(cv2.imread(str(paths[0]))[:, :, ::-1], picture)


def test_a_very_long_stem_is_cut(images: list[Image], tmp_path: Path) -> None:
    long = [Image(tmp_path / f"{'人' * 80}.jpg", 1, 1), *images[1:]]
    precision = np.ones(len(images))
    paths = write_pictures(tmp_path / "out", SELECTION, lists(), long, images, result(precision), height=64)
    assert paths[2].name == f"best_0001_{'人' * 40}.png"
    assert paths[2].is_file()


def test_pictures_of_two_runs_are_not_mixed(images: list[Image], tmp_path: Path) -> None:
    precision = np.ones(len(images))
    (tmp_path / "empty").mkdir()
    write_pictures(tmp_path / "empty", SELECTION, lists(), images, images, result(precision), height=64)
    for folder in (tmp_path / "empty", images[0].path):
        with pytest.raises(ReidError, match=r"folder must be absent or empty, got .*; remove it or give"):
            write_pictures(folder, SELECTION, lists(), images, images, result(precision), height=64)


def test_lists_of_other_queries_are_refused(images: list[Image], tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"lists must be those of the selected queries \(3, 1, 0\), got \(1, 0\)"):
        write_pictures(tmp_path / "out", SELECTION, lists()[1:], images, images, result(np.ones(6)))
    assert not (tmp_path / "out").exists()
