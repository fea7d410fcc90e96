"""Vision transformers (Dosovitskiy et al., ICLR 2021) as re-identification uses them, built of timm's blocks.

TransReID (He et al., ICCV 2021) lets patches overlap and adds a learned vector for the camera of the image.
TransReID-SSL (Luo et al., 2021) may begin with convolutions. PASS (Zhu et al., ECCV 2022) has class tokens for three
parts of the body.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datasets.preprocessing import Preprocessing
from modelling.backbones.positions import PATCH, grid_of, resized
from modelling.backbones.record import Backbone
from modelling.backbones.resnet import InstanceBatchNorm
from modelling.backbones.timm_backbone import import_timm, timm_weights
from utils.errors import ReidError

_STEM_CHANNELS, _STEM_STRIDE = 64, 2
_CAMERA_WEIGHT = 3.0  # of TransReID's camera vectors; all its published person weights have it


class Architecture(NamedTuple):
    """What distinguishes one network from another.

    Attributes:
        width: C, components of a token.
        heads: of each attention.
        depth: number of blocks.
        mlp_ratio: width of the hidden layers, in units of C.
        qkv_bias: whether queries, keys and values have a bias.
        scale: by which the products of queries and keys are multiplied; 0 = 1 / sqrt(C / heads).
        conv_stem: three convolutions with IBN come before the patches (ICS).
        part_tokens: number of class tokens beside the first one.
    """

    width: int
    heads: int
    depth: int = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    scale: float = 0.0
    conv_stem: bool = False
    part_tokens: int = 0


_WIDTHS = {"vit_tiny": Architecture(192, 3), "vit_small": Architecture(384, 6), "vit_base": Architecture(768, 12)}
ARCHITECTURES = {
    **_WIDTHS,
    # TransReID's ViT-S is that of early versions of timm, with their wrong scale of the attention.
    "vit_small_transreid": Architecture(768, 8, depth=8, mlp_ratio=3.0, qkv_bias=False, scale=768**-0.5),
    **{f"{name}_ics": row._replace(conv_stem=True) for name, row in _WIDTHS.items()},
    **{f"{name}_pass": row._replace(part_tokens=3) for name, row in _WIDTHS.items()},
    **{f"{name}_ics_pass": row._replace(conv_stem=True, part_tokens=3) for name, row in _WIDTHS.items()},
}
"""MODEL.NAME -> what the network is."""


class VisionTransformerBackbone(nn.Module):
    """A vision transformer up to its normalized class token.

    With part tokens the output is the class token and the mean of the part tokens, one after the other.

    Args:
        architecture: of the network.
        input_size: height and width; the network takes no other.
        patch_stride: pixels from one patch to the next; below 16 the patches overlap.
        cameras: number of cameras with a vector of their own; 0 = the network does not look at cameras.
        drop_path: share of images for which training leaves out the last block; it falls linearly to 0 at the first.

    Attributes:
        out_channels: C, or 2 C with part tokens.
        pooled: the map has one position.
        num_cameras: as ``cameras``.
        part_tokens: as in the architecture.
        base: timm's network, whose names published weights have.
    """

    pooled = True

    def __init__(
        self,
        architecture: Architecture,
        input_size: tuple[int, int] = (256, 128),
        *,
        patch_stride: int = PATCH,
        cameras: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        width, self.part_tokens, self.num_cameras = architecture.width, architecture.part_tokens, cameras
        self.out_channels = 2 * width if self.part_tokens else width
        self.base: Any = import_timm().models.VisionTransformer(
            img_size=input_size,
            num_classes=0,
            embed_dim=width,
            depth=architecture.depth,
            num_heads=architecture.heads,
            mlp_ratio=architecture.mlp_ratio,
            qkv_bias=architecture.qkv_bias,
            reg_tokens=self.part_tokens,
            drop_path_rate=drop_path,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            embed_layer=partial(PatchEmbedding, stride=patch_stride, conv_stem=architecture.conv_stem),
        )
        if architecture.scale:
            for block in self.base.blocks:
                block.attn.q_norm = Multiplication(architecture.scale / block.attn.scale)
        if cameras:
            self.base.sie_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(cameras, 1, width), std=0.02))
        self._gives_tokens = False

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, 1, 1); after :meth:`take_last_layers` (N, T, C), all T tokens.

        Args:
            images: of the size of the network.
            cameras: (N,) int64; -1 or None = unknown, for which the mean of all vectors stands.
        """
        base = self.base
        patches = base.patch_embed(images)
        first = [base.cls_token, base.reg_token] if self.part_tokens else [base.cls_token]
        tokens: Tensor = torch.cat([*(token.expand(patches.shape[0], -1, -1) for token in first), patches], dim=1)
        tokens = tokens + base.pos_embed
        if self.num_cameras:
            tokens = tokens + _CAMERA_WEIGHT * camera_vectors(base.sie_embed, cameras)
        tokens = base.norm(base.blocks(tokens))
        if self._gives_tokens:
            return tokens
        vectors: Tensor = tokens[:, 0]
        if self.part_tokens:
            vectors = torch.cat([vectors, tokens[:, 1 : 1 + self.part_tokens].mean(dim=1)], dim=1)
        return vectors[:, :, None, None]

    def take_last_layers(self) -> nn.Sequential:
        """Take off the last block and the normalization for a head that runs them itself; see :meth:`forward`."""
        layers = nn.Sequential(self.base.blocks[-1], self.base.norm)
        self.base.blocks, self.base.norm = self.base.blocks[:-1], nn.Identity()
        self._gives_tokens = True
        return layers


class PatchEmbedding(nn.Module):
    """Squares of pixels that may overlap, or of a map of convolutions, to tokens.

    Args:
        img_size: height and width of the images.
        embed_dim: C, components of a token.
        stride: pixels from one patch to the next.
        conv_stem: whether convolutions come first.

    Attributes:
        num_patches: number of tokens.

    Raises:
        ReidError: if the images are smaller than a patch.
    """

    def __init__(
        self,
        img_size: tuple[int, int],
        embed_dim: int,
        stride: int,
        conv_stem: bool,
        **_: object,  # timm tells more
    ) -> None:
        super().__init__()
        self.grid = grid_of(img_size, stride)
        if min(self.grid) < 1:
            raise ReidError(f"INPUT.SIZE_TRAIN must be {PATCH} pixels at least for a ViT, got {list(img_size)}")
        self.num_patches = self.grid[0] * self.grid[1]
        scale, channels = (_STEM_STRIDE, _STEM_CHANNELS) if conv_stem else (1, 3)
        self.conv = _conv_stem() if conv_stem else nn.Identity()
        self.proj = nn.Conv2d(channels, embed_dim, PATCH // scale, stride // scale)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``num_patches``, C), row by row."""
        patches: Tensor = self.proj(self.conv(images))
        return patches.flatten(2).transpose(1, 2)


class Multiplication(nn.Module):
    """Multiply by a constant.

    Args:
        factor: the constant.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def forward(self, tensor: Tensor) -> Tensor:
        """Any shape."""
        return tensor * self._factor


def camera_vectors(table: Tensor, cameras: Tensor | None) -> Tensor:
    """The vectors of cameras, (N, 1, C), or (1, 1, C) if all are unknown.

    Args:
        table: (K, 1, C), one row for each of K cameras.
        cameras: (N,) int64 from 0 to K - 1; -1 or None = unknown, for which the mean of the table stands.
    """
    mean = table.mean(dim=0, keepdim=True)
    if cameras is None:
        return mean
    return torch.where((cameras < 0)[:, None, None], mean, table[cameras.clamp_min(0)])


def fit(base: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as those of ``base``, which may differ in input size, stride and cameras.

    Position embeddings are resized bilinearly, as TransReID does. A camera table of another length becomes its mean
    in each row; if ``base`` has none, the mean joins the position embeddings. If the file has none, ``base`` keeps
    its own.

    Raises:
        ReidError: if the size behind position embeddings that must be resized is not a usual one.
    """
    state = dict(tensors)
    own: dict[str, Tensor] = base.state_dict()
    if "part_token1" in state:
        _join_parts(state)
    if state.pop("dist_token", None) is not None:  # of DeiT; the authors of TransReID drop it too
        state["pos_embed"] = state["pos_embed"][:, [0, *range(2, state["pos_embed"].shape[1])]]
    positions = state.get("pos_embed")
    if positions is None or positions.ndim != 3 or positions.shape[2] != own["pos_embed"].shape[2]:
        return state  # the check of the tensors will say so
    state["pos_embed"] = positions = resized(positions, base.num_prefix_tokens, base.patch_embed.grid)  # type: ignore[arg-type, union-attr]
    table = state.pop("sie_embed", None)
    if table is not None and "sie_embed" not in own:
        state["pos_embed"] = positions + _CAMERA_WEIGHT * table.mean(dim=0)
    elif "sie_embed" in own:
        is_other = table is not None and table.shape != own["sie_embed"].shape
        state["sie_embed"] = own["sie_embed"] if table is None else table
        if is_other and table is not None:
            state["sie_embed"] = table.mean(dim=0, keepdim=True).expand_as(own["sie_embed"]).clone()
    return state


def _conv_stem() -> nn.Sequential:
    channels = _STEM_CHANNELS
    return nn.Sequential(
        nn.Conv2d(3, channels, 7, stride=_STEM_STRIDE, padding=3, bias=False),
        InstanceBatchNorm(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        InstanceBatchNorm(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def _join_parts(state: dict[str, Tensor]) -> None:
    """Bring PASS's tokens and their positions, which have names of their own, to the places timm has for them."""
    names = [f"part_token{number}" for number in (1, 2, 3)]
    positions = ["cls_pos", *(f"part{number}_pos" for number in (1, 2, 3)), "pos_embed"]
    if all(name in state for name in (*names, *positions)):
        state["reg_token"] = torch.cat([state.pop(name) for name in names], dim=1)
        state["pos_embed"] = torch.cat([state.pop(name) for name in positions], dim=1)


_IMAGENET = {
    "vit_tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base": "vit_base_patch16_224.orig_in21k_ft_in1k",  # TransReID's
}

VITS: dict[str, Backbone] = {
    name: Backbone(
        build=partial(VisionTransformerBackbone, row),
        weights=partial(timm_weights, _IMAGENET[name]) if name in _IMAGENET else None,
        preprocessing=Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
        options=("cameras", "drop_path") if row.conv_stem else ("patch_stride", "cameras", "drop_path"),
        classifiers=("head", "fc", "head_dist", "pre_logits"),
        fit=fit,
        known_by_tensors=True,
        fixed_size=True,
    )
    for name, row in ARCHITECTURES.items()
}
