"""The commands of ``snu-reid``: name -> module.

The build of the wheel runs this file by itself: it imports nothing of ours.
"""

from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
        module: has ``main(argv)``.
        summary: for ``snu-reid --help``.
    """

    module: str
    summary: str


SCRIPTS = {
    "train": Command("train", "train the baseline: cross entropy, triplet and center loss"),
    "train-ctl": Command("train_ctl", "train with the centroid triplet loss on top"),
    "finetune-octuplet": Command("finetune_octuplet", "fine-tune a baseline for low resolution"),
    "finetune-octuplet-ctl": Command("finetune_octuplet_ctl", "fine-tune a model of train-ctl for low resolution"),
    "test": Command("test", "evaluate a checkpoint: mAP, CMC, mINP"),
    "makelr": Command("makelr", "write a low-resolution copy of a data set"),
    "embed": Command("inference.create_embeddings", "embed a folder of images: a gallery"),
    "search": Command("inference.get_similar", "search a gallery for images"),
    "infer": Command("inference.infer", "embed and search at once, with the accuracy"),
    "export": Command("inference.export", "write a model for other programs: ONNX, OpenVINO, ..."),
    "serve": Command("inference.serve", "answer searches of a gallery over HTTP"),
}
"""Their ``main`` returns the exit code."""

TOOLS = {
    "synthetic": Command("datasets.synthetic.__main__", "draw a small synthetic data set"),
    "convert": Command("datasets.convert.__main__", "make a data set from a release as it was downloaded"),
    "stats": Command("datasets.stats", "count and draw what a data set holds"),
    "compare": Command("evaluation.compare", "compare tests: intervals, seeds, differences; tables for papers"),
    "weights": Command("modelling.weights.__main__", "tell what a weight file is"),
    "configs": Command("configs.__main__", "list the keys of the configuration"),
}
"""Their ``main`` does the work."""

COMMANDS = SCRIPTS | TOOLS
