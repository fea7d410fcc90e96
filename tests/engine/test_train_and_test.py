"""The scripts end to end, in-process, on a drawn data set."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

import test as test_script
import train as train_script
from configs import read_config
from datasets.readers import read_dataset
from datasets.synthetic import SyntheticSpec, draw_dataset
from engine import build, run
from engine.checkpoint import Checkpoint, read_weights
from engine.cli import InterruptedRun, build_parser, read_settings
from engine.recipes import BASELINE
from engine.recorder import RunRecorder
from modelling.backbones.resnet import ResNetBackbone
from modelling.extractor import FeatureExtractor
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[2]
TINY = SyntheticSpec(train_ids=8, test_ids=6, cameras=2, images_per_camera=3, height=64, width=32)


def fit(arguments: list[str], *more: str) -> run.FitResult:
    return run.fit(BASELINE, read_settings(build_parser("x").parse_intermixed_args([*arguments, *more])))


def evaluate(arguments: list[str], *more: str) -> object:
    return run.evaluate(read_settings(build_parser("x").parse_intermixed_args([*arguments, *more])))


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = read_weights(path)
    assert isinstance(content, Checkpoint)
    return content.state


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_train_leaves_the_promised_files_and_test_reads_them(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(tiny_arguments) == 0
    folder = tmp_path / "logs/tiny/resnet18/baseline/exp0"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "0.pth",
        "1_last.pth",
        "best.pth",
        "config.yml",
        "metrics.csv",
        "report_0.json",
        "report_1.json",
    }
    assert list((tmp_path / "runs/tiny/resnet18/baseline/exp0").glob("events.out.tfevents.*"))
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for name in (
        "seconds",
        "val/mAP",
        "val/rank-1",
        "train/loss",
        "train/identity",
        "train/triplet",
        "train/center",
        "train/lr",
    ):
        assert all(float(row[name]) >= 0 for row in rows), name
    config = read_config(folder / "config.yml")
    assert config["SOLVER.MAX_EPOCHS"] == 2
    assert config["DATASETS.NAMES"] == str(tiny_market)

    capsys.readouterr()
    best = folder / "best.pth"
    output = ["OUTPUT_DIR", str(tmp_path / "output"), "DATALOADER.NUM_WORKERS", "0"]
    assert test_script.main(["MODEL.PRETRAIN_PATH", str(best), *output]) == 0
    assert "instance" in capsys.readouterr().out
    report = json.loads((tmp_path / "output/report.json").read_text())
    (result,) = report["results"]
    assert (report["dataset"], report["checkpoint"]) == ("tiny", str(best))
    splits = read_dataset(str(tiny_market), Path())
    assert result["num_gallery"] == len(splits.gallery)
    assert result["num_queries"] == result["num_valid_queries"] == len(splits.query)
    assert list(result["cmc"]) == ["1", "5", "10", "20", "50"]
    assert (result["protocol"], result["query_scale"], result["rerank"]) == ("instance", 1, False)
    best_map = max(float(row["val/mAP"]) for row in rows)
    assert result["mAP"] == pytest.approx(best_map, abs=1e-5)

    assert test_script.main(["MODEL.PRETRAIN_PATH", str(best), *output]) == 0
    assert (tmp_path / "output/earlier_1/report.json").exists()


def test_the_checkpoint_describes_itself(tiny_arguments: list[str], tmp_path: Path) -> None:
    folder = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1", "--scale", "2").folder
    raw = torch.load(folder / "0_last.pth", weights_only=True)["reid"]
    assert (raw["dataset"], raw["num_ids"], raw["scale"], raw["method"]) == ("tiny", 8, 2, "baseline")
    assert raw["epoch"] == 0
    assert raw["versions"].keys() == {"python", "torch", "pytorch_lightning"}
    assert read_config(raw["config"])["INPUT.SCALE"] == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_arguments: list[str]) -> None:
    first, again = (fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1") for _ in range(2))
    other = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1", "REPRODUCIBLE_SEED", "1")
    assert first.folder != again.folder
    assert_equal(weights(first.folder / "0_last.pth"), weights(again.folder / "0_last.pth"))
    name = "extractor.backbone.base.conv1.weight"
    assert not torch.equal(weights(first.folder / "0_last.pth")[name], weights(other.folder / "0_last.pth")[name])


def test_four_epochs_are_two_and_two_resumed(tiny_arguments: list[str]) -> None:
    options = ("SOLVER.MAX_EPOCHS", "4", "SOLVER.CHECKPOINT_PERIOD", "9", "SOLVER.LR_STEPS", "[1, 3]")
    straight = fit(tiny_arguments, *options)
    half = fit(tiny_arguments, *options, "SOLVER.MAX_EPOCHS", "2")
    before = (half.folder / "1_last.pth").read_bytes()
    resumed = fit(
        tiny_arguments[:0],
        *("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(half.folder / "1_last.pth")),
        *(
            "SOLVER.MAX_EPOCHS",
            "4",
            "LOGS_DIR",
            str(half.folder.parents[3]),
            "RUNS_DIR",
            str(half.folder.parents[3]),
        ),
    )
    assert resumed.folder == half.folder.resolve()
    assert (half.folder / "1_last.pth").read_bytes() == before
    assert_equal(weights(straight.folder / "3_last.pth"), weights(half.folder / "3_last.pth"))
    optimizers = [
        torch.load(f.folder / "3_last.pth", weights_only=True)["optimizer_states"] for f in (straight, half)
    ]
    assert_equal(*({str(k): v for k, v in o[0]["state"][0].items()} for o in optimizers))
    rows = list(csv.DictReader((half.folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]


class StopAt(Callback):
    """Presses Ctrl-C during a step."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer: object, module: object, batch: object, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
            self.at = (-1, -1)


@pytest.mark.parametrize("batch", [1, 2])
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_exactly(
    batch: int, tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = fit(tiny_arguments)
    original = build.build_trainer
    stop = StopAt(1, batch)
    monkeypatch.setattr(
        build, "build_trainer", lambda cfg, folder, callbacks: original(cfg, folder, [*callbacks, stop])
    )
    with pytest.raises(
        InterruptedRun, match=r"MODEL\.RESUME_TRAINING True MODEL\.PRETRAIN_PATH .*1_interrupted\.pth"
    ):
        fit(tiny_arguments)
    monkeypatch.undo()
    folder = straight.folder.with_name("exp1")
    assert read_weights(folder / "1_interrupted.pth").position == (1, batch + 1)  # type: ignore[union-attr]
    path = str(folder / "1_interrupted.pth")
    resumed = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", path)
    assert resumed.folder == folder
    assert_equal(weights(straight.folder / "1_last.pth"), weights(folder / "1_last.pth"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resuming_from_an_earlier_checkpoint_overwrites_nothing(tiny_arguments: list[str]) -> None:
    first = fit(tiny_arguments)
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    second = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(first.folder / "0.pth"))
    assert second.folder.name == "exp1"
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before
    assert_equal(weights(first.folder / "1_last.pth"), weights(second.folder / "1_last.pth"))


def test_resuming_refuses_what_would_be_another_run(tiny_arguments: list[str]) -> None:
    path = str(fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth")
    resume = ("MODEL.RESUME_TRAINING", "True")
    with pytest.raises(ReidError, match=r"needs MODEL\.PRETRAIN_PATH, a checkpoint of a run, got none"):
        fit(tiny_arguments, *resume)
    with pytest.raises(ReidError, match=r"keeps its settings, got SOLVER\.BASE_LR \(0\.00035 -> 0\.1\)"):
        fit(tiny_arguments, *resume, "MODEL.PRETRAIN_PATH", path, "SOLVER.BASE_LR", "0.1")
    with pytest.raises(ReidError, match=r"MODEL\.NAME is resnet18 in the file and resnet34 here"):
        fit(tiny_arguments, *resume, "MODEL.PRETRAIN_PATH", path, "MODEL.NAME", "resnet34")


def test_training_starts_from_backbone_weights_or_a_checkpoint(tiny_arguments: list[str], tmp_path: Path) -> None:
    donor = FeatureExtractor(ResNetBackbone("resnet18"))
    torch.save({f"module.{k}": v for k, v in donor.backbone.base.state_dict().items()}, tmp_path / "plain.pth")
    frozen = ("SOLVER.BASE_LR", "1e-12", "SOLVER.MAX_EPOCHS", "1", "SOLVER.WEIGHT_DECAY", "0")
    first = fit(tiny_arguments, *frozen, "MODEL.PRETRAIN_PATH", str(tmp_path / "plain.pth"))
    got = weights(first.folder / "0_last.pth")["extractor.backbone.base.layer4.1.conv2.weight"]
    torch.testing.assert_close(got, donor.backbone.base.layer4[1].conv2.weight)
    second = fit(tiny_arguments, *frozen, "MODEL.PRETRAIN_PATH", str(first.folder / "0_last.pth"))
    assert second.folder != first.folder
    torch.testing.assert_close(
        weights(second.folder / "0_last.pth")["extractor.backbone.base.layer4.1.conv2.weight"], got
    )


def test_scale_is_effective_in_training_validation_and_test(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = fit(tiny_arguments, "--scale", "4", "SOLVER.MAX_EPOCHS", "1")
    (entry,) = result.last
    assert (entry.query_scale, entry.gallery_scale) == (4, 4)
    assert "8x4" in caplog.text  # the effective size of 32x16 at x4
    path = ["MODEL.PRETRAIN_PATH", str(result.folder / "0_last.pth"), "OUTPUT_DIR", str(tmp_path / "o")]
    low, high = evaluate(path, "--scale", "4"), evaluate(path)
    assert low.entries[0].result.mAP == pytest.approx(entry.result.mAP, abs=1e-6)  # type: ignore[attr-defined]
    assert high.entries[0].query_scale == 1  # type: ignore[attr-defined]
    assert "trained at x4" in caplog.text


def test_a_test_says_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"test needs MODEL\.PRETRAIN_PATH, a trained model, got nothing"):
        evaluate([])
    with pytest.raises(ReidError, match=r"MODEL\.PRETRAIN_PATH must be an existing file, got gone\.pth"):
        evaluate(["MODEL.PRETRAIN_PATH", "gone.pth"])
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(ReidError, match="cannot be loaded as plain tensors"):
        evaluate(["MODEL.PRETRAIN_PATH", str(tmp_path / "text.pth")])
    torch.save({"epoch": 3}, tmp_path / "odd.pth")
    with pytest.raises(ReidError, match=r"is neither \(its first entries: epoch\)"):
        evaluate(["MODEL.PRETRAIN_PATH", str(tmp_path / "odd.pth")])
    torch.save(ResNetBackbone("resnet18").base.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(ReidError, match=r"a trained model, got .*plain\.pth, which holds a "):
        evaluate(["MODEL.PRETRAIN_PATH", str(tmp_path / "plain.pth")])


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(("name", "m_ap", "rank_1"), [("market1501", 0.1058, 0.1030), ("msmt17", 0.1925, 0.2085)])
def test_published_osnet_weights_give_their_figures_on_real_people(
    workshop: Path, tmp_path: Path, name: str, m_ap: float, rank_1: float
) -> None:
    path = workshop / "weights" / f"osnet_x0_25_{name}.pth"
    data = ["DATASETS.NAMES", str(workshop / "data/cuhk03_dev"), "OUTPUT_DIR", str(tmp_path / "o")]
    report = evaluate(["MODEL.PRETRAIN_PATH", str(path), *data, "DATALOADER.NUM_WORKERS", "0"])
    result = report.entries[0].result  # type: ignore[attr-defined]
    assert result.mAP == pytest.approx(m_ap, abs=5e-4)
    assert result.cmc[1] == pytest.approx(rank_1, abs=3e-3)
    assert (result.num_valid_queries, result.num_gallery) == (398, 1518)


def test_resuming_says_when_nothing_is_left_or_the_data_are_others(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments).folder / "1_last.pth"
    resume = ("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH")
    with pytest.raises(ReidError, match=r"has finished epoch 1, the last of SOLVER\.MAX_EPOCHS 2; set it higher"):
        fit(tiny_arguments, *resume, str(path))
    other = draw_dataset(tmp_path / "tiny", replace(TINY, seed=9))
    (other / "bounding_box_train" / sorted(p.name for p in (other / "bounding_box_train").iterdir())[0]).unlink()
    with pytest.raises(ReidError, match="training images of tiny must be those of the resumed run"):
        fit(tiny_arguments, *resume, str(path), "SOLVER.MAX_EPOCHS", "3", "DATASETS.NAMES", str(other))
    moved = tmp_path / "elsewhere" / "1_last.pth"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    again = fit(tiny_arguments, *resume, str(moved), "SOLVER.MAX_EPOCHS", "3")
    assert again.folder.name == "exp1"
    assert "lies outside its run" in caplog.text


def test_the_last_epoch_is_always_validated(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "SOLVER.EVAL_PERIOD", "5")
    assert result.last
    assert (result.folder / "best.pth").exists()


def test_one_query_and_one_image_are_tested_without_verification(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth"
    splits = read_dataset(str(tiny_market), Path())
    query = splits.query[0]
    match = next(s for s in splits.gallery if s.person_id == query.person_id and s.camera_id != query.camera_id)
    for sample, folder in ((query, "query"), (match, "bounding_box_test")):
        (tmp_path / "one" / folder).mkdir(parents=True)
        (tmp_path / "one" / folder / sample.path.name).write_bytes(sample.path.read_bytes())
    report = evaluate([
        *("MODEL.PRETRAIN_PATH", str(path), "DATASETS.NAMES", str(tmp_path / "one")),
        *("OUTPUT_DIR", str(tmp_path / "o"), "DATALOADER.NUM_WORKERS", "0"),
    ])  # fmt: skip
    assert report.entries[0].result.mAP == 1.0  # type: ignore[attr-defined]
    assert report.verification is None  # type: ignore[attr-defined]
    assert "no verification" in caplog.text


def test_keys_that_contradict_one_another_are_refused(tiny_arguments: list[str]) -> None:
    with pytest.raises(
        ReidError, match=r"must be DATALOADER\.NUM_INSTANCE times 2, 3.*got 9 and 2; the nearest is 8"
    ):
        fit(tiny_arguments, "SOLVER.IMS_PER_BATCH", "9")
    with pytest.raises(ReidError, match=r"ON_BAD_FILE skip works at the check"):
        fit(tiny_arguments, "DATASETS.ON_BAD_FILE", "skip")
    if not torch.cuda.is_available():
        with pytest.raises(ReidError, match=r"TRAINER\.ACCELERATOR cuda needs a CUDA device"):
            fit(tiny_arguments, "TRAINER.ACCELERATOR", "cuda")
    off = [f"SOLVER.{name}" for name in ("QUERY_XENT_WEIGHT", "QUERY_CONTRASTIVE_WEIGHT", "CENTER_LOSS_WEIGHT")]
    with pytest.raises(ReidError, match="terms must be at least one"):
        fit(tiny_arguments, *(word for name in off for word in (name, "0")))


def test_a_diverged_run_says_so(tiny_arguments: list[str]) -> None:
    with pytest.raises(ReidError, match=r"the loss of epoch 0 is (nan|inf).*lower SOLVER\.BASE_LR"):
        fit(
            tiny_arguments,
            "SOLVER.BASE_LR",
            "1e30",
            "SOLVER.OPTIMIZER_NAME",
            "SGD",
            "SOLVER.WARMUP_EPOCHS",
            "0",
            "SOLVER.EVAL_PERIOD",
            "9",
        )


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yml")))
def test_every_shipped_config_builds_its_network(name: str) -> None:
    cfg = read_settings(build_parser("x").parse_args(["--config_file", str(ROOT / "configs" / name)])).resolve()
    build.check_consistency(cfg)
    assert build.build_extractor(cfg).dim > 0
    assert build.build_optimization(cfg).schedule(0) > 0


@pytest.mark.slow
def test_two_processes_with_unequal_shares_train_test_and_agree(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path
) -> None:
    """An odd number of images, of which one process has a batch more than the other."""
    data = tmp_path / "data" / "tiny"
    shutil.copytree(tiny_market, data)
    count = len(list((data / "query").iterdir())) + len(read_dataset(str(data), Path()).gallery)
    if count % 2 == 0:
        next(path for path in sorted((data / "bounding_box_test").iterdir()) if path.name.startswith("0000")).unlink()
        count -= 1
    share = -(-count // 2)
    two = ["DATASETS.NAMES", str(data), "TRAINER.DEVICES", "2", "TEST.IMS_PER_BATCH", str(share - 1)]

    def run_script(name: str, *arguments: str) -> None:
        command = [sys.executable, name, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]

    run_script("train_ctl.py", *tiny_arguments, *two)
    folder = tmp_path / "logs/tiny/resnet18/ctl/exp0"
    assert not folder.with_name("exp1").exists()
    trained = json.loads((folder / "report_1.json").read_text())["results"]
    path = [
        "MODEL.PRETRAIN_PATH",
        str(folder / "1_last.pth"),
        "DATALOADER.NUM_WORKERS",
        "0",
        "TRAINER.ACCELERATOR",
        "cpu",
    ]
    run_script("test.py", *path, *two, "OUTPUT_DIR", str(tmp_path / "two"))
    tested = json.loads((tmp_path / "two/report.json").read_text())["results"]
    alone = evaluate([*path, "DATASETS.NAMES", str(data), "OUTPUT_DIR", str(tmp_path / "one")])
    for entry, *others in zip(alone.entries, trained, tested, strict=True):  # type: ignore[attr-defined]
        for other in others:
            assert other["num_gallery"] == entry.result.num_gallery
            assert other["mAP"] == pytest.approx(entry.result.mAP, abs=1e-5)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_workers_and_all_and_is_survived(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "train.py",
        *tiny_arguments,
        "DATALOADER.NUM_WORKERS",
        "1",
        "SOLVER.MAX_EPOCHS",
        "500",
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        folder = tmp_path / "logs/tiny/resnet18/baseline/exp0"
        deadline = time.monotonic() + 120
        while not (folder / "0.pth").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error[-2000:]
    (path,) = folder.glob("*_interrupted.pth")
    assert str(path) in error
    assert "Traceback" not in error


def test_recorder_hooks_are_lightnings() -> None:
    ours = {name for name in vars(RunRecorder) if name.startswith("on_")}
    assert ours <= set(dir(Callback))
