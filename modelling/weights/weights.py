"""One interface for every kind of weight file."""

import logging
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datasets.preprocessing import Preprocessing
from modelling.backbones import backbone
from modelling.weights.file import check_finite, check_fit
from modelling.weights.names import BASE, grouped, without_common_prefix
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_MANY = 12  # names in a line of the log


@dataclass(frozen=True, eq=False)
class Weights:
    """A weight file in our terms, whichever project wrote it: what it decides, and how it fills a network.

    Attributes:
        path: the file; for weights that were fetched, the name of their network.
        kind: what the file is, for messages.
        state: tensors under the names of our network, ``backbone.*`` and ``head.*``.
        architecture: what the weights decide about the network: ``name`` and options of the backbone, ``head`` and
            ``pooling``. A backbone alone decides at most its name.
        preprocessing: of the training images; None for a backbone alone, which takes any.
        num_ids: rows of the classifier of identities; None without one.
        left_out: the tensors that are not loaded, under their names in the file.
        original_images: of a backbone alone: those of its training, where they are known.
        size_unsure: the other usual size, in words, if the size in ``preprocessing`` is a guess.
        config: settings of the run that wrote the file, by key; empty for a file of another project.
        objective: classifier and centers under the names of our objective; empty for a file of another project.
        data: digest of the training images and identities behind classifier and centers.
        of_people: whether they are known to be trained on identities although they have neither classifier nor head.
        origin: SHA-256 of the checkpoint that the file was exported from; empty if it is no export.
        report: of a test, as report.json has it, if it travels in the file.
    """

    path: Path
    kind: str
    state: Mapping[str, Tensor]
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing | None = None
    num_ids: int | None = None
    left_out: Mapping[str, Tensor] = field(default_factory=dict)
    original_images: Preprocessing | None = None
    size_unsure: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Tensor] = field(default_factory=dict)
    data: str = ""
    of_people: bool = False
    origin: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_reid_model(self) -> bool:
        """Whether they were trained on identities and can be tested; a backbone alone can only start a training.

        A classifier tells it, or, where that was cut off, a head.
        """
        return self.num_ids is not None or self.has_head or self.of_people

    @property
    def scales(self) -> frozenset[int]:
        """Low-resolution scales of the training images."""
        return frozenset({self.preprocessing.scale if self.preprocessing else 1})

    @property
    def has_head(self) -> bool:
        """Whether they fill the head; without it, a fresh BNNeck in evaluation mode only scales all vectors alike."""
        return any(name.startswith("head.") for name in self.state)

    def fill(self, network: nn.Module) -> None:
        """Copy the tensors into a network and log which were loaded and which were left out.

        Args:
            network: has ``backbone`` and ``head``.

        Raises:
            ReidError: if a tensor is missing, unknown, of another shape or not finite; the message names it.
        """
        try:
            target, tensors = network.state_dict(), self._tensors_for(network)
        except ReidError as error:
            raise ReidError(f"{self.path} ({self.kind}) does not fit: {error}") from error
        optional = frozenset() if self.has_head else self._fresh(network, target)
        check_fit(target, tensors, optional, f"{self.path} ({self.kind})")
        check_finite(tensors, str(self.path))
        network.load_state_dict(tensors, strict=False)
        logger.info(
            "%s (%s%s): %d tensors loaded%s; left out: %s",
            self.path,
            self.kind,
            f", {self.num_ids} identities" if self.num_ids is not None else "",
            len(tensors),
            "" if self.has_head else " into the backbone, the head is fresh",
            _few(self.left_out),
        )

    def _fresh(self, network: nn.Module, target: Mapping[str, Tensor]) -> Set[str]:
        """The tensors that a file without a head may lack: of the head, and of layers that its network has not."""
        fresh = tuple(f"head.branches.{name}." for name in network.head.fresh_branches)  # type: ignore[union-attr]
        names = {
            name
            for name in target
            if name.startswith("head.") and (name.startswith(fresh) or not name.startswith("head.branches."))
        }
        if self.is_reid_model:  # a fresh linear layer would scramble the embeddings
            names -= {"head.linear.weight"}
        own_layers = backbone(self.architecture["name"]).own_layers if "name" in self.architecture else ""
        return names | {name for name in target if own_layers and f".{own_layers}" in name}

    def _tensors_for(self, network: nn.Module) -> Mapping[str, Tensor]:
        """The tensors, adapted by the backbone's record to the input size that the network was built for."""
        base = {name.removeprefix(BASE): tensor for name, tensor in self.state.items() if name.startswith(BASE)}
        head = {name: tensor for name, tensor in self.state.items() if not name.startswith(BASE)}
        target: nn.Module = network.backbone.base  # type: ignore[union-attr, assignment]
        record = backbone(self.architecture["name"]) if "name" in self.architecture else None
        if record is not None and not record.known_by_tensors:
            base = _stripped(base, target.state_dict().keys(), record.classifiers)
        if record is not None and record.fit is not None:
            unused = self.left_out.keys() - base.keys() - target.state_dict().keys()
            classifiers = tuple(f"{module}." for module in record.classifiers)
            beside = {name: tensor for name, tensor in self.left_out.items() if name.startswith(classifiers)}
            fitted = record.fit(target, {**beside, **base})
            base = {name: tensor for name, tensor in fitted.items() if name not in unused}
        adopted: Mapping[str, Tensor] = network.head.adopt(  # type: ignore[union-attr, operator]
            {**{BASE + name: tensor for name, tensor in base.items()}, **head}
        )
        return adopted


def _few(names: Collection[str]) -> str:
    """All names, or, of many, the modules that they belong to."""
    return ", ".join(names) or "nothing" if len(names) <= _MANY else grouped(names)


def _stripped(base: Mapping[str, Tensor], own: Set[str], classifiers: Sequence[str]) -> dict[str, Tensor]:
    """The tensors without a prefix that all names have in common and the backbone's names ``own`` do not have."""
    names, stripped = dict(base), without_common_prefix(base)
    while stripped is not None and own.isdisjoint(names):
        names, stripped = stripped, without_common_prefix(stripped)
    prefixes = tuple(f"{module}." for module in classifiers)
    return {name: tensor for name, tensor in names.items() if name in own or not name.startswith(prefixes)}
