"""The head of LightMBN (Herzog et al., Lightweight Multi-Branch Network for Person Re-Identification, ICIP 2021)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from losses.parts import cut
from modelling.backbones.osnet import OmniScaleBlock, OSNetBackbone
from modelling.heads.head import Features, Head, into_branches
from modelling.heads.pooling import PoolingFactory
from utils.errors import ReidError

_WIDTH = 512  # of each part
_LINEAR_PARTS = 5
_CHANNEL_PARTS = 2
_DROPPED_ROWS = 0.33  # share of the map's rows
_COPIES = ("global", "partial", "channel")
# The layers that each branch has a copy of -> their names there.
_LAST_LAYERS = {"conv3.1.": "0.1.", "conv3.2.": "0.2.", "conv4.": "1.", "conv5.": "2."}


class MultiBranchHead(Head):
    """Three copies of the last layers of an OSNet give seven parts of 512 components.

    The parts are, in this order: the whole map by its mean; its maximum, for which training leaves out the rows of
    the highest activation; of the second copy the maximum and the means of the upper and the lower half; of the third
    one the means of each half of its channels, which share their linear layer.

    Args:
        backbone: an OSNet, whose last layers the head takes over.

    Raises:
        ReidError: if it is another network.
    """

    fresh_branches = ("bottleneck",)

    def __init__(self, backbone: nn.Module) -> None:
        if not isinstance(backbone, OSNetBackbone):
            raise ReidError("MODEL.HEAD lmbn needs an OSNet: set MODEL.NAME osnet_x1_0, or another MODEL.HEAD")
        count = _LINEAR_PARTS + _CHANNEL_PARTS
        super().__init__(*[_WIDTH] * count)
        self.identity_parts = self.metric_parts = cut(self.parts, [1 / count] * count)
        channels = backbone.out_channels
        base: Any = backbone.base
        last = nn.Sequential(base.conv3[1:], base.conv4, base.conv5)
        base.conv3 = base.conv3[:1]
        del base.conv4, base.conv5
        self.branches = nn.ModuleDict({name: copy.deepcopy(last) for name in _COPIES})
        self.branches["bottleneck"] = OmniScaleBlock(channels, channels)
        self.linears = nn.ModuleList(nn.Linear(channels, _WIDTH, bias=False) for _ in range(_LINEAR_PARTS))
        half = nn.Linear(channels // _CHANNEL_PARTS, _WIDTH, bias=False)
        self.shared = nn.Sequential(half, nn.BatchNorm1d(_WIDTH), nn.ReLU())
        self.bn = nn.BatchNorm1d(self.dim)
        self.bn.bias.requires_grad_(False)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, C, h, w) -> both embeddings, (N, 7 x 512); the vectors are computed in float32 also under autocast."""
        whole, partial, channel = (self.branches[name](feature_map) for name in _COPIES)  # type: ignore[index]
        whole = self.branches["bottleneck"](whole)  # type: ignore[index]
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            whole, partial, channel = whole.float(), partial.float(), channel.float()
            rows = functional.adaptive_avg_pool2d(partial, (2, 1))[..., 0]
            pooled = (
                *(whole.mean((2, 3)), self._without_top(whole).amax((2, 3))),
                *(partial.amax((2, 3)), rows[..., 0], rows[..., 1]),
            )
            halves = channel.mean((2, 3)).chunk(_CHANNEL_PARTS, dim=1)
            raw = torch.cat(
                [
                    *(linear(vectors) for linear, vectors in zip(self.linears, pooled, strict=True)),
                    *(self.shared(half) for half in halves),
                ],
                dim=1,
            )
            return Features(raw, self.bn(raw))

    def scaled(self, vectors: Tensor) -> Tensor:
        """Each part with length 1, as in the authors' evaluation: all weigh alike."""
        return functional.normalize(vectors.view(vectors.shape[0], len(self.parts), _WIDTH), dim=2).flatten(1)

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """All copies begin as the last layers of a whole OSNet."""
        return into_branches(state, _LAST_LAYERS, _COPIES)

    def _without_top(self, feature_map: Tensor) -> Tensor:
        """In training, the map with zeros in the rows where its strongest position is (Quispe and Pedrini, 2020)."""
        if not self.training:
            return feature_map
        strengths = feature_map.square().sum(1).amax(2)
        top = strengths.topk(round(_DROPPED_ROWS * strengths.shape[1]), dim=1).indices
        mask = torch.ones_like(strengths).scatter(1, top, 0.0)
        return feature_map * mask[:, None, :, None]


def multi_branch_head(backbone: nn.Module, pooling: PoolingFactory, dim: int) -> Head:  # noqa: ARG001 (see HeadFactory)
    """The head for an OSNet, which pools each part in its own way.

    Raises:
        ReidError: if the backbone is another network, or ``dim`` is not 0.
    """
    if dim:
        raise ReidError(f"MODEL.HEAD lmbn has 7 x {_WIDTH} components, got MODEL.EMBEDDING_DIM {dim}; leave it at 0")
    return MultiBranchHead(backbone)
