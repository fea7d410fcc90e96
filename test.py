"""Evaluate a checkpoint: mAP, mINP and top-k of a data set, on the console and in report.json.

python test.py DATASETS.NAMES market1501 MODEL.PRETRAIN_PATH logs/market1501/resnet50/baseline/exp0/best.pth
"""

import sys
from collections.abc import Sequence

from engine.cli import evaluation_script


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; return the exit code."""
    return evaluation_script(__doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
