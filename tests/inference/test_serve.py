"""The script, as a user starts and stops it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import inference
from inference import create_embeddings, serve

for library in ("fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(library)
httpx2 = pytest.importorskip("httpx2")

REPOSITORY = Path(inference.__file__).resolve().parents[1]


@pytest.fixture
def gallery(images: Path, checkpoint: Path, tmp_path: Path) -> Path:
    paths = ["DATASETS.ROOT_DIR", str(images), "OUTPUT_DIR", str(tmp_path / "gallery")]
    assert create_embeddings.main([*paths, *model(checkpoint)]) == 0
    return tmp_path / "gallery"


def model(checkpoint: Path) -> list[str]:
    return ["MODEL.PRETRAIN_PATH", str(checkpoint), "TRAINER.ACCELERATOR", "cpu", "--precision", "fp32"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service as a process of its own, and its address."""
    command = [sys.executable, str(REPOSITORY / "inference" / "serve.py"), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.search(r"open (http://\S+)", line):
                break
        else:
            raise AssertionError(f"it has ended with {process.wait()}")
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_stopped(number: signal.Signals, gallery: Path, checkpoint: Path, images: Path) -> None:
    with running("--gallery_data", str(gallery), *model(checkpoint)) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        photo = images / "0007_c1s1_000004_00.jpg"
        answer = httpx2.post(f"{address}/search?k=1", files={"image": photo.read_bytes()}, timeout=60)
        assert [match["path"] for match in answer.json()["matches"]] == [str(photo)]
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped" in log
    assert "Traceback" not in log


def test_the_token_may_come_from_the_environment(
    gallery: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(serve.TOKEN, "from-the-environment")
    with running("--gallery_data", str(gallery), *model(checkpoint)) as (_, address):
        assert httpx2.get(f"{address}/gallery").status_code == 401
        headers = {"Authorization": "Bearer from-the-environment"}
        assert httpx2.get(f"{address}/gallery", headers=headers).json()["images"] == 6


def test_the_threshold_may_come_with_the_weights(gallery: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights = Path(shutil.copy(checkpoint, tmp_path))
    conditions = {"query_scale": 1, "gallery_scale": 1, "flip": False, "fpr": 0.001, "threshold": 0.3}
    report = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "dataset": "drawn people",
        "results": [],
        "verification": {**conditions, "threshold_at_fpr": {"0.001": 0.3}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    options = ["--gallery_data", str(gallery), "--max_distance", "auto", *model(weights)]
    with running(*options) as (_, address):
        assert httpx2.get(f"{address}/gallery").json()["max_distance"] == 0.3


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    try:
        code = serve.main(options)
    except SystemExit as end:  # of the parser
        code = end.code
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_a_port_that_is_taken(gallery: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refused(capsys, "--gallery_data", str(gallery), "--port", port, *model(checkpoint))
    assert re.search(rf"cannot listen on 127.0.0.1, port {port}: .*; choose another --port", line)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token", "short"], "environment's REID_TOKEN, must have 8 or more printable ASCII characters"),
        (["--token", "with a space in it"], "must have 8 or more"),
        (["--host", "no such host"], "--host must be an address of this machine, got no such host"),
        (
            ["--host", "192.0.2.1"],
            "--host must be an address of this machine, got 192.0.2.1, which is another's; leave",
        ),
        (["--max_upload", "inf"], "--max_upload: must be a number from 0.001 to 4096, got 'inf'"),
        (["--max_upload", "0"], "--max_upload: must be a number from 0.001 to 4096, got '0'"),
        (["--index_uri", "here.db"], "a URI belongs to kind milvus"),
        (["--max_distance", "auto"], "--max_distance auto needs the threshold that test.py measures"),
        (["--gallery_data", "nowhere"], "nowhere must hold a finished gallery"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], words: str, gallery: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "--gallery_data", str(gallery), "--port", "0", *model(checkpoint), *options)


def test_an_index_is_built_when_all_else_is_right(
    gallery: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("milvus_lite")
    files = {path.name for path in gallery.iterdir()}
    options = ["--index", "milvus", "--max_distance", "auto", "--port", "0", *model(checkpoint)]
    assert "--max_distance auto needs the threshold" in refused(capsys, "--gallery_data", str(gallery), *options)
    assert {path.name for path in gallery.iterdir()} == files


def test_it_says_whose_cameras_the_network_was_told(
    gallery: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((gallery / "meta.json").read_text())
    (gallery / "meta.json").write_text(json.dumps({**meta, "cameras": True, "precision": "bf16"}))
    options = ["--max_distance", "auto", "--port", "0", *model(checkpoint), "TEST.CAMERAS", "True"]
    assert serve.main(["--gallery_data", str(gallery), *options]) == 2
    log = capsys.readouterr().err
    for words in (
        "the gallery was embedded with TEST.CAMERAS True, the queries with False",
        "the gallery was embedded in bf16, the queries in fp32; see --precision",
        "TEST.CAMERAS True has no effect",
    ):
        assert log.count(words) == 1


def test_another_model_is_refused(
    gallery: Path, write_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_checkpoint(tmp_path / "other.pth", 1)
    line = refused(capsys, "--gallery_data", str(gallery), "--port", "0", *model(other))
    assert "gallery and queries must come from one model" in line


def test_centroids_are_not_changed_image_by_image(
    images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("milvus_lite")
    settings = [
        "DATASETS.ROOT_DIR",
        str(images),
        "OUTPUT_DIR",
        str(tmp_path / "means"),
        "MODEL.USE_CENTROIDS",
        "True",
    ]
    assert create_embeddings.main([*settings, *model(checkpoint)]) == 0
    line = refused(
        capsys, "--gallery_data", str(tmp_path / "means"), "--index", "milvus", "--port", "0", *model(checkpoint)
    )
    assert "--index milvus serves images, got a gallery of centroids" in line


def test_missing_libraries_are_named(
    gallery: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    line = refused(capsys, "--gallery_data", str(gallery), *model(checkpoint))
    assert (
        "the service needs python_multipart, which is not installed; pip install fastapi uvicorn python-multipart"
        in line
    )


def test_help_comes_without_torch() -> None:
    code = "import sys; from inference import serve\ntry: serve.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert answer.stdout.endswith("False\n")
    assert "--max_upload" in answer.stdout
