"""metrics.csv, the reports, the configuration beside them, and the last validation."""

import json
import re
from pathlib import Path

import pytest

from engine.callbacks.epoch_log import METRICS_FILE, EpochLog, LastValidation, read_metrics
from evaluation.results import Resolution
from tests.engine.callbacks.support import Trainer, module, run_epochs
from utils.errors import ReidError


def epoch_log(folder: Path, config: str = "MODEL: {NAME: resnet18}\n") -> EpochLog:
    return EpochLog(folder, config, "people", (Resolution(1, 32, 16, "online"),))


def test_each_epoch_has_a_row_and_each_validation_a_report(tmp_path: Path) -> None:
    figures = {
        "train/loss_epoch": 1.25,
        "train/loss_step": 9.0,
        "train/lr": 0.1,
        "train/lr_center": 0.5,
        "val/mAP": 0.4,
    }
    run_epochs(epoch_log(tmp_path), Trainer(3, callback_metrics=figures), {1: 0.4}, steps=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml", "metrics.csv", "report_1.json"]
    rows = read_metrics(tmp_path / METRICS_FILE)
    assert [(row["epoch"], row["steps"], row["val/mAP"]) for row in rows] == [
        ("0", "7", ""),
        ("1", "7", "0.4"),  # of this epoch alone: the trainer repeats it in all that follow
        ("2", "7", ""),
    ]
    assert {(row["train/loss"], row["train/lr"], row["train/lr_center"]) for row in rows} == {("1.25", "0.1", "0.5")}
    assert not {"train/loss_step", "train/loss_epoch"} & rows[0].keys()
    assert all(float(row["seconds"]) >= 0 for row in rows)
    report = json.loads((tmp_path / "report_1.json").read_text())
    assert (report["dataset"], report["checkpoint"], report["results"][0]["mAP"]) == ("people", "epoch 1", 0.4)
    assert report["resolutions"] == [{"scale": 1, "height": 32, "width": 16, "source": "online"}]


def test_a_resumed_run_goes_on_with_the_table_and_keeps_the_old_config(tmp_path: Path) -> None:
    run_epochs(epoch_log(tmp_path, "a: 1\n"), Trainer(2))
    run_epochs(epoch_log(tmp_path, "a: 1\n"), Trainer(3, current_epoch=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml", "metrics.csv"]
    run_epochs(epoch_log(tmp_path, "a: 2\n"), Trainer(4, current_epoch=3, callback_metrics={"train/lr": 0.1}))
    assert (tmp_path / "config.yml").read_text() == "a: 2\n"
    assert (tmp_path / "config_before_3.yml").read_text() == "a: 1\n"
    assert [(row["epoch"], row["train/lr"]) for row in read_metrics(tmp_path / METRICS_FILE)] == [
        *((str(epoch), "") for epoch in range(3)),
        ("3", "0.1"),
    ]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_on_every_process(loss: float, tmp_path: Path) -> None:
    for is_first in (True, False):
        trainer = Trainer(2, callback_metrics={"train/loss_epoch": loss}, is_global_zero=is_first)
        with pytest.raises(
            ReidError, match=rf"the loss of epoch 0 is {loss}: .*lower SOLVER\.BASE_LR or set SOLVER\.GRAD"
        ):
            run_epochs(epoch_log(tmp_path), trainer)
    assert not (tmp_path / METRICS_FILE).exists()


def test_the_first_process_alone_writes(tmp_path: Path) -> None:
    run_epochs(epoch_log(tmp_path), Trainer(2, is_global_zero=False), {0: 0.5})
    assert not list(tmp_path.iterdir())


def test_the_last_epoch_is_validated_whatever_the_period() -> None:
    callback, trainer = LastValidation(), Trainer(3)  # type: Any, Any
    for epoch, period in ((0, 10), (1, 10), (2, 1)):
        trainer.current_epoch = epoch
        callback.on_train_epoch_start(trainer, module())
        assert trainer.check_val_every_n_epoch == period


def test_a_run_that_resumes_within_its_last_epoch_is_validated() -> None:
    """Lightning leaves the start of such an epoch out."""
    callback, trainer = LastValidation(), Trainer(3, current_epoch=2)  # type: Any, Any
    callback.on_train_start(trainer, module())
    assert trainer.check_val_every_n_epoch == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00",
        b"epoch,seconds\n1\n",
        b"epoch,seconds\n1,2,3\n",
        b"epoch,seconds\none,2\n",
        b"seconds\n2\n",
    ],
)
def test_a_damaged_table_is_told_and_stays(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(damage)
    with pytest.raises(ReidError, match=r"metrics\.csv must be the table of a run, .* move it away"):
        read_metrics(path)
    assert path.read_bytes() == damage


def test_a_configuration_that_is_no_text_is_kept_and_so_is_the_first(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_bytes(b"\xff")
    run_epochs(epoch_log(tmp_path, "a: 1\n"), Trainer(4, current_epoch=3))
    run_epochs(epoch_log(tmp_path, "a: 2\n"), Trainer(4, current_epoch=3))
    assert (tmp_path / "config_before_3.yml").read_bytes() == b"\xff"
    assert (tmp_path / "config.yml").read_text() == "a: 2\n"


def test_each_epoch_is_one_line_of_what_people_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    figures = {
        "train/loss_epoch": 1.25,
        "train/identity_epoch": 1.0,
        "train/triplet_epoch": 0.5,
        "train/triplet/active_epoch": 0.75,
        "train/lr": 0.00035,
        "train/lr_center": 0.5,
    }
    run_epochs(epoch_log(tmp_path), Trainer(3, callback_metrics=figures))
    assert len(caplog.messages) == 3
    for epoch, line in enumerate(caplog.messages):
        facts = rf"epoch {epoch}: loss 1\.25 \(identity 1, triplet 0\.5\), rate 0\.00035, \d+ images/s, .* left"
        assert re.fullmatch(facts, line)
    assert caplog.messages[-1].endswith(" 0 s left")
