"""What every head is and gives."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from losses.parts import cut
from modelling.heads.pooling import PoolingFactory

_BASE = "backbone.base."


class Features(NamedTuple):
    """The two embeddings of each image, float32.

    Attributes:
        raw: (N, D) before normalization; metric losses see this.
        bn: (N, D) after batch normalization; the classifier sees this.
    """

    raw: Tensor
    bn: Tensor


class Head(nn.Module):
    """From the output of a backbone to :class:`Features`.

    A subclass has a batch normalization ``bn`` over all D components.

    Args:
        *parts: number of components of each part of an embedding; the parts lie one after another.

    Attributes:
        parts: these numbers.
        dim: D, their sum.
        identity_parts: the parts that are classified alone; without more said all D components together.
        metric_parts: the parts that metric losses compare alone.
        branches: layers of the network that the head runs itself; they compute in the precision of the backbone.
        fresh_branches: names in ``branches`` of those that no backbone has weights for.
    """

    branches: nn.Module | None
    fresh_branches: tuple[str, ...] = ()

    def __init__(self, *parts: int) -> None:
        super().__init__()
        self.parts, self.dim = parts, sum(parts)
        self.identity_parts = self.metric_parts = cut([self.dim], [1.0])
        self.branches = None  # not of the class, where it would hide the module of that name

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of a whole backbone with those of the layers that the head took over under their names here."""
        return state

    def scaled(self, vectors: Tensor) -> Tensor:
        """The vectors (N, D) with the weight of each part in retrieval; here all parts weigh alike."""
        return vectors


def into_branches(
    state: Mapping[str, Tensor], places: Mapping[str, str], branches: Iterable[str]
) -> dict[str, Tensor]:
    """The tensors of a whole backbone, those of the layers that a head took over once for each branch.

    Args:
        state: under the names of a network.
        places: beginning of a name in the backbone -> in a branch.
        branches: names in ``branches`` of the head.
    """
    copies: dict[str, Tensor] = {}
    for name, tensor in state.items():
        inner = name.removeprefix(_BASE)
        start = next((place for place in places if inner.startswith(place)), None) if inner != name else None
        if start is None:
            copies[name] = tensor
        else:
            copies |= {f"head.branches.{key}.{places[start]}{inner.removeprefix(start)}": tensor for key in branches}
    return copies


HeadFactory = Callable[[nn.Module, PoolingFactory, int], Head]
"""``head(backbone, pooling, dim)`` makes a head for the output of the backbone.

It may take the last layers off the backbone and run them itself. ``pooling`` makes one pooling, and ``dim`` is
MODEL.EMBEDDING_DIM, 0 where the head decides the number of components.
"""


def of_map(head: Callable[[int, PoolingFactory, int], Head]) -> HeadFactory:
    """The factory of a head that knows of its backbone only the number of channels of its map.

    A backbone whose channels are several vectors side by side has ``parts``, the losses of each of them.
    """

    def make(backbone: nn.Module, pooling: PoolingFactory, dim: int) -> Head:
        made = head(int(backbone.out_channels), pooling, dim)  # type: ignore[arg-type]
        if not dim and (parts := getattr(backbone, "parts", None)):
            made.identity_parts = made.metric_parts = parts
        return made

    return make
