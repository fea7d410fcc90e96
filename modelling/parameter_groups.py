"""Which parameters learn at which rate, and which ones decay."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from modelling.network import ReidNetwork
from utils.errors import ReidError

RATE = "rate_factor"
"""Key of a group: the factor on the rate of the schedule."""

# The blocks of a network, in the order of their parameters, and what lies before them; all else lies behind them.
_BLOCK = re.compile(r"backbone\.base\.((?:\w+\.)?(?:blocks|resblocks|stages|layer\d|conv\d)\.\d+(?:\.\d+(?=\.))?)\.")
_STEM = re.compile(
    r"backbone\.base\.(?:\w*(?:embed|token|position)\w*|conv\d|bn\d|conv_stem|stem|ln_pre|part\d_pos|cls_pos)\b"
)


@dataclass(frozen=True)
class GroupRules:
    """How the parameters of a network differ.

    Attributes:
        bias_factor: on the rate of biases.
        decays_vectors: whether biases and the weights of normalizations decay; matrices and kernels always do.
        layer_decay: factor on the rate for each layer that lies below another (Clark et al.: ELECTRA, ICLR 2020); the
            last layer of the backbone, the head and the classifier have the full rate.
    """

    bias_factor: float = 1.0
    decays_vectors: bool = True
    layer_decay: float = 1.0


def parameter_groups(
    network: ReidNetwork, others: Iterable[nn.Parameter], weight_decay: float, rules: GroupRules
) -> list[dict[str, Any]]:
    """The groups of an optimizer, each with ``params``, ``weight_decay`` and :data:`RATE`.

    Parameters that need no gradient are left out. Without any rule there is one group.

    Args:
        network: of the run.
        others: further parameters, those of a classifier.
        weight_decay: of all that decays.
        rules: the differences.

    Raises:
        ReidError: for a layer decay where the network has no blocks.
    """
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    factors = _layer_factors(parameters, rules.layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        is_bias = name.rpartition(".")[2].endswith("bias")
        decay = weight_decay if rules.decays_vectors or parameter.ndim > 1 else 0.0
        groups.setdefault((factors[name] * (rules.bias_factor if is_bias else 1.0), decay), []).append(parameter)
    groups.setdefault((1.0, weight_decay), []).extend(other for other in others if other.requires_grad)
    return [
        {"params": members, "weight_decay": decay, RATE: factor}
        for (factor, decay), members in groups.items()
        if members
    ]


def _layer_factors(parameters: Mapping[str, Tensor], layer_decay: float) -> dict[str, float]:
    """The factor of each parameter: 1 for the last block of the backbone and for what follows it."""
    blocks = {name: match[1] for name in parameters if (match := _BLOCK.match(name))}
    order = {block: position for position, block in enumerate(dict.fromkeys(blocks.values()), start=1)}
    if layer_decay != 1.0 and not order:
        raise ReidError(
            f"SOLVER.LAYER_DECAY {layer_decay:g} needs a network of numbered blocks (ResNet, OSNet, ViT, Swin), "
            "and this one has none; set it to 1"
        )
    before = itertools.takewhile(lambda name: name not in blocks, parameters)
    depth = {name: 0 for name in before if _STEM.match(name)} | {name: order[block] for name, block in blocks.items()}
    return {name: layer_decay ** (len(order) - depth.get(name, len(order))) for name in parameters}
