"""Keys against one another and against the machine."""

import re
from pathlib import Path

import pytest
import torch

import train
from configs import get_cfg, with_values
from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from engine import run
from engine.builders.evaluation import CAMERA_RULES, build_protocols
from engine.builders.model import build_network
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.cli import parse
from engine.hardware import check_hardware, prepare_process
from engine.preprocessing import keys_of, preprocessing_of
from tests.support import fit
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[2]


def test_keys_that_contradict_one_another_are_refused(tiny_arguments: list[str]) -> None:
    with pytest.raises(
        ReidError, match=r"must be DATALOADER\.NUM_INSTANCE times 2, 3.*got 9 and 2; the nearest is 8"
    ):
        fit(tiny_arguments, "SOLVER.IMS_PER_BATCH", "9")
    with pytest.raises(ReidError, match=r"ON_BAD_FILE skip needs the check"):
        fit(tiny_arguments, "DATASETS.ON_BAD_FILE", "skip")
    if not torch.cuda.is_available():
        with pytest.raises(ReidError, match=r"TRAINER\.ACCELERATOR cuda needs a CUDA device"):
            fit(tiny_arguments, "TRAINER.ACCELERATOR", "cuda")
    off = [f"SOLVER.{name}" for name in ("QUERY_XENT_WEIGHT", "QUERY_CONTRASTIVE_WEIGHT", "CENTER_LOSS_WEIGHT")]
    with pytest.raises(ReidError, match=r"SOLVER\.QUERY_XENT_WEIGHT, .*must be above 0, got 0 for all; give one"):
        fit(tiny_arguments, *(word for name in off for word in (name, "0")))


@pytest.mark.parametrize(
    ("key", "name", "nearest"),
    [
        ("MODEL.NAME", "resnet51", "resnet50"),
        ("MODEL.HEAD", "bnnek", "bnneck"),
        ("MODEL.POOLING", "Gem", "gem"),
        ("SOLVER.OPTIMIZER_NAME", "adamw", "AdamW"),
        ("SOLVER.LR_SCHEDULER_NAME", "cosine", "cosine_annealing"),
        ("SOLVER.TERMS", "['tripled']", "triplet"),
        ("TEST.PROTOCOLS", "['instance', 'centroids']", "centroid"),
    ],
)
def test_a_wrong_name_ends_before_data_and_folders(
    key: str, name: str, nearest: str, tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*tiny_arguments, "DATASETS.NAMES", "nowhere", key, name]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(rf"error: {key} must be .*got '.*'; did you mean {nearest}\?$", line)
    assert not (tmp_path / "logs").exists()


def test_a_cache_that_cannot_be_written_ends_a_training(
    tiny_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert train.main([*tiny_arguments, "DATASETS.CACHE_DIR", str(tmp_path / "file")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: DATASETS\.CACHE_DIR must be a folder that can be written, got .*; name another", line)
    assert not (tmp_path / "logs").exists()


def test_a_wrong_protocol_ends_a_test_before_its_data(tiny_arguments: list[str], tmp_path: Path) -> None:
    path = str(fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "best.pth")
    output = ("OUTPUT_DIR", str(tmp_path / "o"), "DATASETS.NAMES", "nowhere")
    with pytest.raises(ReidError, match=r"TEST\.PROTOCOLS must be one of instance, .*got 'instanc'; did you mean"):
        run.evaluate(parse(["MODEL.PRETRAIN_PATH", path, *output, "TEST.PROTOCOLS", "['instanc']"]))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yml")))
def test_every_shipped_config_builds_its_network(name: str) -> None:
    cfg = parse(["--config_file", str(ROOT / "configs" / name)]).cfg
    assert build_network(cfg).dim > 0
    assert build_optimizer_config(cfg).schedule(0) > 0


def test_bf16_on_a_gpu_that_does_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    values = {"TRAINER.PRECISION": "bf16-mixed", "DATASETS.NAMES": "market1501"}
    with pytest.raises(ReidError, match=r"bf16-mixed needs a GPU that computes bf16, this one does not; set 32-true"):
        check_hardware(with_values(get_cfg(), values))
    check_hardware(with_values(get_cfg(), {**values, "TRAINER.ACCELERATOR": "cpu"}))


def test_16_bits_with_a_scale_need_a_gpu() -> None:
    values = {"TRAINER.PRECISION": "16-mixed", "TRAINER.ACCELERATOR": "cpu"}
    with pytest.raises(ReidError, match=r"PRECISION 16-mixed needs a CUDA device, got the CPU; set it to auto"):
        check_hardware(with_values(get_cfg(), values))


def test_the_preprocessing_is_that_of_the_keys() -> None:
    values = {"INPUT.SIZE_TEST": [64, 32], "INPUT.PIXEL_MEAN": [0.1, 0.2, 0.3], "INPUT.PIXEL_STD": [0.4, 0.5, 0.6]}
    cfg = with_values(
        get_cfg(), {**values, "INPUT.INTERPOLATION": "bicubic", "INPUT.SCALE": 4, "INPUT.LR_ANTIALIAS": False}
    )
    preprocessing = Preprocessing((64, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 4, antialias=False)
    assert preprocessing_of(cfg) == preprocessing
    assert keys_of(preprocessing) == {**values, "INPUT.SIZE_TRAIN": [64, 32], "INPUT.INTERPOLATION": "bicubic"}


def test_a_protocol_may_have_a_camera_rule_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAMERA_RULES, "mine", lambda _: False)
    names, cfg = ["instance", "centroid", "mine"], get_cfg()
    rows = {rule: build_protocols(cfg, names, [(1, 1)], camera_rule=rule) for rule in (True, False)}
    assert [row.camera_rule for row in rows[True]] == [True, cfg.MODEL.KEEP_CAMID_CENTROIDS, False]
    assert not any(row.camera_rule for row in rows[False])
    cfg = with_values(cfg, {"MODEL.KEEP_CAMID_CENTROIDS": not cfg.MODEL.KEEP_CAMID_CENTROIDS})
    (row,) = build_protocols(cfg, ["centroid"], [(1, 1)], camera_rule=True)
    assert row.camera_rule == cfg.MODEL.KEEP_CAMID_CENTROIDS


def test_memory_is_pinned_for_the_device_in_use(tiny_market: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is there and not asked for stays untouched."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    splits = read_dataset(str(tiny_market), Path(), with_train=False, seed=0)
    data = ReidDataModule(splits, LoaderSettings(workers=0))
    data.trainer = build_trainer(with_values(get_cfg(), {"TRAINER.ACCELERATOR": "cpu"}))
    assert not data.val_dataloader().pin_memory
    data.trainer = None
    assert data.val_dataloader().pin_memory


@pytest.mark.parametrize("name", ["osnet_x0_25", "osnet_ain_x0_25", "resnet50_ibn_a", "resnet18"])
def test_images_too_small_for_the_network_are_refused(name: str) -> None:
    for size in ([8, 8], [16, 8]):
        cfg = with_values(get_cfg(), {"MODEL.NAME": name, "INPUT.SIZE_TEST": size})
        if name == "resnet18":  # it takes any
            assert build_network(cfg).training
            continue
        with pytest.raises(
            ReidError, match=rf"INPUT\.SIZE_TEST must be as large as {name} needs it, got .*enlarge it"
        ):
            build_network(cfg)


@pytest.mark.parametrize(
    ("rerank", "expansion", "labels"),
    [
        (False, 0, []),
        (True, 0, ["instance +rerank"]),
        (False, 3, ["instance +QE3"]),
        (True, 3, ["instance +QE3", "instance +rerank", "instance +QE3 +rerank"]),
    ],
)
def test_each_addition_has_a_row_and_both_have_one(rerank: bool, expansion: int, labels: list[str]) -> None:
    cfg = with_values(get_cfg(), {"TEST.RERANK": rerank, "TEST.QUERY_EXPANSION": expansion})
    protocols = build_protocols(cfg, ["instance"], [(1, 1)], camera_rule=True)
    assert [protocol.label for protocol in protocols] == ["instance", *labels]


@pytest.mark.parametrize(
    ("processes", "environment", "warns"),
    [(3, {}, True), (2, {}, False), (0, {}, False), (3, {"OMP_WAIT_POLICY": "ACTIVE"}, False)],
)
def test_a_busy_machine_is_told_with_the_remedy(
    processes: int,
    environment: dict[str, str],
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("engine.hardware.runnable_processes", lambda: processes)
    prepare_process(parse(["TRAINER.ACCELERATOR", "cpu"]).cfg)
    assert ["3 processes compete for 2 CPUs" in text for text in caplog.messages] == [True] * warns


def test_scripts_flush_subnormal_numbers() -> None:
    prepare_process(parse([]).cfg)
    assert not bool((torch.full((2,), 1e-39) * 0.5).any())
