"""Heads: from the output of a backbone to the embeddings of each image.

A head is a class and a line in :data:`HEADS`, a pooling a class and a line in :data:`POOLINGS`.
"""

from functools import partial

from modelling.heads.head import Features, Head, HeadFactory, of_map
from modelling.heads.jigsaw import JigsawHead, jigsaw_head
from modelling.heads.mgn import MultipleGranularityHead
from modelling.heads.multi_branch import MultiBranchHead, multi_branch_head
from modelling.heads.necks import BNNeck, ProjectionHead, ReductionNeck
from modelling.heads.pooling import POOLINGS, AveragePooling, GeneralizedMeanPooling, MaxPooling, PoolingFactory

__all__ = [
    "HEADS",
    "POOLINGS",
    "AveragePooling",
    "BNNeck",
    "Features",
    "GeneralizedMeanPooling",
    "Head",
    "HeadFactory",
    "JigsawHead",
    "MaxPooling",
    "MultiBranchHead",
    "MultipleGranularityHead",
    "PoolingFactory",
    "ProjectionHead",
    "ReductionNeck",
    "of_map",
]

HEADS: dict[str, HeadFactory] = {
    "bnneck": of_map(BNNeck),
    "projection": of_map(ProjectionHead),
    "reduction": of_map(ReductionNeck),
    "jpm": jigsaw_head,
    "mgn": MultipleGranularityHead,
    "mgn_norm": partial(MultipleGranularityHead, extra_norm=True),
    "mgn_relu": partial(MultipleGranularityHead, relu=True),
    "lmbn": multi_branch_head,
}
"""MODEL.HEAD -> what makes the head."""
