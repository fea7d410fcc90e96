"""What a new gallery does to what lies in its folder, and what a killed process leaves there."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import inference.create_embeddings as script
from inference import get_similar, infer
from inference.gallery.chunks import EmbeddingJob
from inference.gallery.finalize import finalize
from inference.gallery.fingerprint import VectorHasher, fingerprint_of
from inference.gallery.index import load_or_build_index
from inference.gallery.store import open_gallery
from inference.image_paths import ImagePaths, sorted_names

FILES = {"embeddings.npy", "paths.npy", "meta.json"}


@pytest.fixture
def arguments(checkpoint: Path, images: Path, tmp_path: Path) -> list[str]:
    return [
        *("DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(checkpoint)),
        *("OUTPUT_DIR", str(tmp_path / "out"), "TRAINER.ACCELERATOR", "cpu", "--precision", "fp32"),
    ]


@pytest.mark.parametrize("centroids", ["False", "True"])
def test_the_fingerprint_is_that_of_the_files(arguments: list[str], tmp_path: Path, centroids: str) -> None:
    assert script.main([*arguments, "MODEL.USE_CENTROIDS", centroids]) == 0
    vectors, paths = np.load(tmp_path / "out/embeddings.npy"), np.load(tmp_path / "out/paths.npy")
    gallery = open_gallery(tmp_path / "out")
    assert gallery.fingerprint == fingerprint_of(vectors, paths)
    assert gallery.precision == "fp32"
    assert isinstance(gallery.embeddings.paths, np.memmap)


def test_indices_and_results_leave_with_their_gallery(arguments: list[str], images: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    out = tmp_path / "out"
    assert script.main(arguments) == 0
    assert get_similar.main(["--gallery_data", str(out), "--index", "hnsw", "--visualize", "1", *arguments]) == 0
    (out / "milvus.db").touch()
    (out / "notes.txt").touch()
    before = {path.name for path in out.iterdir()} - {"notes.txt"}
    assert {"index_hnsw_cosine.faiss", "index_hnsw_cosine.json", "results.csv", "ranked_lists"} < before
    (images / "0012_c3s1_000007_00.jpg").unlink()
    assert script.main(arguments) == 0
    assert {path.name for path in (out / "earlier_1").iterdir()} == before
    assert {path.name for path in out.iterdir()} == FILES | {"earlier_1", "notes.txt"}
    assert len(load_or_build_index(open_gallery(out), out, "hnsw")) == 5


def test_results_of_another_gallery_stay(arguments: list[str], tmp_path: Path) -> None:
    assert script.main(arguments) == 0
    results = tmp_path / "results"
    assert get_similar.main(["--gallery_data", str(tmp_path / "out"), *arguments, "OUTPUT_DIR", str(results)]) == 0
    assert script.main([*arguments, "OUTPUT_DIR", str(results)]) == 0
    assert FILES | {"results.csv"} < {path.name for path in results.iterdir()}


def test_a_killed_process_leaves_only_unfinished_work(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[set[str]] = []

    def look(*_: object, **__: object) -> None:
        inside.append({path.name for path in (tmp_path / "out").iterdir()})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VectorHasher, "finish", look)
        assert script.main(arguments) == 130
    assert inside == [{"embeddings.part"}]
    assert script.main(arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_what_is_left_of_finished_work_does_no_harm(arguments: list[str], tmp_path: Path) -> None:
    """As a process leaves it that is killed while it removes its chunks."""
    assert script.main([*arguments, "--shard", "1/2"]) == 0
    (tmp_path / "out/embeddings.part/job.json").unlink()
    assert script.main(arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_the_second_of_two_last_processes_leaves_the_gallery_alone(arguments: list[str], tmp_path: Path) -> None:
    assert script.main(arguments) == 0
    before = (tmp_path / "out/embeddings.npy").stat().st_mtime_ns
    job = EmbeddingJob(tmp_path / "out", {}, 4)
    job.remove()  # as the first one does
    paths = ImagePaths("/x", sorted_names(["a.jpg"]))
    card = open_gallery(tmp_path / "out").model
    assert finalize(job, paths, card, {}, centroids=False) == tmp_path / "out"
    assert (tmp_path / "out/embeddings.npy").stat().st_mtime_ns == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_centroids_are_part_of_the_job(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([*arguments, "--shard", "1/2"]) == 0
    assert script.main([*arguments, "--shard", "2/2", "MODEL.USE_CENTROIDS", "True"]) == 2
    assert "cannot be continued: centroids was False and is True" in capsys.readouterr().err


@pytest.mark.parametrize("within", ["", "results"])
def test_our_own_pictures_are_not_embedded(
    arguments: list[str], images: Path, draw: Callable[..., Path], within: str, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(images / "deeper" / "0020_c1s1_000001_00.jpg", 1)
    draw(images / within / "ranked_lists" / "0001_x.png", 2)
    draw(images / within / "earlier_1" / "ranked_lists" / "0001_x.png", 2)
    command = [*arguments, "--images_in_subfolders", "OUTPUT_DIR", str(images / within)]
    assert script.main(command) == 0
    paths = open_gallery(images / within).embeddings.paths
    assert len(paths) == 7
    assert not any("ranked_lists" in path for path in paths)
    assert "holds results and is left out" in capsys.readouterr().err


def test_names_that_are_not_utf8(arguments: list[str], images: Path, tmp_path: Path) -> None:
    strange = os.fsencode(images) + b"/0033_c1s1_caf\xe9.jpg"
    (images / "0012_c3s1_000007_00.jpg").rename(os.fsdecode(strange))
    assert script.main(arguments) == 0
    shared = ["--gallery_data", str(tmp_path / "out"), "--topk", "0", "--visualize", "9"]
    assert get_similar.main([*shared, *arguments]) == 0
    assert (tmp_path / "out/results.csv").read_bytes().count(strange) == 6 + 6 - 1 + 1
    assert infer.main(["--query_dir", str(images), *arguments]) == 0
    assert (tmp_path / "out/result.csv").read_bytes().count(b"0033_c1s1_caf\xe9.jpg") == 2  # as query and as match
    assert json.loads((tmp_path / "out/meta.json").read_text())["rows"] == 6
