"""Filling a network, and the classifier and centers of its objective, with what a run starts from."""

import logging

from torch import Tensor, nn
from yacs.config import CfgNode

from engine import build
from engine.build.networks import compare_pixels
from engine.checkpoint import Checkpoint, Weights, load_extractor
from modelling.network import ReidNetwork

logger = logging.getLogger(__name__)

_OBJECTIVE = "objective."  # begins the names of a checkpoint's classifier and centers


def initialise(extractor: ReidNetwork, cfg: CfgNode, weights: Weights | None) -> None:
    """Fill the network with what the run starts from; random weights stay where that is nothing.

    Raises:
        ReidError: if the weights do not fit.
    """
    if isinstance(weights, Checkpoint):
        load_extractor(extractor, weights)
    elif foreign := weights or build.initial_weights(cfg):
        if not foreign.is_reid_model:
            compare_pixels(cfg)
        foreign.fill(extractor)


def initialise_objective(objective: nn.Module, weights: Weights | None, digest: str) -> None:
    """Take classifier and centers over from a checkpoint of the same people; the log says which.

    Args:
        objective: of the run.
        weights: what the run starts from.
        digest: of the run's training data.
    """
    own, given = objective.state_dict(), dict[str, Tensor]()
    if isinstance(weights, Checkpoint) and weights.card.data == digest:
        given = {name.removeprefix(_OBJECTIVE): tensor for name, tensor in weights.state.items()}
    fitting = {
        name: given[name] for name, tensor in own.items() if name in given and given[name].shape == tensor.shape
    }
    objective.load_state_dict(fitting, strict=False)
    for name in own if weights is not None else ():
        found = "is that of the file" if name in fitting else "starts anew: none of these people in the file"
        logger.info("%s %s", name, found)
