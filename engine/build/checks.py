"""Keys that are fine alone and wrong together."""

import torch
from yacs.config import CfgNode

from utils.errors import ReidError


def check_consistency(cfg: CfgNode) -> None:
    """Refuse keys that are fine alone and wrong together.

    Raises:
        ReidError: naming both keys.
    """
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch % instances or batch < 2 * instances:
        raise ReidError(
            "SOLVER.IMS_PER_BATCH counts images: it must be DATALOADER.NUM_INSTANCE times 2, 3, ..., "
            f"got {batch} and {instances}; the nearest is {max(2, round(batch / instances)) * instances}"
        )
    if cfg.DATASETS.ON_BAD_FILE == "skip" and not cfg.DATASETS.CHECK_FILES:
        raise ReidError("DATASETS.ON_BAD_FILE skip works at the check: set DATASETS.CHECK_FILES True too")
    if cfg.TRAINER.ACCELERATOR == "cuda" and not torch.cuda.is_available():
        raise ReidError("TRAINER.ACCELERATOR cuda needs a CUDA device, but torch sees none; set it to auto")
