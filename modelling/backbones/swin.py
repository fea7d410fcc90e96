"""Swin Transformers (Liu et al., ICCV 2021) of SOLIDER and CION.

SOLIDER modulates its maps by a semantic weight: Chen et al., Beyond Appearance: a Semantic Controllable
Self-Supervised Learning Framework for Human-Centric Visual Tasks, CVPR 2023. CION: Zuo et al., Cross-video Identity
Correlating for Person Re-identification Pre-training, NeurIPS 2024.
"""

import re
from collections.abc import Mapping
from functools import partial
from math import expm1, log
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from datasets.preprocessing import Preprocessing
from modelling.backbones.record import Backbone
from utils.errors import ReidError, lookup

_FORBIDDEN = -100.0  # is added to the attention between regions that the shift brought together


class _Shape(NamedTuple):
    width: int  # channels of the first stage; each of the following ones has twice as many
    depths: tuple[int, int, int, int]
    heads: int  # of the first stage
    window: int = 7  # side of a window in tokens
    semantic: bool = True


_VARIANTS = {
    "swin_tiny_solider": _Shape(96, (2, 2, 6, 2), 3),
    "swin_small_solider": _Shape(96, (2, 2, 18, 2), 3),
    "swin_base_solider": _Shape(128, (2, 2, 18, 2), 4),
    "swin_tiny_cion": _Shape(96, (2, 2, 6, 2), 3, 8, semantic=False),
    "swin_small_cion": _Shape(96, (2, 2, 18, 2), 3, 8, semantic=False),
    "swin_base_cion": _Shape(128, (2, 2, 18, 2), 4, 8, semantic=False),
}


class SwinBackbone(nn.Module):
    """A Swin Transformer up to its last map, which the last normalization ends.

    Args:
        name: one of :data:`SWINS`.
        input_size: height and width; the network takes any and ignores it.
        semantic_weight: how much of human parts, in contrast to appearance, the maps of SOLIDER are to show, from 0
            to 1.
        drop_path: the last block is left out for an image in training with this probability; it falls linearly to
            0 for the first block.

    Attributes:
        out_channels: of the map.
        negative: share of values below 0, half by the last normalization.
        base: the network under the names that SOLIDER's weights use. The two layers of each stage for the semantic
            weight are frozen, as in the authors' fine-tuning; a new network's modulate nothing.

    Raises:
        ReidError: for an unknown name.
    """

    negative = 0.5

    def __init__(
        self,
        name: str,
        input_size: tuple[int, int] = (384, 128),  # noqa: ARG002 (every network gets it)
        *,
        semantic_weight: float = 0.2,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        width, depths, heads, window, semantic = lookup(_VARIANTS, name, "a Swin Transformer")
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        stages = []
        for index, depth in enumerate(depths):
            scale, last = 2**index, index == len(depths) - 1
            blocks = [
                _Block(width * scale, heads * scale, window, next(rates), shifted=number % 2 == 1)
                for number in range(depth)
            ]
            stages.append(_Stage(blocks, None if last else _PatchMerging(width * scale)))
        widths = [2 * width, 4 * width, 8 * width]
        self.out_channels = widths[-1]
        base: Any = nn.Module()
        base.patch_embed = _PatchEmbedding(width)
        base.stages = nn.ModuleList(stages)
        base.norm3 = nn.LayerNorm(self.out_channels)
        base.apply(_initialize)
        if semantic:
            base.semantic_embed_w = nn.ModuleList(_constant(channels, log(expm1(1))) for channels in widths)
            base.semantic_embed_b = nn.ModuleList(_constant(channels, 0.0) for channels in widths)
        self.base = base
        self.register_buffer("_semantic", torch.tensor([semantic_weight, 1 - semantic_weight]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, H / 32, W / 32), rounded up."""
        base: Any = self.base
        features: Tensor = base.patch_embed(images)
        *stages, last = base.stages
        for index, stage in enumerate(stages):
            features = stage(features)
            if hasattr(base, "semantic_embed_w"):
                scale, offset = base.semantic_embed_w[index], base.semantic_embed_b[index]
                features = features * functional.softplus(scale(self._semantic)) + offset(self._semantic)
        feature_map: Tensor = base.norm3(last(features)).permute(0, 3, 1, 2)
        return feature_map


class _PatchEmbedding(nn.Module):
    """(N, 3, H, W) -> (N, H / 4, W / 4, C): one token for each square of 4 pixels; zeros fill the last ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % 4, 0, -height % 4))
        tokens: Tensor = self.norm(self.projection(padded).permute(0, 2, 3, 1))
        return tokens


class _Stage(nn.Module):
    def __init__(self, blocks: list["_Block"], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample or nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        merged: Tensor = self.downsample(self.blocks(features))
        return merged


class _PatchMerging(nn.Module):
    """(N, h, w, C) -> (N, h / 2, w / 2, 2C), rounded up.

    The values of four tokens lie side by side for each channel; in the original Swin the channels lie side by side
    for each token.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        padded = functional.pad(features, (0, 0, 0, features.shape[2] % 2, 0, features.shape[1] % 2))
        images, height, width, channels = padded.shape
        squares = padded.reshape(images, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 5, 2, 4)
        merged: Tensor = self.reduction(self.norm(squares.flatten(3)))
        return merged


class _Block(nn.Module):
    """Attention within windows and a network of each token, (N, h, w, C) -> (N, h, w, C)."""

    def __init__(self, channels: int, heads: int, window: int, drop_path: float, *, shifted: bool) -> None:
        super().__init__()
        self._window, self._shift = window, window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = nn.ModuleDict({"w_msa": _WindowAttention(channels, heads, window)})
        self.norm2 = nn.LayerNorm(channels)
        hidden = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU())
        self.ffn = nn.ModuleDict({"layers": nn.Sequential(hidden, nn.Linear(4 * channels, channels))})
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.drop_path(self._attention(self.norm1(features)))
        total: Tensor = features + self.drop_path(self.ffn["layers"](self.norm2(features)))
        return total

    def _attention(self, features: Tensor) -> Tensor:
        """The map is padded with zeros to whole windows first and shifted then, even if it is one window."""
        _, height, width, channels = features.shape
        side, shift, mask = self._window, self._shift, None
        padded = functional.pad(features, (0, 0, 0, -width % side, 0, -height % side))
        if shift:
            padded = padded.roll((-shift, -shift), (1, 2))
            mask = _mask(padded.shape[1], padded.shape[2], side, padded.device)
        images, rows, columns = padded.shape[0], padded.shape[1] // side, padded.shape[2] // side
        tiles = padded.reshape(images, rows, side, columns, side, channels).transpose(2, 3)
        windows = self.attn["w_msa"](tiles.reshape(images, rows * columns, side**2, channels), mask)
        tiles = windows.view(images, rows, columns, side, side, channels).transpose(2, 3)
        result: Tensor = tiles.reshape(padded.shape)
        if shift:
            result = result.roll((shift, shift), (1, 2))
        return result[:, :height, :width]


class _WindowAttention(nn.Module):
    """Attention with a bias for the distance of two tokens, (N, windows, tokens, C) -> the same."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _relative_positions(window), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        images, windows, length, channels = tokens.shape
        bias = self.relative_position_bias_table[self.get_buffer("relative_position_index")].permute(2, 0, 1)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(images, 1, 1, 1)  # for each window of each image
        heads = self.qkv(tokens).view(images * windows, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype))
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(images, windows, length, channels))
        return projected


def _mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """(windows, T, T) float32, T tokens of a window: what keeps the regions of a shifted map apart.

    In each direction, all but the last window are one region, and the last window holds two.
    """
    regions = [
        (torch.arange(side, device=device) >= side - window).int()
        + (torch.arange(side, device=device) >= side - window // 2).int()
        for side in (height, width)
    ]
    numbers = 3 * regions[0][:, None] + regions[1][None, :]
    windows = numbers.view(height // window, window, width // window, window).transpose(1, 2)
    windows = windows.reshape(-1, window**2)
    return (windows[:, :, None] != windows[:, None, :]).float() * _FORBIDDEN


def _relative_positions(window: int) -> Tensor:
    """(T, T) int64, T tokens of a window: the row of the bias table for each pair of tokens of a window."""
    numbers = torch.arange(window**2)
    rows, columns = numbers // window, numbers % window
    down, right = rows[:, None] - rows + window - 1, columns[:, None] - columns + window - 1
    return down * (2 * window - 1) + right


def _constant(channels: int, value: float) -> nn.Linear:
    """A frozen layer that answers ``value`` to both semantic weights."""
    layer = nn.Linear(2, channels).requires_grad_(False)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _refuse_download(name: str) -> NoReturn:
    raise ReidError(
        f"MODEL.PRETRAINED True has no download for {name}: give a file of its authors as MODEL.PRETRAIN_PATH "
        "(docs/model_zoo.md has the address), or set MODEL.PRETRAINED False"
    )


def swin_name(tensors: Mapping[str, Tensor], prefix: str = "", stages: str = "stages") -> str:
    """MODEL.NAME of a Swin Transformer by its tensors.

    Args:
        tensors: of the file.
        prefix: of the names of the network's tensors.
        stages: name of the list of stages there.

    Raises:
        ReidError: for another width or depth.
    """
    norm = tensors.get(f"{prefix}norm3.weight")
    width = 0 if norm is None else norm.numel() // 8
    semantic = f"{prefix}semantic_embed_w.0.weight" in tensors
    pattern = re.compile(rf"{re.escape(prefix + stages)}\.([0-3])\.blocks\.(\d+)\.")
    blocks = {match.groups() for match in map(pattern.match, tensors) if match}
    depths = tuple(sum(stage == number for stage, _ in blocks) for number in "0123")
    for name, shape in _VARIANTS.items():
        if (shape.width, shape.depths, shape.semantic) == (width, depths, semantic):
            return name
    raise ReidError(
        f"the weights must be of one of {', '.join(_VARIANTS)}, got a Swin Transformer of width {width} with stages "
        f"of {depths} blocks{' and semantic weight' if semantic else ''}; use them with the framework that made them"
    )


SWINS: dict[str, Backbone] = {
    name: Backbone(
        build=partial(SwinBackbone, name),
        weights=partial(_refuse_download, name),
        preprocessing=Preprocessing((384, 128) if shape.semantic else (256, 128), (0.5,) * 3, (0.5,) * 3),
        options=("semantic_weight", "drop_path") if shape.semantic else ("drop_path",),
        known_by_tensors=True,
    )
    for name, shape in _VARIANTS.items()
}
