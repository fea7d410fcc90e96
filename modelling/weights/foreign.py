"""Recognize the weights of other projects and of backbones alone by their tensors, and translate them to ours."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets.preprocessing import Preprocessing
from modelling.backbones import backbone
from modelling.weights.families import FORMATS, cion, torchreid
from modelling.weights.file import states
from modelling.weights.format import Format, has, plain_format
from modelling.weights.names import (
    network_name,
    with_our_osnet_names,
    without_common_prefix,
    without_wrappers,
)
from modelling.weights.weights import Weights
from utils.errors import ReidError
from utils.resolution import SMALLEST_SIDE

logger = logging.getLogger(__name__)

_FIRST_VERSION = "model_state_dict"  # only files of our first version have it
_SETTINGS = ("hyper_parameters", "hparams")  # where Lightning stores the settings of a run, by its version
_IMAGENET_CLASSES = 1000
_LARGEST_SIDE = 4096  # of an input in pixels; a larger one is a damaged number


def recognize(content: Mapping[str, Any], path: Path, model_name: str = "") -> Weights | None:
    """Recognize a file of another project.

    Args:
        content: of the file.
        path: of the file.
        model_name: MODEL.NAME of the configuration. A backbone alone whose tensors do not identify its network is
            read as this one.

    Returns:
        The weights in our terms, or None if the names belong to no known project.

    Raises:
        ReidError: if it is a ResNet of unknown depth, or ``model_name`` is unknown.
    """
    candidates = [(keys, without_wrappers(tensors)) for keys, tensors in states(content)]
    matches = [(keys, *match) for keys, tensors in candidates if (match := _recognize_format(tensors))]
    keys, layout, tensors = matches[0] if matches else ("", None, {})
    if candidates and model_name and (layout is None or layout.plain):
        record = backbone(model_name)
        if not record.known_by_tensors:
            keys, tensors = candidates[0]
            layout = _format_by_name(model_name, tensors, record.classifiers)
    if layout is None:
        return None
    if len(matches) > 1:
        logger.info("%s holds weights under %s: those of %s are taken", path, [match[0] for match in matches], keys)
    if layout.imagenet_too and _num_ids(layout, tensors) == _IMAGENET_CLASSES:
        layout = torchreid.IMAGENET
    return _translate(layout, tensors, content, path, model_name)


def _format_by_name(name: str, tensors: Mapping[str, Tensor], classifiers: tuple[str, ...]) -> Format:
    """The format of a file whose network only MODEL.NAME tells: trained on identities, a teacher, or plain."""
    if "bottleneck.weight" in tensors and has(tensors, "base."):
        return cion.of_named_network(name, classifiers)
    prefix = "backbone." if has(tensors, "backbone.") and has(tensors, "head.") else ""
    return plain_format(f"plain {name} backbone", name, classifiers, prefix)


def imagenet_weights(name: str) -> Weights:
    """The ImageNet weights of a backbone, from a cache or by download.

    Args:
        name: MODEL.NAME.

    Raises:
        ReidError: if there are none, or they cannot be fetched.
    """
    record = backbone(name)
    if record.weights is None:
        raise ReidError(
            f"MODEL.PRETRAINED True has no download for {name}: give a file of its weights as MODEL.PRETRAIN_PATH, "
            "or set MODEL.PRETRAINED False"
        )
    return _translate(plain_format("ImageNet weights", name, record.classifiers), record.weights(), {}, Path(name))


def described(weights: Weights, description: Mapping[str, Any]) -> Weights:
    """The weights with the images that roboflow's description of a folder names; it describes trained models only.

    Raises:
        ReidError: if the description has other values than an image may have.
    """
    images, usual = description.get("preprocessing", {}), weights.preprocessing or Preprocessing()
    values = images if isinstance(images, Mapping) else {}
    size = _numbers(values.get("input_size", list(usual.size)), 2, SMALLEST_SIDE)
    mean = _numbers(values.get("mean", list(usual.mean)), 3, 0.0)
    std = _numbers(values.get("std", list(usual.std)), 3, 1e-6)
    interpolation = values.get("interpolation", usual.interpolation)
    if not (size and mean and std) or interpolation not in ("bilinear", "bicubic"):
        raise ReidError(
            f"the preprocessing beside {weights.path} must have a size, mean, deviation and interpolation (bilinear "
            f"or bicubic), got {dict(values)}"
        )
    preprocessing = Preprocessing((int(size[0]), int(size[1])), (*mean,), (*std,), interpolation)
    architecture = dict(weights.architecture)
    if not weights.is_reid_model:  # it is the feature of the network that is compared
        architecture |= {"head": "bnneck", "pooling": "avg", "retrieval_feature": "raw"}
    return replace(weights, architecture=architecture, preprocessing=preprocessing, of_people=True)


def _recognize_format(tensors: Mapping[str, Tensor]) -> tuple[Format, Mapping[str, Tensor]] | None:
    """The first format that fits, and the tensors without the prefix that all of their names have in common there."""
    stripped: Mapping[str, Tensor] | None = tensors
    while stripped is not None:
        names = with_our_osnet_names(stripped)
        for layout in FORMATS:
            if layout.fits(names):
                return layout, names
        stripped = without_common_prefix(stripped)
    return None


def _num_ids(layout: Format, tensors: Mapping[str, Tensor]) -> int | None:
    weights = (tensors[name] for name in layout.classifiers if name in tensors)
    return next((len(weight) for weight in weights if weight.ndim), None)


def _translate(
    layout: Format, tensors: Mapping[str, Tensor], content: Mapping[str, Any], path: Path, model_name: str = ""
) -> Weights:
    state, left_out = layout.translate(tensors)
    num_ids = _num_ids(layout, tensors)
    try:
        architecture = dict(layout.architecture(tensors))
        name = architecture.pop("name", None) or network_name(state)
    except ReidError as error:
        raise ReidError(f"{path} ({layout.kind}) cannot be opened: {error}") from error
    preprocessing, original_images = None, None
    if num_ids is not None or any(name.startswith("head.") for name in state):
        architecture = {"head": "bnneck", "pooling": "avg", **architecture}
        architecture = {option: value for option, value in architecture.items() if value is not None}
        preprocessing = _read_preprocessing(layout, tensors, content)
    else:
        architecture, original_images = {}, layout.images(tensors) if layout.images else None
        if model_name and name and backbone(model_name).extends == name:
            name = model_name
    return Weights(
        path,
        "checkpoint of SNU_ReID" if _FIRST_VERSION in content else layout.kind,
        state,
        ({"name": name} if name else {}) | architecture,
        preprocessing,
        num_ids,
        left_out,
        original_images,
        "" if _read_size(content) else layout.other_size(tensors),
    )


def _read_preprocessing(layout: Format, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> Preprocessing:
    """From the settings (centroids-reid) or the tensors (fast-reid) of a file; the usual values for the rest."""
    mean, std = _read_numbers(content, "PIXEL_MEAN", 3, 0.0), _read_numbers(content, "PIXEL_STD", 3, 1e-6)
    if {"pixel_mean", "pixel_std"} <= tensors.keys():  # in [0, 255]
        channels = [(tensors[name].flatten()[:4].double() / 255).tolist() for name in ("pixel_mean", "pixel_std")]
        mean, std = _numbers(channels[0], 3, 0.0), _numbers(channels[1], 3, 1e-6)
    scale = content.get("scale") if _FIRST_VERSION in content else None
    usual = layout.images(tensors) if layout.images else Preprocessing()
    return Preprocessing(
        _read_size(content) or usual.size,
        mean or usual.mean,
        std or usual.std,
        usual.interpolation,
        scale if isinstance(scale, int) and scale > 1 else 1,
    )


def _read_size(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of test images, else of training images, from the settings in a file; None without any."""
    sizes = (_read_numbers(content, key, 2, SMALLEST_SIDE) for key in ("SIZE_TEST", "SIZE_TRAIN"))
    return next(((int(size[0]), int(size[1])) for size in sizes if size), None)


def _read_numbers(content: Mapping[str, Any], key: str, length: int, lowest: float) -> tuple[float, ...] | None:
    """The numbers of INPUT.{key}, nested or under a dotted name; None if they are missing or malformed."""
    for settings in (content[name] for name in _SETTINGS if isinstance(content.get(name), Mapping)):
        section = settings.get("INPUT")
        value = section.get(key) if isinstance(section, Mapping) else settings.get(f"INPUT.{key}")
        if (numbers := _numbers(value, length, lowest)) is not None:
            return numbers
    return None


def _numbers(value: object, length: int, lowest: float) -> tuple[float, ...] | None:
    """``length`` numbers that an image may have as its size or its colors; None if the value is anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != length:
        return None
    if not all(isinstance(number, (int, float)) and lowest <= number <= _LARGEST_SIDE for number in value):
        return None
    return tuple(float(number) for number in value)
