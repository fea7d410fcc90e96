"""ResNets of torchvision (He et al., CVPR 2016), their IBN-a variants (Pan et al., ECCV 2018), and non-local ones."""

from functools import partial
from typing import Literal
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torch.hub import get_dir, load_state_dict_from_url
from torchvision.models.resnet import ResNet

from modelling.backbones.non_local import MARK, add_non_local
from modelling.backbones.record import Backbone
from utils.errors import ReidError

_IBN_WEIGHTS = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/"
_IBN_FILES = {
    "resnet18_ibn_a": _IBN_WEIGHTS + "resnet18_ibn_a-2f571257.pth",
    "resnet34_ibn_a": _IBN_WEIGHTS + "resnet34_ibn_a-94bc1577.pth",
    "resnet50_ibn_a": _IBN_WEIGHTS + "resnet50_ibn_a-d9d0bb7b.pth",
    "resnet101_ibn_a": _IBN_WEIGHTS + "resnet101_ibn_a-59ea0ac6.pth",
}
_NON_LOCAL = "_nl"
# Depth -> blocks of a stage, from its end, that a non-local block follows.
_NON_LOCAL_BLOCKS = {"resnet50": {"layer2": 2, "layer3": 3}, "resnet101": {"layer2": 2, "layer3": 9}}
_WITHOUT_FILE = "resnet152_ibn_a"  # only CION trained it


class ResNetBackbone(nn.Module):
    """A ResNet up to its last feature map.

    Args:
        name: one of :data:`RESNETS`.
        input_size: height and width; a ResNet takes any and ignores it.
        last_stride: of the last stage, 1 or 2; 1 keeps twice the resolution (Luo et al., CVPRW 2019).
        stem_relu: False leaves out the ReLU after the first normalization, like the networks behind the
            checkpoints of the original code, centroids-reid and reid-strong-baseline.
        stem_pool: where the windows of the stem's maximum pooling begin: ``padded`` (torchvision) one pixel outside
            the map, ``ceil`` (fast-reid) on it. With the wrong choice the maps are off by one pixel.

    Attributes:
        out_channels: of the feature map.
        base: torchvision's network without its classifier.
    """

    def __init__(
        self,
        name: str,
        input_size: tuple[int, int] = (256, 128),  # noqa: ARG002 (every network gets it)
        *,
        last_stride: int = 1,
        stem_relu: bool = True,
        stem_pool: Literal["padded", "ceil"] = "padded",
    ) -> None:
        super().__init__()
        plain = name.removesuffix(_NON_LOCAL).removesuffix("_ibn_a")
        base: ResNet = torchvision.models.get_model(plain, weights=None)
        self.out_channels = int(base.fc.in_features)
        del base.fc, base.avgpool
        if "_ibn_a" in name:
            _use_ibn(base)
        if last_stride == 1:
            keep_resolution(base.layer4)
        if not stem_relu:
            base.relu = nn.Identity()
        if stem_pool == "ceil":
            base.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        if name.endswith(_NON_LOCAL):
            add_non_local(base, _NON_LOCAL_BLOCKS[plain])
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, H / 16, W / 16), or / 32 with a last stride of 2."""
        base = self.base
        features = base.maxpool(base.relu(base.bn1(base.conv1(images))))
        feature_map: Tensor = base.layer4(base.layer3(base.layer2(base.layer1(features))))
        return feature_map


class InstanceBatchNorm(nn.Module):
    """IBN-a: instance-normalize the first half of the channels and batch-normalize the rest.

    Args:
        channels: of the input; the first ``channels // 2`` are instance-normalized.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._half = channels // 2
        # These are the names of the original networks, so their ImageNet weights load.
        self.IN = nn.InstanceNorm2d(self._half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self._half)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        instance, batch = features[:, : self._half], features[:, self._half :]
        return torch.cat([self.IN(instance.contiguous()), self.BN(batch.contiguous())], dim=1)


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights by tensor name, from torch's cache or by download.

    Raises:
        ReidError: if there are none, or if they are not in the cache and the download fails.
    """
    if name == _WITHOUT_FILE:
        raise ReidError(
            f"MODEL.PRETRAINED True has no download for {name}: give a file of CION as MODEL.PRETRAIN_PATH, or set "
            "MODEL.PRETRAINED False"
        )
    url = _IBN_FILES.get(name) or torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    try:
        return load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise ReidError(
            f"MODEL.PRETRAINED True needs the ImageNet weights of {name}, but {url} cannot be fetched "
            f"({error}); put the file into {get_dir()}/checkpoints, or give "
            "a local file as MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
        ) from error


def _use_ibn(base: ResNet) -> None:
    for stage in (base.layer1, base.layer2, base.layer3):
        for block in stage:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)


def keep_resolution(stage: nn.Module) -> None:
    """Give the convolutions of a stage the stride 1, so that its map is as large as its input."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)


def _record(name: str) -> Backbone:
    plain = name.removesuffix(_NON_LOCAL)
    return Backbone(
        build=partial(ResNetBackbone, name),
        weights=partial(torchvision_weights, plain),
        options=("last_stride", "stem_relu", "stem_pool"),
        extends="" if name == plain else plain,
        own_layers="" if name == plain else MARK,
        known_by_tensors=True,
        safe_in_16_bits=name == plain,
    )


RESNETS: dict[str, Backbone] = {
    name: _record(name)
    for name in (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", *_IBN_FILES, _WITHOUT_FILE),
        *("resnet50_nl", "resnet50_ibn_a_nl", "resnet101_nl", "resnet101_ibn_a_nl"),
    )
}
