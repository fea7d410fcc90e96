import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.contact_sheet import HEIGHT, WIDTH, draw_contact_sheet
from datasets.readers import read_dataset
from datasets.sample import ReidSplits, Sample
from datasets.stats import SplitStatistics, Spread, build_table, count_dataset, count_split, main
from tests.support import message_with

# name -> height, width
TRAIN = {"0001_c1_a": (40, 20), "0001_c1_b": (50, 20), "0001_c2_c": (60, 30), "0002_c2_a": (90, 20)}
QUERY = {"0003_c1_a": (40, 20)}
GALLERY = {"0003_c2_a": (64, 32), "0000_c2_a": (64, 32), "0000_c4_b": (64, 32), "-1_c6_a": (8, 8)}


@pytest.fixture
def market(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "small"
    parts = {"bounding_box_train": TRAIN, "query": QUERY, "bounding_box_test": GALLERY}
    for part, images in parts.items():
        (folder / part).mkdir(parents=True)
        for name, (height, width) in images.items():
            # one color for each image: what JPEG keeps
            pixels = np.full((height, width, 3), random.integers(0, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{name}.jpg", quality=95)
    return folder


def test_counts(market: Path) -> None:
    statistics = count_dataset(read_dataset(str(market), market), workers=2)
    assert statistics == {
        "train": SplitStatistics(4, 2, 0, 2, Spread(1, 2, 3), Spread(40, 55, 90), Spread(20, 20, 30)),
        "query": SplitStatistics(1, 1, 0, 1, Spread(1, 1, 1), Spread(40, 40, 40), Spread(20, 20, 20)),
        "gallery": SplitStatistics(3, 1, 2, 2, Spread(1, 1, 1), Spread(64, 64, 64), Spread(32, 32, 32)),
    }


def test_nothing_to_count() -> None:
    assert count_split([], [], cameras=False) == SplitStatistics(0, 0, 0, None, None, None, None)
    (row,) = [cell for cell in build_table("x", {"train": count_split([], [])}).columns if cell.header == "train"]
    assert list(row.cells) == ["0", "0", "0", "0", "-", "-", "-"]


def test_images_that_cannot_be_read(market: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = market / "bounding_box_train" / "0002_c2_a.jpg"
    path.write_text("no image")
    statistics = count_dataset(read_dataset(str(market), market))["train"]
    assert (statistics.images, statistics.heights) == (4, Spread(40, 50, 60))
    assert message_with(caplog, "1 images cannot be read", str(path))


def test_the_table_and_the_picture(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(market), "--picture", str(tmp_path / "sheet.png")])
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {
        "train query gallery",
        "identities 2 1 1",
        "images 4 1 3",
        "distractors 0 0 2",
        "cameras 2 1 2",
        "images per identity 1 / 2 / 3 1 / 1 / 1 1 / 1 / 1",
        "height in pixels 40 / 55 / 90 40 / 40 / 40 64 / 64 / 64",
        "width in pixels 20 / 20 / 30 20 / 20 / 20 32 / 32 / 32",
    } <= set(rows)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1]
    assert (sheet == draw_contact_sheet(read_dataset(str(market), market))).all()


def test_the_name_of_a_data_set_is_text_and_no_markup(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(market.rename(market.with_name("[red] \x1bset")))])
    assert r"[red] \x1bset" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["market", "folders", "msmt17"])
def test_a_set_without_training_images_is_counted(
    market: Path, layout: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(market / "bounding_box_train")
    if layout == "folders":
        (market / "bounding_box_test").rename(market / "test")
        for path in [*market.glob("query/*"), *market.glob("test/*")]:
            (path.parent / path.name[:4]).mkdir(exist_ok=True)
            path.rename(path.parent / path.name[:4] / path.name)
        shutil.rmtree(market / "test/-1_c")
    elif layout == "msmt17":
        for part in ("query", "bounding_box_test"):
            names = [path.name for path in (market / part).iterdir() if path.name != "-1_c6_a.jpg"]
            for name in names:
                (market / "test").mkdir(exist_ok=True)
                (market / part / name).rename(market / "test" / name.replace("_c", "_000_"))
            lines = (f"{name.replace('_c', '_000_')} {int(name[:4])}" for name in names)
            (market / f"list_{part.replace('bounding_box_test', 'gallery')}.txt").write_text("\n".join(lines))
            shutil.rmtree(market / part)
    statistics = main([str(market)])
    assert [statistics[part].images for part in ("train", "query", "gallery")] == [0, 1, 3]
    assert "only the test is counted" in caplog.text
    assert "images 0 1 3" in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_training_images_that_are_wrong_are_still_an_error(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (market / "bounding_box_train" / "holiday.jpg").touch()
    with pytest.raises(SystemExit):
        main([str(market)])
    assert "1 are not: holiday.jpg" in capsys.readouterr().err


def test_a_named_data_set_below_the_root(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market.rename(market.parent / "market1501")
    assert main(["market1501", "--root", str(market.parent)])["train"].images == 4
    assert "market1501" in capsys.readouterr().out


def test_the_seed_is_that_of_a_drawn_split(tmp_path: Path) -> None:
    for person in "abcd":
        (tmp_path / "own" / person).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (20, 40)).save(tmp_path / "own" / person / f"{number}.png")
    statistics = main([str(tmp_path / "own"), "--seed", "3"])
    assert (tmp_path / "own" / "split_seed3.csv").is_file()
    assert [part.cameras for part in statistics.values()] == [None, None, None]
    assert [part.images for part in statistics.values()] == [6, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["marke1501"], "DATASETS.NAMES must be one of market1501"),
        (["market1501", "--root", "nowhere"], "data set market1501 must lie in nowhere/market1501"),
        (["{}", "--picture", "sheet.jpg"], "--picture must be a new file with the ending .png, got sheet.jpg"),
        (["{}", "--picture", "{}/there.png"], "--picture must be a new file with the ending .png, got"),
        (["{}", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        ([""], "DATASETS.NAMES must name a data set, a folder or a .csv file, got ''"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_mistakes(market: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], rule: str) -> None:
    (market / "there.png").write_bytes(b"mine")
    with pytest.raises(SystemExit) as stop:
        main([word.format(market) for word in arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert rule in line
    assert (market / "there.png").read_bytes() == b"mine"


def mean_colors(sheet: np.ndarray, path: Path) -> int:
    """How many tiles of the sheet have the color of an image, counted in whole tile areas."""
    with Image.open(path) as image:
        color = np.asarray(image.convert("RGB"))[5, 5].astype(int)
        height, width = image.height, image.width
    scale = min(HEIGHT / height, WIDTH / width)
    area = round(height * scale) * round(width * scale)
    return round((np.abs(sheet.astype(int) - color).max(axis=2) <= 4).sum() / area)


def test_the_contact_sheet_shows_each_person_once(market: Path) -> None:
    splits = read_dataset(str(market), market)
    sheet = draw_contact_sheet(splits)
    people = [sample.path for sample in (*splits.train, *splits.test) if sample.person_id]
    assert [mean_colors(sheet, path) for path in people] == [1] * 6
    distractors = [sample.path for sample in splits.gallery if not sample.person_id]
    assert [mean_colors(sheet, path) for path in distractors] == [0] * 2


def test_the_contact_sheet_is_bounded(market: Path) -> None:
    path = next((market / "query").iterdir())
    samples = tuple(Sample(path, person, camera) for person in range(1, 41) for camera in range(30))
    few, none = samples[:60], ()
    shape = draw_contact_sheet(ReidSplits("x", samples, samples, samples)).shape
    assert shape == draw_contact_sheet(ReidSplits("x", samples, none, none)).shape
    assert shape == draw_contact_sheet(ReidSplits("x", few, few, samples)).shape
    assert shape[0] < 12 * 170
    assert shape[1] < 10 * 90
    half = draw_contact_sheet(ReidSplits("x", few, none, none), images=5)
    assert half.shape[0] < shape[0] / 4
    assert draw_contact_sheet(ReidSplits("x", none, none, none)).ndim == 3


def test_a_damaged_image_is_a_gray_tile(market: Path) -> None:
    path = market / "query" / "0003_c1_a.jpg"
    path.write_text("no image")
    sheet = draw_contact_sheet(read_dataset(str(market), market))
    assert (sheet == 170).all(axis=2).sum() >= HEIGHT * WIDTH


@pytest.mark.realdata
def test_real_data(workshop: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        statistics = main([str(workshop / "data" / "cuhk03_dev")])
    assert [(part.identities, part.images) for part in statistics.values()] == [(567, 5447), (200, 400), (200, 1518)]
    assert {part.heights for part in statistics.values()} == {Spread(128, 128, 128)}
    assert not caplog.messages
