"""ResNets of torchvision (He et al. 2016) and their IBN-a variants as feature maps."""

from urllib.error import URLError

import torchvision
from torch import Tensor, nn
from torch.hub import get_dir, load_state_dict_from_url
from torchvision.models.resnet import ResNet

from modelling.backbones.ibn import InstanceBatchNorm
from modelling.fitting import check_fit
from utils.errors import ReidError

_IBN_WEIGHTS = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/"
_IBN_FILES = {
    "resnet50_ibn_a": _IBN_WEIGHTS + "resnet50_ibn_a-d9d0bb7b.pth",
    "resnet101_ibn_a": _IBN_WEIGHTS + "resnet101_ibn_a-59ea0ac6.pth",
}


class ResNetBackbone(nn.Module):
    """A ResNet up to its last feature map.

    Args:
        name: ``resnet18`` ... ``resnet152``, or ``resnet50_ibn_a``, ``resnet101_ibn_a``.
        last_stride: of the last stage; 1 keeps twice the resolution (Luo et al. 2019).
        stem_relu: False leaves out the ReLU after the first normalisation, as the networks did on which
            the checkpoints of the seed, centroids-reid and reid-strong-baseline were trained.

    Attributes:
        out_channels: of the feature map.
        base: torchvision's network without classifier.
    """

    def __init__(self, name: str, *, last_stride: int = 1, stem_relu: bool = True) -> None:
        super().__init__()
        base: ResNet = torchvision.models.get_model(name.removesuffix("_ibn_a"), weights=None)
        self.out_channels = int(base.fc.in_features)
        del base.fc, base.avgpool
        if name.endswith("_ibn_a"):
            _use_ibn(base)
        if last_stride == 1:
            _keep_resolution(base.layer4[0])
        if not stem_relu:
            base.relu = nn.Identity()
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, H / 16, W / 16), or / 32 with a last stride of 2."""
        base = self.base
        features = base.maxpool(base.relu(base.bn1(base.conv1(images))))
        feature_map: Tensor = base.layer4(base.layer3(base.layer2(base.layer1(features))))
        return feature_map


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights by network name, from torch's cache or by download.

    Raises:
        ReidError: if they are not in the cache and the download fails.
    """
    url = _IBN_FILES.get(name) or torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    try:
        return load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise ReidError(
            f"MODEL.PRETRAINED True needs the ImageNet weights of {name}, but {url} cannot be fetched "
            f"({error}); put the file into {get_dir()}/checkpoints, or give "
            "a local file as MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
        ) from error


def load_backbone_weights(backbone: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Copy plain backbone weights into a network; a classifier ``fc.*`` among them is left out.

    Args:
        backbone: has the network to fill as ``base``.
        state: tensors by name, as torchvision names them.
        origin: what to call the weights in a message.

    Raises:
        ReidError: if a tensor is missing, unknown or of another shape; the message names it.
    """
    given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    check_fit(backbone.base.state_dict(), given, frozenset(), origin)  # type: ignore[union-attr]
    backbone.base.load_state_dict(given, strict=False)  # type: ignore[union-attr]


def _use_ibn(base: ResNet) -> None:
    for stage in (base.layer1, base.layer2, base.layer3):
        for block in stage:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)


def _keep_resolution(block: nn.Module) -> None:
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
