"""The head of TransReID, the jigsaw patch module (He et al., ICCV 2021)."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from losses.parts import cut
from modelling.heads.head import Features, Head, into_branches
from modelling.heads.pooling import PoolingFactory
from utils.errors import ReidError

_SHIFTS = {False: 4, True: 7}  # whether images are squares (of vehicles) -> patches that go from beginning to end
_PARTS = 4
_WHOLE, _PART = "whole", "part"


class JigsawHead(Head):
    """The class token of all patches, and those of four groups of patches that come from all over the image.

    The head takes the last block and the normalization off the backbone. One copy of them sees all tokens, another
    one each group.

    Args:
        backbone: a vision transformer.

    Raises:
        ReidError: if it is another network.
    """

    def __init__(self, backbone: nn.Module) -> None:
        if not hasattr(backbone, "take_last_layers") or getattr(backbone, "part_tokens", None):
            raise ReidError(
                "MODEL.HEAD jpm needs a vision transformer with one class token: set MODEL.NAME vit_base, or another "
                "MODEL.HEAD"
            )
        width = int(backbone.out_channels)  # type: ignore[arg-type]
        super().__init__(*[width] * (1 + _PARTS))
        self.identity_parts = self.metric_parts = cut(self.parts, [0.5] + [0.5 / _PARTS] * _PARTS)
        last: nn.Sequential = backbone.take_last_layers()  # type: ignore[operator]
        rows, columns = backbone.base.patch_embed.grid  # type: ignore[union-attr, misc]
        self._shift = _SHIFTS[rows == columns]
        self._last_block = len(backbone.base.blocks)  # type: ignore[union-attr, arg-type]
        self.branches = nn.ModuleDict({_WHOLE: last, _PART: copy.deepcopy(last)})
        self.bn = nn.BatchNorm1d(self.dim)
        self.bn.bias.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Features:
        """(N, T, C), the class token first -> (N, 5 C): of all patches, then of each group."""
        groups = _groups(tokens[:, 1:], self._shift)
        class_tokens = tokens[:, None, :1].expand(-1, _PARTS, -1, -1)
        parts = torch.cat([class_tokens, groups], dim=2).flatten(0, 1)
        whole = self.branches[_WHOLE](tokens)[:, 0]  # type: ignore[index]
        of_parts = self.branches[_PART](parts)[:, 0].unflatten(0, (-1, _PARTS)).flatten(1)  # type: ignore[index]
        with torch.autocast(device_type=tokens.device.type, enabled=False):
            raw = torch.cat([whole, of_parts], dim=1).float()
            return Features(raw, self.bn(raw))

    def scaled(self, vectors: Tensor) -> Tensor:
        """The groups together weigh as much as the whole."""
        return torch.cat([vectors[:, : self.parts[0]], vectors[:, self.parts[0] :] / _PARTS], dim=1)

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Both copies begin as the last layers of a backbone."""
        return into_branches(state, {f"blocks.{self._last_block}.": "0.", "norm.": "1."}, (_WHOLE, _PART))


def jigsaw_head(backbone: nn.Module, pooling: PoolingFactory, dim: int) -> Head:  # noqa: ARG001 (see HeadFactory)
    """The head for a vision transformer, which pools itself.

    Raises:
        ReidError: if the backbone is another network, or ``dim`` is not 0.
    """
    if dim:
        raise ReidError(
            f"MODEL.HEAD jpm has five times the channels of its network, got MODEL.EMBEDDING_DIM {dim}; leave it at 0"
        )
    return JigsawHead(backbone)


def _groups(patches: Tensor, shift: int) -> Tensor:
    """(N, P, C) -> (N, 4, P // 4, C): shifted by ``shift`` patches, then the halves interleaved, then cut."""
    length = patches.shape[1] // _PARTS
    shifted = torch.cat([patches[:, shift:], patches[:, :shift]], dim=1)
    if shifted.shape[1] % 2:
        shifted = torch.cat([shifted, shifted[:, -2:-1]], dim=1)
    num_images, _, width = shifted.shape
    interleaved = shifted.reshape(num_images, 2, -1, width).transpose(1, 2).flatten(1, 2)
    return interleaved[:, : _PARTS * length].reshape(num_images, _PARTS, length, width)
