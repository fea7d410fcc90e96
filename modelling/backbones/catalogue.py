"""All backbones by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from modelling.backbones.osnet import OSNETS, OSNetBackbone
from modelling.backbones.pixels import Pixels
from modelling.backbones.resnet import ResNetBackbone, imagenet_weights
from modelling.backbones.timm_backbone import PREFIX, TimmBackbone, built_for_one_size, timm_pixels, timm_weights
from utils.errors import ReidError, did_you_mean

# The maximum pooling of a ResNet's stem: torchvision's, whose windows begin one pixel outside the map, or
# fast-reid's, whose windows begin on it; the weights of the one shift the maps of the other by a pixel.
StemPool = Literal["padded", "ceil"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
IBN_RESNETS = ("resnet50_ibn_a", "resnet101_ibn_a")


@dataclass(frozen=True)
class BackboneOptions:
    """What changes a backbone beside its name.

    Attributes:
        last_stride: of the last stage of a ResNet.
        stem_relu: whether a ResNet rectifies after its first normalisation.
        stem_pool: of a ResNet.
        input_size: height and width, for networks built for one size.
    """

    last_stride: int = 1
    stem_relu: bool = True
    stem_pool: StemPool = "padded"
    input_size: tuple[int, int] = (256, 128)


def _resnet(name: str, options: BackboneOptions) -> nn.Module:
    backbone = ResNetBackbone(name, last_stride=options.last_stride, stem_relu=options.stem_relu)
    if options.stem_pool == "ceil":
        backbone.base.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return backbone


def _osnet(name: str, _: BackboneOptions) -> nn.Module:
    return OSNetBackbone(name)


BACKBONES: dict[str, Callable[[str, BackboneOptions], nn.Module]] = {
    **dict.fromkeys(RESNETS + IBN_RESNETS, _resnet),
    **dict.fromkeys(OSNETS, _osnet),
}
BACKBONE_NAMES: tuple[str, ...] = tuple(BACKBONES)


def build_backbone(
    name: str,
    *,
    last_stride: int = 1,
    stem_relu: bool = True,
    stem_pool: StemPool = "padded",
    input_size: tuple[int, int] = (256, 128),
) -> nn.Module:
    """A backbone with random weights: (N, 3, H, W) -> (N, ``out_channels``, h, w), its network in ``base``.

    Args:
        name: one of :data:`BACKBONE_NAMES`, or ``timm:`` and the name of a network of timm.
        last_stride: of the last stage of a ResNet (1 or 2); other networks have their own.
        stem_relu: False leaves a ResNet's stem without its ReLU.
        stem_pool: of a ResNet; ``ceil`` for weights of fast-reid.
        input_size: height and width; only networks of tokens depend on it.

    Raises:
        ReidError: for an unknown name, or a stem or stride that only a ResNet can have.
    """
    check_backbone_name(name)
    options = BackboneOptions(last_stride, stem_relu, stem_pool, input_size)
    if BACKBONES.get(name) is not _resnet and options != BackboneOptions(input_size=input_size):
        raise ReidError(
            "MODEL.LAST_STRIDE, MODEL.STEM_RELU and MODEL.STEM_POOL belong to a ResNet, "
            f"got {last_stride}, {stem_relu} and {stem_pool} for {name}; leave them as they are"
        )
    if name.startswith(PREFIX):
        return TimmBackbone(name.removeprefix(PREFIX), input_size)
    return BACKBONES[name](name, options)


def check_backbone_name(name: str) -> None:
    """Refuse a name that no backbone has; names after ``timm:`` are checked when the network is built.

    Raises:
        ReidError: naming the nearest and all valid names.
    """
    if name in BACKBONES or (name.startswith(PREFIX) and name != PREFIX):
        return
    hint = did_you_mean(name, BACKBONES)
    raise ReidError(f"MODEL.NAME must be one of {', '.join(BACKBONE_NAMES)}, or {PREFIX}NAME, got {name!r}{hint}")


def takes_one_size(name: str) -> bool:
    """Whether a backbone is built for one input size and takes no other: a network of tokens.

    Raises:
        ReidError: for an unknown name.
    """
    check_backbone_name(name)
    return name.startswith(PREFIX) and built_for_one_size(name.removeprefix(PREFIX))


def imagenet_pixels(name: str) -> Pixels:
    """How the images were normalised on which the weights of :func:`imagenet_state` were trained."""
    return timm_pixels(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else Pixels()


def imagenet_state(name: str, input_size: tuple[int, int] = (256, 128)) -> dict[str, Tensor]:
    """ImageNet weights of a backbone's ``base`` by tensor name, from a cache or by download.

    Args:
        name: as for :func:`build_backbone`.
        input_size: height and width, to which position embeddings are fitted.

    Raises:
        ReidError: if there are none, or they cannot be fetched; the message says what to do.
    """
    check_backbone_name(name)
    if name.startswith(PREFIX):
        return timm_weights(name.removeprefix(PREFIX), input_size)
    if name in OSNETS:
        raise ReidError(
            f"MODEL.PRETRAINED True has no download for {name}: give torchreid's {name}_imagenet.pth as "
            "MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
        )
    return imagenet_weights(name)
