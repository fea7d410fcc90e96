"""inference/export.py from the command line to a search by the exported file."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test as evaluation_script
from inference import create_embeddings, export, get_similar, infer
from inference.exports import FORMATS, Export, Format
from inference.extract import Extractor
from inference.gallery.store import open_gallery

CPU = ("TRAINER.ACCELERATOR", "cpu", "DATALOADER.NUM_WORKERS", "0")


@pytest.fixture(autouse=True)
def _libraries() -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run the script, which must refuse in one line and leave nothing; return the line."""

    def run(*arguments: str) -> str:
        output = tmp_path / "refused"
        assert export.main([*arguments, "OUTPUT_DIR", str(output), *CPU]) == 2
        assert not output.exists()
        errors = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
        assert len([line for line in errors if line.startswith("error: ")]) == 1
        assert errors[-1].startswith("error: ")
        return errors[-1]

    return run


def test_the_scripts_search_with_the_file_and_its_gallery_is_that_of_the_checkpoint(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exported"
    weights = ("MODEL.PRETRAIN_PATH", str(checkpoint))
    assert export.main([*weights, "OUTPUT_DIR", str(folder), "--check", str(images), *CPU]) == 0
    assert names_in(folder) == ["model.json", "model.onnx"]
    log = capsys.readouterr().err
    assert "12 images: cosine distance to torch at most" in log
    assert f"{images}: 16 images: cosine distance to torch at most" in log  # of 6: 1, 3, all of them, all once more
    assert "N x 3 x 32 x 16 float32 normalized -> N x 512 float32, computed in fp32" in log
    assert "mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225" in log

    file, gallery = ("MODEL.PRETRAIN_PATH", str(folder / "model.onnx")), tmp_path / "gallery"
    photos = ("DATASETS.ROOT_DIR", str(images), *CPU)
    for name, model in (("by_file", file), ("by_torch", weights)):
        assert create_embeddings.main([*photos, *model, "OUTPUT_DIR", str(gallery / name)]) == 0
    one, other = (open_gallery(gallery / name).embeddings.vectors for name in ("by_file", "by_torch"))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
    for name, model in (("by_file", weights), ("by_torch", file)):  # each searches the gallery of the other
        search = ["--gallery_data", str(gallery / name), "--topk", "2", *photos, *model]
        assert get_similar.main([*search, "OUTPUT_DIR", str(tmp_path / name)]) == 0
        rows = np.load(tmp_path / name / "results.npz")
        assert rows["indices"][:, 0].tolist() == list(range(6))
        assert rows["distances"][:, 0].max() < 1e-5
    assert infer.main(["--query_dir", str(images), *photos, *file, "OUTPUT_DIR", str(tmp_path / "infer")]) == 0
    assert len((tmp_path / "infer/result.csv").read_text().splitlines()) == 7
    assert "error" not in capsys.readouterr().err


def test_vectors_of_length_1_do_not_mix_with_others_unnoticed(
    checkpoint: Path, exported: Path, images: Path, write_export: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    unit = write_export(tmp_path / "unit", checkpoint, unit=True)
    photos = ["DATASETS.ROOT_DIR", str(images), *CPU, "MODEL.PRETRAIN_PATH"]
    assert create_embeddings.main([*photos, str(unit), "OUTPUT_DIR", str(tmp_path / "gallery")]) == 0
    search = ["--gallery_data", str(tmp_path / "gallery"), "OUTPUT_DIR", str(tmp_path / "out")]
    assert get_similar.main([*search, *photos, str(exported)]) == 0
    assert "the gallery was embedded in fp32-unit, the queries in fp32" in capsys.readouterr().err


def test_openvino_and_an_earlier_export(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arguments = [
        "--pixels",
        "--unit",
        "MODEL.PRETRAIN_PATH",
        str(checkpoint),
        "OUTPUT_DIR",
        str(tmp_path / "out"),
        *CPU,
    ]
    assert export.main(arguments) == 0
    assert export.main([*arguments, "--format", "openvino"]) == 0
    assert names_in(tmp_path / "out") == sorted(
        ["earlier_1", "model.json", "model.onnx", "model.bin", "model.json", "model.xml"]
    )
    assert names_in(tmp_path / "out/earlier_1") == ["model.json", "model.onnx"]
    card = json.loads((tmp_path / "out/model.json").read_text())
    assert {name: card[name] for name in ("format", "input", "unit", "precision")} == {
        "format": "openvino", "input": "pixels", "unit": True, "precision": "fp32",
    }  # fmt: skip
    assert (card["checkpoint"], card["size"], sorted(card["files"])) == ("best.pth", [32, 16], [".bin", ".xml"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_whose_name_is_no_text(name: str, checkpoint: Path, images: Path, tmp_path: Path) -> None:
    for library in FORMATS[name].libraries:
        pytest.importorskip(library)
    folder = tmp_path / "gr\udcfcn"  # a byte of Latin-1
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes text only")
    assert (
        export.main(["--format", name, "MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(folder), *CPU]) == 0
    )
    assert len(Extractor(folder / FORMATS[name].files[0])(images)) == 6


def test_a_file_that_differs_gets_no_name_and_an_earlier_one_stays(
    checkpoint: Path,
    exported: Path,
    write_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
) -> None:
    """The graph of another network stands for a converter that makes a mistake."""

    def write_another(_: Export, folder: Path) -> None:
        shutil.copy(exported, folder)

    row = FORMATS["onnx"]
    monkeypatch.setitem(FORMATS, "onnx", Format(write_another, row.files, row.engines, row.libraries))
    other = write_checkpoint(tmp_path / "other.pth", 1)
    line = refusal("MODEL.PRETRAIN_PATH", str(other))
    assert "the vectors of the exported file must be those of torch to a cosine distance of 1e-05" in line
    assert "no file was written" in line

    folder = Path(shutil.copytree(exported.parent, tmp_path / "folder"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert export.main(["MODEL.PRETRAIN_PATH", str(other), "OUTPUT_DIR", str(folder), *CPU]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert export.main(["MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(folder), *CPU]) == 0
    assert (folder / "earlier_1").is_dir()


def test_wrong_arguments(checkpoint: Path, exported: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    weights = ("MODEL.PRETRAIN_PATH", str(checkpoint))
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    for folder in (empty, broken):
        folder.mkdir()
    (broken / "image.jpg").write_bytes(b"no image")
    assert "--format must be one of onnx, openvino, safetensors, got 'onx'; did you mean onnx?" in refusal(
        "--format", "onx", *weights
    )
    assert f"folder {empty} must hold images" in refusal("--int8", str(empty), *weights)
    assert f"folder {empty} must hold images" in refusal("--check", str(empty), *weights)
    for option in ("--check", "--int8"):
        rule = f"{option} must be a folder of images, got {tmp_path / 'absent'}, which is none"
        assert rule in refusal(option, str(tmp_path / "absent"), *weights)
    assert "none of the images in" in refusal("--check", str(broken), *weights).replace(str(broken), "")
    assert "needs MODEL.PRETRAIN_PATH, a trained model, got nothing" in refusal()
    assert "must be an existing file, got absent.pth" in refusal("MODEL.PRETRAIN_PATH", "absent.pth")
    assert "cannot be loaded as plain tensors" in refusal("MODEL.PRETRAIN_PATH", str(broken / "image.jpg"))
    assert "an exported file, which embeds and searches only" in refusal("MODEL.PRETRAIN_PATH", str(exported))
    assert "did you mean MODEL.PRETRAIN_PATH" in refusal("MODEL.PRETRAINPATH", str(checkpoint))


def test_a_missing_library_is_named_before_the_work(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name == "onnxscript" else True)
    monkeypatch.setattr("engine.model.build_network", lambda *_: pytest.fail("the network was built"))
    line = refusal("MODEL.PRETRAIN_PATH", str(checkpoint))
    assert line.endswith("--format onnx needs libraries that are not installed: pip install onnxscript")


def test_8_bits_need_a_library_of_their_own(
    checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    """That of another format; the extra of the package has it."""
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name == "onnxruntime" else True)
    monkeypatch.setattr("engine.model.build_network", lambda *_: pytest.fail("the network was built"))
    line = refusal("--format", "openvino", "--int8", str(images), "MODEL.PRETRAIN_PATH", str(checkpoint))
    assert line.endswith("--format openvino --int8 needs libraries that are not installed: pip install onnxruntime")
    FORMATS["openvino"].check_libraries("openvino")  # without 8 bits it goes without
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r"^openvino = .*\"onnxruntime\b", project, re.MULTILINE)


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--format", 2)])
def test_help_and_typos_do_not_wait_for_torch(argument: str, code: int) -> None:
    program = (
        "import sys\n"
        "from inference import export\n"
        "try:\n"
        f"    export.main([{argument!r}])\n"
        "finally:\n"
        "    print('imported:', sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith("imported: []\n")
    if argument == "--help":
        for option in ("--format", "--pixels", "--unit", "--int8", "--check", "KEY VALUE"):
            assert option in done.stdout
    else:
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [("--pixels", "--input", "fractions"), ("--input", "photos"), ("--int8",)])
def test_options_that_contradict(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        export.main([*options])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_cameras_count_as_unknown(
    write_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"MODEL.NAME": "vit_tiny", "MODEL.CAMERAS": 3, "INPUT.SIZE_TRAIN": [32, 16], "MODEL.PRETRAINED": False}
    checkpoint = write_checkpoint(tmp_path / "vit.pth", 0, values)
    output = ("OUTPUT_DIR", str(tmp_path / "out"), *CPU)
    assert export.main(["MODEL.PRETRAIN_PATH", str(checkpoint), *output]) == 0
    log = capsys.readouterr().err
    assert log.count("the cameras of all images count as unknown in the file: the mean of 3 camera vectors") == 1
    Image.new("RGB", (16, 32)).save(tmp_path / "0001_c1s1_000001_00.jpg")
    file = ["MODEL.PRETRAIN_PATH", str(tmp_path / "out/model.onnx"), "DATASETS.ROOT_DIR", str(tmp_path), *output]
    assert create_embeddings.main([*file, "TEST.CAMERAS", "True"]) == 2
    assert "TEST.CAMERAS True needs a network that looks at cameras" in capsys.readouterr().err


def test_test_py_wants_the_checkpoint(exported: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluation_script.main(["MODEL.PRETRAIN_PATH", str(exported), "DATASETS.NAMES", str(tiny_market)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "an exported file, which embeds and searches only (inference/); take the checkpoint" in line
