"""From trainings with several seeds over their tests to the comparison, and what a report says about a training."""

import shutil
from pathlib import Path

import pytest

from engine.reports import settings_of
from engine.settings import Settings
from engine.weights import read_weights
from evaluation.compare import main as compare
from modelling.weights.weights import Weights
from tests.engine.support import ONE_EPOCH, evaluate, report_at, resume, without
from tests.support import fit


def test_seeds_are_trained_tested_and_compared(
    tiny_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fit(tiny_arguments, *ONE_EPOCH, "REPRODUCIBLE_SEED", "1", "TEST.FLIP", "True").folder / "0_last.pth"
    slow = fit(tiny_arguments, *ONE_EPOCH, "SOLVER.BASE_LR", "0.00001").folder / "0_last.pth"
    folders = []
    for path in (tiny_checkpoint, other, slow):
        folders.append(tmp_path / f"test{len(folders)}")
        report = evaluate(
            without(tiny_arguments, "OUTPUT_DIR"), "MODEL.PRETRAIN_PATH", str(path), "OUTPUT_DIR", str(folders[-1])
        )
        assert (folders[-1] / "queries.csv").exists()
        assert report_at(folders[-1] / "report.json")["settings"] == report.settings
    (comparison,) = compare([*map(str, folders), "--resamples", "200"])
    assert [[run.seed for run in group.runs] for group in comparison.groups] == [[0, 1], [0]]
    assert comparison.settings == {"SOLVER.BASE_LR": (3.5e-4, 1e-5)}
    for group in comparison.groups:
        means = [report_at(run.path)["results"][0]["mAP"] for run in group.runs]
        assert group.figures["mAP"].value == pytest.approx(sum(means) / len(means), abs=1e-12)
    assert "SOLVER.BASE_LR: A 0.00035, B 1e-05" in capsys.readouterr().out


def settings_at(path: Path, **keys: object) -> dict[str, object]:
    """What a test with these keys says about the training of a checkpoint."""
    weights = read_weights(path)
    return settings_of(Settings({}, keys).for_use(weights), weights)


def test_settings_tell_a_training_and_none_of_its_folders(tiny_checkpoint: Path, tiny_market: Path) -> None:
    settings = settings_at(tiny_checkpoint)
    assert (settings["method"], settings["epoch"], settings["DATASETS.NAMES"]) == ("baseline", 0, "tiny")
    assert settings["training images"] == read_weights(tiny_checkpoint).data
    assert settings["REPRODUCIBLE_SEED"] == 0
    assert settings["SOLVER.MAX_EPOCHS"] == 1
    assert settings["MODEL.PRETRAIN_PATH"] == ""
    assert settings["INPUT.SCALE"] == 1
    for key in ("LOGS_DIR", "DATASETS.ROOT_DIR", "DATALOADER.NUM_WORKERS", "SOLVER.EVAL_PERIOD", "TEST.RERANK"):
        assert key not in settings
    assert str(tiny_market.parent) not in str(settings)


def test_what_a_test_has_set_otherwise_is_told(tiny_checkpoint: Path) -> None:
    before = settings_at(tiny_checkpoint)
    keys = {"MODEL.RETRIEVAL_FEATURE": "raw", "INPUT.SIZE_TEST": [64, 32], "INPUT.SCALE": 2, "TEST.RERANK": True}
    after = settings_at(tiny_checkpoint, **keys)
    assert {key: after[key] for key in after if after[key] != before[key]} == {
        "MODEL.RETRIEVAL_FEATURE": "raw",
        "INPUT.SIZE_TEST": [64, 32],
    }


def test_the_best_checkpoint_of_each_seed_is_of_one_setting(tiny_checkpoint: Path, tmp_path: Path) -> None:
    best = Path(shutil.copy(tiny_checkpoint, tmp_path / "best.pth"))
    assert settings_at(best)["epoch"] == "best"


def test_a_resumed_run_does_not_tell_from_what_it_began(tiny_arguments: list[str]) -> None:
    first = fit(tiny_arguments, *ONE_EPOCH).folder / "0_last.pth"
    last = fit(without(tiny_arguments, "SOLVER.MAX_EPOCHS"), "SOLVER.MAX_EPOCHS", "2", *resume(first)).folder
    assert "MODEL.PRETRAIN_PATH" not in settings_at(last / "1_last.pth")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/logs/market1501/resnet50/baseline/exp3/best.pth", "market1501/resnet50/baseline/best.pth"),
        ("logs\\market1501\\resnet50\\ctl\\exp12\\9_last.pth", "market1501/resnet50/ctl/9_last.pth"),
        ("/weights/luperson.pth", "luperson.pth"),
        ("hf://owner/repo/file.pth", "hf://owner/repo/file.pth"),
    ],
)
def test_the_weights_that_a_training_began_with(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    weights = read_weights(tiny_checkpoint)
    monkeypatch.setitem(weights.config, "MODEL.PRETRAIN_PATH", path)  # type: ignore[arg-type]
    assert settings_of(Settings({}, {}).for_use(weights), weights)["MODEL.PRETRAIN_PATH"] == name


def test_nobody_knows_how_weights_of_another_project_were_trained() -> None:
    assert settings_of(Settings({}, {}).cfg, Weights(Path("a.pth"), "weights of fast-reid", {}, {})) == {}
