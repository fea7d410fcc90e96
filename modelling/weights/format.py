"""What a file format of another project is."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from datasets.preprocessing import Preprocessing

State = Mapping[str, Tensor]
"""Tensors by name."""


@dataclass(frozen=True)
class Format:
    """How one project names its tensors, and what they say about the network.

    The four functions of a file's tensors get them under the names of the file, without common prefixes.

    Attributes:
        kind: what such a file is, for messages.
        prefixes: a file of this format has, for each of these, a name that begins with it.
        condition: of the names in the order of the file: what else must hold.
        renames: beginning of a name there -> here; the first one that fits counts.
        left_out: beginnings of names that are not loaded.
        unused: of the file's tensors: more beginnings of names that are not loaded.
        classifiers: names of the classifier's weight, whose rows are the identities.
        architecture: of the file's tensors: what they decide, by lower-case key of MODEL (``name``, options of the
            backbone, ``head``, ``pooling``, ``embedding_dim``, ``retrieval_feature``); without ``name`` the tensors
            of a ResNet or OSNet tell it. None = the user decides. Of a plain backbone the name alone counts.
        images: of the file's tensors: the images of the training; None = the usual ones.
        adapt: changes the tensors under our names where renaming is not enough.
        plain: whether it is a backbone that was not trained on identities.
        imagenet_too: whether the project publishes its ImageNet weights under the same names.
        other_size: of the file's tensors: the other usual size, in words, if the tensors leave a choice.
    """

    kind: str
    prefixes: tuple[str, ...] = ()
    condition: Callable[[Sequence[str]], bool] = lambda _: True
    renames: Mapping[str, str] = field(default_factory=lambda: {"": "backbone.base."})
    left_out: tuple[str, ...] = ()
    unused: Callable[[State], tuple[str, ...]] = lambda _: ()
    classifiers: tuple[str, ...] = ()
    architecture: Callable[[State], Mapping[str, Any]] = lambda _: {}
    images: Callable[[State], Preprocessing] | None = None
    adapt: Callable[[State], State] = lambda state: state
    plain: bool = False
    imagenet_too: bool = False
    other_size: Callable[[State], str] = lambda _: ""

    def fits(self, names: Collection[str]) -> bool:
        """Whether a file with these tensors is of this format."""
        fit = all(any(name.startswith(prefix) for name in names) for prefix in self.prefixes)
        return fit and self.condition(list(names))

    def translate(self, tensors: State) -> tuple[State, State]:
        """The tensors under our names, and those that are left out, under theirs."""
        beginnings = self.left_out + self.unused(tensors)
        left_out = {name: tensor for name, tensor in tensors.items() if name.startswith(beginnings)}
        state = {self._rename(name): tensor for name, tensor in tensors.items() if name not in left_out}
        return self.adapt(state), left_out

    def _rename(self, name: str) -> str:
        """Our name of a tensor; a name that no rule fits stays, and loading will report it."""
        for theirs, ours in self.renames.items():
            if name.startswith(theirs):
                return ours + name[len(theirs) :]
        return name


def has(tensors: State, part: str) -> bool:
    """Whether the name of a tensor holds this text."""
    return any(part in name for name in tensors)


def plain_format(kind: str, name: str, classifiers: tuple[str, ...], prefix: str = "") -> Format:
    """The format of a backbone alone whose name is known.

    Args:
        kind: what it is, for messages.
        name: MODEL.NAME.
        classifiers: names of the classifying modules.
        prefix: beginning of the names of the backbone's tensors, if others lie beside them.
    """
    prefixes = tuple(f"{prefix}{module}." for module in classifiers)
    left_out = (*prefixes, "head.") if prefix else prefixes  # the head of self-supervised training
    renames = {prefix: "backbone.base."}
    return Format(kind, renames=renames, left_out=left_out, plain=True, architecture=lambda _: {"name": name})
