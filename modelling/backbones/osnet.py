"""OSNet, a small network of several receptive fields per block (Zhou et al., ICCV 2019).

Its variants with instance normalization are of Zhou et al., Learning Generalisable Omni-Scale Representations
for Person Re-Identification, TPAMI 2021.
"""

from collections import OrderedDict
from functools import partial
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn

from modelling.backbones.record import Backbone
from utils.errors import ReidError, lookup

# What a block instance-normalizes: nothing, the sum with the shortcut, or the residual alone.
Normalization = Literal["none", "after", "residual"]

_CHANNELS = {
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
_PLAIN: tuple[Normalization, ...] = ("none",) * 6
_IBN: tuple[Normalization, ...] = ("after", "after", "none", "none", "none", "none")
# The placement that the authors' architecture search found.
_AIN: tuple[Normalization, ...] = ("residual", "residual", "none", "residual", "residual", "none")

_VARIANTS = {f"osnet_{width}": (channels, _PLAIN) for width, channels in _CHANNELS.items()}
_VARIANTS["osnet_ibn_x1_0"] = (_CHANNELS["x1_0"], _IBN)
_VARIANTS |= {f"osnet_ain_{width}": (channels, _AIN) for width, channels in _CHANNELS.items()}

_BOTTLENECK = 4  # a block works on a quarter of its output channels
_GATE_REDUCTION = 16


class OSNetBackbone(nn.Module):
    """OSNet up to its last feature map.

    Args:
        name: one of :data:`OSNETS`.
        input_size: height and width; an OSNet takes any and ignores it.

    Attributes:
        out_channels: of the feature map.
        base: the stages under the names that published weights use.

    Raises:
        ReidError: for an unknown name.
    """

    def __init__(
        self,
        name: str,
        input_size: tuple[int, int] = (256, 128),  # noqa: ARG002 (every network gets it)
    ) -> None:
        super().__init__()
        (stem, *stages), places = lookup(_VARIANTS, name, "an OSNet")
        self.out_channels = stages[-1]
        stem_norm = nn.BatchNorm2d(stem) if places[0] == "none" else nn.InstanceNorm2d(stem, affine=True)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        modules["conv1"] = _conv_bn(3, stem, kernel=7, stride=2, norm=stem_norm)
        modules["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        before = stem
        for index, channels in enumerate(stages):
            blocks: list[nn.Module] = [
                OmniScaleBlock(before, channels, places[2 * index]),
                OmniScaleBlock(channels, channels, places[2 * index + 1]),
            ]
            if index < len(stages) - 1:
                blocks.append(nn.Sequential(_conv_bn(channels, channels), nn.AvgPool2d(2)))
            modules[f"conv{index + 2}"] = nn.Sequential(*blocks)
            before = channels
        modules["conv5"] = _conv_bn(before, before)
        self.base = nn.Sequential(modules)
        self.base.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, H / 16, W / 16)."""
        feature_map: Tensor = self.base(images)
        return feature_map


class OmniScaleBlock(nn.Module):
    """Four streams of one to four light 3 x 3 convolutions, which share one gate and are added.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        normalization: where the block instance-normalizes.
    """

    def __init__(self, in_channels: int, out_channels: int, normalization: Normalization = "none") -> None:
        super().__init__()
        middle = out_channels // _BOTTLENECK
        self._normalization = normalization
        self.conv1 = _conv_bn(in_channels, middle)
        self.conv2a = _light_conv(middle)
        self.conv2b, self.conv2c, self.conv2d = (
            nn.Sequential(*(_light_conv(middle) for _ in range(depth))) for depth in (2, 3, 4)
        )
        self.gate = ChannelGate(middle)
        inside = nn.Identity() if normalization == "residual" else nn.BatchNorm2d(out_channels)
        self.conv3 = _conv_bn(middle, out_channels, relu=False, norm=inside)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.downsample = _conv_bn(in_channels, out_channels, relu=False)
        if normalization != "none":
            self.IN = nn.InstanceNorm2d(out_channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """(N, ``in_channels``, H, W) -> (N, ``out_channels``, H, W)."""
        bottleneck = self.conv1(features)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        residual = self.conv3(torch.stack([self.gate(stream(bottleneck)) for stream in streams]).sum(0))
        if self._normalization == "residual":
            residual = self.IN(residual)
        total: Tensor = residual + self.downsample(features)
        if self._normalization == "after":
            total = self.IN(total)
        return total.relu()


class ChannelGate(nn.Module):
    """Weight each channel by a function of the means of all channels.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // _GATE_REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        hidden = self.fc1(features.mean((2, 3), keepdim=True)).relu()
        weights: Tensor = self.fc2(hidden).sigmoid()
        return features * weights


def _conv_bn(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    relu: bool = True,
    norm: nn.Module | None = None,
) -> nn.Sequential:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    modules["bn"] = norm or nn.BatchNorm2d(outputs)
    if relu:
        modules["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(modules)


def _light_conv(channels: int) -> nn.Sequential:
    # Pointwise, then depthwise, with nothing in between.
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules["conv1"] = nn.Conv2d(channels, channels, 1, bias=False)
    modules["conv2"] = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    modules["bn"] = nn.BatchNorm2d(channels)
    modules["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(modules)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _refuse_download(name: str) -> NoReturn:
    raise ReidError(
        f"MODEL.PRETRAINED True has no download for {name}: give torchreid's {name}_imagenet.pth as "
        "MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
    )


OSNETS: dict[str, Backbone] = {
    name: Backbone(
        build=partial(OSNetBackbone, name),
        weights=partial(_refuse_download, name),
        classifiers=("fc", "classifier"),
        known_by_tensors=True,
    )
    for name in _VARIANTS
}
