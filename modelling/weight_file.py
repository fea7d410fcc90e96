"""The content of a weight file; nothing in the file is ever run."""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from utils.errors import ReidError

# Classes of which checkpoints of centroids-reid (Lightning 1.1, yacs) hold objects beside their tensors: all
# dictionaries or never used, so that a dictionary can stand for each and no code of theirs runs.
_BOOKKEEPING = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)


def read_content(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, its tensors on the CPU.

    It is read with ``weights_only=True``; the bookkeeping of centroids-reid comes as plain dictionaries.

    Args:
        path: of a file that ``torch.save`` wrote.

    Raises:
        ReidError: if the file is missing, holds other objects (the message names the first), cannot be read
            or is no mapping.
    """
    if not path.is_file():
        beside = ", ".join(sorted(file.name for file in path.parent.glob("*.pth"))) if path.parent.is_dir() else ""
        hint = f"; its folder has {beside}" if beside else ""
        raise ReidError(f"MODEL.PRETRAIN_PATH must be an existing file, got {path}{hint}")
    try:
        with torch.serialization.safe_globals([(OrderedDict, name) for name in _BOOKKEEPING]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any other kind fails in any way
        raise ReidError(f"{path} cannot be loaded as plain tensors (weights_only=True): {_reason(error)}") from error
    if not isinstance(content, dict):
        raise ReidError(f"{path} must hold a mapping of tensors, got {type(content).__name__}")
    return content


def _reason(error: Exception) -> str:
    """The one thing that torch's long message is about."""
    text = re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))
    if found := re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", text):
        return (
            f"it holds an object of {found[1]}, and loading one can run any code; if you trust the file, take its "
            "tensors out once: docs/model_zoo.md, 'Files that hold more than tensors'"
        )
    return text.rpartition("WeightsUnpickler error: ")[2][:200]
