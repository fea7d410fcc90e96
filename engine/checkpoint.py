"""The checkpoint file: what we add to Lightning's, and how any file under MODEL.PRETRAIN_PATH is read."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs import read_config
from modelling.extractor import FeatureExtractor
from utils.errors import ReidError

SECTION = "reid"  # our part of a Lightning checkpoint

# What a checkpoint's tensors depend on: a configuration that says otherwise cannot be meant.
ARCHITECTURE_KEYS = ("MODEL.NAME", "MODEL.LAST_STRIDE", "MODEL.STEM_RELU")


@dataclass(frozen=True)
class RunCard:
    """What a checkpoint says about the run that wrote it.

    Attributes:
        config: the effective configuration as YAML text.
        dataset: name of the data set.
        num_ids: training identities.
        scale: low-resolution scale of training.
        method: ``baseline``, ...
    """

    config: str
    dataset: str
    num_ids: int
    scale: int
    method: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours.

    Attributes:
        path: the file.
        card: see :class:`RunCard`.
        config: the run's configuration by key.
        epoch: the last epoch it has begun.
        position: epoch and batch at which training goes on.
        state: weights by name.
    """

    path: Path
    card: RunCard
    config: dict[str, Any]
    epoch: int
    position: tuple[int, int]
    state: dict[str, Tensor]


@dataclass(frozen=True)
class BackboneWeights:
    """Tensors of a backbone without anything else.

    Attributes:
        path: the file.
        state: tensors by name, as torchvision names them.
    """

    path: Path
    state: dict[str, Tensor]


def section(card: RunCard, epoch: int, position: tuple[int, int]) -> dict[str, Any]:
    """Our part of a checkpoint, of plain types that ``weights_only=True`` loads."""
    versions = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__),
        "pytorch_lightning": version("pytorch-lightning"),
    }
    return {**vars(card), "epoch": epoch, "position": list(position), "versions": versions}


def read_weights(path: Path) -> Checkpoint | BackboneWeights:
    """Read a file; its content decides what it is.

    Raises:
        ReidError: if the file is missing, needs more than plain tensors to load, or is neither a checkpoint
            of ours nor a mapping of tensors.
    """
    content = _load(path)
    if SECTION in content:
        return _as_checkpoint(path, content)
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be a checkpoint of this framework or backbone weights, "
            f"got {path}, which is neither (its first entries: {', '.join(map(str, list(content)[:4]))})"
        )
    return BackboneWeights(path, {name.removeprefix("module."): tensor for name, tensor in state.items()})


def check_architecture(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> None:
    """Refuse explicit settings that contradict the checkpoint.

    Args:
        checkpoint: the file that is going to be loaded.
        wanted: explicitly set values by key.

    Raises:
        ReidError: naming each difference.
    """
    differences = [
        f"{name} is {checkpoint.config[name]} in the checkpoint and {wanted[name]} here"
        for name in ARCHITECTURE_KEYS
        if name in wanted and wanted[name] != checkpoint.config[name]
    ]
    if differences:
        raise ReidError(
            f"the configuration contradicts {checkpoint.path}: {'; '.join(differences)}; "
            "leave these keys (or --config_file) out: the checkpoint knows them"
        )


def load_extractor(extractor: FeatureExtractor, checkpoint: Checkpoint) -> None:
    """Fill the network with the checkpoint's weights; classifier and centers are not its business.

    Raises:
        ReidError: if a tensor is missing or misshapen.
    """
    prefix = "extractor."
    state = {
        name.removeprefix(prefix): value
        for name, value in checkpoint.state.items()
        if name.startswith(prefix)
    }
    load_exactly(extractor, state, checkpoint.path)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """``load_state_dict`` whose failure is a :class:`ReidError` that names file and tensors."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ReidError(f"{path} does not fit the network: {' '.join(str(error).split())}") from error


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ReidError(f"MODEL.PRETRAIN_PATH must be an existing file, got {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any other kind fails in any way
        reason = " ".join(str(error).split())[:200]
        raise ReidError(f"{path} cannot be loaded as plain tensors (weights_only=True): {reason}") from error
    if not isinstance(content, dict):
        raise ReidError(f"{path} must hold a mapping of tensors, got {type(content).__name__}")
    return content


def _as_checkpoint(path: Path, content: dict[str, Any]) -> Checkpoint:
    ours = dict(content[SECTION])
    ours.pop("versions")
    epoch, (next_epoch, next_batch) = ours.pop("epoch"), ours.pop("position")
    card = RunCard(**ours)
    return Checkpoint(
        path, card, read_config(card.config), epoch, (next_epoch, next_batch), content["state_dict"]
    )
