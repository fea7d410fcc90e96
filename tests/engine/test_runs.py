"""Where a run writes: nothing that an earlier one has left is lost, nothing empty stays behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

import train as train_script
from engine import run
from engine.callbacks.epoch_log import read_metrics
from engine.checkpoint import epoch_of
from engine.runs import later_checkpoints, new_run
from engine.settings import Settings
from tests.engine.support import ONE_EPOCH, add_callback, resume
from tests.support import fit
from utils.errors import ReidError
from utils.files import only_process


def epochs_of(folder: Path) -> list[str]:
    return [row["epoch"] for row in read_metrics(folder / "metrics.csv")]


def change(path: Path, **values: object) -> dict[str, Any]:
    """Write a checkpoint again with other values in our part of it."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    content["reid"] |= values
    torch.save(content, path)
    return content


def test_what_later_epochs_have_left_is_moved_aside(
    tiny_arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As after a crash: rows and a best.pth are there, for which no numbered checkpoint is left."""
    folder = fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "3").folder
    for name in ("1.pth", "2_last.pth"):
        (folder / name).unlink()
    change(folder / "best.pth", epoch=2)  # whichever epoch was the best, let it be a later one
    before = {name: (folder / name).read_bytes() for name in ("metrics.csv", "best.pth", "report_1.json")}
    assert fit(tiny_arguments, *resume(folder / "0.pth"), "SOLVER.MAX_EPOCHS", "4").folder == folder.resolve()
    assert {name: (folder / "earlier_1" / name).read_bytes() for name in before} == before
    assert not (folder / "earlier_1" / "report_0.json").exists()
    assert epochs_of(folder) == ["0", "1", "2", "3"]
    assert epoch_of(folder / "best.pth") in (1, 2, 3)
    assert f"the results of epoch 1 and later are now in {folder.resolve() / 'earlier_1'}" in caplog.text


def test_a_crash_before_the_row_is_written_loses_no_best(tiny_arguments: list[str]) -> None:
    folder = fit(tiny_arguments, *ONE_EPOCH).folder
    change(folder / "best.pth", epoch=1)
    best, metrics = (folder / "best.pth").read_bytes(), (folder / "metrics.csv").read_text()
    fit(tiny_arguments, *resume(folder / "0_last.pth"), "SOLVER.MAX_EPOCHS", "2")
    assert (folder / "earlier_1" / "best.pth").read_bytes() == best
    assert (folder / "metrics.csv").read_text().startswith(metrics)


def test_a_best_of_the_epochs_before_stays(tiny_arguments: list[str]) -> None:
    folder = fit(tiny_arguments).folder
    (folder / "1_last.pth").unlink()
    (folder / "best.pth").write_bytes((folder / "0.pth").read_bytes())
    before = (folder / "best.pth").read_bytes()
    fit(tiny_arguments, *resume(folder / "0.pth"))
    assert not (folder / "earlier_1" / "best.pth").exists()
    assert epoch_of(folder / "best.pth") == 1 or (folder / "best.pth").read_bytes() == before


def test_a_new_folder_has_a_best_of_its_own(tiny_arguments: list[str], caplog: pytest.LogCaptureFixture) -> None:
    first = fit(tiny_arguments).folder
    content = torch.load(first / "0.pth", weights_only=True)
    (state,) = [state for state in content["callbacks"].values() if "best" in state]
    state["best"] = 2.0  # no validation reaches it
    torch.save(content, first / "0.pth")
    second = fit(tiny_arguments, *resume(first / "0.pth")).folder
    assert second.name == "exp1"
    assert f"{first / '1_last.pth'} would be overwritten" in caplog.text
    assert (second / "best.pth").exists()
    assert epochs_of(second) == ["1"]


def test_another_logs_dir_is_obeyed(
    tiny_arguments: list[str], tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = fit(tiny_arguments, *resume(tiny_checkpoint))
    logs = tiny_arguments[tiny_arguments.index("LOGS_DIR") + 1]
    assert result.folder == Path(logs, "tiny/osnet_x0_25/baseline/exp0")
    assert f"LOGS_DIR {logs} is not that of the resumed run" in caplog.text


def test_a_tree_of_logs_in_another_place_goes_on_there(tiny_arguments: list[str], tmp_path: Path) -> None:
    fit(tiny_arguments, *ONE_EPOCH)
    (tmp_path / "logs").rename(tmp_path / "moved")
    (path,) = (tmp_path / "moved").rglob("0_last.pth")
    assert fit(tiny_arguments, *resume(path), "LOGS_DIR", str(tmp_path / "moved")).folder == path.parent.resolve()


@pytest.mark.parametrize("name", ["optimizer_states", "loops", "callbacks", "rng"])
def test_a_stripped_checkpoint_is_not_resumed(
    name: str, tiny_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    del content[name]
    torch.save(content, tmp_path / "stripped.pth")
    with pytest.raises(ReidError, match=f"needs, but lacks {name}; resume from a whole checkpoint"):
        fit(tiny_arguments, *resume(tmp_path / "stripped.pth"))
    assert not (tmp_path / "logs").exists()


def test_a_state_that_is_no_mapping_is_damage(
    tiny_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["state_dict"] = [1, 2]
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ReidError, match=r"odd\.pth is a damaged checkpoint"):
        fit(tiny_arguments, *resume(tmp_path / "odd.pth"))


def test_a_start_that_fails_leaves_no_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        new_run(tmp_path / "logs", tmp_path / "file" / "runs", Path("data/net/method"))
    assert [path.name for path in (tmp_path / "logs").rglob("*")] == ["data", "net", "method"]


def test_a_folder_that_cannot_be_is_told_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "build_trainer", lambda *_: pytest.fail("the evaluation has begun"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run.evaluate(
            Settings({}, {"MODEL.PRETRAIN_PATH": str(tiny_checkpoint), "OUTPUT_DIR": str(tmp_path / "file")})
        )


def test_numbered_checkpoints_alone_make_a_new_folder(tmp_path: Path) -> None:
    for name in ("3.pth", "5_last.pth", "6_interrupted.pth", "best.pth", "7.pth.part"):
        (tmp_path / name).touch()
    assert [path.name for path in later_checkpoints(tmp_path, 4)] == ["5_last.pth"]
    assert [path.name for path in later_checkpoints(tmp_path, 3)] == ["3.pth", "5_last.pth"]


def test_one_process_at_a_time_goes_on_with_a_run(tiny_arguments: list[str]) -> None:
    folder = fit(tiny_arguments, *ONE_EPOCH).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = (*resume(folder / "0_last.pth"), "SOLVER.MAX_EPOCHS", "2")
    with (
        only_process(folder / ".lock", wait=False),
        pytest.raises(ReidError, match=f"another process.*{folder.name}"),
    ):
        fit(tiny_arguments, *again)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert fit(tiny_arguments, *again).folder == folder.resolve()


def test_a_damaged_best_moves_aside_and_what_a_killed_process_left_goes(tiny_arguments: list[str]) -> None:
    folder = fit(tiny_arguments, *ONE_EPOCH).folder
    (folder / "best.pth").write_bytes(b"half")
    (folder / ".best.pth.0.part").write_bytes(b"half")
    fit(tiny_arguments, *resume(folder / "0_last.pth"), "SOLVER.MAX_EPOCHS", "2")
    assert (folder / "earlier_1" / "best.pth").read_bytes() == b"half"
    assert epoch_of(folder / "best.pth") == 1
    assert not list(folder.glob("*.part"))


def test_log_txt_tells_the_run_and_its_continuation(tiny_arguments: list[str]) -> None:
    assert train_script.main([*tiny_arguments, *ONE_EPOCH]) == 0
    (path,) = Path(tiny_arguments[tiny_arguments.index("LOGS_DIR") + 1]).rglob("log.txt")
    again = (*resume(path.with_name("0_last.pth")), "SOLVER.MAX_EPOCHS", "2")
    assert train_script.main([*tiny_arguments, *again]) == 0
    text = path.read_text()
    for fact in ("48 images of 8 identities", "epoch 0: loss", "epoch 1: loss", "mAP", "checkpoint of baseline"):
        assert fact in text


def test_a_board_that_is_gone_ends_the_curves_and_not_the_run(
    tiny_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Remove(Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)

    add_callback(monkeypatch, Remove())
    result = fit(tiny_arguments)
    assert epochs_of(result.folder) == ["0", "1"]
    output, error = capfd.readouterr()
    assert "Traceback" not in error + output


def test_a_folder_that_tensorboard_cannot_write_is_refused(tiny_arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"RUNS_DIR must be UTF-8 .* set PYTHONUTF8=1"):
        fit(tiny_arguments, "RUNS_DIR", str(tmp_path / "gr\udcf6sse"))
    assert not (tmp_path / "logs").exists()
