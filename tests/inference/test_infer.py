import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import test as evaluation_script
from inference import infer
from inference.extract import Extractor

QUERIES = ("0007_c3s1_000001_00.jpg", "0009_c1s1_000002_00.jpg", "0012_c1s1_000003_00.jpg")


@pytest.fixture
def queries(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    for seed, name in enumerate(QUERIES):
        draw(tmp_path / "queries" / name, 50 + seed)
    return tmp_path / "queries"


def run(queries: Path, gallery: Path, checkpoint: Path, output: Path, *options: str) -> int:
    values = ["DATASETS.ROOT_DIR", str(gallery), "MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(output)]
    cpu = ["TRAINER.ACCELERATOR", "cpu"]
    return infer.main(["--query_dir", str(queries), "--precision", "fp32", *options, *values, *cpu])


def lines(output: Path) -> list[list[str]]:
    with (output / "result.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_name_that_a_spreadsheet_would_compute_is_text(
    images: Path, checkpoint: Path, tmp_path: Path, draw: Callable[..., Path]
) -> None:
    name = "=cmd()|'x'!A0.jpg"
    for folder in (images, tmp_path / "queries"):
        draw(folder / name, 9)
    assert run(tmp_path / "queries", images, checkpoint, tmp_path / "output") == 0
    (row,) = lines(tmp_path / "output")[1:]
    assert (row[0], row[2]) == (f"'{name}", f"'{name}")


def test_the_file_and_the_accuracy(
    queries: Path, images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(queries, images, checkpoint, tmp_path / "output") == 0
    header, *rows = lines(tmp_path / "output")
    assert ",".join(header) == "query filename,predicted class,predicted path,distance"
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    left, right = extractor(queries), extractor(images)
    assert not any(Path(path).name.startswith("-1") for path in right.paths)
    unit = [side.vectors / np.linalg.norm(side.vectors, axis=1, keepdims=True) for side in (left, right)]
    distances = 1 - unit[0] @ unit[1].T
    nearest = [Path(right.paths[item]).name for item in distances.argmin(axis=1)]
    assert [row[0] for row in rows] == list(QUERIES)
    assert [row[2] for row in rows] == nearest
    assert [row[1] for row in rows] == [str(int(name[:4])) for name in nearest]
    np.testing.assert_allclose([float(row[3]) for row in rows], distances.min(axis=1), atol=1e-5)
    share = np.mean([int(query[:4]) == int(name[:4]) for query, name in zip(QUERIES, nearest, strict=True)])
    out = capsys.readouterr().out
    assert f"accuracy, all gallery images (the original count: own camera included): {share:.2%} of 3 queries" in out
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["result.csv"]


def test_one_photo_and_the_paths_of_a_program(
    queries: Path, images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(queries, images, checkpoint, tmp_path / "output") == 0
    every = lines(tmp_path / "output")
    assert run(queries / QUERIES[1], images, checkpoint, tmp_path / "output") == 0
    assert lines(tmp_path / "output") == [every[0], every[2]]
    text = "".join(f"{queries / name}\n" for name in (QUERIES[2], QUERIES[0]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(Path("-"), images, checkpoint, tmp_path / "output") == 0
    assert lines(tmp_path / "output") == [every[0], every[3], every[1]]


def test_rank1_is_that_of_the_test(
    tiny_market: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [
        "DATASETS.NAMES",
        str(tiny_market),
        "MODEL.PRETRAIN_PATH",
        str(checkpoint),
        "TRAINER.ACCELERATOR",
        "cpu",
    ]
    assert evaluation_script.main([*values, "OUTPUT_DIR", str(tmp_path / "test")]) == 0
    report = (tmp_path / "test" / "report.json").read_text()
    capsys.readouterr()
    assert run(tiny_market / "query", tiny_market / "bounding_box_test", checkpoint, tmp_path / "output") == 0
    rank1 = json.loads(report)["results"][0]["cmc"]["1"]
    assert f"(rank-1 of test.py): {rank1:.2%} of" in capsys.readouterr().out


def test_rank1_in_the_default_precision(
    tiny_market: Path, write_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `auto` chooses must not move the figure: fp32 for an OSNet, on every machine."""
    weights = write_checkpoint(tmp_path / "osnet.pth", 3, {"MODEL.NAME": "osnet_x0_25", "INPUT.SIZE_TEST": [64, 32]})
    values = ["MODEL.PRETRAIN_PATH", str(weights), "TRAINER.ACCELERATOR", "cpu"]
    test_values = ["DATASETS.NAMES", str(tiny_market), "OUTPUT_DIR", str(tmp_path / "test")]
    assert evaluation_script.main([*values, *test_values]) == 0
    rank1 = json.loads((tmp_path / "test" / "report.json").read_text())["results"][0]["cmc"]["1"]
    capsys.readouterr()
    folders = ["--query_dir", str(tiny_market / "query"), "DATASETS.ROOT_DIR", str(tiny_market / "bounding_box_test")]
    assert infer.main([*folders, *values, "OUTPUT_DIR", str(tmp_path / "output")]) == 0
    assert f"(rank-1 of test.py): {rank1:.2%} of" in capsys.readouterr().out


def test_the_nearest_centroid(
    queries: Path, images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(queries, images, checkpoint, tmp_path / "output", "MODEL.USE_CENTROIDS", "True") == 0
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    left, right = extractor(queries).vectors, extractor(images).vectors
    means = np.stack([right[0], right[1], (right[2] + right[3]) / 2, right[4], right[5]])
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, means)]
    distances = 1 - unit[0] @ unit[1].T
    _, *rows = lines(tmp_path / "output")
    people = np.array([0, 0, 7, 9, 12])[distances.argmin(axis=1)]
    assert [int(row[1]) for row in rows] == people.tolist()
    np.testing.assert_allclose([float(row[3]) for row in rows], distances.min(axis=1), atol=1e-5)
    share = (people == [7, 9, 12]).mean()
    assert f"accuracy, nearest centroid: {share:.2%} of 3 queries" in capsys.readouterr().out
    (images / "0012_c3s1_000007_00.jpg").rename(images / "holiday.jpg")
    assert run(queries, images, checkpoint, tmp_path / "output", "MODEL.USE_CENTROIDS", "True") == 2
    assert "needs the identity in each file name" in capsys.readouterr().err


def test_strict(queries: Path, images: Path, checkpoint: Path, tmp_path: Path) -> None:
    (images / "0009_c2s1_000006_00.jpg").write_text("no image")
    assert run(queries, images, checkpoint, tmp_path / "output") == 0
    assert run(queries, images, checkpoint, tmp_path / "output", "--strict") == 2


def test_no_match_and_earlier_results(queries: Path, images: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert run(queries, images, checkpoint, output) == 0
    before = (output / "result.csv").read_bytes()
    nearest = sorted(float(row[3]) for row in lines(output)[1:])
    limit = (nearest[0] + nearest[1]) / 2
    assert run(queries, images, checkpoint, output, "--max_distance", str(limit)) == 0
    assert (output / "earlier_1" / "result.csv").read_bytes() == before
    without = [row for row in lines(output) if row[1] == "no match"]
    assert len(without) == 2
    assert all(row[2:] == ["", ""] for row in without)


def test_names_that_tell_nothing(
    images: Path, checkpoint: Path, tmp_path: Path, draw: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "queries" / "visitor.jpg", 3)
    assert run(tmp_path / "queries", images, checkpoint, tmp_path / "output") == 0
    assert "accuracy: unknown, since no query file's name tells an identity" in capsys.readouterr().out


def test_mistakes_are_one_line(
    images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", images, checkpoint, tmp_path / "output") == 2
    assert "must exist, but does not" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        infer.main(["DATASETS.ROOT_DIR", str(images)])
    assert capsys.readouterr().err == "error: the following arguments are required: --query_dir; see --help\n"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0001_c1s1_000001_00.jpg").write_text("no image")
    assert run(tmp_path / "bad", images, checkpoint, tmp_path / "output") == 2
    assert "error: none of the 1 images could be read" in capsys.readouterr().err
    assert not list((tmp_path / "output").iterdir())


@pytest.mark.realdata
@pytest.mark.slow
def test_real_people(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rank-1 of test.py on the development data with OSNet's released weights."""
    data, weights = workshop / "data" / "cuhk03_dev", workshop / "weights" / "osnet_x0_25_msmt17.pth"
    assert run(data / "query", data / "bounding_box_test", weights, tmp_path / "output") == 0
    assert "(rank-1 of test.py): 20.85% of 398 queries" in capsys.readouterr().out
