"""From keys to low-resolution files, and to the sizes in pixels that a scale stands for."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from datasets.low_resolution import LowResolutionFiles, find_low_resolution_files, usual_size
from datasets.sample import ReidSplits
from evaluation.results import EvaluationProtocol, Resolution
from utils.errors import ReidError
from utils.resolution import low_resolution_size


def build_low_resolution(
    cfg: CfgNode, splits: ReidSplits, train_scales: Sequence[int], test_scales: Sequence[int]
) -> LowResolutionFiles:
    """The low-resolution files where DATASETS.LR_SOURCE is disk, else none.

    Raises:
        ReidError: if a folder or a file is missing, or a key asks for what files cannot give.
    """
    if cfg.DATASETS.LR_SOURCE == "online":
        return LowResolutionFiles()
    if not cfg.INPUT.LR_ANTIALIAS:
        raise ReidError(
            "INPUT.LR_ANTIALIAS False acts on DATASETS.LR_SOURCE online only, got disk: the files of makelr.py are "
            "low-passed; set one of them back"
        )
    return find_low_resolution_files(splits, train_scales, test_scales)


def resolutions(
    files: Mapping[int, Sequence[Path]], scales: Iterable[int], size: Sequence[int]
) -> tuple[Resolution, ...]:
    """What each scale leaves of an image.

    Args:
        files: low-resolution files of the images that are meant, by scale: ``train`` or ``test`` of
            :class:`datasets.low_resolution.LowResolutionFiles`.
        scales: scales in use.
        size: height and width of the network's input, pixels.
    """
    found = []
    for scale in sorted(set(scales)):
        if scale in files:
            found.append(Resolution(scale, *usual_size(files[scale]), "disk"))
        else:
            found.append(Resolution(scale, *low_resolution_size(size[0], size[1], scale), "online"))
    return tuple(found)


def scales_of(protocols: Iterable[EvaluationProtocol]) -> list[int]:
    """The resolutions at which the images of an evaluation are embedded."""
    return sorted({scale for protocol in protocols for scale in protocol.scales})
