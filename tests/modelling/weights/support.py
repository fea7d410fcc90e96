"""Files of other projects, made by the tests."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn, ones

from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights

FILE = Path("x.pth")
State = dict[str, Tensor]
Twin = Callable[[Weights], nn.Module]


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def centroids_reid(donor: nn.Module) -> State:
    return {
        **under("backbone.base.", donor.backbone.base.state_dict()),
        **donor.head.state_dict(),
        "fc_query.weight": ones(7, 4),
    }


def filled(content: Mapping[str, Any], twin_of: Twin, name: str = "") -> nn.Module:
    """The network of a file's content, filled by it."""
    weights = recognize(content, FILE, *([name] if name else []))
    assert weights is not None
    receiver = twin_of(weights)
    weights.fill(receiver)
    return receiver
