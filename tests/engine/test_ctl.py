"""Centroid triplet training end to end, in-process, on a drawn data set."""

from functools import partial
from pathlib import Path

import pytest

import test as evaluation_script
import train_ctl as train_ctl_script
from engine.callbacks.epoch_log import read_metrics
from engine.methods import CTL
from tests import support
from tests.engine.support import ONE_EPOCH, assert_same_weights, checkpoint_at, evaluate, report_at, resume
from utils.errors import ReidError

fit = partial(support.fit, method=CTL)


def test_ctl_trains_resumes_exactly_and_reports_all_protocols(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_ctl_script.main(tiny_arguments) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/ctl/exp0"
    row = read_metrics(folder / "metrics.csv")[-1]
    statistics = ("hardest_positive", "hardest_negative", "active", "centroid_norm")
    terms = ("identity", "triplet", "center", "centroid_triplet")
    for name in (*terms, *(f"centroid_triplet/{statistic}" for statistic in statistics)):
        assert float(row[f"train/{name}"]) >= 0

    assert_same_weights(folder / "1_last.pth", fit(tiny_arguments, *resume(folder / "0.pth")).folder / "1_last.pth")
    assert checkpoint_at(folder / "1_last.pth").config["DATALOADER.USE_RESAMPLING"] is False

    capsys.readouterr()
    use = ["MODEL.PRETRAIN_PATH", str(folder / "1_last.pth"), "OUTPUT_DIR", str(tmp_path / "o")]
    rows = ["TEST.PROTOCOLS", "['instance','centroid','centroid_ctl2021']", "TEST.QUERY_EXPANSION", "2"]
    assert evaluation_script.main([*use, *rows, "TEST.RERANK", "True", "TEST.VISUALIZE", "yes"]) == 0
    console = capsys.readouterr().out
    for label in ("instance", "centroid", "centroid_ctl2021", "+rerank", "same person: "):
        assert label in console
    report = report_at(tmp_path / "o/report.json")
    protocols = ["instance", "centroid", "centroid_ctl2021", "instance", "instance", "instance"]
    assert [row["protocol"] for row in report["results"]] == protocols
    additions = [(row["query_expansion"], row["rerank"]) for row in report["results"][3:]]
    assert additions == [(2, False), (0, True), (2, True)]
    assert report["verification"]["threshold"] is None  # too few pairs for TEST.FPR 0.001: no figure at all
    assert (tmp_path / "o/report.html").exists()


def test_centroids_of_all_cameras_are_called_what_they_are(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use = [
        "MODEL.PRETRAIN_PATH",
        str(tiny_checkpoint),
        "OUTPUT_DIR",
        str(tmp_path / "o"),
        "MODEL.USE_CENTROIDS",
        "yes",
    ]
    honest, easy = (evaluate(use, "MODEL.KEEP_CAMID_CENTROIDS", value) for value in ("True", "False"))
    assert easy.entries[1].result.mAP > honest.entries[1].result.mAP
    assert easy.entries[0].result.mAP == honest.entries[0].result.mAP
    assert "do not set these centroid figures beside others" in caplog.text


def test_the_configuration_overrides_the_methods_defaults(tiny_arguments: list[str]) -> None:
    options = ("DATALOADER.USE_RESAMPLING", "True", "MODEL.USE_CENTROIDS", "False")
    assert [entry.protocol.name for entry in fit(tiny_arguments, *ONE_EPOCH, *options).last] == ["instance"]


def test_a_run_is_resumed_by_its_own_script(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    with pytest.raises(ReidError, match="comes from method baseline, but this script trains ctl; resume with the"):
        fit(tiny_arguments, *resume(tiny_checkpoint))
