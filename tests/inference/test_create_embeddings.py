"""The script end to end, in-process where that shows the same."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import inference.create_embeddings as script
from datasets.readers.market import UNKNOWN_ID
from inference.extract import EmbeddedBatch, Extractor
from inference.gallery import chunks
from inference.gallery.store import Gallery, open_gallery

ROOT = Path(__file__).resolve().parents[2]
FILES = {"embeddings.npy", "paths.npy", "meta.json"}
Make = Callable[..., Path]


@pytest.fixture
def arguments(checkpoint: Path, images: Path, tmp_path: Path) -> list[str]:
    return [
        *("DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(checkpoint)),
        *("OUTPUT_DIR", str(tmp_path / "out"), "TEST.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
        *("TRAINER.ACCELERATOR", "cpu", "--precision", "fp32"),
    ]


@pytest.fixture
def whole(checkpoint: Path, images: Path) -> np.ndarray:
    """The vectors of all images but junk, from the extractor itself."""
    return Extractor(checkpoint, "cpu", batch_size=2, precision="fp32", workers=0)(images).vectors


def names(gallery: Gallery) -> list[str]:
    return [Path(path).name for path in gallery.embeddings.paths]


def test_the_promised_files(
    arguments: list[str], images: Path, whole: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "notes.txt").write_text("text")
    assert script.main([*arguments, "--scale", "1"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    vectors = np.load(tmp_path / "out/embeddings.npy", allow_pickle=False)
    paths = np.load(tmp_path / "out/paths.npy", allow_pickle=False)
    files = sorted(path for path in images.glob("*.jpg") if not path.name.startswith("-1"))
    assert (vectors.dtype, vectors.shape, paths.dtype.kind) == (np.float32, (6, 512), "U")
    assert paths.tolist() == [str(path) for path in files]
    np.testing.assert_array_equal(vectors, whole)
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["rows"], meta["junk"], meta["unreadable"], meta["precision"]) == (6, 1, 0, "fp32")
    assert meta["model"]["checkpoint"] == "best.pth"
    assert ", 1 more are junk; shard 1/1" in capsys.readouterr().err
    gallery = open_gallery(tmp_path / "out")
    assert gallery.person_ids.tolist() == [0, 0, 7, 7, 9, 12]
    assert gallery.camera_ids.tolist() == [1, 2, 1, 2, 2, 3]


def test_an_earlier_gallery_is_kept(arguments: list[str], images: Path, tmp_path: Path) -> None:
    assert script.main(arguments) == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    (images / "0012_c3s1_000007_00.jpg").unlink()
    assert script.main(arguments) == 0
    assert {name: (tmp_path / "out/earlier_1" / name).read_bytes() for name in FILES} == before
    assert len(open_gallery(tmp_path / "out").embeddings) == 5


def test_centroids(arguments: list[str], whole: np.ndarray, tmp_path: Path) -> None:
    assert script.main([*arguments, "MODEL.USE_CENTROIDS", "True"]) == 0
    gallery = open_gallery(tmp_path / "out")
    expected = np.stack([whole[0], whole[1], (whole[2] + whole[3]) / 2, whole[4], whole[5]])
    np.testing.assert_allclose(gallery.embeddings.vectors, expected, rtol=1e-5, atol=1e-6)
    assert gallery.centroids
    assert gallery.person_ids.tolist() == [0, 0, 7, 9, 12]
    assert gallery.camera_ids.tolist() == [UNKNOWN_ID] * 5
    assert names(gallery)[2] == "0007_c1s1_000004_00.jpg"


def stop_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt the next extractor; returns the rows that later ones try."""
    stream, tried = Extractor.stream, []

    def stopping(
        self: Extractor, images: object, rows: np.ndarray, *more: object, strict: bool
    ) -> Iterator[EmbeddedBatch]:
        tried.extend(rows.tolist())
        for number, batch in enumerate(stream(self, images, rows, *more, strict=strict)):  # type: ignore[arg-type]
            if number == batches:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(Extractor, "stream", stopping)
    return tried


def test_a_stopped_run_goes_on(
    arguments: list[str], whole: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_LENGTH", 2)
    tried = stop_after(2, monkeypatch)
    assert script.main(arguments) == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings.part"]
    assert script.main(arguments) == 0
    assert tried == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]  # the chunk at work is lost
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    np.testing.assert_allclose(open_gallery(tmp_path / "out").embeddings.vectors, whole, atol=1e-5)


def test_unfinished_work_of_another_model_is_refused(
    arguments: list[str],
    write_checkpoint: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert script.main(arguments) == 130
    other = str(write_checkpoint(tmp_path / "other.pth", 1))
    assert script.main([*arguments, "MODEL.PRETRAIN_PATH", other]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "holds unfinished work that cannot be continued: model was {'checkpoint': 'best.pth'" in message
    assert "and is {'checkpoint': 'other.pth'" in message
    assert script.main([*arguments, "--precision", "bf16"]) == 2
    assert "precision was fp32 and is bf16" in capsys.readouterr().err


def test_shards_make_what_one_process_makes(
    arguments: list[str], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "0007_c2s1_000005_00.jpg").write_text("no image")
    assert script.main(arguments) == 0
    one = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    for number in (3, 1, 4):  # 6 images make 3 chunks
        assert script.main([*arguments, "OUTPUT_DIR", str(tmp_path / "parts"), "--shard", f"{number}/4"]) == 0
    assert "1 chunks of images are still to be embedded" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["embeddings.part"]
    assert script.main([*arguments, "OUTPUT_DIR", str(tmp_path / "parts"), "--shard", "2/4"]) == 0
    assert {path.name for path in (tmp_path / "parts").iterdir()} == FILES
    assert (tmp_path / "parts/paths.npy").read_bytes() == one["paths.npy"]
    metas = [json.loads(text) for text in (one["meta.json"], (tmp_path / "parts/meta.json").read_bytes())]
    for meta in metas:
        del meta["fingerprint"]["digest"]  # of the bits: other batches, other rounding
    assert metas[0] == metas[1]
    left, right = (np.load(tmp_path / folder / "embeddings.npy") for folder in ("out", "parts"))
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_processes_of_torchrun_share_the_work(
    arguments: list[str], whole: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # more than images
    for rank in range(8):
        monkeypatch.setenv("RANK", str(rank))
        assert script.main(arguments) == 0
    np.testing.assert_allclose(open_gallery(tmp_path / "out").embeddings.vectors, whole, atol=1e-5)


def test_unreadable_images(
    arguments: list[str], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = images / "0009_c2s1_000006_00.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    assert script.main([*arguments, "--strict"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: cannot read image {bad}: ")
    assert not (tmp_path / "out/meta.json").exists()
    assert script.main(arguments) == 0
    assert bad.name not in names(open_gallery(tmp_path / "out"))
    assert json.loads((tmp_path / "out/meta.json").read_text())["unreadable"] == 1
    for path in images.iterdir():
        path.write_text("no image")
    assert script.main(arguments) == 2
    assert "none of the 6 images could be read" in capsys.readouterr().err
    assert len(open_gallery(tmp_path / "out").embeddings) == 5  # the earlier one is where it was


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "0/2"], "argument --shard: must be I/N with I from 1 to N, e.g. 1/4 to 4/4, got '0/2'"),
        (["DATASETS.ROOT_DIR", "nowhere"], "folder of images nowhere must exist, but does not"),
        (["MODEL.PRETRAIN_PATH", ""], "inference needs MODEL.PRETRAIN_PATH, a trained model, got nothing"),
        (["MODEL.NAME", "resnet50"], "MODEL.NAME is resnet18 in the file and resnet50 here"),
        (
            ["--config_file", str(ROOT / "configs/256_resnet50.yml")],
            "MODEL.NAME is resnet18 in the file and resnet50",
        ),
        (["--images_in_folders"], "unrecognized arguments: --images_in_folders"),
        (["MODEL.USE_CENTROID", "True"], "did you mean MODEL.USE_CENTROIDS?"),
    ],
)
def test_mistakes_take_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    try:
        code = script.main([*arguments, *more])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_centroids_need_idrecords(
    arguments: list[str], images: Path, draw: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(images / "holiday.jpg", 1)
    assert script.main([*arguments, "MODEL.USE_CENTROIDS", "True"]) == 2
    assert "needs the identity in each file name" in (error := capsys.readouterr().err)
    assert "but 1 of 7 have none: holiday.jpg" in error


def test_our_packages_are_imported_from_anywhere(arguments: list[str], tmp_path: Path) -> None:
    """The seed's command, where a package of Hugging Face's name comes first on PYTHONPATH."""
    stranger = tmp_path / "site" / "datasets"
    stranger.mkdir(parents=True)
    (stranger / "__init__.py").write_text("raise ImportError('not ours')")
    shutil.copytree(stranger, tmp_path / "datasets")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, str(ROOT / "inference/create_embeddings.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(open_gallery(tmp_path / "out").embeddings) == 6


def test_the_command_of_the_seed(
    images: Path, write_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its README has it, from a folder like the repository's root with the data sets beside it."""
    (tmp_path / "datasets/market1501").mkdir(parents=True)
    images.rename(tmp_path / "datasets/market1501/bounding_box_test")
    logs = tmp_path / "repository/logs/market1501/resnet50/baseline/exp0"
    logs.mkdir(parents=True)
    (tmp_path / "repository/configs").symlink_to(ROOT / "configs")
    write_checkpoint(logs / "25.pth", 0, {"MODEL.NAME": "resnet50", "INPUT.SIZE_TEST": [256, 128]})
    monkeypatch.chdir(tmp_path / "repository")
    command = """--config_file "configs/256_resnet50.yml" DATASETS.ROOT_DIR '../datasets/market1501/bounding_box_test'
        MODEL.PRETRAIN_PATH "./logs/market1501/resnet50/baseline/exp0/25.pth" """
    assert script.main(shlex.split(command)) == 0
    gallery = open_gallery(tmp_path / "repository/output_dir")
    assert gallery.embeddings.vectors.shape == (6, 2048)
    assert gallery.model.checkpoint == "25.pth"


@pytest.mark.slow
def test_a_killed_process_loses_no_more_than_a_chunk(checkpoint: Path, draw: Make, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(1_200):
        draw(tmp_path / "many" / f"{number:04d}.jpg", number)
    values = ["DATASETS.ROOT_DIR", str(tmp_path / "many"), "MODEL.PRETRAIN_PATH", str(checkpoint)]
    values += ["TRAINER.ACCELERATOR", "cpu", "DATALOADER.NUM_WORKERS", "0", "--precision", "fp32"]
    output = tmp_path / "out"
    command = [sys.executable, str(ROOT / "inference/create_embeddings.py"), *values, "OUTPUT_DIR", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(chunk_files := list(output.glob("embeddings.part/*.npz"))) < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in chunk_files}
    whole = Extractor(checkpoint, "cpu", precision="fp32", workers=0)(tmp_path / "many").vectors
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on with unfinished work" in done.stderr
    embedded = int(re.search(r"(\d+) images embedded", done.stderr)[1])  # type: ignore[index]
    assert embedded <= 1_200 - 512 * len(before)
    np.testing.assert_array_equal(open_gallery(output).embeddings.vectors, whole)
    assert {path.name for path in output.iterdir()} == FILES
