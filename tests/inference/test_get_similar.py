import csv
import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inference
from inference import create_embeddings, get_similar, infer
from inference.extract import Extractor
from inference.gallery.store import open_gallery
from tests.inference.searching import QUERIES, lines, search, settings

REPOSITORY = Path(inference.__file__).resolve().parents[1]


def expected(checkpoint: Path, queries: Path, output: Path) -> tuple[np.ndarray, np.ndarray]:
    """Distances and order by the whole matrix."""
    left = Extractor(checkpoint, "cpu", precision="fp32")([queries / name for name in sorted(QUERIES)]).vectors
    right = open_gallery(output).embeddings.vectors
    unit = [side / np.linalg.norm(side.astype(np.float64), axis=1, keepdims=True) for side in (left, right)]
    distances = 1 - unit[0] @ unit[1].T
    return distances, distances.argsort(axis=1)


@pytest.mark.parametrize("index", ["flat", "hnsw", "milvus"])
def test_all_files(queries: Path, checkpoint: Path, output: Path, index: str) -> None:
    pytest.importorskip({"hnsw": "faiss", "milvus": "milvus_lite"}.get(index, "numpy"))
    gallery_files = {"embeddings.npy", "paths.npy", "meta.json"}
    assert search(queries, checkpoint, output, "--topk", "4", "--index", index) == 0
    distances, order = expected(checkpoint, queries, output)
    saved = np.load(output / "results.npz", allow_pickle=False)
    np.testing.assert_array_equal(saved["indices"], order[:, :4])
    np.testing.assert_allclose(saved["distances"], np.take_along_axis(distances, order, 1)[:, :4], atol=1e-5)
    assert np.load(output / "query_embeddings.npy", allow_pickle=False).shape == (3, 512)
    names = [Path(path).name for path in np.load(output / "query_paths.npy", allow_pickle=False)]
    assert names == sorted(QUERIES)
    gallery, table = open_gallery(output), lines(output)
    assert list(table[0]) == ["query", "rank", "path", "identity", "camera", "distance"]
    assert [(Path(line["query"]).name, int(line["rank"])) for line in table] == [
        (name, rank) for name in sorted(QUERIES) for rank in (1, 2, 3, 4)
    ]
    for line, item in zip(table, order[:, :4].ravel(), strict=True):
        assert line["path"] == gallery.embeddings.paths[item]
        assert (int(line["identity"]), int(line["camera"])) == (gallery.person_ids[item], gallery.camera_ids[item])
    assert gallery_files <= {path.name for path in output.iterdir()}


def test_earlier_results_are_kept_and_the_gallery_stays(queries: Path, checkpoint: Path, output: Path) -> None:
    before = (output / "embeddings.npy").read_bytes()
    assert search(queries, checkpoint, output, "--topk", "2", "--visualize", "2") == 0
    first = (output / "results.csv").read_bytes()
    assert search(queries, checkpoint, output, "--topk", "0") == 0
    assert (output / "earlier_1" / "results.csv").read_bytes() == first
    assert len(list((output / "earlier_1" / "ranked_lists").iterdir())) == 2
    assert not (output / "ranked_lists").exists()
    assert len(lines(output)) == 3 * 6
    assert (output / "embeddings.npy").read_bytes() == before
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


def test_weak_matches_are_dropped(queries: Path, checkpoint: Path, output: Path) -> None:
    distances, _ = expected(checkpoint, queries, output)
    near = np.sort(distances.min(axis=1))
    limit = float((near[0] + near[1]) / 2)
    assert search(queries, checkpoint, output, "--max_distance", str(limit)) == 0
    saved = np.load(output / "results.npz")
    assert ((saved["indices"] >= 0) == (np.sort(distances, axis=1) <= limit)).all()
    assert (np.isinf(saved["distances"]) == (saved["indices"] == -1)).all()
    without = [line for line in lines(output) if line["path"] == "no match"]
    assert len(without) == 2
    assert all(line["rank"] == line["identity"] == line["distance"] == "" for line in without)
    assert len(lines(output)) == (distances <= limit).sum() + 2


def test_vectors_as_they_are(queries: Path, checkpoint: Path, output: Path) -> None:
    assert search(queries, checkpoint, output, "--no-normalize_features", "--topk", "0") == 0
    left, right = np.load(output / "query_embeddings.npy"), np.load(output / "embeddings.npy")
    squared = ((left[:, None].astype(np.float64) - right) ** 2).sum(2)
    np.testing.assert_allclose(np.load(output / "results.npz")["distances"], np.sort(squared, axis=1), rtol=1e-3)


def test_pictures(queries: Path, checkpoint: Path, output: Path) -> None:
    assert search(queries, checkpoint, output, "--visualize", "9") == 0
    names = [
        f"{row}_{Path(name).stem}.png" for row, name in zip(("0001", "0002", "0003"), sorted(QUERIES), strict=True)
    ]
    assert sorted(path.name for path in (output / "ranked_lists").iterdir()) == names
    with Image.open(output / "ranked_lists" / names[0]) as picture:
        assert picture.width > 7 * 64


def test_one_photo_is_a_query(
    queries: Path, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(queries / "stranger.png", checkpoint, output, "--topk", "2") == 0
    assert [Path(line["query"]).name for line in lines(output)] == ["stranger.png"] * 2
    shown = capsys.readouterr().out.splitlines()
    assert "stranger.png" in shown[0]
    assert shown[1].split() == ["rank", "distance", "identity", "camera", "image"]
    for row, line in zip(shown[2:], lines(output), strict=True):
        assert row.split() == [
            line["rank"], f"{float(line['distance']):.4f}", line["identity"], line["camera"], line["path"]
        ]  # fmt: skip
    assert search(queries / "stranger.png", checkpoint, output, "--max_distance", "0") == 0
    assert "no match" in capsys.readouterr().out


def test_some_photos_are_queries(
    queries: Path,
    checkpoint: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By --query, before the KEY VALUE pairs too, and by the paths that another program writes."""
    names = [QUERIES[2], QUERIES[0]]
    pairs = ["MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(output), "TRAINER.ACCELERATOR", "cpu"]
    shared = ["--gallery_data", str(output), "--precision", "fp32", "--topk", "2"]
    monkeypatch.chdir(queries)
    assert get_similar.main([*shared, "--query", *names, *pairs]) == 0
    table = lines(output)
    assert [Path(line["query"]).name for line in table] == [names[0], names[0], names[1], names[1]]
    assert capsys.readouterr().out.count("rank  distance") == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    assert get_similar.main([*shared, *pairs, "DATASETS.ROOT_DIR", "-"]) == 0
    assert lines(output) == table
    capsys.readouterr()
    assert get_similar.main([*shared, "--query", *names, *pairs, "DATASETS.ROOT_DIR", "."]) == 2
    error = "error: --query or DATASETS.ROOT_DIR names the queries, got stranger.png and .; leave one out\n"
    assert capsys.readouterr().err.endswith(error)
    assert get_similar.main([*shared, "--query", "nobody.jpg", names[0], *pairs]) == 2
    assert "1 of 2 files do not exist" in capsys.readouterr().err


def test_a_table_has_no_columns_without_content(
    queries: Path, checkpoint: Path, draw: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        draw(tmp_path / "photos" / f"photo {number}.jpg", number)
    folder = tmp_path / "gallery"
    assert create_embeddings.main([*settings(tmp_path / "photos", checkpoint, folder), "--precision", "fp32"]) == 0
    capsys.readouterr()
    assert search(queries / "stranger.png", checkpoint, folder) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split() == ["rank", "distance", "image"]
    assert {line.partition(str(tmp_path))[2][-11:] for line in shown[2:]} == {f"photo {n}.jpg" for n in range(3)}


def test_mistakes_are_one_line(
    queries: Path,
    checkpoint: Path,
    output: Path,
    write_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_checkpoint(output.parent / "other.pth", seed=1)
    for arguments, rule in (
        ((other,), "gallery and queries must come from one model, got best.pth"),
        ((checkpoint, "--topk", "-1"), "argument --topk: must be a whole number of 0 or more, got '-1'; see --help"),
        ((checkpoint, "--topk", "1.5"), "argument --topk: must be a whole number of 0 or more, got '1.5'"),
        (
            (checkpoint, "--max_distance", "-0.5"),
            "argument --max_distance: must be auto, or a number of 0 or more, got '-0.5'",
        ),
        (
            (checkpoint, "--max_distance", "nan"),
            "argument --max_distance: must be auto, or a number of 0 or more, got 'nan'",
        ),
        ((checkpoint, "--visualize", "-1"), "argument --visualize: must be a whole number of 0 or more, got '-1'"),
        ((checkpoint, "--index_uri", "a.db"), "error: a URI belongs to kind milvus"),
        ((checkpoint, "--gallery_data", "nowhere"), "nowhere must hold a finished gallery"),
        ((checkpoint, "MODEL.USE_CENTROIDS", "True"), "which has one row per image, got True; leave it out"),
    ):
        try:
            code = search(queries, arguments[0], output, *arguments[1:])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "INFO" not in line]
        assert len(error) == 1
        assert rule in error[0]
    assert not (output / "results.csv").exists()


def test_centroids_are_decided_by_the_gallery(
    queries: Path, images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "people"
    command = [*settings(images, checkpoint, folder), "--precision", "fp32", "MODEL.USE_CENTROIDS"]
    assert create_embeddings.main([*command, "True"]) == 0
    assert search(queries, checkpoint, folder, "MODEL.USE_CENTROIDS", "False") == 2
    assert "which has one row per identity, got False" in capsys.readouterr().err
    assert search(queries, checkpoint, folder, "MODEL.USE_CENTROIDS", "True") == 0
    assert len(lines(folder)) == 3 * 5


def test_wrong_arguments_of_an_index_fail_before_the_work(
    queries: Path, checkpoint: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Extractor, "stream", lambda *_, **__: pytest.fail("embedded"))
    assert search(queries, checkpoint, output, "--index", "ivfpq") == 2
    assert "needs 9984 vectors or more" in capsys.readouterr().err
    pytest.importorskip("milvus_lite")
    assert search(queries, checkpoint, output, "--index", "milvus", "--index_uri", "nowhere") == 2
    monkeypatch.setattr("inference.indexes.milvus.MAX_NEIGHBORS", 3)
    assert search(queries, checkpoint, output, "--index", "milvus", "--topk", "4") == 2
    assert "k must be at most 3 in Milvus, got 4" in capsys.readouterr().err


def test_strict_and_another_precision(
    queries: Path, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (queries / "damaged.jpg").write_text("no image")
    assert search(queries, checkpoint, output, "--strict") == 2
    assert "cannot read image" in capsys.readouterr().err.splitlines()[-1]
    assert search(queries, checkpoint, output) == 0
    assert "embedded in" not in capsys.readouterr().err
    assert search(queries, checkpoint, output, "--precision", "bf16") == 0
    assert "the gallery was embedded in fp32, the queries in bf16; see --precision" in capsys.readouterr().err


def test_the_seeds_commands_as_written(
    images: Path,
    queries: Path,
    write_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a folder like the repository's root with the data sets beside it; all share the default output_dir."""
    (tmp_path / "datasets/market1501").mkdir(parents=True)
    images.rename(tmp_path / "datasets/market1501/bounding_box_test")
    queries.rename(tmp_path / "datasets/market1501/query")
    logs = tmp_path / "repository/logs/market1501/resnet50/baseline/exp0"
    logs.mkdir(parents=True)
    (tmp_path / "repository/configs").symlink_to(REPOSITORY / "configs")
    write_checkpoint(logs / "25.pth", 0, {"MODEL.NAME": "resnet50", "INPUT.SIZE_TEST": [256, 128]})
    monkeypatch.chdir(tmp_path / "repository")
    weights = """MODEL.PRETRAIN_PATH "./logs/market1501/resnet50/baseline/exp0/25.pth" """
    embed = (
        """--config_file "configs/256_resnet50.yml" DATASETS.ROOT_DIR '../datasets/market1501/bounding_box_test' """
    )
    find = """--config_file "configs/256_resnet50.yml" --gallery_data 'output_dir'
        DATASETS.ROOT_DIR '../datasets/market1501/query' """
    name = (
        """--query_dir '../datasets/market1501/query' DATASETS.ROOT_DIR '../datasets/market1501/bounding_box_test' """
    )
    for script, words in ((create_embeddings, embed), (get_similar, find), (infer, name)):
        assert script.main(shlex.split(words + weights)) == 0
    assert len(lines(Path("output_dir"))) == 3 * 6
    with Path("output_dir/result.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("script", ["get_similar.py", "infer.py"])
def test_help_and_our_own_packages(script: str, tmp_path: Path) -> None:
    """Run as a script, with a package of the same name as ours beside it."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise ImportError('the wrong datasets')")
    command = [sys.executable, str(REPOSITORY / "inference" / script), "--help"]
    environment = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("--max_distance", "--precision", "--config_file", "KEY VALUE"):
        assert word in done.stdout
