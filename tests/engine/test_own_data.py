"""Data of users, from their folders to the figures."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import test as test_script
from engine import run
from engine.cli import parse
from tests.engine.support import ONE_EPOCH, evaluate, without
from tests.support import fit, message_with, silent_log
from utils.errors import ReidError


@pytest.fixture
def people(tiny_market: Path) -> Callable[..., Path]:
    """A folder of identities with the images of `tiny_market`: where, and how many identities."""

    def make(folder: Path, number: int) -> Path:
        files = sorted((tiny_market / "bounding_box_train").glob("*.jpg"))
        for person in sorted({file.name[:4] for file in files})[:number]:
            (folder / person).mkdir(parents=True)
            for shot, file in enumerate(file for file in files if file.name.startswith(person)):
                shutil.copy(file, folder / person / f"{shot}.jpg")
        return folder

    return make


def own(arguments: list[str], *more: str) -> list[str]:
    return [*without(arguments, "DATASETS.NAMES"), *more]


@pytest.mark.parametrize("name", ["(old)", "[x] set", "'quoted'"])
def test_folders_with_brackets_are_no_lists(
    name: str, people: Callable[..., Path], tiny_arguments: list[str], tmp_path: Path
) -> None:
    people(tmp_path / "data" / name, 8)
    arguments = own(tiny_arguments, "DATASETS.ROOT_DIR", str(tmp_path / "data"), "DATASETS.NAMES", name)
    result = fit(arguments, *ONE_EPOCH)
    assert result.folder.parents[2].name == name
    path = ("MODEL.PRETRAIN_PATH", str(result.folder / "best.pth"))
    assert evaluate(arguments, *path).dataset == name
    assert (tmp_path / "output" / "report.md").exists()


def test_names_that_are_no_utf8(people: Callable[..., Path], tiny_arguments: list[str], tmp_path: Path) -> None:
    root = people(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")), 8)
    for image in list(root.rglob("1.jpg")):
        image.rename(image.with_name("\udcff.jpg"))
    arguments = own(tiny_arguments, "DATASETS.NAMES", str(root))
    with silent_log():
        folder = fit(arguments, *ONE_EPOCH).folder
        words = [*arguments, "MODEL.PRETRAIN_PATH", str(folder / "best.pth"), "TEST.VISUALIZE", "True"]
        assert test_script.main(words) == 0
    assert (tmp_path / "output" / "report.html").exists()


def test_a_test_takes_the_split_of_its_training_and_a_foreign_network_all(
    people: Callable[..., Path], tiny_arguments: list[str], tmp_path: Path
) -> None:
    arguments = own(tiny_arguments, "DATASETS.NAMES", str(people(tmp_path / "shop", 8)))
    folder = fit(arguments, *ONE_EPOCH, "MODEL.HEAD", "projection").folder
    report = evaluate(arguments, "MODEL.PRETRAIN_PATH", str(folder / "best.pth"))
    assert report.entries[0].result.num_queries == 4
    renames = (("network.backbone.base.", ""), ("network.head.linear.", "fc.0."), ("network.head.bn.", "fc.1."))
    state = torch.load(folder / "best.pth", weights_only=True)["state_dict"]
    as_torchreid = {
        name.replace(ours, theirs): tensor
        for ours, theirs in renames
        for name, tensor in state.items()
        if name.startswith(ours)
    }
    torch.save({**as_torchreid, "classifier.weight": torch.ones(7, 512)}, tmp_path / "osnet.pth")
    report = evaluate(arguments, "MODEL.PRETRAIN_PATH", str(tmp_path / "osnet.pth"))
    assert report.entries[0].result.num_queries == 8


def test_one_person_is_no_test_and_few_are_told(
    people: Callable[..., Path],
    tiny_arguments: list[str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = people(tmp_path / "cameras", 3)
    for new, old in zip(("gate", "lobby", "yard"), sorted(folder.iterdir()), strict=True):
        old.rename(folder / new)
    arguments = own(tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "DATASETS.NAMES", str(folder))
    evaluate(arguments)
    assert message_with(caplog, "3 folders", "read as identities: gate, lobby, yard", "CSV file with person_id")
    assert message_with(caplog, "3 queries and 3 identities")
    assert "only 3 queries count" in capsys.readouterr().out
    assert "only 3 queries count" in (tmp_path / "output" / "report.md").read_text()
    (folder / "query").mkdir()
    (folder / "gate").rename(folder / "query" / "gate")
    shutil.copytree(folder / "query", folder / "gallery")
    with pytest.raises(ReidError, match="must show two identities or more, but shows one"):
        run.evaluate(parse(arguments))


def test_copies_are_told_before_a_test(
    tiny_market: Path,
    tiny_arguments: list[str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = shutil.copytree(tiny_market, tmp_path / "leak")
    query = sorted((data / "query").glob("*.jpg"))[0]
    shutil.copy(query, data / "bounding_box_test" / query.name.replace("_c1", "_c9"))
    evaluate(own(tiny_arguments, "MODEL.PRETRAIN_PATH", str(tiny_checkpoint), "DATASETS.NAMES", str(data)))
    assert message_with(caplog, "1 of", "query images of leak are gallery images too", query.name)


def test_no_colon_in_the_folder_of_a_run(tiny_arguments: list[str]) -> None:
    pytest.importorskip("timm")
    folder = fit(tiny_arguments, *ONE_EPOCH, "MODEL.NAME", "timm:test_resnet").folder
    assert folder.parts[-3] == "timm_test_resnet"


def test_tensorboard_shows_validation_first_and_no_epoch(tiny_arguments: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tiny_arguments, *ONE_EPOCH)
    (file,) = (tmp_path / "runs").rglob("events.*")
    events = EventAccumulator(str(file))
    events.Reload()
    tags = sorted(events.Tags()["scalars"])
    assert {"evaluation/mAP", "evaluation/rank-1", "evaluation/rank-5", "evaluation/rank-10"} <= set(tags)
    assert tags[0].startswith("evaluation/")
    assert {tag.partition("/")[0] for tag in tags} == {"evaluation", "train"}
