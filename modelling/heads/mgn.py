"""The head of the multiple granularity network, MGN (Wang et al., ACM MM 2018), as fast-reid and LUPerson have it."""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from losses.parts import cut
from modelling.backbones.resnet import ResNetBackbone, keep_resolution
from modelling.heads.head import Features, Head, into_branches
from modelling.heads.pooling import PoolingFactory
from utils.errors import ReidError

_STRIPES = (1, 2, 3)  # of the map of each branch
_DIM = 256


class MultipleGranularityHead(Head):
    """Three branches, which see the whole body, its halves and its thirds.

    The head takes the third stage without its first block and the fourth stage off the backbone, and makes a copy of
    them for each branch. Each branch gives an embedding of its whole map, the second and the third also one of each
    stripe. The embedding is all eight, the whole maps first. The branches with stripes keep the resolution; the last
    stride of the backbone counts for the first branch.

    Args:
        backbone: a ResNet.
        pooling: makes the pooling of each part.
        dim: components of each part; 0 = 256.
        extra_norm: whether a normalization follows each branch (LUPerson).
        relu: whether a normalization and a ReLU follow the linear layer of each part (fast-reid v0.1).

    Raises:
        ReidError: if the backbone is another network.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pooling: PoolingFactory,
        dim: int = 0,
        *,
        extra_norm: bool = False,
        relu: bool = False,
    ) -> None:
        num_parts = sum(_STRIPES) + len(_STRIPES) - 1  # the first map is its only stripe
        super().__init__(*[dim or _DIM] * num_parts)
        width, stripes = self.parts[0], _STRIPES[1:]
        self.identity_parts = cut(self.parts, [1 / num_parts] * num_parts)
        widths = [width] * len(_STRIPES) + [width * count for count in stripes]  # the stripes of a branch together
        self.metric_parts = cut(widths, [1 / len(widths)] * len(widths))
        if not isinstance(backbone, ResNetBackbone):
            raise ReidError("MODEL.HEAD mgn needs a ResNet: set MODEL.NAME resnet50, or another MODEL.HEAD")
        channels = backbone.out_channels
        self.branches = nn.ModuleList(_take_branches(backbone))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) if extra_norm else nn.Identity() for _ in _STRIPES)
        self.pools = nn.ModuleList(pooling() for _ in self.parts)
        self.linears = nn.ModuleList(_linear(channels, part, relu=relu) for part in self.parts)
        self.bn = nn.BatchNorm1d(self.dim)
        self.bn.bias.requires_grad_(False)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, C, H, W) of the first block of the third stage -> both embeddings, (N, 8 * ``dim``).

        Raises:
            ValueError: if the map has fewer rows than stripes.
        """
        maps = [branch(feature_map) for branch in self.branches]  # type: ignore[union-attr]
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            maps = [norm(whole.float()) for norm, whole in zip(self.norms, maps, strict=True)]
            areas = maps + [
                stripe for whole, count in zip(maps[1:], _STRIPES[1:], strict=True) for stripe in _cut(whole, count)
            ]
            parts = zip(areas, self.pools, self.linears, strict=True)
            raw = torch.cat([linear(pool(area)) for area, pool, linear in parts], dim=1)
            return Features(raw, self.bn(raw))

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Each branch begins as the last layers of a backbone."""
        blocks = self.branches[0].get_submodule("layer3").named_children()  # type: ignore[index]
        starts = ("layer4.", *(f"layer3.{name}." for name, _ in blocks))
        return into_branches(
            state, dict(zip(starts, starts, strict=True)), [str(number) for number in range(len(_STRIPES))]
        )


def _take_branches(backbone: ResNetBackbone) -> list[nn.Sequential]:
    """The layers of each branch, under their names in the backbone."""
    base: Any = backbone.base
    first, *blocks = base.layer3.named_children()
    rest = OrderedDict(layer3=nn.Sequential(OrderedDict(blocks)), layer4=base.layer4)
    base.layer3, base.layer4 = nn.Sequential(OrderedDict([first])), nn.Identity()
    backbone.out_channels = first[1].downsample[0].out_channels
    branches = [copy.deepcopy(nn.Sequential(rest)) for _ in _STRIPES]
    for branch in branches[1:]:
        keep_resolution(branch.get_submodule("layer4"))
    return branches


def _linear(channels: int, dim: int, *, relu: bool) -> nn.Module:
    linear = nn.Linear(channels, dim, bias=False)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="linear")
    return nn.Sequential(linear, nn.BatchNorm1d(dim), nn.ReLU()) if relu else linear


def _cut(whole: Tensor, count: int) -> tuple[Tensor, ...]:
    """Stripes of equal height from the top; the last one is lower where the height is not a multiple of their number.

    Raises:
        ValueError: if the map has fewer rows.
    """
    height = whole.shape[2]
    if height < count:
        raise ValueError(f"the head cuts {count} stripes, but the map has {height} rows")
    stripes = whole.chunk(count, dim=2)
    return stripes if len(stripes) == count else whole.tensor_split(count, dim=2)
