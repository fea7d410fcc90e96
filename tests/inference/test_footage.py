"""From a camera's file to a searchable gallery, and what docs/footage.md says of trackers."""

import csv
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.convert.__main__ import main as convert
from inference import create_embeddings, get_similar
from inference.extract import Extractor
from inference.gallery.store import open_gallery

PAGE = Path(__file__).resolve().parents[2] / "docs" / "footage.md"
HEIGHT, WIDTH, PERSON = 100, 200, (80, 40)
SETTINGS = ("TEST.IMS_PER_BATCH", "8", "DATALOADER.NUM_WORKERS", "0", "TRAINER.ACCELERATOR", "cpu")


def person(number: int) -> np.ndarray:
    """(80, 40, 3) uint8 RGB: nobody else looks like that."""
    small = np.random.default_rng(number).integers(0, 256, (4, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(PERSON[::-1], Image.Resampling.BICUBIC))


def film(path: Path, people: tuple[int, ...], length: int = 12) -> str:
    """Write a video in which people walk to the right, 45 pixels apart, and return their rows."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    rows = []
    for frame in range(1, length + 1):
        scene = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for place, number in enumerate(people):
            left = 45 * place + frame
            scene[10:90, left : left + 40] = person(number)
            rows.append(f"{frame},{place + 1},{left},10,40,80,0.9\n")
        writer.write(scene[:, :, ::-1].copy())
    writer.release()
    return "".join(rows)


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """Crops of two cameras; people 5 and 6 pass both, as tracks 1 and 2 of the first, 3 and 1 of the second."""
    for name, people in (("gate", (5, 6, 7)), ("yard", (6, 8, 5))):
        (tmp_path / "boxes").mkdir(exist_ok=True)
        (tmp_path / "footage").mkdir(exist_ok=True)
        (tmp_path / "boxes" / f"{name}.txt").write_text(film(tmp_path / "footage" / f"{name}.avi", people))
    return convert(["tracks", *(str(tmp_path / name) for name in ("footage", "boxes", "crops")), "--every", "4"])


def embed(crops: Path, checkpoint: Path, out: Path, *options: str) -> int:
    return create_embeddings.main(
        [
            *("DATASETS.ROOT_DIR", str(crops), "MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(out)),
            *(*SETTINGS, "--images_in_subfolders", "--precision", "fp32", *options),
        ]
    )


def test_from_footage_to_the_same_people_at_the_other_camera(
    cameras: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(list(cameras.glob("*/*.jpg"))) == 2 * 3 * 3
    out = tmp_path / "gallery"
    assert embed(cameras, checkpoint, out, "--per_track") == 0
    assert "6 tracks of 512 components" in capsys.readouterr().err
    gallery = open_gallery(out)
    assert gallery.person_ids.tolist() == [1000001, 1000002, 1000003, 2000001, 2000002, 2000003]
    assert gallery.camera_ids.tolist() == [1, 1, 1, 2, 2, 2]
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["per_track"], meta["rows"], meta["images"], meta["centroids"]) == (True, 6, 18, False)

    vectors = Extractor(checkpoint, "cpu", batch_size=8, precision="fp32", workers=0)(cameras, subfolders=True)
    tracks = np.array([Path(path).parent.name for path in vectors.paths])
    means = np.stack([vectors.vectors[tracks == track].mean(axis=0) for track in np.unique(tracks)])
    np.testing.assert_allclose(gallery.embeddings.vectors, means, rtol=1e-4, atol=1e-5)

    query = cameras / "1000002" / "1000002_c1s1_000005_02.jpg"
    search = [
        *("--gallery_data", str(out), "DATASETS.ROOT_DIR", str(query), "MODEL.PRETRAIN_PATH", str(checkpoint)),
        *("OUTPUT_DIR", str(tmp_path / "search"), *SETTINGS, "--precision", "fp32", "--other_cameras", "name"),
    ]
    assert get_similar.main(search) == 0
    with (tmp_path / "search" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["identity"], rows[0]["camera"]) == ("2000001", "2")
    assert len(rows) == 3
    best = Path(rows[0]["path"])
    assert best.parent.name == "2000001"
    assert best.is_file()


def test_shards_and_centroids(
    cameras: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in ("1/2", "2/2"):
        assert embed(cameras, checkpoint, tmp_path / "shards", "--per_track", "--shard", shard) == 0
    assert embed(cameras, checkpoint, tmp_path / "whole", "--per_track") == 0
    ours, other = open_gallery(tmp_path / "shards").embeddings, open_gallery(tmp_path / "whole").embeddings
    assert ours.paths.tolist() == other.paths.tolist()
    np.testing.assert_allclose(ours.vectors, other.vectors, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    assert embed(cameras, checkpoint, tmp_path / "both", "--per_track", "MODEL.USE_CENTROIDS", "True") == 2
    assert "--per_track and MODEL.USE_CENTROIDS True exclude one another" in capsys.readouterr().err
    (cameras / "suspect.jpg").write_bytes(next(cameras.glob("*/*.jpg")).read_bytes())
    assert embed(cameras, checkpoint, tmp_path / "both", "--per_track") == 2
    assert "--per_track needs the identity in each file name" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def code_with(text: str) -> str:
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if text in block]
    return block


class Boxes(list[types.SimpleNamespace]):
    """As much of Ultralytics' boxes as the page uses."""


def box(track: int | None, x0: float) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        id=None if track is None else torch.tensor([float(track)]),
        xyxy=torch.tensor([[x0, 10.0, x0 + 40, 90.0]]),
        conf=torch.tensor([0.9]),
    )


def test_the_script_for_ultralytics_writes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []

    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        def track(self, source: str, **options: object) -> Iterator[types.SimpleNamespace]:
            calls.append({"source": source, **options})
            yield types.SimpleNamespace(boxes=[box(1, 10.0), box(None, 60.0)])
            yield types.SimpleNamespace(boxes=[])
            yield types.SimpleNamespace(boxes=[box(1, 12.0)])

    monkeypatch.setitem(sys.modules, "ultralytics", types.SimpleNamespace(YOLO=Model))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "gate.mp4.avi", (5,), 3)
    (tmp_path / "gate.mp4.avi").rename("gate.mp4")
    exec(code_with("from ultralytics"), {})
    assert calls == [{"source": "gate.mp4", "stream": True, "classes": [0], "verbose": False}]
    out = convert(["tracks", "gate.mp4", "boxes.txt", "crops", "--every", "1"])
    assert {path.relative_to(out).as_posix() for path in out.glob("*/*")} == {
        *("0001/0001_c1s1_000001_01.jpg", "0001/0001_c1s1_000003_01.jpg", "0000/0000_c1s1_000001_02.jpg")
    }


def test_rows_as_boxmot_writes_them(tmp_path: Path) -> None:
    film(tmp_path / "gate.avi", (5,), 3)
    (tmp_path / "tracks.txt").write_text(
        "1,1,11.5,10.25,40.0,80.0,0.91,0,-1\n2,1,12.0,10.25,40.0,80.0,0.9067232608795166,0,-1\n"
    )
    out = convert(["tracks", *(str(tmp_path / name) for name in ("gate.avi", "tracks.txt", "crops")), "--every", "1"])
    assert len(list(out.glob("0001/*.jpg"))) == 2


@pytest.mark.parametrize(
    "command", re.findall(r"^python (?:-m )?(\S+) ", PAGE.read_text(), re.M) if PAGE.exists() else []
)
def test_the_commands_of_the_page_exist(command: str) -> None:
    root = PAGE.parents[1]
    assert (root / command).exists() or (root / command.replace(".", "/")).is_dir()
