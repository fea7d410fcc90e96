"""Recognize the weights of other projects and of backbones alone by their tensors, and translate them to ours."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from modelling.backbones import backbone
from modelling.weights.formats import FORMATS, IMAGENET_FORMAT, Format, plain_format
from modelling.weights.names import network_name, with_our_osnet_names
from modelling.weights.weights import Weights
from utils.errors import ReidError
from utils.resolution import SMALLEST_SIDE

logger = logging.getLogger(__name__)

# The keys under which files store their tensors: torchreid and Lightning, our first version, fast-reid.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_FIRST_VERSION = "model_state_dict"  # only files of our first version have it
_SETTINGS = ("hyper_parameters", "hparams")  # where Lightning stores the settings of a run, by its version
_IMAGENET_CLASSES = 1000


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
    tensors = _tensors(content)
    if not tensors:
        return None
    tensors = with_our_osnet_names(tensors)
    layout = next((layout for layout in FORMATS if layout.fits(tensors)), None)
    if model_name and (layout is None or layout.plain):
        record = backbone(model_name)
        if not record.known_by_tensors:
            layout = plain_format(f"plain {model_name} backbone", model_name, record.classifiers)
    if layout is None:
        return None
    if layout.imagenet_too and _num_ids(layout, tensors) == _IMAGENET_CLASSES:
        layout = IMAGENET_FORMAT
    return _translate(layout, tensors, content, path)


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


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file by name; empty if anything else stands in their place."""
    inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if not all(isinstance(value, Tensor) for value in inner.values()):
        return {}
    return {name.removeprefix("module."): tensor for name, tensor in inner.items()}


def _num_ids(layout: Format, tensors: Mapping[str, Tensor]) -> int | None:
    return next((len(tensors[name]) for name in layout.classifiers if name in tensors), None)


def _translate(layout: Format, tensors: Mapping[str, Tensor], content: Mapping[str, Any], path: Path) -> Weights:
    left_out = {name: tensor for name, tensor in tensors.items() if name.startswith(layout.left_out)}
    state = {layout.rename(name): tensor for name, tensor in tensors.items() if name not in left_out}
    name, num_ids = layout.backbone_name or network_name(state), _num_ids(layout, tensors)
    has_ibn = any(".IN." in inner for inner in state)
    architecture: dict[str, Any] = {"name": name}
    preprocessing = None
    if num_ids is not None:
        options = {
            "last_stride": layout.last_stride,
            "stem_relu": has_ibn or not layout.bare_stem,
            "stem_pool": layout.stem_pool,
        }
        takes = backbone(name).options if name else ()
        architecture |= {option: value for option, value in options.items() if option in takes}
        architecture |= {"head": layout.head, "pooling": "gem" if "head.pool.p" in state else "avg"}
        preprocessing = _read_preprocessing(layout, tensors, content)
    return Weights(
        path,
        "checkpoint of SNU_ReID" if _FIRST_VERSION in content else layout.kind,
        state,
        {option: value for option, value in architecture.items() if value is not None},
        preprocessing,
        num_ids,
        left_out,
        layout.ibn_sizes_vary and has_ibn and _read_size(content) is None,
    )


def _read_preprocessing(layout: Format, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> Preprocessing:
    """From the settings (centroids-reid) or the tensors (fast-reid) of a file; the usual values for the rest."""
    mean, std = _read_numbers(content, "PIXEL_MEAN", 3, 0.0), _read_numbers(content, "PIXEL_STD", 3, 1e-6)
    if {"pixel_mean", "pixel_std"} <= tensors.keys():  # in [0, 255]
        mean, std = (tuple((tensors[name].flatten().double() / 255).tolist()) for name in ("pixel_mean", "pixel_std"))
    scale = content.get("scale") if _FIRST_VERSION in content else None
    return Preprocessing(
        _read_size(content) or Preprocessing().size,
        mean or IMAGENET_MEAN,
        std or IMAGENET_STD,
        layout.interpolation,
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
        if not isinstance(value, (list, tuple)) or len(value) != length:
            continue
        if all(isinstance(number, (int, float)) and number >= lowest for number in value):
            return tuple(float(number) for number in value)
    return None
