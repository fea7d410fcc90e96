"""The checkpoint of a run: our part of Lightning's file, and how to read it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from configs import SCHEMA, read_config
from configs.schema import Rule
from engine.preprocessing import preprocessing_of
from modelling.backbones import backbone
from modelling.network import with_current_names
from modelling.weights.file import is_state, read_content
from modelling.weights.weights import Weights
from utils.errors import ReidError
from utils.version import VERSION

SECTION = "reid"
"""Our part of a Lightning checkpoint."""

# Prefixes of the tensors of the network, of its average, of classifier and centers.
_NETWORK, _AVERAGE, _OBJECTIVE = "network.", "average.network.", "objective."
_NEEDED_TO_RESUME = {"optimizer_states": list, "loops": Mapping, "callbacks": Mapping, "rng": Mapping}
_ANOTHER = "copy or download it again, or take another checkpoint"
_TEXT = Rule("text", lambda value: isinstance(value, str))
_COUNT = Rule("a whole number of 0 or more", lambda value: type(value) is int and 0 <= value < 2**31)
_COUNTS = Rule(
    "a list of whole numbers", lambda value: isinstance(value, (list, tuple)) and all(map(_COUNT.holds, value))
)
_RULES = {
    **dict.fromkeys(("config", "dataset", "method", "data", "origin"), _TEXT),
    **dict.fromkeys(("num_ids", "scale", "epoch", "world_size"), _COUNT),
    "scales": _COUNTS,
    "position": Rule("an epoch and a batch", lambda value: _COUNTS.holds(value) and len(value) == 2),
}
"""Of the entries of our part."""
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

    def _tensors_for(self, network: nn.Module) -> Mapping[str, Tensor]:
        """The tensors as they are, unless the network was built for other images or other cameras."""
        own = network.state_dict()
        if all(name not in own or own[name].shape == tensor.shape for name, tensor in self.state.items()):
            return self.state
        return super()._tensors_for(network)


def section(card: RunCard, epoch: int, position: tuple[int, int], world_size: int) -> dict[str, Any]:
    """Our part of a checkpoint, of plain types that ``weights_only=True`` loads."""
    versions = {
        "snu_reid": VERSION,
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
        card, epoch, position, world_size = _read_section(content[SECTION])
        config = {name: key.default for name, key in SCHEMA.items()} | read_config(card.config, lenient=True)
        if not is_state(tensors := content["state_dict"]):
            raise ReidError("its state_dict must hold names and plain tensors")
        if not isinstance(report := content.get("report", {}), Mapping):
            raise ReidError(f"its report must be a mapping, got {type(report).__name__}")
    except KeyError as error:
        raise ReidError(f"{path} is a damaged checkpoint: it lacks {error}; {_ANOTHER}") from error
    except ReidError as error:
        raise ReidError(f"{path} is a damaged checkpoint: {error}; {_ANOTHER}") from error
    tensors = with_current_names(tensors)
    if not config["SOLVER.TERMS"]:
        own = ["octuplet"] if card.method.startswith("octuplet") else []
        config["SOLVER.TERMS"] = [*own, *(name for name, key in _WEIGHTS.items() if config[key])]
    options = (*_ARCHITECTURE, *backbone(config["MODEL.NAME"]).options)
    return Checkpoint(
        path,
        f"checkpoint of {card.method}",
        _without_prefix(tensors, _AVERAGE) or _without_prefix(tensors, _NETWORK),
        {option: config[f"MODEL.{option.upper()}"] for option in options},
        preprocessing_of(config),
        card.num_ids or None,
        config=config,
        objective=_without_prefix(tensors, _OBJECTIVE),
        data=card.data,
        origin=content[SECTION].get("origin", ""),
        report=report,
        card=card,
        epoch=epoch,
        position=position,
        world_size=world_size,
        lacking=tuple(name for name, kind in _NEEDED_TO_RESUME.items() if not _is_filled(content.get(name), kind)),
    )


def epoch_of(path: Path) -> int:
    """The last epoch that the run of a checkpoint of ours started.

    Raises:
        ReidError: if the file is not a checkpoint, or is damaged.
    """
    return read_checkpoint(path, read_content(path, mmap=True)).epoch  # without its tensors


def _read_section(ours: Any) -> tuple[RunCard, int, tuple[int, int], int]:  # noqa: ANN401 (of a file)
    """Card, epoch, position and number of processes.

    Raises:
        KeyError: if one is missing.
        ReidError: if one is of another kind.
    """
    if not isinstance(ours, Mapping):
        raise ReidError(f"its section {SECTION} must be a mapping, got {type(ours).__name__}")
    values = {"data": "", "origin": "", "scales": [], "world_size": 1, **ours}
    for name, rule in _RULES.items():
        if not rule.holds(values[name]):
            raise ReidError(f"its entry {name} must be {rule.text}, got {shorten(repr(values[name]), 80)}")
    card = RunCard(**{field.name: values[field.name] for field in fields(RunCard)} | {"scales": (*values["scales"],)})
    return card, values["epoch"], tuple(values["position"]), values["world_size"]


def _is_filled(value: object, kind: type) -> bool:
    return isinstance(value, kind) and len(value) > 0  # type: ignore[arg-type]


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
