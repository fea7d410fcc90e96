"""Octuplet fine-tuning and cross-resolution evaluation end to end, in-process, on a drawn data set."""

import csv
import json
from pathlib import Path

import pytest
import torch

import finetune_octuplet as octuplet_script
import finetune_octuplet_ctl as octuplet_ctl_script
import test as test_script
from engine import run
from engine.checkpoint import Checkpoint, read_weights
from engine.cli import build_parser, read_settings
from engine.recipes import BASELINE, OCTUPLET, Recipe
from utils.errors import ReidError


def fit(recipe: Recipe, arguments: list[str], *more: str) -> run.FitResult:
    return run.fit(recipe, read_settings(build_parser("x").parse_intermixed_args([*arguments, *more])))


@pytest.fixture
def source(tiny_arguments: list[str]) -> Path:
    return fit(BASELINE, tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth"


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
    assert (tuned.config["INPUT.SIZE_TRAIN"], tuned.config["SOLVER.BASE_LR"]) == ([32, 16], 1e-3)
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
    result = fit(OCTUPLET, tiny_arguments, *more, *path)
    row = list(csv.DictReader((result.folder / "metrics.csv").open()))[-1]
    for term in ("octuplet", "identity", "triplet", "center", "centroid_triplet"):
        assert float(row[f"train/{term}"]) >= 0
    assert [(e.query_scale, e.gallery_scale) for e in result.last] == [(2, 1), (2, 2), (4, 1), (4, 4), (1, 1)]


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
        fit(OCTUPLET, tiny_arguments, "--scale", "4")
    with pytest.raises(ReidError, match="needs low-resolution twins: set --scale 2 or more, got 1"):
        fit(OCTUPLET, tiny_arguments, "MODEL.PRETRAIN_PATH", str(source))


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
        assert test_script.main([*output, "TEST.SCALE_PAIRS", which, "TEST.VISUALIZE", "yes"]) == 0
        results = json.loads((tmp_path / "o/report.json").read_text())["results"]
        return [(r["query_scale"], r["gallery_scale"]) for r in results]

    assert pairs("both") == [(1, 1), (2, 2), (4, 4)]
    assert pairs("query") == [(1, 1), (2, 1), (4, 1)]
    assert pairs("gallery") == [(1, 1), (1, 2), (1, 4)]
    assert pairs("all") == [(query, gallery) for query in (1, 2, 4) for gallery in (1, 2, 4)]
    assert "heat" in (tmp_path / "o/report.html").read_text().lower()


def test_several_scales_are_trained_and_validated(tiny_arguments: list[str]) -> None:
    result = fit(BASELINE, tiny_arguments, "INPUT.LR_SCALES", "[1, 4]", "SOLVER.MAX_EPOCHS", "1")
    assert [(e.query_scale, e.gallery_scale) for e in result.last] == [(1, 1), (4, 4)]
