"""The keys of INPUT and the images that they describe, and what else vectors come from."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from configs.schema import flatten
from datasets.preprocessing import RESOLUTION, Preprocessing

KEYS = {
    "size": "INPUT.SIZE_TEST",
    "mean": "INPUT.PIXEL_MEAN",
    "std": "INPUT.PIXEL_STD",
    "interpolation": "INPUT.INTERPOLATION",
    "scale": "INPUT.SCALE",
    "antialias": "INPUT.LR_ANTIALIAS",
}
"""Field of :class:`Preprocessing` -> key; training images differ in INPUT.SIZE_TRAIN and in their scales."""


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of test images.

    Args:
        config: a tree, or values by dotted keys.
    """
    values = {name: config[key] if key in config else attrgetter(key)(config) for name, key in KEYS.items()}
    return Preprocessing.from_dict(values)


def keys_of(images: Preprocessing) -> dict[str, Any]:
    """The values by key of a network for such images, whatever the resolution."""
    values = {KEYS[name]: value for name, value in images.as_dict().items() if name not in RESOLUTION}
    return {"INPUT.SIZE_TRAIN": values[KEYS["size"]], **values}


def vectors_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides, beside the weights, which vectors are compared: values by key, in types of JSON.

    The resolution is not among them: each figure of a report has its own.

    Args:
        config: a tree, or values by dotted keys.
    """
    values = flatten(config)
    images = preprocessing_of(values).as_dict()
    own = {KEYS[name]: value for name, value in images.items() if name not in RESOLUTION}
    return {"MODEL.RETRIEVAL_FEATURE": values["MODEL.RETRIEVAL_FEATURE"], **own}
