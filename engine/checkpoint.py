"""The checkpoint of a run: our part of Lightning's file, and how to read it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs import SCHEMA, read_config
from engine.preprocessing import preprocessing_of
from modelling.backbones import backbone
from modelling.network import with_current_names
from modelling.weights.file import read_content
from modelling.weights.weights import Weights
from utils.errors import ReidError

SECTION = "reid"
"""Our part of a Lightning checkpoint."""

_NETWORK, _OBJECTIVE = "network.", "objective."  # prefixes of the tensors of the network, of classifier and centers
_NEEDED_TO_RESUME = ("optimizer_states", "loops", "callbacks", "rng")
# The terms of runs before SOLVER.TERMS: the octuplet loss in its methods, and each of these with a weight above 0.
_WEIGHTS = {
    "identity": "SOLVER.QUERY_XENT_WEIGHT",
    "triplet": "SOLVER.QUERY_CONTRASTIVE_WEIGHT",
    "center": "SOLVER.CENTER_LOSS_WEIGHT",
    "centroid_triplet": "SOLVER.CENTROID_CONTRASTIVE_WEIGHT",
}
_ARCHITECTURE = ("name", "head", "pooling", "embedding_dim")  # with the options of the backbone


@dataclass(frozen=True)
class RunCard:
    """What a checkpoint says about the run that wrote it.

    Attributes:
        config: the effective configuration as YAML text.
        dataset: name of the data set.
        num_ids: training identities.
        scale: low-resolution scale of training.
        method: ``baseline``, ...
        data: digest of the training files and identities, by which a resumption recognizes its data.
        scales: all resolutions of training; 1 = full resolution.
    """

    config: str
    dataset: str
    num_ids: int
    scale: int
    method: str
    data: str = ""
    scales: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Weights):
    """A checkpoint of ours, complete or weights alone.

    Attributes:
        card: describes its run.
        epoch: the last epoch that the run started.
        position: epoch and batch at which training goes on.
        world_size: processes that trained.
        lacking: parts that a resumption needs and the file does not have; weights alone can be used and shared.
    """

    card: RunCard
    epoch: int
    position: tuple[int, int]
    world_size: int
    lacking: tuple[str, ...] = ()

    @property
    def scales(self) -> frozenset[int]:
        """Low-resolution scales of the training images."""
        return frozenset(self.card.scales or self.config["INPUT.LR_SCALES"] or (self.card.scale,))

    def _tensors_for(self, network: nn.Module) -> Mapping[str, Tensor]:  # noqa: ARG002 (they are those of this network)
        return self.state


def section(card: RunCard, epoch: int, position: tuple[int, int], world_size: int) -> dict[str, Any]:
    """Our part of a checkpoint, of plain types that ``weights_only=True`` loads."""
    versions = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__),
        "pytorch_lightning": version("pytorch-lightning"),
    }
    place = {"epoch": epoch, "position": list(position), "world_size": world_size}
    return {**vars(card), "scales": list(card.scales), **place, "versions": versions}


def read_checkpoint(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint in the content of a file.

    Raises:
        ReidError: if it is damaged.
    """
    try:
        ours = dict(content[SECTION])
        epoch, (next_epoch, next_batch) = ours["epoch"], ours["position"]
        card = RunCard(**{field.name: ours[field.name] for field in fields(RunCard) if field.name in ours})
        config = {name: key.default for name, key in SCHEMA.items()} | read_config(card.config, lenient=True)
        tensors, world_size = with_current_names(dict(content["state_dict"])), ours.get("world_size", 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ReidError(f"{path} is a damaged checkpoint: {type(error).__name__} {error}") from error
    if not config["SOLVER.TERMS"]:
        own = ["octuplet"] if card.method.startswith("octuplet") else []
        config["SOLVER.TERMS"] = [*own, *(name for name, key in _WEIGHTS.items() if config[key])]
    options = (*_ARCHITECTURE, *backbone(config["MODEL.NAME"]).options)
    return Checkpoint(
        path,
        f"checkpoint of {card.method}",
        _without_prefix(tensors, _NETWORK),
        {option: config[f"MODEL.{option.upper()}"] for option in options},
        preprocessing_of(config),
        card.num_ids,
        config=config,
        objective=_without_prefix(tensors, _OBJECTIVE),
        data=card.data,
        card=card,
        epoch=epoch,
        position=(next_epoch, next_batch),
        world_size=world_size,
        lacking=tuple(name for name in _NEEDED_TO_RESUME if name not in content),
    )


def epoch_of(path: Path) -> int:
    """The last epoch that the run of a checkpoint of ours started.

    Raises:
        ReidError: if the file is not a checkpoint, or is damaged.
    """
    return read_checkpoint(path, read_content(path, mmap=True)).epoch  # without its tensors


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
