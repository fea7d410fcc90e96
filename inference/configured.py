"""An extractor by the settings of a script."""

import os

import torch

from engine.model import load_model
from engine.settings import Settings
from inference.device import choose_device
from inference.extract import Extractor
from utils.memory import keep_freed_memory


def configured_extractor(settings: Settings, precision: str) -> Extractor:
    """An extractor by the settings; TRAINER.ACCELERATOR, TEST.IMS_PER_BATCH and DATALOADER.NUM_WORKERS count too.

    Raises:
        ReidError: as :class:`inference.extract.Extractor`.
    """
    device: str = settings.cfg.TRAINER.ACCELERATOR
    if device != "cpu" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
        # What asks for no device by name, as the loader's pinning thread, would else take memory of the first one.
        torch.cuda.set_device(device)
    if choose_device(device).type == "cpu":
        keep_freed_memory()
    workers = settings.explicit.get("DATALOADER.NUM_WORKERS")
    batch: int = settings.cfg.TEST.IMS_PER_BATCH
    return Extractor(load_model(settings), device, batch, precision, workers)
