import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from engine.model import load_model
from engine.settings import Settings
from inference.extract import Extractor, PendingBatch
from utils.errors import ReidError
from utils.images import read_image

Make = Callable[..., Path]


def plainly(checkpoint: Path, paths: list[Path]) -> np.ndarray:
    """One image after another, float32, NCHW."""
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.preprocessing.mean, model.preprocessing.std))
    rows = []
    with torch.no_grad():
        for path in paths:
            image = F.resize(read_image(path), list(model.preprocessing.size), antialias=True)
            rows.append(model.network(((image.float() / 255 - mean) / std)[None]).bn[0])
    return torch.stack(rows).numpy()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_are_those_of_a_plain_loop(checkpoint: Path, images: Path, workers: int) -> None:
    extractor = Extractor(checkpoint, "cpu", batch_size=4, precision="fp32", workers=workers)
    result = extractor(images)
    paths = sorted(path for path in images.iterdir() if not path.name.startswith("-1"))
    assert result.paths.tolist() == [str(path) for path in paths]
    np.testing.assert_allclose(result.vectors, plainly(checkpoint, paths), rtol=1e-3, atol=1e-4)
    assert result.vectors.shape == (6, extractor.card.dim)


def test_sixteen_bits_are_near(checkpoint: Path, images: Path) -> None:
    result = Extractor(checkpoint, "cpu", precision="bf16")(images)
    assert result.vectors.dtype == np.float32
    paths = sorted(path for path in images.iterdir() if not path.name.startswith("-1"))
    assert cosines(result.vectors, plainly(checkpoint, paths)).min() > 0.999


def test_files_pil_images_and_arrays_give_the_same(checkpoint: Path, draw: Make, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", 3)
    image = Image.open(path)
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    result = extractor([path, str(path), image, np.asarray(image), image.convert("RGBA")])
    assert result.paths.tolist() == [str(path), str(path), "", "", ""]
    assert np.abs(result.vectors - result.vectors[0]).max() < 1e-5
    assert extractor(path).paths.tolist() == [str(path)]
    assert extractor([]).vectors.shape == (0, 512)


def test_pixels_that_are_prepared_already(write_checkpoint: Make, images: Path, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "low.pth", 0, {"INPUT.SCALE": 2})
    extractor, files = Extractor(path, "cpu", precision="fp32"), sorted(images.iterdir())
    pixels = torch.stack([extractor.transform(read_image(file)).image for file in files])
    np.testing.assert_allclose(extractor.embed(pixels), extractor(files).vectors, rtol=1e-5, atol=1e-5)


def test_one_image_and_what_is_no_sequence(checkpoint: Path, draw: Make, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", 3)
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    for image in (Image.open(path), np.asarray(Image.open(path))):
        np.testing.assert_allclose(extractor(image).vectors, extractor(path).vectors, atol=1e-5)
    with pytest.raises(ReidError, match=r"must be a sequence of .*, got a generator; use list\(\)"):
        extractor(name for name in [path])  # type: ignore[arg-type]
    with pytest.raises(ReidError, match=r"must be a sequence .*, got a set"):
        list(extractor.stream({path}))  # type: ignore[arg-type]


def test_empty_crops_are_left_out_and_the_others_stay(
    checkpoint: Path, draw: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a detector's box outside of its frame gives them."""
    frame = np.asarray(Image.open(draw(tmp_path / "a.png", 3)))
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    crops = [frame[50:50], frame, frame[:, 30:40], Image.new("RGB", (0, 4))]
    result = extractor(crops)
    np.testing.assert_allclose(result.vectors, extractor(frame).vectors, atol=1e-5)
    assert "image 0 is empty: 0 x 20 pixels" in caplog.text
    assert "3 of 4 images could not be read and are left out" in caplog.text
    with pytest.raises(ReidError, match="image 0 is empty"):
        extractor(crops, strict=True)


def test_a_pil_image_that_breaks_pillow(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", lambda _: abs("x"))  # type: ignore[arg-type]
    image = Image.new("RGB", (4, 4))
    image.getexif()[0x0112] = 6  # turned by 90 degrees
    with pytest.raises(ReidError, match="a PIL image must be readable, or left out, but: bad operand type"):
        Extractor(checkpoint, "cpu")(image)


def test_gray_turned_and_deep_images_are_read_as_files_are(checkpoint: Path, draw: Make, tmp_path: Path) -> None:
    Image.open(draw(tmp_path / "a.png", 3)).convert("L").save(tmp_path / "gray.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.open(tmp_path / "a.png").save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(Image.open(tmp_path / "gray.png")).astype(np.uint16) << 8).save(tmp_path / "deep.png")
    paths = [tmp_path / "gray.png", tmp_path / "turned.jpg", tmp_path / "deep.png"]
    extractor = Extractor(checkpoint, "cpu", precision="fp32")
    opened = extractor([Image.open(path) for path in paths])
    np.testing.assert_allclose(opened.vectors, extractor(paths).vectors, atol=1e-5)


def test_unreadable_files_are_named_skipped_and_counted(
    checkpoint: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = sorted(images.iterdir())
    paths[2].write_text("no image")
    paths[5].write_bytes(b"")
    extractor = Extractor(checkpoint, "cpu", batch_size=2, precision="fp32", workers=1)
    with caplog.at_level(logging.WARNING):
        result = extractor(paths)
    good = [path for row, path in enumerate(paths) if row not in (2, 5)]
    assert result.paths.tolist() == [str(path) for path in good]
    np.testing.assert_allclose(result.vectors, plainly(checkpoint, good), rtol=1e-3, atol=1e-4)
    for path in (paths[2], paths[5]):
        assert f"cannot read image {path}" in caplog.text
    assert "2 of 7 images could not be read and are left out" in caplog.text
    with pytest.raises(ReidError, match=r"cannot read image .*; repair or remove it, or leave --strict out"):
        extractor(paths, strict=True)
    only = [*paths[:2], paths[2]]
    assert len(Extractor(checkpoint, "cpu", batch_size=1, workers=0)(only)) == 2  # a batch of nothing


def test_a_stream_gives_the_rows_that_were_asked_for(checkpoint: Path, images: Path) -> None:
    extractor = Extractor(checkpoint, "cpu", batch_size=2, precision="fp32", workers=0)
    paths = sorted(images.iterdir())
    batches = list(extractor.stream(paths, np.array([6, 1, 3])))
    assert [rows.tolist() for rows, _ in batches] == [[6, 1], [3]]
    whole = extractor(paths).vectors
    for rows, vectors in batches:
        np.testing.assert_allclose(vectors, whole[rows], rtol=1e-3, atol=1e-4)


def test_the_card_tells_the_model(write_checkpoint: Make, tmp_path: Path) -> None:
    changed = {"INPUT.PIXEL_MEAN": [0.5, 0.5, 0.5], "INPUT.INTERPOLATION": "bicubic", "INPUT.SCALE": 4}
    card = Extractor(write_checkpoint(tmp_path / "a.pth", 0, changed), "cpu").card
    images = card.preprocessing
    assert (card.checkpoint, card.dim, images.size, images.mean) == ("a.pth", 512, (32, 16), (0.5, 0.5, 0.5))
    assert (images.interpolation, images.scale) == ("bicubic", 1)  # the resolution of training is not that of use
    other = Extractor(write_checkpoint(tmp_path / "b.pth", 1, changed), "cpu").card
    assert len(card.sha256) == 64
    assert card.sha256 != other.sha256


def test_low_resolution_changes_the_images(checkpoint: Path, images: Path) -> None:
    low = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint), "INPUT.SCALE": 4}))
    extractor = Extractor(low, "cpu", precision="fp32")
    assert extractor.card.preprocessing.scale == 4
    full = Extractor(checkpoint, "cpu", precision="fp32")(images)
    assert np.abs(extractor(images).vectors - full.vectors).max() > 1e-3


def test_numbers_that_are_none_are_an_error(write_checkpoint: Make, tmp_path: Path, images: Path) -> None:
    broken = torch.load(write_checkpoint(tmp_path / "a.pth"), weights_only=True)
    broken["state_dict"]["network.head.bn.weight"].fill_(3e38)  # finite, but not what it multiplies
    torch.save(broken, tmp_path / "a.pth")
    with pytest.raises(
        ReidError, match=r"must give finite numbers, but does not in precision fp32; .*take a checkpoint"
    ):
        Extractor(tmp_path / "a.pth", "cpu", precision="fp32")(images)


@pytest.mark.parametrize(
    ("image", "got"),
    [(np.zeros((4, 4), np.uint8), r"\(4, 4\) uint8"), (np.zeros((4, 4, 3)), r"\(4, 4, 3\) float64"), (3, "int"),
     (Image.new("I", (4, 4)), "mode I; convert them")],
)  # fmt: skip
def test_images_of_a_wrong_kind(checkpoint: Path, image: object, got: str) -> None:
    with pytest.raises(ReidError, match=rf"must .*, got {got}"):
        Extractor(checkpoint, "cpu")([image])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size must be 1 or more, got 0"), ({"workers": -1}, "workers must be 0 or more"),
     ({"batch_size": "8"}, "batch_size must be 1 or more, got '8'"), ({"workers": "2"}, "workers must be .* got '2'"),
     ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"), ({"device": "mps"}, "got 'mps'"),
     ({"device": "cuda:99"}, "cuda:99 needs a CUDA device, but torch sees"),
     ({"precision": "int8"}, "precision must be one of auto, fp32, bf16, fp16, got 'int8'"),
     ({"device": "cpu", "precision": "fp16"}, "fp16 needs a CUDA device, got the CPU"),
     ({"engine": "tensorflow"}, "engine must be one of torch, onnxruntime, openvino, auto, got 'tensorflow'"),
     ({"engine": "onnxruntime", "device": "cpu", "precision": "bf16"}, "precision must be one of fp32 with engine onnx")],
)  # fmt: skip
def test_wrong_arguments(checkpoint: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ReidError, match=message):
        Extractor(checkpoint, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [{"conv1.weight": torch.zeros(64, 3, 7, 7)}, {}])
def test_only_a_trained_model_embeds(tmp_path: Path, content: dict[str, torch.Tensor]) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ReidError, match=r"MODEL\.PRETRAIN_PATH"):
        Extractor(tmp_path / "a.pth")


def test_vectors_are_read_after_their_copy_and_leave_its_memory() -> None:
    memory = torch.zeros(2, 512)

    class Copy:
        def synchronize(self) -> None:
            memory.fill_(7.0)

    batch = PendingBatch(np.arange(2), memory, Copy()).wait()  # type: ignore[arg-type]
    memory.fill_(8.0)
    assert (batch.vectors == 7.0).all()


def test_subnormal_numbers_are_flushed_in_the_network_alone(checkpoint: Path, images: Path) -> None:
    remain = []
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    model.network.register_forward_hook(lambda *_: remain.append(bool((torch.full((2,), 1e-39) * 0.5).any())))
    Extractor(model, "cpu")(images)
    assert remain == [False]
    assert bool((torch.full((2,), 1e-39) * 0.5).any())


def count_measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quickest: str) -> list[set[str]]:
    """Let this candidate be the fastest, and note each measurement."""
    measured: list[set[str]] = []

    def times(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
        for step in candidates.values():
            step()
        measured.append(set(candidates))
        return {name: 1.0 if name == quickest else 2.0 for name in candidates}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("utils.fastest._time", times)
    monkeypatch.setattr("inference.engines.multiplies_bf16", lambda _: True)
    return measured


def test_auto_is_measured_once_where_many_images_come(
    checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    measured = count_measurements(monkeypatch, tmp_path, "torch bf16 contiguous")
    few = Extractor(checkpoint, "cpu", batch_size=2)
    few(images)
    assert (few.precision, measured) == ("fp32", [])
    many = Extractor(checkpoint, "cpu", batch_size=2)
    assert many.choose(1000) == ("torch", "bf16", "contiguous")
    assert measured == [
        {f"torch {p} {layout}" for p in ("fp32", "bf16") for layout in ("channels_last", "contiguous")}
    ]
    assert "torch bf16 contiguous embeds on cpu" in caplog.text
    reference = Extractor(checkpoint, "cpu", precision="fp32")(images).vectors
    assert cosines(many(images).vectors, reference).min() > 0.999
    later = Extractor(checkpoint, "cpu", batch_size=2)  # e.g. of a few queries in the gallery of the many
    later(images)
    assert (later.precision, len(measured)) == ("bf16", 1)


def test_a_choice_stays_for_the_life_of_an_extractor(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = count_measurements(monkeypatch, tmp_path, "torch bf16 channels_last")
    extractor = Extractor(checkpoint, "cpu", batch_size=2)
    assert extractor.precision == extractor.choose(10_000).precision == "fp32"
    assert measured == []


def test_what_a_user_has_set_is_not_measured(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = count_measurements(monkeypatch, tmp_path, "none")
    assert Extractor(checkpoint, "cpu", precision="bf16").choose(10_000) == ("torch", "bf16", "channels_last")
    assert Extractor(checkpoint, "cpu", precision="fp32").choose(10_000) == ("torch", "fp32", "channels_last")
    assert measured == []


def test_the_model_of_a_caller_stays_as_it_is(checkpoint: Path, images: Path) -> None:
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    first = Extractor(model, "cpu", precision="bf16")(images)
    after = model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    np.testing.assert_array_equal(Extractor(model, "cpu", precision="bf16")(images).vectors, first.vectors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_gives_what_the_cpu_gives(checkpoint: Path, images: Path, precision: str) -> None:
    paths = sorted(images.iterdir()) * 20  # many batches: their copies overlap with what is computed
    on_cpu = Extractor(checkpoint, "cpu", precision="fp32")(paths)
    extractor = Extractor(checkpoint, "cuda", batch_size=2, precision=precision, workers=2)
    vectors = np.concatenate([batch.vectors for batch in extractor.stream(paths)])
    assert cosines(vectors, on_cpu.vectors).min() > 1 - {"fp32": 1e-4, "bf16": 1e-3, "fp16": 1e-3}[precision]
