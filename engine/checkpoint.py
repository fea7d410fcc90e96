"""The checkpoint file: what we add to Lightning's, and how any file under MODEL.PRETRAIN_PATH is read."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import SCHEMA, read_config
from modelling.network import ReidNetwork
from modelling.weights.file import check_fit, read_content
from modelling.weights.foreign import ForeignWeights, recognize
from utils.errors import ReidError

SECTION = "reid"  # our part of a Lightning checkpoint

_NEEDED_TO_RESUME = ("optimizer_states", "loops", "callbacks", "rng")

# What a checkpoint's tensors depend on: a configuration that says otherwise cannot be meant.
ARCHITECTURE_KEYS = (
    "MODEL.NAME", "MODEL.LAST_STRIDE", "MODEL.STEM_RELU", "MODEL.STEM_POOL", "MODEL.HEAD", "MODEL.POOLING",
    "MODEL.EMBEDDING_DIM",
)  # fmt: skip


@dataclass(frozen=True)
class RunCard:
    """What a checkpoint says about the run that wrote it.

    Attributes:
        config: the effective configuration as YAML text.
        dataset: name of the data set.
        num_ids: training identities.
        scale: low-resolution scale of training.
        method: ``baseline``, ...
        data: digest of the training files and identities, by which a resumption knows its data again.
    """

    config: str
    dataset: str
    num_ids: int
    scale: int
    method: str
    data: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours.

    Attributes:
        path: the file.
        card: see :class:`RunCard`.
        config: the run's configuration by key.
        epoch: the last epoch it has begun.
        position: epoch and batch at which training goes on.
        world_size: processes that trained.
        state: weights by name.
        lacking: what a resumption needs and the file does not hold; weights alone may be used and shared.
    """

    path: Path
    card: RunCard
    config: dict[str, Any]
    epoch: int
    position: tuple[int, int]
    world_size: int
    state: dict[str, Tensor]
    lacking: tuple[str, ...] = ()


Weights = Checkpoint | ForeignWeights


def section(card: RunCard, epoch: int, position: tuple[int, int], world_size: int) -> dict[str, Any]:
    """Our part of a checkpoint, of plain types that ``weights_only=True`` loads."""
    versions = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__),
        "pytorch_lightning": version("pytorch-lightning"),
    }
    place = {"epoch": epoch, "position": list(position), "world_size": world_size}
    return {**vars(card), **place, "versions": versions}


def read_weights(path: Path, model_name: str = "") -> Weights:
    """Read a file; its content decides what it is.

    Args:
        path: the file.
        model_name: MODEL.NAME where it was given; tells apart what tensors alone do not.

    Raises:
        ReidError: if the file is missing, needs more than plain tensors to load, or is neither a checkpoint
            of ours nor of a project we know.
    """
    content = read_content(path)
    if SECTION in content:
        return _as_checkpoint(path, content)
    foreign = recognize(content, path, model_name)
    if foreign is None:
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be a checkpoint of this framework or weights of a project it knows, "
            f"got {path}, which is neither (its first entries: {', '.join(map(str, list(content)[:4]))})"
        )
    return foreign


def architecture_of(weights: Weights) -> dict[str, Any]:
    """The keys that a file decides, with its values; a plain backbone decides its name alone."""
    if isinstance(weights, Checkpoint):
        return {name: weights.config[name] for name in ARCHITECTURE_KEYS}
    return {f"MODEL.{name.upper()}": value for name, value in weights.architecture.items()}


def check_architecture(weights: Weights, wanted: Mapping[str, Any]) -> None:
    """Refuse explicit settings that contradict the file.

    Args:
        weights: the file that is going to be loaded.
        wanted: explicitly set values by key.

    Raises:
        ReidError: naming each difference.
    """
    differences = [
        f"{name} is {value} in the file and {wanted[name]} here"
        for name, value in architecture_of(weights).items()
        if name in wanted and wanted[name] != value
    ]
    if differences:
        raise ReidError(
            f"the configuration contradicts {weights.path}: {'; '.join(differences)}; "
            "leave these keys (or --config_file) out: the file knows them"
        )


def epoch_of(path: Path) -> int:
    """The last epoch that a checkpoint of ours has begun.

    Raises:
        ReidError: if the file is none, or damaged.
    """
    return _as_checkpoint(path, read_content(path)).epoch


def load_extractor(extractor: ReidNetwork, checkpoint: Checkpoint) -> None:
    """Fill the network with the checkpoint's weights; classifier and centers are not its business.

    Raises:
        ReidError: if a tensor is missing or misshapen.
    """
    prefix = "extractor."
    state = {name.removeprefix(prefix): value for name, value in checkpoint.state.items() if name.startswith(prefix)}
    check_fit(extractor.state_dict(), state, frozenset(), str(checkpoint.path))
    extractor.load_state_dict(state, strict=False)


def _as_checkpoint(path: Path, content: dict[str, Any]) -> Checkpoint:
    try:
        ours = dict(content[SECTION])
        epoch, (next_epoch, next_batch) = ours["epoch"], ours["position"]
        card = RunCard(**{field.name: ours[field.name] for field in fields(RunCard) if field.name in ours})
        config = {name: key.default for name, key in SCHEMA.items()} | read_config(card.config, lenient=True)
        state, world_size = dict(content["state_dict"]), ours.get("world_size", 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ReidError(f"{path} is a damaged checkpoint: {type(error).__name__} {error}") from error
    lacking = tuple(name for name in _NEEDED_TO_RESUME if name not in content)
    return Checkpoint(path, card, config, epoch, (next_epoch, next_batch), world_size, state, lacking)
