"""A synthetic data set: drawings of pedestrians in Market-1501 layout, for the demo and the tests."""

from datasets.synthetic.dataset import SPEC_FILE, draw_dataset
from datasets.synthetic.plan import SyntheticSpec

__all__ = ["SPEC_FILE", "SyntheticSpec", "draw_dataset"]
