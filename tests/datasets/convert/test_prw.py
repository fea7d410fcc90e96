import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datasets.convert.__main__ import main
from datasets.readers import read_dataset
from tests.datasets.convert.support import check_that_only_these_are_made_again, crops, cut, refusal
from tests.support import message_with
from utils.images import read_image

HEIGHT, WIDTH = 60, 100
# Rows of identity, x, y, w, h; each frame has another of the release's three variable names.
FRAMES: dict[str, tuple[str, list[list[float]]]] = {
    "c1s1_000151": ("box_new", [[1, 10.4, 5.5, 20.3, 30.2], [-2, 40, 10, 10, 20], [2, -4.5, -3.2, 20, 40]]),
    "c2s1_000301": ("anno_file", [[1, 80.5, 30.5, 30, 50], [2, 5, 5, 12, 24], [-2, 50, 10, 10, 20]]),
    "c3s2_000451": ("anno_previous", [[3, 20, 10, 15, 30], [-2, 70, 20, 12, 25], [-2, 50, 20, 12, 25]]),
    "c6s2_000601": ("box_new", [[3, 90, 40, 10.6, 20.4], [12, 1, 1, 9, 18], [4, 120, 10, 9, 18]]),
}
TRAIN, TEST = ["c1s1_000151", "c2s1_000301"], ["c3s2_000451", "c6s2_000601"]
QUERIES = [(3, 20, 10, 15, 30, "c3s2_000451"), (-2, 70, 20, 12, 25, "c3s2_000451"), (12, 1, 1, 9, 18, "c6s2_000601")]
# File -> frame, (left, top, right, bottom), worked out by hand.
CROPS = {
    "bounding_box_train/0001_c1s1_000151_01.jpg": ("c1s1_000151", (10, 6, 31, 36)),
    "bounding_box_train/0002_c1s1_000151_03.jpg": ("c1s1_000151", (0, 0, 16, 37)),
    "bounding_box_train/0001_c2s1_000301_01.jpg": ("c2s1_000301", (81, 31, 100, 60)),
    "bounding_box_train/0002_c2s1_000301_02.jpg": ("c2s1_000301", (5, 5, 17, 29)),
    "query/0003_c3s2_000451_00.jpg": ("c3s2_000451", (20, 10, 35, 40)),
    "query/0012_c6s2_000601_00.jpg": ("c6s2_000601", (1, 1, 10, 19)),
    "bounding_box_test/0003_c3s2_000451_01.jpg": ("c3s2_000451", (20, 10, 35, 40)),
    "bounding_box_test/0003_c6s2_000601_01.jpg": ("c6s2_000601", (90, 40, 100, 60)),
    "bounding_box_test/0012_c6s2_000601_02.jpg": ("c6s2_000601", (1, 1, 10, 19)),
}
AMBIGUOUS = {
    "bounding_box_test/0000_c3s2_000451_02.jpg": ("c3s2_000451", (70, 20, 82, 45)),
    "bounding_box_test/0000_c3s2_000451_03.jpg": ("c3s2_000451", (50, 20, 62, 45)),
}


def cells(names: list[str]) -> np.ndarray:
    array = np.empty((len(names), 1), dtype=object)
    array[:, 0] = names
    return array


@pytest.fixture
def release(tmp_path: Path) -> Path:
    raw = tmp_path / "PRW release"
    (raw / "frames").mkdir(parents=True)
    (raw / "annotations").mkdir()
    random = np.random.default_rng(0)
    for name, (variable, rows) in FRAMES.items():
        pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(raw / "frames" / f"{name}.jpg", quality=90)
        savemat(raw / "annotations" / f"{name}.jpg.mat", {variable: np.array(rows)})
    savemat(raw / "frame_train.mat", {"img_index_train": cells(TRAIN)})
    savemat(raw / "frame_test.mat", {"img_index_test": np.array(TEST)})  # a matrix of characters
    lines = (" ".join(map(str, query)) + "\r\n" for query in QUERIES)
    (raw / "query_info.txt").write_bytes("".join(lines).encode())
    return raw


def arguments(raw: Path, *options: str) -> list[str]:
    return ["prw", str(raw), str(raw.parent / "PRW"), "--workers", "1", *options]


def convert(raw: Path, *options: str) -> Path:
    return main(arguments(raw, *options))


def expected(raw: Path, places: dict[str, tuple], quality: int = 95) -> dict[str, bytes]:
    return {name: cut(raw / "frames" / f"{frame}.jpg", box, quality) for name, (frame, box) in places.items()}


def test_names_and_pixels(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        out = convert(release)
    assert crops(out) == expected(release, CROPS)
    assert not (out.parent / "PRW.unfinished").exists()
    counts = "4 frames, 12 boxes, 8 boxes with an identity, 5 identities, 2 training identities, 3 test identities"
    assert message_with(caplog, counts, "3 queries")
    assert message_with(caplog, "identity 4 lies outside", "c6s2_000601")
    assert message_with(caplog, "bounding_box_test", "2 identities, 3 images")
    warning = message_with(caplog, "not the published PRW")
    for part in (
        "4 frames, not 11816",
        "12 boxes, not 43110",
        "2 training identities, not 482",
        "3 queries, not 2057",
    ):
        assert part in warning


def test_what_is_read_back(release: Path) -> None:
    out = convert(release)
    splits = read_dataset(str(out), out.parent)
    assert sorted((s.person_id, s.camera_id) for s in splits.train) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [(s.person_id, s.camera_id) for s in splits.query] == [(3, 3), (12, 6)]
    assert sorted((s.person_id, s.camera_id) for s in splits.gallery) == [(3, 3), (3, 6), (12, 6)]
    by_name = read_dataset("PRW", out.parent)
    assert (by_name.train, by_name.query, by_name.gallery) == (splits.train, splits.query, splits.gallery)


def test_ambiguous_people_as_distractors(release: Path) -> None:
    files = crops(convert(release, "--keep-ambiguous", "--quality", "70"))
    assert files == expected(release, {**CROPS, **AMBIGUOUS}, quality=70)


def test_an_identity_of_the_test_is_not_trained_on(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "c2s1_000301"
    savemat(release / "annotations" / f"{name}.jpg.mat", {"box_new": np.array([[12, 5, 5, 12, 24], [2, 1, 1, 9, 9]])})
    train = {path for path in crops(convert(release)) if path.startswith("bounding_box_train")}
    assert {path for path in train if name in path} == {f"bounding_box_train/0002_{name}_02.jpg"}
    assert message_with(caplog, "1 identities", "in the test too", "12")


def test_processes_write_what_one_writes(release: Path) -> None:
    extra = [f"c1s1_{number:06d}" for number in range(40)]
    for name in extra:
        (release / "frames" / f"{name}.jpg").write_bytes((release / "frames" / f"{TRAIN[0]}.jpg").read_bytes())
        savemat(release / "annotations" / f"{name}.jpg.mat", {"box_new": np.array(FRAMES[TRAIN[0]][1])})
    savemat(release / "frame_train.mat", {"img_index_train": cells([*TRAIN, *extra])})
    one = crops(convert(release))
    two = crops(main(["prw", str(release), str(release.parent / "two"), "--workers", "2"]))
    assert one == two
    assert len(one) == len(CROPS) + 80


def test_a_stopped_conversion_goes_on(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def stop_at_two(path: Path) -> torch.Tensor:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(path.stem)
        return read_image(path)

    monkeypatch.setattr("datasets.convert.crops.read_image", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        convert(release)
    out, unfinished = release.parent / "PRW", release.parent / "PRW.unfinished"
    assert not out.exists()
    assert set(crops(unfinished)) == {name for name in CROPS if "train" in name}
    (unfinished / "bounding_box_train" / ".0001_c1s1_000151_01.jpg.abc.part").write_bytes(b"half")
    monkeypatch.setattr(
        "datasets.convert.crops.read_image", lambda path: decoded.append(path.stem) or read_image(path)
    )
    assert convert(release) == out
    assert decoded == [*TRAIN, *TEST]  # each frame decoded once
    assert crops(out) == expected(release, CROPS)


def test_what_is_missing_in_a_finished_folder_is_made_again(release: Path) -> None:
    out = convert(release)
    check_that_only_these_are_made_again(out, {out / "query" / "0012_c6s2_000601_00.jpg"}, arguments(release))


def test_a_folder_made_otherwise_is_not_touched(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = convert(release)
    before = crops(out)
    assert json.loads((out / "convert.json").read_text())["source"] == "../PRW release"
    assert "must be absent, empty, or begun by the same command" in refusal(
        arguments(release, "--quality", "80"), capsys
    )
    (out / "query" / "0099_c1s1_000001_00.jpg").write_bytes(b"mine")
    assert "has 1 others, first query/0099_c1s1_000001_00.jpg; remove" in refusal(arguments(release), capsys)
    (out / "query" / "0099_c1s1_000001_00.jpg").unlink()
    (out / "convert.json").unlink()
    assert "but it holds something else; remove it" in refusal(arguments(release), capsys)
    assert crops(out) == before


def test_a_damaged_frame_is_named_and_the_others_are_done(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = release / "frames" / "c3s2_000451.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1500])
    message = refusal(arguments(release), capsys)
    assert f"all frames must be readable, but 1 are not: cannot read image {path}" in message
    assert set(crops(release.parent / "PRW.unfinished")) == {name for name in CROPS if "c3s2_000451" not in name}
    path.write_bytes(whole)
    assert crops(convert(release)).keys() == CROPS.keys()


@pytest.mark.parametrize(
    ("part", "content", "rule"),
    [
        ("annotations/c1s1_000151.jpg.mat", None, "1 of 4 do not: cannot read annotation"),
        ("annotations/c1s1_000151.jpg.mat", b"no matlab file", "1 of 4 do not: cannot read annotation"),
        ("annotations/c1s1_000151.jpg.mat", {"boxes": np.ones((1, 5))}, "none of the variables box_new, anno_file, "),
        ("annotations/c1s1_000151.jpg.mat", {"box_new": np.ones((2, 4))}, "must have rows of a whole identity, x, y"),
        ("annotations/c1s1_000151.jpg.mat", {"box_new": np.full((1, 5), np.nan)}, "must have rows of a whole"),
        ("frames/c2s1_000301.jpg", None, "1 of 4 do not: cannot read image"),
        ("frame_train.mat", b"", "must hold the list img_index_train, but"),
        ("frame_train.mat", {"img_index_test": cells(TRAIN)}, "must hold the list img_index_train, but"),
        ("frame_test.mat", {"img_index_test": cells(["../a"])}, "must list frames like c1s1_000151.jpg, got '../a'"),
        ("query_info.txt", b"1 2 3 4 5 c3s2_000451\r\n\r\n1 2 x 4 5 a\r\n", "got '1 2 x 4 5 a' in line 3"),
        ("query_info.txt", b"1 2 nan 4 5 c3s2_000451", "must have lines 'person_id x y w h frame_name' with"),
        (
            "query_info.txt",
            b"3 1 2 3 4 c3s2_000451\n" * 2,
            "1 crops occur twice, first query/0003_c3s2_000451_00.jpg",
        ),
        ("query_info.txt", b"", "each split must have images, but query would have none"),
        ("frame_test.mat", None, "RAW must be the folder of PRW-v16.04.20 with"),
    ],
)
def test_missing_and_damaged_files_are_named(
    release: Path, capsys: pytest.CaptureFixture[str], part: str, content: object, rule: str
) -> None:
    path = release / part
    path.unlink()
    if isinstance(content, dict):
        savemat(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    message = refusal(arguments(release), capsys)
    assert rule in message
    assert path.name.partition("_")[0] in message
    assert not (release.parent / "PRW").exists()
    assert not (release.parent / "PRW.unfinished").exists()


def test_a_frame_without_people(release: Path) -> None:
    savemat(release / "annotations" / "c1s1_000151.jpg.mat", {"box_new": np.empty((0, 5))})
    assert crops(convert(release)).keys() == {name for name in CROPS if "c1s1_000151" not in name}


def test_boxes_without_area_or_outside_are_left_out(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = {"box_new": np.array([[1, 5, 5, 0, 20], [2, 150, 5, 9, 20], [2, 5, 5, 9, 20]])}
    savemat(release / "annotations" / "c1s1_000151.jpg.mat", boxes)
    names = {name for name in crops(convert(release)) if "c1s1_000151" in name}
    assert names == {"bounding_box_train/0002_c1s1_000151_03.jpg"}
    assert message_with(caplog, "identity 1 has no area", "c1s1_000151")
    assert message_with(caplog, "identity 2 lies outside", "c1s1_000151")


def test_help(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["prw", "--help"])
    assert "--keep-ambiguous" in capsys.readouterr().out
    assert "argument --quality: must be a whole number from 1 to 100" in refusal(
        arguments(release, "--quality", "0"), capsys
    )
