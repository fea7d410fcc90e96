"""Octuplet fine-tuning and cross-resolution evaluation end to end, in-process, on a drawn data set."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import finetune_octuplet as octuplet_script
import finetune_octuplet_ctl as octuplet_ctl_script
import makelr
import test as evaluation_script
from configs import get_cfg, with_values
from datasets.sample import ReidSplits
from engine.builders.data import build_datamodule
from engine.builders.objective import build_objective
from engine.checkpoint import Checkpoint
from engine.methods import OCTUPLET
from engine.model import load_model
from engine.settings import Settings
from engine.weights import read_weights
from losses.octuplet import OctupletLoss
from tests.support import fit
from utils.errors import ReidError


@pytest.fixture
def source(tiny_arguments: list[str]) -> Path:
    return fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth"


def without_architecture(arguments: list[str]) -> list[str]:
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    dropped = ("MODEL.", "INPUT.SIZE", "SOLVER.")
    return [word for pair in pairs if not pair[0].startswith(dropped) for word in pair]


def test_fine_tuning_takes_the_network_from_the_checkpoint_and_leaves_its_folder_alone(
    tiny_arguments: list[str], source: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in source.parent.iterdir()}
    options = [*without_architecture(tiny_arguments), "SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_EPOCHS", "2"]
    assert octuplet_script.main(["--scale", "4", "MODEL.PRETRAIN_PATH", str(source), *options]) == 0
    assert {path: path.read_bytes() for path in source.parent.iterdir()} == before
    folder = tmp_path / "logs/tiny/osnet_x0_25/octuplet/exp0"
    tuned = read_weights(folder / "1_last.pth")
    assert isinstance(tuned, Checkpoint)
    assert (tuned.card.method, tuned.card.scale) == ("octuplet", 4)
    assert (tuned.config["INPUT.SIZE_TRAIN"], tuned.config["SOLVER.BASE_LR"]) == ([32, 16], 1e-4)
    assert not [name for name in tuned.state if name.startswith("objective.")]  # the octuplet loss alone
    row = list(csv.DictReader((folder / "metrics.csv").open()))[-1]
    assert float(row["train/octuplet"]) > 0
    results = json.loads((folder / "report_1.json").read_text())["results"]
    assert [(r["query_scale"], r["gallery_scale"]) for r in results] == [(4, 1), (4, 4), (1, 1)]


def test_other_terms_join_by_their_weights(tiny_arguments: list[str], source: Path) -> None:
    weights = (
        "QUERY_XENT_WEIGHT",
        "QUERY_CONTRASTIVE_WEIGHT",
        "CENTER_LOSS_WEIGHT",
        "CENTROID_CONTRASTIVE_WEIGHT",
    )
    more = [word for name in weights for word in (f"SOLVER.{name}", "0.5")]
    path = ("MODEL.PRETRAIN_PATH", str(source), "INPUT.LR_SCALES", "[2, 4]", "SOLVER.MAX_EPOCHS", "1")
    result = fit(tiny_arguments, *more, *path, method=OCTUPLET)
    row = list(csv.DictReader((result.folder / "metrics.csv").open()))[-1]
    for term in ("octuplet", "identity", "triplet", "center", "centroid_triplet"):
        assert float(row[f"train/{term}"]) >= 0
    assert [e.protocol.scales for e in result.last] == [(2, 1), (2, 2), (4, 1), (4, 4), (1, 1)]


def test_the_ctl_script_evaluates_centroids_and_resumes(
    tiny_arguments: list[str], source: Path, tmp_path: Path
) -> None:
    assert octuplet_ctl_script.main(["--scale", "2", *tiny_arguments, "MODEL.PRETRAIN_PATH", str(source)]) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/octuplet_ctl/exp0"
    results = json.loads((folder / "report_1.json").read_text())["results"]
    assert {r["protocol"] for r in results} == {"instance", "centroid"}
    again = ["MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(folder / "0.pth"), *tiny_arguments]
    assert octuplet_ctl_script.main(again) == 0
    straight, resumed = (read_weights(folder.with_name(name) / "1_last.pth") for name in ("exp0", "exp1"))
    assert isinstance(straight, Checkpoint)
    assert isinstance(resumed, Checkpoint)
    assert all(torch.equal(value, resumed.state[name]) for name, value in straight.state.items())


def test_what_fine_tuning_needs_is_named(tiny_arguments: list[str], source: Path) -> None:
    with pytest.raises(ReidError, match=r"fine-tuning needs MODEL\.PRETRAIN_PATH.*got none"):
        fit(tiny_arguments, "--scale", "4", method=OCTUPLET)
    with pytest.raises(ReidError, match="needs low-resolution views: set --scale 2 or more, got 1"):
        fit(tiny_arguments, "MODEL.PRETRAIN_PATH", str(source), method=OCTUPLET)


def test_a_test_gives_the_matrix_of_scales(source: Path, tmp_path: Path) -> None:
    output = [
        "MODEL.PRETRAIN_PATH",
        str(source),
        "OUTPUT_DIR",
        str(tmp_path / "o"),
        "TEST.SCALES",
        "[1, 2, 4]",
    ]

    def pairs(which: str) -> list[tuple[int, int]]:
        assert evaluation_script.main([*output, "TEST.SCALE_PAIRS", which, "TEST.VISUALIZE", "yes"]) == 0
        results = json.loads((tmp_path / "o/report.json").read_text())["results"]
        return [(r["query_scale"], r["gallery_scale"]) for r in results]

    assert pairs("both") == [(1, 1), (2, 2), (4, 4)]
    assert pairs("query") == [(1, 1), (2, 1), (4, 1)]
    assert pairs("gallery") == [(1, 1), (1, 2), (1, 4)]
    assert pairs("all") == [(query, gallery) for query in (1, 2, 4) for gallery in (1, 2, 4)]
    assert cells_across_resolutions(tmp_path / "o/report.html", "mAP") == cells_of(tmp_path / "o/report.json", "mAP")
    ranks = cells_across_resolutions(tmp_path / "o/report.html", "rank-1")
    assert ranks == cells_of(tmp_path / "o/report.json", "rank-1")
    assert len({cell for row in ranks + cells_of(tmp_path / "o/report.json", "mAP") for cell in row}) > 2


def cells_across_resolutions(page: Path, figure: str) -> list[list[str]]:
    part = page.read_text().partition("<h2>Across resolutions</h2>")[2].partition(f"{figure} in percent</caption>")[2]
    rows = re.findall(r"<tr><th scope=\"row\">query x\d</th>(.*?)</tr>", part.partition("</table>")[0])
    return [re.findall(r"<td[^>]*>([\d.]+)</td>", row) for row in rows]


def cells_of(report: Path, figure: str) -> list[list[str]]:
    """Three rows of three, the queries at x1 first."""
    results = json.loads(report.read_text())["results"]
    values = {(r["query_scale"], r["gallery_scale"]): r["mAP"] if figure == "mAP" else r["cmc"]["1"] for r in results}
    return [[f"{100 * values[query, gallery]:.2f}" for gallery in (1, 2, 4)] for query in (1, 2, 4)]


def test_several_scales_are_trained_and_validated(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "INPUT.LR_SCALES", "[1, 4]", "SOLVER.MAX_EPOCHS", "1")
    assert [e.protocol.scales for e in result.last] == [(1, 1), (4, 4)]


@pytest.mark.parametrize(("values", "feature"), [({}, "bn"), ({"SOLVER.OCTUPLET_FEATURE": "raw"}, "raw")])
def test_a_key_chooses_what_the_loss_compares(values: dict[str, str], feature: str) -> None:
    """The other feature would give another loss."""
    objective = build_objective(Settings({}, values).for_training(OCTUPLET, None, resume=False), 4, 8)
    features = {view: {name: torch.randn(8, 8) for name in ("raw", "bn")} for view in ("main", "low")}
    ids = torch.arange(4).repeat_interleave(2)
    loss = OctupletLoss(25.0)(features["main"][feature], features["low"][feature], ids)
    assert torch.equal(objective(features, ids).total, loss)


def test_the_classifier_of_the_same_people_goes_on(tiny_arguments: list[str], source: Path) -> None:
    still = ("SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.BASE_LR", "1e-12", "SOLVER.WEIGHT_DECAY", "0")
    more = ("--scale", "2", "SOLVER.MAX_EPOCHS", "1", "SOLVER.QUERY_XENT_WEIGHT", "1")
    tuned = read_weights(
        fit(tiny_arguments, *still, *more, "MODEL.PRETRAIN_PATH", str(source), method=OCTUPLET).folder / "0_last.pth"
    )
    before = read_weights(source)
    assert isinstance(before, Checkpoint)
    assert isinstance(tuned, Checkpoint)
    name = "terms.identity.classifier.weight"
    torch.testing.assert_close(tuned.objective[name], before.objective[name])


def test_the_size_of_files_is_that_of_the_images_that_are_meant(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of 64 x 32 are trained on, files twice as large are validated on."""
    folders = [shutil.copytree(tiny_market, tmp_path / name) for name in ("people", "others")]
    for path in folders[1].rglob("*.jpg"):
        with Image.open(path) as image:
            image.resize((64, 128)).save(path)
    for folder in folders:
        assert makelr.main(["--scale", "2", "--data_dir", str(folder), "--workers", "1"]) == 0
    sets = ("DATASETS.NAMES", str(folders[0]), "DATASETS.TEST_NAMES", str(folders[1]), "DATASETS.LR_SOURCE", "disk")
    result = fit(tiny_arguments, *sets, "--scale", "2", "SOLVER.MAX_EPOCHS", "1")
    assert "low resolution x2 32x16 (files)" in capsys.readouterr().err
    report = json.loads((result.folder / "report_0.json").read_text())
    assert report["resolutions"] == [{"scale": 2, "height": 64, "width": 32, "source": "disk"}]


def test_a_scale_that_leaves_almost_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    def build(test_scale: int, train_scale: int = 1, **values: object) -> str:
        caplog.clear()
        cfg = with_values(get_cfg(), {f"INPUT.{name}": value for name, value in values.items()})
        build_datamodule(cfg, ReidSplits("x", (), (), ()), [1, test_scale], [train_scale])
        return caplog.text

    assert build(16) == ""
    assert build(1, 16) == ""
    warning = "scale 20 leaves 13 x 6 pixels of the network's input of 256 x 128"
    assert warning in build(20, SIZE_TRAIN=[384, 192])
    assert warning in build(1, 20, SIZE_TRAIN=[384, 192])
    small = build(100, SIZE_TRAIN=[64, 32], SIZE_TEST=[64, 32])
    assert "scale 100 leaves 1 x 1 pixels of the network's input of 64 x 32" in small


def test_inference_says_that_it_reads_no_low_resolution_files(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = {"MODEL.PRETRAIN_PATH": str(source), "DATASETS.LR_SOURCE": "disk"}
    load_model(Settings({}, given))
    assert "LR_SOURCE" not in caplog.text
    assert load_model(Settings({}, {**given, "INPUT.SCALE": 2})).preprocessing.scale == 2
    assert "DATASETS.LR_SOURCE disk is for training and test; here x2 lowers the resolution" in caplog.text
