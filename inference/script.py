"""What the scripts share: options, a run that stops cleanly, an extractor by the settings, images to disk."""

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from configs import SCHEMA
from configs.defaults import OLD_NAMES
from engine.cli import begin, build_parser
from engine.settings import Settings
from inference.choices import PRECISIONS
from inference.npy_writer import write_npy
from utils.command_line import exit_code
from utils.errors import ReidError
from utils.files import scratch_folder
from utils.images import is_image
from utils.log import setup_logging

if TYPE_CHECKING:  # a script understands its command line before it imports torch
    from inference.extract import Extractor
    from inference.gallery.store import Embeddings
    from inference.image_paths import ImagePaths

_SAME_KEY = 0.8  # similarity of a misspelled key of one word, such as OUTPUT_DRI


def build_options(description: str | None, *, folders: bool = True) -> argparse.ArgumentParser:
    """The options of all scripts and those that all scripts of this package share.

    Args:
        description: for ``--help``.
        folders: whether the script embeds folders of images.
    """
    parser = build_parser(description or "")
    if folders:
        subfolders = "embed images in folders of the folder too, however deep"
        parser.add_argument("--images_in_subfolders", action="store_true", help=subfolders)
        parser.add_argument("--strict", action="store_true", help="stop at the first unreadable image")
    precision = "of the backbone (default: auto, measured; 16 bits for a ResNet only, where they are faster)"
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=precision)
    engine = "torch (default; of an exported file: its own), onnxruntime, openvino, or auto: the fastest, measured"
    parser.add_argument("--engine", metavar="NAME", help=engine)
    return parser


def run_with_options(
    action: Callable[[Settings, argparse.Namespace], object],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    interruption: str = "stopped; results are written whole or not at all",
) -> int:
    """As :func:`engine.cli.run_script`, for a script with options of its own.

    Args:
        action: what the script does with its settings and its options.
        parser: from :func:`build_options`.
        argv: arguments without the program's name; None = those of the process.
        interruption: what the log says of a stop.
    """
    options = parser.parse_intermixed_args(argv)
    options.overrides = [*_pairs_after_lists(options), *options.overrides]
    setup_logging(every_process=True)  # each of torchrun's has images of its own, and names the unreadable ones

    return exit_code(lambda: action(begin(options), options), interruption)


def _pairs_after_lists(options: argparse.Namespace) -> list[str]:
    """Take the KEY VALUE pairs off the options of several words before them: ``--query a.jpg b.jpg KEY VALUE``."""
    pairs: list[str] = []
    for name, words in vars(options).items():
        if isinstance(words, list) and name != "overrides":
            end = next((place for place, word in enumerate(words) if _looks_like_key(word)), len(words))
            pairs += words[end:]
            del words[end:]
    return pairs


def _looks_like_key(word: object) -> bool:
    """Whether a word of the command line is a key, perhaps a misspelled one or a plugin's, and no file."""
    if not isinstance(word, str):
        return False
    if word in SCHEMA or word in OLD_NAMES:
        return True
    is_near = bool(difflib.get_close_matches(word, [key for key in SCHEMA if "." not in key], cutoff=_SAME_KEY))
    is_key = is_near or re.fullmatch(r"[A-Z][A-Z_]*\.[A-Z][A-Z_0-9]*", word) is not None
    return is_key and not is_image(word) and not os.path.lexists(word)


def extractor_for(settings: Settings, options: argparse.Namespace) -> "Extractor":
    """An extractor by the settings; TRAINER.ACCELERATOR, TEST.IMS_PER_BATCH and DATALOADER.NUM_WORKERS count too.

    Args:
        settings: of the script.
        options: of its command line, as :func:`build_options` defines them.

    Raises:
        ReidError: as :class:`inference.extract.Extractor`.
    """
    import torch

    from inference.exports.opened import open_model
    from inference.extract import Extractor

    cfg = settings.cfg
    device: str = cfg.TRAINER.ACCELERATOR
    if device != "cpu" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
        # Otherwise code that names no device, e.g. the loader's pinning thread, takes memory of the first one.
        torch.cuda.set_device(device)
    workers = cfg.DATALOADER.NUM_WORKERS if settings.is_explicit("DATALOADER.NUM_WORKERS") else None
    return Extractor(open_model(settings), device, cfg.TEST.IMS_PER_BATCH, options.precision, workers, options.engine)


@contextmanager
def embed_to_disk(
    extractor: "Extractor", paths: "ImagePaths", folder: Path, *, strict: bool, cameras: bool = False
) -> Iterator["Embeddings"]:
    """Embed files; vectors and paths are memory maps that are removed at the end of the block.

    Args:
        extractor: the network.
        paths: of N images; unreadable ones are named in the log and left out.
        folder: where the temporary files lie; created.
        strict: an unreadable image is an error.
        cameras: the network is told the cameras in the names of the files.

    Raises:
        ReidError: if none of the images can be read, or one cannot under ``strict``, or the network does not know a
            camera.
    """
    from inference.gallery.store import Embeddings
    from inference.image_paths import write_paths

    places = extractor.cameras.of_files(paths) if cameras else None
    with scratch_folder(folder, ".embedded_") as scratch:
        rows = []
        vectors = scratch / "vectors.npy"
        with (
            write_npy(vectors) as file,
            closing(extractor.stream(paths, cameras=places, strict=strict)) as batches,
        ):
            for batch in batches:
                file.append(batch.vectors)
                rows.append(batch.rows)
        if not rows:
            raise ReidError(f"none of the {len(paths)} images could be read; see the messages above")
        names = write_paths(scratch / "paths.npy", paths, np.concatenate(rows))
        yield Embeddings(np.load(vectors, mmap_mode="r"), names)
