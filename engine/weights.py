"""Read the weights in MODEL.PRETRAIN_PATH, and fill a network with them."""

import logging
from collections.abc import Collection
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from datasets.preprocessing import Preprocessing
from engine.checkpoint import SECTION, Checkpoint, read_checkpoint
from engine.methods import Method
from engine.preprocessing import KEYS, preprocessing_of
from engine.settings import Settings
from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.weights.file import read_content, states
from modelling.weights.foreign import described, imagenet_weights, recognize
from modelling.weights.resemblance import resemblance
from modelling.weights.sources import find_weights
from modelling.weights.weights import Weights
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_EXPORTED = (".onnx", ".xml")  # endings of the files that inference/export.py writes


def read_weights(location: str | Path, model_name: str = "") -> Weights:
    """Read a weight file; its content decides its kind.

    Args:
        location: as for :func:`modelling.weights.sources.find_weights`.
        model_name: MODEL.NAME of the user, for tensors that do not identify their network.

    Raises:
        ReidError: if the file is missing, holds more than plain tensors, or is neither a checkpoint of ours nor of a
            known project.
    """
    if Path(location).suffix.lower() in _EXPORTED:
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be weights here, got {location}, an exported file, which embeds and searches "
            "only (inference/); take the checkpoint that it was exported from"
        )
    path, description = find_weights(str(location))
    content = read_content(path)
    if SECTION in content:
        return read_checkpoint(path, content)
    weights = recognize(content, path, str(description.get("architecture", model_name)))
    if weights is None:
        entries = next((tensors for _, tensors in states(content)), content)
        names = ", ".join(map(str, list(entries)[:4])) or "none"
        raise ReidError(
            f"MODEL.PRETRAIN_PATH must be a checkpoint of this framework or weights of a project it knows, "
            f"got {path}, which is neither (its first entries: {names}){resemblance(content)}; docs/model_zoo.md "
            "lists what opens, and of a backbone of timm, MODEL.NAME timm:NAME must tell the network"
        )
    return described(weights, description) if description else weights


def open_weights(settings: Settings) -> Weights | None:
    """The weights in MODEL.PRETRAIN_PATH, or None if it is empty.

    Raises:
        ReidError: if the file cannot be read.
    """
    model = settings.cfg.MODEL
    if not model.PRETRAIN_PATH:
        return None
    weights = read_weights(model.PRETRAIN_PATH, model.NAME)
    logger.info("MODEL.PRETRAIN_PATH %s: %s", weights.path, weights.kind)
    return weights


def initial_weights(settings: Settings, method: Method) -> Weights | None:
    """The weights that a training starts from, or None.

    Raises:
        ReidError: if fine-tuning has no trained model to start from.
    """
    weights = open_weights(settings)
    if method.fine_tunes and (weights is None or not weights.is_reid_model):
        kind = "none" if weights is None else weights.kind
        raise ReidError(f"fine-tuning needs MODEL.PRETRAIN_PATH, a trained model, got {kind}")
    return weights


def resumed_checkpoint(settings: Settings, method: Method, weights: Weights | None) -> Checkpoint | None:
    """The checkpoint whose run the training continues, or None for a new run.

    Raises:
        ReidError: if there is none, if another method wrote it, or if it holds weights alone.
    """
    if not settings.cfg.MODEL.RESUME_TRAINING:
        return None
    if not isinstance(weights, Checkpoint):
        kind = "none" if weights is None else f"{weights.kind} ({weights.path})"
        raise ReidError(f"MODEL.RESUME_TRAINING True needs MODEL.PRETRAIN_PATH, a checkpoint of a run, got {kind}")
    if weights.card.method != method.name:
        raise ReidError(
            f"{weights.path} comes from method {weights.card.method}, but this script trains {method.name}; "
            "resume with the script that wrote it, or set MODEL.RESUME_TRAINING False to start a new run from it"
        )
    if weights.lacking:
        raise ReidError(
            f"{weights.path} must hold what a resumption needs, but lacks {', '.join(weights.lacking)}; resume "
            "from a whole checkpoint, or set MODEL.RESUME_TRAINING False to start a new run from its weights"
        )
    return weights


def trained_weights(settings: Settings, purpose: str) -> tuple[CfgNode, Weights]:
    """The weights of a trained model and the configuration in which they are used.

    Args:
        settings: of the user.
        purpose: what needs the model, for the error message.

    Raises:
        ReidError: if there are none, if they are of a backbone alone, or if the settings contradict them.
    """
    weights = open_weights(settings)
    if weights is None or not weights.is_reid_model:
        content = "nothing" if weights is None else f"{weights.path}, which holds a {weights.kind}"
        raise ReidError(f"{purpose} needs MODEL.PRETRAIN_PATH, a trained model, got {content}")
    return settings.for_use(weights), weights


def initialize(network: ReidNetwork, cfg: CfgNode, weights: Weights | None) -> None:
    """Fill the network with the weights that the run starts from; MODEL.PRETRAINED True without any means ImageNet's.

    Raises:
        ReidError: if the weights do not fit, or cannot be fetched.
    """
    if weights is None and cfg.MODEL.PRETRAINED:
        weights = imagenet_weights(cfg.MODEL.NAME)
    if weights is None:
        return
    if not weights.is_reid_model:
        _compare_normalization(cfg, weights)
    weights.fill(network)
    if weights.is_reid_model:
        logger.info("%s", "; ".join(f"{row}: {text}" for row, text in usage(cfg, network).items()))


def usage(cfg: CfgNode, network: ReidNetwork) -> dict[str, str]:
    """In words, which images a network takes and which vector is compared."""
    feature = {"bn": "after", "raw": "before"}[cfg.MODEL.RETRIEVAL_FEATURE]
    return {
        "input": images_in_words(preprocessing_of(cfg)),
        "retrieval": f"{network.dim} components {feature} the batch normalization",
    }


def images_in_words(images: Preprocessing) -> str:
    """Size, interpolation, mean and deviation."""
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (images.mean, images.std))
    return f"{images.size[0]} x {images.size[1]} pixels, {images.interpolation}, mean {mean}, deviation {std}"


def initialize_objective(objective: nn.Module, weights: Weights | None, data: str) -> None:
    """Copy classifier and centers from a checkpoint of the same people; the log says which.

    Args:
        objective: of the run.
        weights: from which the run starts.
        data: digest of the run's training data.
    """
    if weights is None:
        return
    own = objective.state_dict()
    old = weights.objective if weights.data == data else {}
    fitting = {name: old[name] for name, tensor in own.items() if name in old and old[name].shape == tensor.shape}
    objective.load_state_dict(fitting, strict=False)
    for name in own:
        logger.info(
            "%s %s", name, "is that of the file" if name in fitting else "is re-initialized: identities differ"
        )


def warn_of_scale(weights: Weights, scales: Collection[int]) -> None:
    """Warn if the model was trained at none of the resolutions in use."""
    if not weights.scales & set(scales):
        low = max(weights.scales)
        logger.warning("the model was trained at x%d (--scale %d uses it there)", low, low)


def _compare_normalization(cfg: CfgNode, weights: Weights) -> None:
    """Warn if a backbone alone was trained on images with another normalization than the run has."""
    images = weights.original_images or backbone(cfg.MODEL.NAME).preprocessing
    origin = f"weights in {weights.path}" if weights.original_images else f"published weights of {cfg.MODEL.NAME}"
    for field, original, value in images.difference(preprocessing_of(cfg)):
        if field in ("mean", "std"):
            message = "the %s were trained with %s %s, got %s; set the former"
            logger.warning(message, origin, KEYS[field], list(original), list(value))
