"""Train with the centroid triplet loss (CTL, Wieczorek et al. 2021) on top of the baseline.

python train_ctl.py --config_file configs/256_resnet50.yml --scale 4 DATASETS.NAMES market1501
python train_ctl.py MODEL.RESUME_TRAINING True MODEL.PRETRAIN_PATH logs/market1501/resnet50/ctl/exp0/20.pth
"""

import sys
from collections.abc import Sequence

from engine.cli import train_script


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    return train_script("ctl", __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
