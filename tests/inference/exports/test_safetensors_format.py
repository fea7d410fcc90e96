import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import test as evaluation_script
from configs import read_config
from engine.model import load_model
from engine.settings import Settings
from engine.weights import read_weights
from inference import create_embeddings, export, get_similar, infer
from inference.extract import Extractor
from modelling.backbones import backbone
from modelling.weights.file import HANDED_ON
from tests.inference.exports.handing_on import FILES, hand_on
from utils.errors import ReidError


@pytest.fixture(scope="module")
def run_of(
    tiny_market: Path, tmp_path_factory: pytest.TempPathFactory, session_checkpoint: Callable[..., Path]
) -> Path:
    """A checkpoint, with the report of its test beside it."""
    folder = tmp_path_factory.mktemp("run")
    values = {
        "DATASETS.NAMES": str(tiny_market),
        "DATASETS.ROOT_DIR": str(tiny_market.parent),
        "LOGS_DIR": str(folder),
    }
    checkpoint = session_checkpoint(folder / "best.pth", 0, {**values, "SOLVER.MAX_EPOCHS": 7})
    assert run_test(checkpoint, tiny_market, folder, "TEST.FPR", "0.05") == 0
    return checkpoint


@pytest.fixture(scope="module")
def folder(run_of: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of that checkpoint to hand on."""
    path = tmp_path_factory.mktemp("exported") / "weights"
    assert hand_on(run_of, path) == 0
    return path


def run_test(weights: Path | str, market: Path, output: Path, *more: str) -> int:
    values = ["DATASETS.NAMES", str(market), "MODEL.PRETRAIN_PATH", str(weights), "OUTPUT_DIR", str(output)]
    return evaluation_script.main([*values, "TRAINER.ACCELERATOR", "cpu", *more])


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_the_folder_and_the_file_alone_are_the_checkpoint(run_of: Path, folder: Path, images: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    own = Extractor(run_of, "cpu", precision="fp32")
    for location in (folder, folder / "model.safetensors"):
        copy = Extractor(location, "cpu", precision="fp32")
        np.testing.assert_array_equal(copy(images).vectors, own(images).vectors)
        assert copy.card.sha256 == own.card.sha256
        assert copy.report["verification"] == own.report["verification"]


def test_the_same_figures(run_of: Path, folder: Path, tiny_market: Path, tmp_path: Path) -> None:
    assert run_test(folder, tiny_market, tmp_path, "TEST.FPR", "0.05") == 0
    own, copy = report(run_of.parent), report(tmp_path)
    for name in ("results", "verification", "resolutions", "sha256", "dataset"):
        assert copy[name] == own[name]


def test_a_gallery_of_the_checkpoint_is_searched_with_the_folder(
    run_of: Path, folder: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the threshold that has come with the weights."""
    output, threshold = tmp_path / "out", report(run_of.parent)["verification"]["threshold"]
    gallery = ["DATASETS.ROOT_DIR", str(tiny_market / "bounding_box_test"), "OUTPUT_DIR", str(output)]
    fp32 = ["--precision", "fp32", "TRAINER.ACCELERATOR", "cpu"]
    assert create_embeddings.main([*fp32, *gallery, "MODEL.PRETRAIN_PATH", str(run_of)]) == 0
    query = ["DATASETS.ROOT_DIR", str(tiny_market / "query"), "OUTPUT_DIR", str(output)]
    search = [*fp32, "--gallery_data", str(output), "--topk", "0", *query]
    assert get_similar.main([*search, "MODEL.PRETRAIN_PATH", str(folder)]) == 0
    every = np.load(output / "results.npz")["distances"]
    for weights in (run_of, folder):
        assert get_similar.main([*search, "--max_distance", "auto", "MODEL.PRETRAIN_PATH", str(weights)]) == 0
        distances = np.load(output / "results.npz")["distances"]
        np.testing.assert_array_equal(np.isfinite(distances), every <= threshold)
    assert 0 < np.isfinite(distances).sum() < every.size
    capsys.readouterr()
    squared = [*search, "--max_distance", "auto", "--no-normalize_features", "MODEL.PRETRAIN_PATH", str(folder)]
    assert get_similar.main(squared) == 2
    assert "--max_distance auto is a cosine distance, got --no-normalize_features" in capsys.readouterr().err


def test_people_are_named_within_the_threshold(run_of: Path, folder: Path, tiny_market: Path, tmp_path: Path) -> None:
    values = ["DATASETS.ROOT_DIR", str(tiny_market / "bounding_box_test"), "TRAINER.ACCELERATOR", "cpu"]
    command = [*values, "--query_dir", str(tiny_market / "query"), "--precision", "fp32"]
    command += ["MODEL.PRETRAIN_PATH", str(folder), "OUTPUT_DIR", str(tmp_path)]
    limits = {"auto": ["--max_distance", "auto"], "all": []}
    tables = {}
    for name, options in limits.items():
        assert infer.main([*command, *options]) == 0
        with (tmp_path / "result.csv").open(newline="") as file:
            tables[name] = list(csv.reader(file))[1:]
    threshold = report(run_of.parent)["verification"]["threshold"]
    for match, row in zip(tables["auto"], tables["all"], strict=True):
        assert match == (row if float(row[3]) <= threshold else [row[0], "no match", "", ""])


def test_weights_without_a_test_have_no_threshold(
    images: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hand_on(checkpoint, tmp_path / "weights") == 0
    assert "Not measured. Run `test.py`" in (tmp_path / "weights/README.md").read_text()
    command = ["--query_dir", str(images), "DATASETS.ROOT_DIR", str(images), "OUTPUT_DIR", str(tmp_path / "out")]
    command += ["--max_distance", "auto", "TRAINER.ACCELERATOR", "cpu"]
    capsys.readouterr()
    assert infer.main([*command, "MODEL.PRETRAIN_PATH", str(tmp_path / "weights")]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "INFO" not in line]
    assert len(error) == 1
    assert "needs the threshold that test.py measures, but none came with model.safetensors" in error[0]
    assert not (tmp_path / "out/result.csv").exists()


def test_the_model_card(run_of: Path, folder: Path) -> None:
    text, figures = (folder / "README.md").read_text(), report(run_of.parent)
    header = yaml.safe_load(text.split("---")[1])
    assert (header["license"], header["license_name"], header["library_name"]) == ("other", "FILL IN", "snu-reid")
    first = figures["results"][0]
    assert f"| {100 * first['mAP']:.2f} |" in text
    assert f"| {first['num_valid_queries']}/{first['num_queries']} |" in text
    assert f"| {figures['verification']['threshold']:.4f} |" in text
    for fact in ("resnet18", "512 components", "32 x 16 pixels", "8 identities", figures["sha256"], "at 5 % false"):
        assert fact in text
    assert "None" not in text
    assert "\n\n\n" not in text.split("---", 2)[2].strip()


def test_nothing_names_this_machine(folder: Path, tiny_market: Path) -> None:
    for path in folder.iterdir():
        for place in (tiny_market.parent, folder.parent, Path.home()):
            assert str(place).encode() not in path.read_bytes(), (path, place)
    config = read_config(folder / "config.yml")
    assert (config["DATASETS.NAMES"], config["LOGS_DIR"], config["SOLVER.MAX_EPOCHS"]) == (
        tiny_market.name,
        "logs",
        7,
    )


@pytest.mark.parametrize(
    ("names", "without"),
    [
        ("('market1501','/home/ann/own data')", "('market1501','own data')"),
        ("/home/ann/x.csv", "x.csv"),
        ("market1501", "market1501"),
        (r"C:\data\shop", "shop"),
        ("/home/ann/shop/", "shop/"),
    ],
)
def test_data_sets_have_no_folders(
    write_checkpoint: Callable[..., Path], tmp_path: Path, names: str, without: str
) -> None:
    path = write_checkpoint(tmp_path / "best.pth", 0, {"DATASETS.NAMES": names})
    card = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(path)})).card
    assert card is not None
    assert yaml.safe_load(card.config)["DATASETS"]["NAMES"] == without


def test_the_hub(folder: Path, run_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: str(path) for path in folder.iterdir()}
    hub = SimpleNamespace(list_repo_files=lambda _: list(files), hf_hub_download=lambda _, file: files[file])
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert Extractor("hf://me/people", "cpu").card.sha256 == Extractor(run_of, "cpu").card.sha256
    files["pytorch_model.bin"] = "not.bin"
    assert read_weights("hf://me/people").origin


def test_weights_of_another_project(tmp_path: Path, images: Path) -> None:
    torch.manual_seed(1)
    state = backbone("osnet_x0_25").build().base.state_dict()
    fc = torch.nn.Sequential(torch.nn.Linear(128, 512), torch.nn.BatchNorm1d(512))
    state |= {f"fc.{name}": tensor for name, tensor in fc.state_dict().items()}
    torch.save({**state, "classifier.weight": torch.zeros(9, 512)}, tmp_path / "osnet.pth")
    assert hand_on(tmp_path / "osnet.pth", tmp_path / "weights", "INPUT.SIZE_TEST", "[64, 32]") == 0
    settings = Settings({}, {"MODEL.PRETRAIN_PATH": str(tmp_path / "osnet.pth"), "INPUT.SIZE_TEST": [64, 32]})
    own, copy = Extractor(load_model(settings), "cpu"), Extractor(tmp_path / "weights", "cpu")
    np.testing.assert_array_equal(copy(images).vectors, own(images).vectors)
    assert copy.card.preprocessing.size == (64, 32)
    again = tmp_path / "again"
    assert hand_on(tmp_path / "weights", again) == 0
    assert load_file(again / "model.safetensors").keys() == load_file(tmp_path / "weights/model.safetensors").keys()


def test_an_exported_file_has_the_threshold_too(run_of: Path, tmp_path: Path) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    values = ["MODEL.PRETRAIN_PATH", str(run_of), "OUTPUT_DIR", str(tmp_path)]
    assert export.main(["--format", "onnx", *values]) == 0
    assert Extractor(tmp_path / "model.onnx").report["verification"] == report(run_of.parent)["verification"]
    assert str(run_of.parent) not in (tmp_path / "model.json").read_text()


def test_a_training_starts_from_them_but_does_not_go_on(
    folder: Path, tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import train

    values = ["MODEL.PRETRAIN_PATH", str(folder), "MODEL.RESUME_TRAINING", "True"]
    assert train.main([*tiny_arguments, *values]) == 2
    assert "model.safetensors must hold what a resumption needs" in capsys.readouterr().err


def test_a_report_from_elsewhere(run_of: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = report(run_of.parent)
    (tmp_path / "good.json").write_text(json.dumps({**content, "dataset": "another"}))
    assert hand_on(run_of, tmp_path / "a", "--report", str(tmp_path / "good.json")) == 0
    assert read_weights(tmp_path / "a").report["dataset"] == "another"
    (tmp_path / "bad.json").write_text(json.dumps({**content, "sha256": "another"}))
    (tmp_path / "damaged.json").write_text(json.dumps({**content, "results": [{"protocol": "instance"}]}))
    for name, rule in (
        ("bad", "--report must be of"),
        ("none", "but does not exist"),
        ("damaged", "the report must be one of test.py, but is damaged (KeyError"),
    ):
        capsys.readouterr()
        assert hand_on(run_of, tmp_path / "b", "--report", str(tmp_path / f"{name}.json")) == 2
        assert rule in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


def test_figures_of_other_vectors_are_not_handed_on(
    run_of: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = ("MODEL.RETRIEVAL_FEATURE", "raw")
    images = {"SIZE_TEST": [32, 16], "PIXEL_MEAN": [0.485, 0.456, 0.406], "PIXEL_STD": [0.229, 0.224, 0.225]}
    images |= {"INTERPOLATION": "bilinear"}
    vectors = {"MODEL.RETRIEVAL_FEATURE": "bn", **{f"INPUT.{name}": value for name, value in images.items()}}
    assert report(run_of.parent)["vectors"] == vectors
    assert hand_on(run_of, tmp_path / "raw", *raw) == 0
    log = capsys.readouterr().err
    assert (
        log.count("report.json is left out, for it is of other vectors: MODEL.RETRIEVAL_FEATURE bn there and raw")
        == 1
    )
    assert "which were not tested" in log
    assert (tmp_path / "raw/README.md").read_text().count("Not measured") == 2

    assert run_test(run_of, tiny_market, tmp_path / "test", *raw) == 0
    beside = ["--report", str(tmp_path / "test/report.json")]
    assert hand_on(run_of, tmp_path / "raw", *beside, *raw) == 0
    assert "Not measured" not in (tmp_path / "raw/README.md").read_text()
    capsys.readouterr()
    assert hand_on(run_of, tmp_path / "bn", *beside) == 2
    error = capsys.readouterr().err
    assert "--report must be of the vectors that are exported, got" in error
    assert "MODEL.RETRIEVAL_FEATURE raw there and bn here; test again with the settings of the export" in error
    assert not (tmp_path / "bn").exists()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "begins like a file of safetensors, but cannot be read"),
        ("7", "is no mapping"),
        ("[" * 100_000, "cannot be read"),
        ('{"reid": 7}', "its section reid must be a mapping"),
        ('{"reid": {}}', "it lacks 'config'"),
        ("report", "its report must be a mapping, got int"),
        ("origin", "its entry origin must be text, got 7"),
    ],
)
def test_damaged_metadata_is_one_line(folder: Path, tmp_path: Path, text: str, rule: str) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        content = json.loads(file.metadata()[HANDED_ON])
    if text == "report":
        text = json.dumps({**content, "report": 7})
    elif text == "origin":
        text = json.dumps({**content, "reid": {**content["reid"], "origin": 7}})
    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors", {HANDED_ON: text})
    with pytest.raises(ReidError, match=re.escape(rule)) as caught:
        read_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_others_may_read_all_files_alike(folder: Path) -> None:
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
