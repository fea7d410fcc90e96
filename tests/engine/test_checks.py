"""Keys against the machine."""

import pytest
import torch

from configs import get_cfg, with_values
from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.readers import read_dataset
from engine import build
from utils.errors import ReidError


def test_bf16_on_a_gpu_that_does_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    values = {"TRAINER.PRECISION": "bf16-mixed", "DATASETS.NAMES": "market1501"}
    with pytest.raises(ReidError, match=r"bf16-mixed needs a GPU that computes bf16, this one does not; set 32-true"):
        build.check_consistency(with_values(get_cfg(), values))
    build.check_consistency(with_values(get_cfg(), {**values, "TRAINER.ACCELERATOR": "cpu"}))


def test_memory_is_pinned_for_the_device_in_use(tiny_market: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is there and not asked for stays untouched."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    splits = read_dataset(str(tiny_market), None, with_train=False, seed=0)  # type: ignore[arg-type]
    data = ReidDataModule(splits, LoaderSettings(workers=0))
    data.trainer = build.build_trainer(with_values(get_cfg(), {"TRAINER.ACCELERATOR": "cpu"}))
    assert not data.val_dataloader().pin_memory
    data.trainer = None
    assert data.val_dataloader().pin_memory
