"""What may be given to the Extractor: one image, a folder, or a sequence."""

import os
from typing import cast

import numpy as np
from PIL import Image

from inference.image_files import list_images
from inference.image_source import ImageLike, ImageSequence
from utils.errors import ReidError

Images = ImageLike | ImageSequence


def as_sequence(images: Images, *, subfolders: bool = False) -> ImageSequence:
    """The images as something with a length and places; of a folder, with those in its folders if asked for.

    Raises:
        ReidError: for a path that does not exist, an empty folder, or something that is no sequence.
    """
    if isinstance(images, (str, os.PathLike)):
        if os.path.isdir(images):  # noqa: PTH112 (any path-like)
            return list_images(os.fspath(images), subfolders=subfolders).paths
        if not os.path.exists(images):  # noqa: PTH110
            raise ReidError(
                f"images must be a folder, a file or a sequence, but {images} does not exist; check the path"
            )
        return [images]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim < 4:
        return [np.asarray(images, np.uint8)]
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise ReidError(
            f"images must be a sequence of paths, PIL images or arrays, got a {type(images).__name__}; use list()"
        )
    return cast(ImageSequence, images)
