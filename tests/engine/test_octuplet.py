"""Octuplet fine-tuning and cross-resolution evaluation end to end, in-process, on a drawn data set."""

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
from engine.callbacks.epoch_log import read_metrics
from engine.methods import OCTUPLET
from engine.settings import Settings
from losses.octuplet import OctupletLoss
from modelling.heads import Head
from tests.engine.support import ONE_EPOCH, assert_same_weights, checkpoint_at, report_at, resume, without
from tests.support import fit
from utils.errors import ReidError


def test_fine_tuning_takes_the_network_and_leaves_its_run_alone(
    tiny_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tiny_checkpoint.parent.iterdir()}
    options = [*without(tiny_arguments, "MODEL.", "INPUT.SIZE", "SOLVER."), "SOLVER.IMS_PER_BATCH", "8"]
    path = ("MODEL.PRETRAIN_PATH", str(tiny_checkpoint))
    assert octuplet_script.main(["--scale", "4", *path, *options, "SOLVER.MAX_EPOCHS", "2"]) == 0
    assert {path: path.read_bytes() for path in tiny_checkpoint.parent.iterdir()} == before
    folder = tmp_path / "logs/tiny/osnet_x0_25/octuplet/exp0"
    checkpoint = checkpoint_at(folder / "1_last.pth")
    assert (checkpoint.card.method, checkpoint.card.scale) == ("octuplet", 4)
    assert (checkpoint.config["INPUT.SIZE_TRAIN"], checkpoint.config["SOLVER.BASE_LR"]) == ([32, 16], 1e-4)
    assert not checkpoint.objective  # the octuplet loss alone
    assert float(read_metrics(folder / "metrics.csv")[-1]["train/octuplet"]) > 0
    results = report_at(folder / "report_1.json")["results"]
    assert [(r["query_scale"], r["gallery_scale"]) for r in results] == [(4, 1), (4, 4), (1, 1)]


def test_other_terms_join_by_their_weights(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    names = ("QUERY_XENT_WEIGHT", "QUERY_CONTRASTIVE_WEIGHT", "CENTER_LOSS_WEIGHT", "CENTROID_CONTRASTIVE_WEIGHT")
    weights = [word for name in names for word in (f"SOLVER.{name}", "0.5")]
    path = ("MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "INPUT.LR_SCALES", "[2, 4]", *ONE_EPOCH)
    result = fit(tiny_arguments, *weights, *path, method=OCTUPLET)
    (row,) = read_metrics(result.folder / "metrics.csv")
    for term in ("octuplet", "identity", "triplet", "center", "centroid_triplet"):
        assert float(row[f"train/{term}"]) >= 0
    assert [e.protocol.scales for e in result.last] == [(2, 1), (2, 2), (4, 1), (4, 4), (1, 1)]


def test_the_ctl_script_evaluates_centroids_and_resumes(
    tiny_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = ("MODEL.PRETRAIN_PATH", str(tiny_checkpoint))
    assert octuplet_ctl_script.main(["--scale", "2", *tiny_arguments, *path]) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/octuplet_ctl/exp0"
    results = report_at(folder / "report_1.json")["results"]
    assert {r["protocol"] for r in results} == {"instance", "centroid"}
    assert octuplet_ctl_script.main([*resume(folder / "0.pth"), *tiny_arguments]) == 0
    assert_same_weights(folder / "1_last.pth", folder.with_name("exp1") / "1_last.pth")


def test_what_fine_tuning_needs_is_named(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    with pytest.raises(ReidError, match=r"fine-tuning needs MODEL\.PRETRAIN_PATH.*got none"):
        fit(tiny_arguments, "--scale", "4", method=OCTUPLET)
    with pytest.raises(ReidError, match="method octuplet needs low-resolution views: set --scale 2 or more, got 1"):
        fit(tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), method=OCTUPLET)


def test_a_test_gives_the_matrix_of_scales(tiny_checkpoint: Path, tmp_path: Path) -> None:
    use = ["MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "OUTPUT_DIR", str(tmp_path / "o")]
    scales = ["TEST.SCALES", "[1, 2, 4]", "TEST.SCALE_PAIRS", "all"]
    assert evaluation_script.main([*use, *scales, "TEST.VISUALIZE", "yes"]) == 0
    results = report_at(tmp_path / "o/report.json")["results"]
    pairs = [(r["query_scale"], r["gallery_scale"]) for r in results]
    assert pairs == [(query, gallery) for query in (1, 2, 4) for gallery in (1, 2, 4)]
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
    results = report_at(report)["results"]
    values = {(r["query_scale"], r["gallery_scale"]): r["mAP"] if figure == "mAP" else r["cmc"]["1"] for r in results}
    return [[f"{100 * values[query, gallery]:.2f}" for gallery in (1, 2, 4)] for query in (1, 2, 4)]


def test_several_scales_are_trained_and_validated(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "INPUT.LR_SCALES", "[1, 4]", *ONE_EPOCH)
    assert [e.protocol.scales for e in result.last] == [(1, 1), (4, 4)]


@pytest.mark.parametrize(("values", "feature"), [({}, "bn"), ({"SOLVER.OCTUPLET_FEATURE": "raw"}, "raw")])
def test_a_key_chooses_what_the_loss_compares(
    values: dict[str, str], feature: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The other feature would give another loss."""
    objective = build_objective(Settings({}, values).for_training(OCTUPLET, None, resume=False), 4, Head(8))
    features = {view: {name: torch.randn(8, 8) for name in ("raw", "bn")} for view in ("main", "low")}
    ids = torch.arange(4).repeat_interleave(2)
    loss = OctupletLoss(25.0)(features["main"][feature], features["low"][feature], ids)
    assert torch.equal(objective(features, ids).total, loss)
    rule = f"trains the feature {feature}, but retrieval compares bn: set MODEL.RETRIEVAL_FEATURE {feature}"
    assert [rule in text for text in caplog.messages] == ([True] if feature == "raw" else [])


def test_the_classifier_of_the_same_people_goes_on(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    still = ("SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.BASE_LR", "1e-12", "SOLVER.WEIGHT_DECAY", "0", *ONE_EPOCH)
    more = ("--scale", "2", "SOLVER.QUERY_XENT_WEIGHT", "1", "MODEL.PRETRAIN_PATH", str(tiny_checkpoint))
    after = checkpoint_at(fit(tiny_arguments, *still, *more, method=OCTUPLET).folder / "0_last.pth")
    name = "terms.identity.classifier.weight"
    torch.testing.assert_close(after.objective[name], checkpoint_at(tiny_checkpoint).objective[name])


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
    result = fit(tiny_arguments, *sets, "--scale", "2", *ONE_EPOCH)
    assert "low resolution x2 32x16 (files)" in capsys.readouterr().err
    report = report_at(result.folder / "report_0.json")
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
