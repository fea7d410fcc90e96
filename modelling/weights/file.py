"""Read a weight file without running anything in it, and check that its tensors fit a network."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Set
from pathlib import Path
from textwrap import shorten
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

from utils.errors import ReidError

# Checkpoints of centroids-reid (Lightning 1.1, yacs) hold objects of these classes beside their tensors. They are
# dictionaries or never used, so a plain dictionary replaces each of them and none of their code runs.
_BOOKKEEPING = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)
# First bytes of a file of torch.save: a zip archive, or a pickle of protocol 2 before torch 1.6.
_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")


def read_content(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read the mapping that a file holds, its tensors on the CPU.

    The file is read with ``weights_only=True``; the bookkeeping of centroids-reid comes as plain dictionaries.

    Args:
        path: of a file that ``torch.save`` wrote.
        mmap: read a tensor only where it is used.

    Raises:
        ReidError: if the file is missing, holds other objects (the message names the first), cannot be read or is not
            a mapping.
    """
    if not path.is_file():
        beside = ", ".join(sorted(file.name for file in path.parent.glob("*.pth"))) if path.parent.is_dir() else ""
        hint = f"; its folder has {beside}" if beside else ""
        raise ReidError(f"MODEL.PRETRAIN_PATH must be an existing file, got {path}{hint}")
    try:
        with torch.serialization.safe_globals([(OrderedDict, name) for name in _BOOKKEEPING]), catch_warnings():
            simplefilter("ignore")  # the error says all
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # other files may raise anything
        raise ReidError(
            f"{path} cannot be loaded as plain tensors (weights_only=True): {_reason(path, error)}"
        ) from error
    if not isinstance(content, dict):
        raise ReidError(f"{path} must hold a mapping of tensors, got {type(content).__name__}")
    return content


def check_fit(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor], optional: Set[str], origin: str) -> None:
    """Refuse tensors that do not fit a network.

    Args:
        target: the network's tensors by name.
        tensors: the file's, under the same names.
        optional: names that may be missing; the counters of batches, which old files lack, always may.
        origin: what the message calls the file.

    Raises:
        ReidError: if a tensor is missing, unknown or of another shape; the message names the first three.
    """
    problems = [
        f"{name} is missing"
        for name in target
        if name not in tensors and name not in optional and not name.endswith("num_batches_tracked")
    ]
    problems += [f"{name} is unknown" for name in tensors if name not in target]
    problems += [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(target[name].shape)}"
        for name, tensor in tensors.items()
        if name in target and tensor.shape != target[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ReidError(f"{origin} does not fit the network of MODEL.NAME: {'; '.join(problems[:3])}{more}")


def _reason(path: Path, error: Exception) -> str:
    """The cause, out of torch's long message."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "it is empty; copy or download it again"
    if not start.startswith(_BEGINNINGS):
        return "it is not a file of torch.save"
    if "TorchScript" in str(error):
        return "it is a TorchScript archive; write the state_dict() of its module with torch.save"
    if isinstance(error, (EOFError, OSError, RuntimeError)):
        return "it begins like a file of torch.save, but is truncated or damaged; copy or download it again"
    text = re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))
    if match := re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", text):
        return (
            f"it holds an object of {match[1]}, and loading one can run any code; if you trust the file, take its "
            "tensors out once: docs/model_zoo.md, 'Files that hold more than tensors'"
        )
    return shorten(text.rpartition("WeightsUnpickler error: ")[2], 200) or type(error).__name__
