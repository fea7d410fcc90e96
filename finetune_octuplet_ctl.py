"""Fine-tune a CTL model for low resolution with the octuplet loss; centroids are evaluated too.

python finetune_octuplet_ctl.py --scale 4 MODEL.PRETRAIN_PATH logs/market1501/resnet50/ctl/exp0/best.pth
"""

import sys
from collections.abc import Sequence

from engine.cli import train_script


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; return the exit code."""
    return train_script("octuplet_ctl", __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
