"""Centroid triplet training end to end, in-process, on a drawn data set."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch

import test as evaluation_script
import train_ctl as train_ctl_script
from engine import run
from engine.checkpoint import Checkpoint
from engine.cli import parse
from engine.methods import CTL
from engine.weights import read_weights
from tests import support
from utils.errors import ReidError

fit = partial(support.fit, method=CTL)


def test_ctl_trains_resumes_exactly_and_reports_both_protocols(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_ctl_script.main(tiny_arguments) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/ctl/exp0"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    for term in ("identity", "triplet", "center", "centroid_triplet"):
        assert float(rows[-1][f"train/{term}"]) >= 0
    for statistic in ("hardest_positive", "hardest_negative", "active", "centroid_norm"):
        assert float(rows[-1][f"train/centroid_triplet/{statistic}"]) >= 0

    again = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(folder / "0.pth"))
    straight, resumed = (read_weights(path / "1_last.pth") for path in (folder, again.folder))
    assert isinstance(straight, Checkpoint)
    assert isinstance(resumed, Checkpoint)
    assert all(torch.equal(value, resumed.state[name]) for name, value in straight.state.items())
    assert straight.config["DATALOADER.USE_RESAMPLING"] is False

    capsys.readouterr()
    options = [
        "MODEL.PRETRAIN_PATH",
        str(folder / "1_last.pth"),
        "OUTPUT_DIR",
        str(tmp_path / "o"),
        "TEST.VISUALIZE",
        "yes",
    ]
    options += [
        "TEST.PROTOCOLS",
        "['instance','centroid','centroid_ctl2021']",
        "TEST.RERANK",
        "True",
        "TEST.QUERY_EXPANSION",
        "2",
    ]
    assert evaluation_script.main(options) == 0
    console = capsys.readouterr().out
    for label in (
        "instance",
        "centroid",
        "centroid_ctl2021",
        "+rerank",
        "same person: ",
    ):
        assert label in console
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert [r["protocol"] for r in report["results"]] == [
        "instance",
        "centroid",
        "centroid_ctl2021",
        "instance",
    ]
    assert report["verification"]["threshold"] is None  # too few pairs for TEST.FPR 0.001: no figure at all
    assert (tmp_path / "o/report.html").exists()


def test_centroids_of_all_cameras_are_called_what_they_are(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth"
    given = ["MODEL.PRETRAIN_PATH", str(path), "OUTPUT_DIR", str(tmp_path / "o")]
    honest, easy = (
        run.evaluate(parse([*given, "MODEL.KEEP_CAMID_CENTROIDS", keep]))[0] for keep in ("True", "False")
    )
    assert easy.entries[1].result.mAP > honest.entries[1].result.mAP
    assert easy.entries[0].result.mAP == honest.entries[0].result.mAP
    assert "do not set these centroid figures beside others" in caplog.text


def test_the_configuration_overrides_the_methods_defaults(tiny_arguments: list[str]) -> None:
    result = fit(
        tiny_arguments,
        "SOLVER.MAX_EPOCHS",
        "1",
        "DATALOADER.USE_RESAMPLING",
        "True",
        "MODEL.USE_CENTROIDS",
        "False",
    )
    assert [entry.protocol.name for entry in result.last] == ["instance"]


def test_a_run_is_resumed_by_its_own_script(tiny_arguments: list[str]) -> None:
    path = str(fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth")
    arguments = [*tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", path]
    with pytest.raises(ReidError, match="comes from method ctl, but this script trains baseline"):
        support.fit(arguments)
