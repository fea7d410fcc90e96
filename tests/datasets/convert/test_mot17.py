import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert.__main__ import main
from datasets.readers import read_dataset
from tests.datasets.convert.support import check_that_only_these_are_made_again, crops, cut, refusal
from tests.support import message_with

HEIGHT, WIDTH = 120, 160
INFO = f"[Sequence]\r\nname=x\r\nimDir=img1\r\nframeRate=30\r\nseqLength=5\r\nimWidth={WIDTH}\r\nimHeight={HEIGHT}\r\nimExt=.jpg\r\n"
# frame,id,x,y,w,h,active,class,visibility; pixels count from 1.
ROWS = {
    2: """\
1,1,11,21,30,80,1,1,1
3,1,21,21,30,80,1,1,0.5
2,1,15,21,30,80,1,1,1
1,2,-9.6,-4,40.2,90,1,1,1
1,3,60,60,30,50,1,1,1
1,4,60,10,30,90,0,1,1
1,5,60,10,30,90,1,7,1
1,6,60,10,30,90,1,1,0.1
3,7,90,50,100,100,1,1,0.9
""",
    4: """\
3,1,11,21,30,80,1,1,1
1,1,31,21,30,80,1,1,1
5,1,51,21,30,80,1,1,1
5,2,91,31,30,80,1,1,1
4,2,91,31,30,80,1,1,1
""",
}
# File -> sequence, frame, (left, top, right, bottom), worked out by hand for --every 2 --min-height 60.
CROPS = {
    "bounding_box_train/020001_c1s2_000001.jpg": (2, 1, (10, 20, 40, 100)),
    "bounding_box_train/020001_c1s2_000003.jpg": (2, 3, (20, 20, 50, 100)),
    "bounding_box_train/020002_c1s2_000001.jpg": (2, 1, (0, 0, 30, 85)),
    "bounding_box_train/020007_c1s2_000003.jpg": (2, 3, (89, 49, 160, 120)),
    "query/040001_c1s4_000001.jpg": (4, 1, (30, 20, 60, 100)),
    "bounding_box_test/040001_c1s4_000003.jpg": (4, 3, (10, 20, 40, 100)),
    "bounding_box_test/040001_c1s4_000005.jpg": (4, 5, (50, 20, 80, 100)),
    "bounding_box_test/040002_c1s4_000005.jpg": (4, 5, (90, 30, 120, 110)),
}
RULES = ("--every", "2", "--min-height", "60")


def draw_sequence(folder: Path, rows: str, digits: int = 6) -> None:
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    random = np.random.default_rng(len(rows))
    for frame in range(1, 6):
        pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img1" / f"{frame:0{digits}d}.jpg")
    (folder / "gt" / "gt.txt").write_text(rows)
    (folder / "seqinfo.ini").write_bytes(INFO.encode())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    raw = tmp_path / "MOT17"
    for number, rows in ROWS.items():
        draw_sequence(raw / "train" / f"MOT17-{number:02d}-FRCNN", rows)
        draw_sequence(raw / "train" / f"MOT17-{number:02d}-DPM", "1,9,11,21,30,80,1,1,1\n3,9,11,21,30,80,1,1,1\n")
    (raw / "test" / "MOT17-01-FRCNN" / "img1").mkdir(parents=True)
    return raw


def arguments(raw: Path, *options: str) -> list[str]:
    return ["mot17", str(raw), str(raw.parent / "MOT17_reid"), *RULES, "--workers", "1", *options]


def convert(raw: Path, *options: str) -> Path:
    return main(arguments(raw, *options))


def expected(raw: Path) -> dict[str, bytes]:
    folder = raw / "train"
    return {
        name: cut(folder / f"MOT17-{sequence:02d}-FRCNN" / "img1" / f"{frame:06d}.jpg", box)
        for name, (sequence, frame, box) in CROPS.items()
    }


def test_names_and_pixels(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        out = convert(release)
    assert crops(out) == expected(release)
    assert message_with(caplog, "train: sequences 2", "test: sequences 4")
    assert message_with(caplog, "MOT17-02-FRCNN", "4 of 9 boxes")
    assert message_with(caplog, "bounding_box_train", "3 identities, 4 images")


def test_what_is_read_back(release: Path) -> None:
    out = convert(release)
    splits = read_dataset(str(out), out.parent)
    assert [sample.person_id for sample in splits.train] == [20001, 20001, 20002, 20007]
    assert [sample.person_id for sample in splits.query] == [40001]
    assert [sample.person_id for sample in splits.gallery] == [40001, 40001, 40002]
    assert {sample.camera_id for sample in (*splits.train, *splits.query, *splits.gallery)} == {0}
    assert not splits.cameras  # read by its path, too
    by_name = read_dataset("MOT17", out.parent)
    assert [sample.path for sample in by_name.gallery] == [sample.path for sample in splits.gallery]


def test_rules(release: Path) -> None:
    options = ("--test-sequences", "2", "--min-visibility", "0", "--min-height", "40", "--every", "1")
    names = set(crops(convert(release, *options)))
    assert {name for name in names if name.startswith("query")} == {"query/020001_c1s2_000001.jpg"}
    gallery = {name.partition("/")[2] for name in names if name.startswith("bounding_box_test")}
    assert gallery == {
        *("020001_c1s2_000002.jpg", "020001_c1s2_000003.jpg", "020002_c1s2_000001.jpg"),
        *("020003_c1s2_000001.jpg", "020006_c1s2_000001.jpg", "020007_c1s2_000003.jpg"),
    }
    assert sum(name.startswith("bounding_box_train") for name in names) == 5


def test_another_detector_and_plain_names(release: Path) -> None:
    out = main(["mot17", str(release), str(release.parent / "dpm"), *RULES, "--detector", "DPM"])
    assert {name.rpartition("/")[2] for name in crops(out)} == {
        f"0{number}0009_c1s{number}_00000{frame}.jpg" for number in (2, 4) for frame in (1, 3)
    }
    plain = release.parent / "plain"
    for number in (2, 4):
        shutil.copytree(release / "train" / f"MOT17-{number:02d}-FRCNN", plain / f"MOT17-{number:02d}")
    assert crops(convert(plain)) == expected(release)


@pytest.mark.parametrize(
    ("release_name", "names", "numbers", "digits"),
    [
        ("mot16", ("MOT16-02", "MOT16-04"), (2, 4), 6),
        ("mot20", ("MOT20-02", "MOT20-04"), (2, 4), 6),
        ("dancetrack", ("dancetrack0002", "dancetrack0004"), (2, 4), 8),
        ("sportsmot", ("v_-6Os86HzwCs_c001", "v_1yHWGw8DH4A_c001"), (1, 2), 6),
    ],
)
def test_releases_of_the_same_form(
    tmp_path: Path, release_name: str, names: tuple[str, str], numbers: tuple[int, int], digits: int
) -> None:
    raw = tmp_path / "raw"
    for rows, name in zip(ROWS.values(), names, strict=True):
        draw_sequence(raw / "train" / name, rows, digits)
    out = main([release_name, str(raw), str(tmp_path / "out"), *RULES, "--workers", "1"])
    splits = read_dataset(str(out), tmp_path)
    assert [s.person_id for s in splits.query] == [10_000 * numbers[1] + 1]
    assert {s.person_id // 10_000 for s in splits.train} == {numbers[0]}
    assert (len(splits.train), len(splits.gallery), splits.cameras) == (4, 3, False)


def test_ids_of_sportsmot_begin_at_0(tmp_path: Path) -> None:
    for number, name in enumerate(("v_-6Os86HzwCs_c001", "v_-6Os86HzwCs_c003")):
        rows = "".join(f"{frame}, 0, {11 + number}, 21, 30, 80, 1, 1, 1\n" for frame in (1, 3))
        draw_sequence(tmp_path / "raw" / "train" / name, rows)
    out = main(["sportsmot", str(tmp_path / "raw"), str(tmp_path / "out"), *RULES, "--workers", "1"])
    splits = read_dataset(str(out), tmp_path)
    assert {s.person_id for s in splits.train} == {10_000}
    assert [s.person_id for s in splits.test] == [30_000] * 2


@pytest.mark.parametrize("every", [3, 5, 10**6])
def test_an_interval_that_is_too_large_names_one_that_does(
    release: Path, capsys: pytest.CaptureFixture[str], every: int
) -> None:
    message = refusal(arguments(release, "--test-sequences", "2", "--every", str(every)), capsys)
    assert f"--every {every} must leave an image to train on and two images of a test identity" in message
    assert "sequence 2 has 5, 4 has 5 frames; set --every to 2 or less" in message
    assert crops(convert(release, "--test-sequences", "2", "--every", "2"))


def test_the_last_third_of_the_sequences_is_the_test(release: Path) -> None:
    for number in (5, 9, 10, 11, 13):
        shutil.copytree(release / "train" / "MOT17-04-FRCNN", release / "train" / f"MOT17-{number:02d}-FRCNN")
    queries = {name for name in crops(convert(release)) if name.startswith("query")}
    assert queries == {"query/110001_c1s11_000001.jpg", "query/130001_c1s13_000001.jpg"}


def test_going_on(release: Path) -> None:
    out = convert(release)
    gone = {out / "query" / "040001_c1s4_000001.jpg", out / "bounding_box_train" / "020002_c1s2_000001.jpg"}
    check_that_only_these_are_made_again(out, gone, arguments(release))


@pytest.mark.parametrize(
    ("part", "content", "rule"),
    [
        ("gt/gt.txt", None, "cannot read annotation"),
        ("gt/gt.txt", "1,1,11,21,30\n", "cannot read annotation"),
        ("gt/gt.txt", "1,1,a,21,30,80,1,1,1\n", "it must have lines 'frame,id,x,y,w,h,active,class,visibility'"),
        (
            "gt/gt.txt",
            "1,-1,11,21,30,80,1,1,1\n",
            "must have rows of finite numbers, whole frames from 1 and whole ids from 0 on",
        ),
        ("gt/gt.txt", "1,1,nan,21,30,80,1,1,1\n", "must have rows of finite numbers"),
        ("gt/gt.txt", "", "must have rows of finite numbers"),
        ("gt/gt.txt", "1,10000,11,21,30,80,1,1,1\n", "must be less than 10000, got 10000"),
        ("gt/gt.txt", "1,1,11,21,30,80,1,1,1\n" * 2, "must have a person once in a frame, but has 1 twice in 1"),
        ("gt/gt.txt", "7,1,11,21,30,80,1,1,1\n", "000007.jpg must exist, but does not"),
        ("seqinfo.ini", None, "must tell imDir, imExt, imHeight and imWidth, but"),
        ("seqinfo.ini", "[Sequence]\nimWidth=wide\n", "must tell imDir, imExt, imHeight and imWidth, but"),
        ("seqinfo.ini", "width 3", "must tell imDir, imExt, imHeight and imWidth, but"),
        ("seqinfo.ini", INFO.replace("=120", "=119"), "is 120 x 160 pixels, not 119 x 160 (height x width)"),
        ("img1/000003.jpg", None, "000003.jpg must exist, but does not; unpack the release again"),
        ("img1/000003.jpg", "no image", "all frames must be readable, but 1 are not: cannot read image"),
    ],
)
def test_missing_and_damaged_files_are_named(
    release: Path, capsys: pytest.CaptureFixture[str], part: str, content: str | None, rule: str
) -> None:
    path = release / "train" / "MOT17-02-FRCNN" / part
    path.unlink()
    if content is not None:
        path.write_text(content)
    message = refusal(arguments(release), capsys)
    assert rule in message
    assert "MOT17-02-FRCNN" in message
    assert not (release.parent / "MOT17_reid").exists()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--test-sequences", "3"], "--test-sequences must be some of 2, 4 and leave one to train on, got 3"),
        (["--test-sequences", "2", "4"], "must be some of 2, 4 and leave one to train on, got 2, 4"),
        (["--detector", "SDP"], "RAW must be the folder of a release with sequences such as train/MOT17-02-SDP"),
        (["--detector", "YOLO"], "argument --detector: invalid choice: 'YOLO'"),
        (["--min-visibility", "2"], "argument --min-visibility: must be a number from 0 to 1, got '2'"),
        (["--every", "0"], "argument --every: must be a whole number from 1 to 1000000, got '0'"),
        (
            ["--min-height", "200"],
            "sequence 2 has 5, 4 has 5 frames; lower --min-visibility or --min-height",
        ),
    ],
)
def test_wrong_options(release: Path, capsys: pytest.CaptureFixture[str], options: list[str], rule: str) -> None:
    assert rule in refusal(arguments(release, *options), capsys)
    assert not (release.parent / "MOT17_reid").exists()


def test_one_sequence_is_too_few(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(release / "train" / "MOT17-04-FRCNN")
    message = refusal(arguments(release), capsys)
    assert "there must be two sequences or more, for training and test, but there is only 2" in message
    assert "RAW must be the folder of a release" in refusal(arguments(release / "nowhere"), capsys)
