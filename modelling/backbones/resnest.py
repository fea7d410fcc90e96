"""ResNeSts of timm (Zhang et al., arXiv 2004.08955), with the last stages that fast-reid gives them."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from modelling.backbones.non_local import MARK, add_non_local
from modelling.backbones.record import Backbone
from modelling.backbones.timm_backbone import import_timm, timm_weights

_TIMM_NAME = "resnest50d"


class ResNeStBackbone(nn.Module):
    """A ResNeSt-50 up to its last feature map.

    Args:
        input_size: height and width; the network takes any and ignores it.
        last_stride: of the last stage, 1 or 2.
        last_dilation: of the convolutions of the last stage, except its first block; fast-reid has trained with 2
            since December 2020.
        non_local: whether non-local blocks follow the last two blocks of stage 2 and the last three of stage 3.

    Attributes:
        out_channels: of the feature map.
        base: timm's network without its classifier.

    Raises:
        ReidError: if timm is not installed.
    """

    out_channels = 2048

    def __init__(
        self,
        input_size: tuple[int, int] = (256, 128),  # noqa: ARG002 (every network gets it)
        *,
        last_stride: int = 1,
        last_dilation: int = 1,
        non_local: bool = False,
    ) -> None:
        super().__init__()
        base: Any = import_timm().create_model(_TIMM_NAME, pretrained=False, num_classes=0, global_pool="")
        if last_stride == 1:
            _keep_resolution(base.layer4[0])
        for block in base.layer4[1:]:
            convolution = block.conv2.conv
            convolution.dilation = convolution.padding = (last_dilation, last_dilation)
        if non_local:
            add_non_local(base, {"layer2": 2, "layer3": 3})
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2048, H / 16, W / 16), or / 32 with a last stride of 2."""
        feature_map: Tensor = self.base(images)
        return feature_map


def _keep_resolution(block: Any) -> None:  # noqa: ANN401 (a class of timm, which may not be installed)
    """The block averages 3 x 3 positions before its last convolution; with a stride of 1 it still does."""
    block.avd_last = nn.AvgPool2d(3, stride=1, padding=1)
    block.downsample[0] = nn.Identity()


def _record(*, non_local: bool) -> Backbone:
    return Backbone(
        build=partial(ResNeStBackbone, non_local=non_local),
        weights=partial(timm_weights, _TIMM_NAME),
        options=("last_stride", "last_dilation"),
        extends="resnest50" if non_local else "",
        own_layers=MARK if non_local else "",
        known_by_tensors=True,
    )


RESNESTS: dict[str, Backbone] = {
    "resnest50": _record(non_local=False),
    "resnest50_nl": _record(non_local=True),
}
