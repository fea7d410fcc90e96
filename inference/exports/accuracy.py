"""What an export costs in accuracy: the mAP of data sets before and after it."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from yacs.config import CfgNode

from datasets.sample import ReidSplits
from engine.builders.data import camera_rule, evaluation_sets, read_test_data
from engine.model import TrainedModel
from engine.settings import Settings
from evaluation.protocols import EvaluationData
from evaluation.results import EvaluationProtocol
from inference.exports.opened import open_exported
from inference.extract import Extractor

logger = logging.getLogger(__name__)

LARGEST_LOSS = 0.5
"""Points of mAP beyond which a warning says so."""


class Accuracy(NamedTuple):
    """The mAP of one data set in percent.

    Attributes:
        dataset: its name.
        before: by torch in float32.
        after: by the exported file.
    """

    dataset: str
    before: float
    after: float

    def __str__(self) -> str:
        change = self.after - self.before
        return f"{self.dataset}: mAP {self.before:.2f} in torch, {self.after:.2f} by the file ({change:+.2f})"


def compare_accuracy(model: TrainedModel, path: Path, settings: Settings) -> list[Accuracy]:
    """Test a network and the file exported from it on the data sets that the user names; none if there are none.

    Args:
        model: the network.
        path: of the file.
        settings: DATASETS.NAMES or DATASETS.TEST_NAMES, TEST.IMS_PER_BATCH, TEST.CAMERA_RULE.

    Raises:
        ReidError: if a data set cannot be read.
    """
    if not (settings.is_explicit("DATASETS.NAMES") or settings.is_explicit("DATASETS.TEST_NAMES")):
        return []
    cfg, rows = settings.cfg, []
    for name in evaluation_sets(cfg):
        splits = read_test_data(cfg, name)
        logger.info("testing on %s before and after", splits.name)
        file = open_exported(path, settings)
        before, after = (
            _mean_ap(Extractor(source, "cpu", cfg.TEST.IMS_PER_BATCH, precision), cfg, splits)
            for source, precision in ((model, "fp32"), (file, "auto"))
        )
        rows.append(Accuracy(splits.name, before, after))
        if before - after > LARGEST_LOSS:
            logger.warning("%s: more than %s points of mAP are lost", splits.name, LARGEST_LOSS)
    return rows


def _mean_ap(extractor: Extractor, cfg: CfgNode, splits: ReidSplits) -> float:
    paths = [sample.path for sample in (*splits.query, *splits.gallery)]
    vectors = torch.from_numpy(extractor(paths, strict=True).vectors)
    data = EvaluationData({1: vectors}, splits.query, splits.gallery)
    protocol = EvaluationProtocol("instance", camera_rule=camera_rule(cfg, splits))
    return 100 * data.evaluate([protocol])[0].result.mAP
