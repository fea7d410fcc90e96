from pathlib import Path

import pytest
import torch

from engine.settings import Settings
from inference import configured
from inference.configured import configured_extractor


def test_each_process_of_torchrun_has_a_device_of_its_own(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current, used = list[str](), list[str]()

    def record(_: object, device: str, *__: object) -> None:
        used.append(device)

    kept = list[bool]()
    monkeypatch.setattr(configured, "keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr(configured, "Extractor", record)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    settings = {"MODEL.PRETRAIN_PATH": str(checkpoint)}
    for rank in ("0", "1", "3"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        configured_extractor(Settings({}, settings), "auto")
    assert used == current == ["cuda:0", "cuda:1", "cuda:1"]
    assert not kept
    configured_extractor(Settings({}, {**settings, "TRAINER.ACCELERATOR": "cpu"}), "auto")
    assert kept == [True]
    monkeypatch.delenv("LOCAL_RANK")
    configured_extractor(Settings({}, settings), "auto")
    assert used[3:] == ["cpu", "auto"]
    assert len(current) == 3
