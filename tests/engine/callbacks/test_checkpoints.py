"""Which files a run leaves in which epoch, and what makes one of them the best."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.callbacks.checkpoints import BEST, Checkpoints, WholeFiles
from engine.checkpoint import SECTION, RunCard
from tests.engine.callbacks.support import Trainer, module, run_epochs

CARD = RunCard("MODEL: {NAME: resnet18}", "people", 8, 1, "baseline", scales=(1,))


@pytest.mark.parametrize(
    ("period", "epochs", "names"),
    [
        (1, 3, ["0.pth", "1.pth", "2_last.pth"]),
        (2, 5, ["2.pth", "4_last.pth"]),
        (2, 6, ["2.pth", "4.pth", "5_last.pth"]),
        (5, 12, ["5.pth", "10.pth", "11_last.pth"]),
        (9, 4, ["3_last.pth"]),
        (1, 1, ["0_last.pth"]),
    ],
)
def test_the_period_counts_epochs_and_the_last_one_is_always_there(
    period: int, epochs: int, names: list[str], tmp_path: Path
) -> None:
    trainer = Trainer(epochs)
    run_epochs(Checkpoints(tmp_path, CARD, period), trainer)
    assert trainer.files == names


@pytest.mark.parametrize(
    ("mean_precisions", "epochs_of_best"),
    [
        ({0: 0.2, 1: 0.1, 2: 0.3, 3: 0.25}, [0, 2]),
        ({1: 0.2, 3: 0.2}, [1]),  # as good is not better
        ({3: 0.0}, [3]),  # the first one is the best, whatever it is
        ({}, []),
    ],
)
def test_the_best_is_that_of_the_highest_map(
    mean_precisions: dict[int, float], epochs_of_best: list[int], tmp_path: Path
) -> None:
    trainer = Trainer(4)
    run_epochs(Checkpoints(tmp_path, CARD, 1), trainer, mean_precisions)
    assert trainer.files.count(BEST) == len(epochs_of_best)
    for epoch in epochs_of_best:  # before the numbered one of the same epoch, which then knows it
        numbered = trainer.files.index("3_last.pth" if epoch == 3 else f"{epoch}.pth")
        assert trainer.files[numbered - 1] == BEST


def test_a_resumed_run_knows_its_best_while_the_file_is_there(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, CARD, 9)
    run_epochs(first, Trainer(1), {0: 0.5})
    again, elsewhere = Checkpoints(tmp_path, CARD, 9), Checkpoints(tmp_path / "new", CARD, 9)
    (tmp_path / "new").mkdir()
    for callback, best in ((again, []), (elsewhere, [BEST])):
        callback.load_state_dict(first.state_dict())
        trainer = Trainer(2, current_epoch=1)
        run_epochs(callback, trainer, {1: 0.4})
        assert trainer.files == [*best, "1_last.pth"]


def test_a_checkpoint_holds_the_card_the_position_and_the_random_state(tmp_path: Path) -> None:
    callback, trainer = Checkpoints(tmp_path, CARD, 1), Trainer(3)  # type: Any, Any
    run_epochs(callback, trainer)
    trainer.current_epoch = 3
    callback.on_train_batch_end(trainer, module(), None, None, 4)
    content: dict[str, Any] = {}
    callback.on_save_checkpoint(trainer, module(), content)
    section = content[SECTION]
    assert (section["epoch"], section["position"], section["world_size"]) == (3, [3, 5], 1)
    assert (section["dataset"], section["num_ids"], section["scales"]) == ("people", 8, [1])
    numbers = torch.rand(3)
    callback.on_load_checkpoint(trainer, module(), content)
    assert not torch.equal(torch.rand(3), numbers)  # not before training begins
    callback.on_train_start(trainer, module())
    assert torch.equal(torch.rand(3), numbers)


def test_each_process_goes_on_with_its_own_random_state(tmp_path: Path) -> None:
    """A process more than there were keeps its own numbers, as all but the first did with older checkpoints."""
    states, numbers = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(torch.get_rng_state())
        numbers.append(torch.rand(3))
    callback = Checkpoints(tmp_path, CARD, 1)  # type: Any
    trainers = [Trainer(3, global_rank=rank) for rank in range(3)]  # type: Any
    trainers[0].strategy.all_gather = lambda _: torch.stack(states)
    content: dict[str, Any] = {}
    callback.on_save_checkpoint(trainers[0], module(), content)
    for content_of, references in ((content, numbers), ({"rng": {"cpu": states[0]}}, numbers[:1])):
        for rank, trainer in enumerate(trainers):
            torch.manual_seed(9)
            own = torch.rand(3)
            torch.manual_seed(9)
            callback.on_load_checkpoint(trainer, module(), content_of)
            callback.on_train_start(trainer, module())
            assert torch.equal(torch.rand(3), references[rank] if rank < len(references) else own)


def test_an_interrupted_epoch_has_a_file_for_each_interruption(tmp_path: Path) -> None:
    callback, trainer = Checkpoints(tmp_path, CARD, 1), Trainer(9, current_epoch=4)  # type: Any, Any
    names = []
    for step in (1, 6):
        callback.on_train_batch_end(trainer, module(), None, None, step)
        names.append(callback.save_interrupted(trainer).name)
    assert names == ["4_interrupted.pth", "4_interrupted_7.pth"]


def fill_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_replaced_whole_and_by_nothing_of_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))  # in place of another file system
    path = tmp_path / BEST
    WholeFiles().save_checkpoint({"weights": torch.ones(3)}, path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_disk)
        with pytest.raises(OSError, match=BEST):
            WholeFiles().save_checkpoint({"weights": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    WholeFiles().save_checkpoint({"weights": torch.zeros(3)}, path)
    assert torch.load(path)["weights"].tolist() == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == [BEST]
