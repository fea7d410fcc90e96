"""The image ResNet-50 of CLIP (Radford et al., ICML 2021) as CLIP-ReID uses it (Li et al., AAAI 2023)."""

from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck, ResNet

from losses.parts import cut
from modelling.backbones.clip_vit import CLIP_IMAGES, with_grid
from modelling.backbones.record import Backbone

_CHANNELS, _HEAD_WIDTH, _PROJECTION = 2048, 64, 1024


class ClipResNetBackbone(nn.Module):
    """CLIP's ResNet-50 with a last stride of 1: the mean of its map, and the map pooled by attention.

    It differs from torchvision's in three convolutions as its stem and in average pools instead of strides.

    Args:
        input_size: height and width; the position embeddings of the attention are made for it.

    Attributes:
        out_channels: 2048 + 1024.
        parts: the losses of each.
        pooled: True, the map has one position.
        base: the network under the names of OpenAI.
    """

    pooled = True
    out_channels = _CHANNELS + _PROJECTION
    parts = cut((_CHANNELS, _PROJECTION), (1.0, 1.0))

    def __init__(self, input_size: tuple[int, int] = (256, 128)) -> None:
        super().__init__()
        base: ResNet = torchvision.models.resnet50(weights=None)
        del base.fc, base.avgpool
        base.conv1, base.bn1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)
        base.conv2, base.bn2 = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        base.conv3, base.bn3 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        base.maxpool = nn.AvgPool2d(2)
        for stage in (base.layer2, base.layer3):
            strided = stage[0]
            channels = strided.conv1.in_channels, strided.conv1.out_channels
            stage[0] = PooledBottleneck(*channels, downsample=strided.downsample)
        for stage in (base.layer2, base.layer3, base.layer4):
            stage[0].conv2.stride = stage[0].downsample[0].stride = (1, 1)
        # A side of n pixels has (n + 1) // 2 after the first convolution, and three times n // 2 follow.
        height, width = ((side + 1) // 16 for side in input_size)
        base.attnpool = AttentionPooling((height, width))
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3072, 1, 1)."""
        base = self.base
        features = images
        for conv, norm in ((base.conv1, base.bn1), (base.conv2, base.bn2), (base.conv3, base.bn3)):
            features = base.relu(norm(conv(features)))
        features = base.maxpool(features)
        feature_map = base.layer4(base.layer3(base.layer2(base.layer1(features))))
        pooled = torch.cat([feature_map.mean((2, 3)), base.attnpool(feature_map)], dim=1)
        return pooled[:, :, None, None]


class PooledBottleneck(Bottleneck):
    """A block of a ResNet that halves the sides of its map by an average pool."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H / 2, W / 2)."""
        hidden = self.relu(self.bn1(self.conv1(features)))
        hidden = F.avg_pool2d(self.relu(self.bn2(self.conv2(hidden))), 2)
        shortcut = self.downsample(F.avg_pool2d(features, 2))
        output: Tensor = self.relu(self.bn3(self.conv3(hidden)) + shortcut)
        return output


class AttentionPooling(nn.Module):
    """The mean of a map asks by attention for what it needs from the mean itself and from all positions.

    Args:
        grid: height and width of the map.

    Attributes:
        grid: as the argument.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.positional_embedding = nn.Parameter(torch.randn(1 + grid[0] * grid[1], _CHANNELS) / _CHANNELS**0.5)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(_CHANNELS, _CHANNELS) for _ in range(3))
        self.c_proj = nn.Linear(_CHANNELS, _PROJECTION)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, 2048, h, w) -> (N, 1024)."""
        positions = feature_map.flatten(2).mT
        tokens = torch.cat([positions.mean(1, keepdim=True), positions], dim=1) + self.positional_embedding
        layers = ((self.q_proj, tokens[:, :1]), (self.k_proj, tokens), (self.v_proj, tokens))
        query, key, value = (layer(part).unflatten(2, (-1, _HEAD_WIDTH)).transpose(1, 2) for layer, part in layers)
        features = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.c_proj(features.transpose(1, 2).flatten(1))
        return output


def _fit(base: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with position embeddings for the map of ``base``."""
    pool = base.get_submodule("attnpool")
    assert isinstance(pool, AttentionPooling)
    return with_grid(tensors, "attnpool.positional_embedding", pool.grid)


CLIP_RESNETS = {
    "clip_resnet50": Backbone(
        build=ClipResNetBackbone,
        preprocessing=CLIP_IMAGES,
        classifiers=(),
        fit=_fit,
        known_by_tensors=True,
        fixed_size=True,
    )
}
