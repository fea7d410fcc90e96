"""The scripts end to end, in-process, on a drawn data set."""

import logging
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import test as evaluation_script
import train as train_script
from configs import read_config
from datasets.readers import read_dataset
from engine import run
from engine.callbacks.epoch_log import read_metrics
from evaluation.protocols import EvaluationData
from inference.extract import Extractor
from modelling.backbones.resnet import ResNetBackbone
from modelling.network import ReidNetwork
from modelling.reid_module import ReidModule
from tests.engine.support import ONE_EPOCH, add_callback, assert_same_weights, checkpoint_at, evaluate, report_at
from tests.support import fit
from utils.errors import ReidError
from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


def test_train_leaves_the_promised_files_and_test_reads_them(
    tiny_arguments: list[str], tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(tiny_arguments) == 0
    folder = tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0"
    files = "0.pth 1_last.pth best.pth config.yml log.txt metrics.csv report_0.json report_1.json"
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == files.split()
    assert list((tmp_path / "runs/tiny/osnet_x0_25/baseline/exp0").glob("events.out.tfevents.*"))
    rows = read_metrics(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    training = [f"train/{name}" for name in ("loss", "identity", "triplet", "center", "lr", "lr_center")]
    for name in ("seconds", "val/mAP", "val/rank-1", *training):
        assert all(float(row[name]) >= 0 for row in rows), name
    config = read_config(folder / "config.yml")
    assert config["SOLVER.MAX_EPOCHS"] == 2
    assert config["DATASETS.NAMES"] == str(tiny_market)

    capsys.readouterr()
    best = folder / "best.pth"
    output = ["OUTPUT_DIR", str(tmp_path / "output"), "DATALOADER.NUM_WORKERS", "0"]
    assert evaluation_script.main(["MODEL.PRETRAIN_PATH", str(best), *output]) == 0
    assert "instance" in capsys.readouterr().out
    report = report_at(tmp_path / "output/report.json")
    (result,) = report["results"]
    assert (report["dataset"], report["checkpoint"]) == ("tiny", str(best))
    splits = read_dataset(str(tiny_market), Path())
    assert result["num_gallery"] == len(splits.gallery)
    assert result["num_queries"] == result["num_valid_queries"] == len(splits.query)
    assert list(result["cmc"]) == ["1", "5", "10", "20", "50"]
    assert (result["protocol"], result["query_scale"], result["rerank"]) == ("instance", 1, False)
    best_map = max(float(row["val/mAP"]) for row in rows)
    assert result["mAP"] == pytest.approx(best_map, abs=1e-5)

    assert evaluation_script.main(["MODEL.PRETRAIN_PATH", str(best), *output]) == 0
    assert (tmp_path / "output/earlier_1/report.json").exists()


def test_the_checkpoint_describes_itself(tiny_arguments: list[str], tmp_path: Path) -> None:
    folder = fit(tiny_arguments, *ONE_EPOCH, "--scale", "2").folder
    raw = torch.load(folder / "0_last.pth", weights_only=True)["reid"]
    assert (raw["dataset"], raw["num_ids"], raw["scale"], raw["method"]) == ("tiny", 8, 2, "baseline")
    assert raw["epoch"] == 0
    assert raw["versions"].keys() == {"snu_reid", "python", "torch", "pytorch_lightning"}
    assert raw["versions"]["snu_reid"] == VERSION
    assert read_config(raw["config"])["INPUT.SCALE"] == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tiny_arguments: list[str], tiny_checkpoint: Path
) -> None:
    again, other = (
        fit(tiny_arguments, *ONE_EPOCH, "REPRODUCIBLE_SEED", seed).folder / "0_last.pth" for seed in ("0", "1")
    )
    assert_same_weights(tiny_checkpoint, again)
    name = "backbone.base.conv1.conv.weight"
    assert not torch.equal(checkpoint_at(again).state[name], checkpoint_at(other).state[name])


def test_training_starts_from_backbone_weights_or_a_checkpoint(tiny_arguments: list[str], tmp_path: Path) -> None:
    donor = ReidNetwork(ResNetBackbone("resnet18"))
    torch.save({f"module.{k}": v for k, v in donor.backbone.base.state_dict().items()}, tmp_path / "plain.pth")
    path = tmp_path / "plain.pth"
    frozen = ("MODEL.NAME", "resnet18", "SOLVER.BASE_LR", "1e-12", "SOLVER.WEIGHT_DECAY", "0", *ONE_EPOCH)
    for run_name in ("exp0", "exp1"):  # the second one from the checkpoint of the first
        path = fit(tiny_arguments, *frozen, "MODEL.PRETRAIN_PATH", str(path)).folder / "0_last.pth"
        assert path.parent.name == run_name
        weight = checkpoint_at(path).state["backbone.base.layer4.1.conv2.weight"]
        torch.testing.assert_close(weight, donor.backbone.base.layer4[1].conv2.weight)


def test_scale_is_effective_in_training_validation_and_test(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # as the scripts set it
    result = fit(tiny_arguments, "--scale", "4", *ONE_EPOCH)
    (entry,) = result.last
    assert entry.protocol.scales == (4, 4)
    assert "8x4" in caplog.text  # the effective size of 32x16 at x4
    path = ["MODEL.PRETRAIN_PATH", str(result.folder / "0_last.pth"), "OUTPUT_DIR", str(tmp_path / "o")]
    low, high = evaluate(path, "--scale", "4"), evaluate(path)
    assert low.entries[0].result.mAP == pytest.approx(entry.result.mAP, abs=1e-6)
    assert high.entries[0].protocol.query_scale == 1
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
    result = report.entries[0].result
    assert result.mAP == pytest.approx(m_ap, abs=5e-4)
    assert result.cmc[1] == pytest.approx(rank_1, abs=3e-3)
    assert (result.num_valid_queries, result.num_gallery) == (398, 1518)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_test_embeds_as_the_extractor_does(
    precision: str, tiny_checkpoint: Path, tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 unless the user has set a mixed precision."""
    data: list[EvaluationData] = []
    monkeypatch.setattr(run, "write_outputs", lambda *arguments: data.append(arguments[2]))
    mixed = ("TRAINER.PRECISION", "bf16-mixed") if precision == "bf16" else ()
    arguments = ["MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "DATASETS.NAMES", str(tiny_market)]
    evaluate([*arguments, "OUTPUT_DIR", str(tmp_path / "o"), "DATALOADER.NUM_WORKERS", "0", *mixed])
    splits = read_dataset(str(tiny_market), Path())
    paths = [sample.path for sample in (*splits.query, *splits.gallery)]
    vectors = torch.from_numpy(Extractor(tiny_checkpoint, "cpu", precision=precision)(paths).vectors)
    torch.testing.assert_close(data[0].vectors[1], vectors, rtol=0, atol=1e-5 * float(vectors.abs().max()))


def test_a_checkpoint_of_the_midst_of_a_validation_holds_one_network(
    tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    class Save(Callback):
        def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:  # type: ignore[override]
            names.extend(pl_module.state_dict())

    add_callback(monkeypatch, Save())
    fit(tiny_arguments, *ONE_EPOCH)
    assert {name.partition(".")[0] for name in names} <= {"network", "network_input", "objective"}


def test_a_test_asks_nothing_of_the_training(tiny_arguments: list[str], tmp_path: Path) -> None:
    """The checkpoint's K need not divide the default batch, which is none of the test's business."""
    batch = ("DATALOADER.NUM_INSTANCE", "3", "SOLVER.IMS_PER_BATCH", "6", *ONE_EPOCH)
    path = ["MODEL.PRETRAIN_PATH", str(fit(tiny_arguments, *batch).folder / "best.pth")]
    assert evaluate(path, "OUTPUT_DIR", str(tmp_path / "o")).entries


def test_nothing_is_logged_that_makes_the_host_wait(
    tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain number would be copied to the device in each step."""
    original, kinds = ReidModule.log, dict[str, type]()

    def log(self: ReidModule, name: str, value: object, **options: object) -> None:
        kinds[name] = type(value)
        original(self, name, value, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ReidModule, "log", log)
    fit(tiny_arguments, *ONE_EPOCH)
    assert {"train/loss_step", "train/loss_epoch", "train/lr", "train/lr_center"} <= kinds.keys()
    assert {kind for name, kind in kinds.items() if name.startswith("train/")} == {torch.Tensor}


def test_one_query_is_tested_without_verification(
    tiny_checkpoint: Path, tiny_market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = read_dataset(str(tiny_market), Path())
    query = splits.query[0]
    match = next(s for s in splits.gallery if s.person_id == query.person_id and s.camera_id != query.camera_id)
    # A pair of two people counts if two cameras have taken them.
    other = next(s for s in splits.gallery if s.person_id != query.person_id and s.camera_id == query.camera_id)
    for sample, folder in ((query, "query"), (match, "bounding_box_test"), (other, "bounding_box_test")):
        (tmp_path / "one" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / folder / sample.path.name).write_bytes(sample.path.read_bytes())
    report = evaluate([
        *("MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "DATASETS.NAMES", str(tmp_path / "one")),
        *("OUTPUT_DIR", str(tmp_path / "o"), "DATALOADER.NUM_WORKERS", "0"),
    ])  # fmt: skip
    assert report.entries[0].result.num_valid_queries == 1
    assert report.verification is None
    assert "no verification" in caplog.text
