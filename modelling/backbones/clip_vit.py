"""The image transformer of CLIP (Radford et al., ICML 2021) as CLIP-ReID uses it (Li et al., AAAI 2023)."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.preprocessing import Preprocessing
from losses.parts import cut
from modelling.backbones.cameras import camera_vectors, fit_cameras
from modelling.backbones.positions import PATCH, grid_of, resized
from modelling.backbones.record import Backbone
from utils.errors import ReidError

WIDTH = 768
"""Components of a token."""

_DEPTH, _HEAD_WIDTH, _PROJECTION = 12, 64, 512

CLIP_IMAGES = Preprocessing(
    (224, 224), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic"
)
"""Of the images that CLIP was trained on."""


class ClipViTBackbone(nn.Module):
    """CLIP's ViT-B/16: the class token after the last normalization, and the same projected to the space of texts.

    Args:
        input_size: height and width; the position embeddings are made for it.
        patch_stride: pixels from a patch to the next; below 16 the patches overlap (CLIP-ReID's OLP has 12).
        cameras: number of cameras whose embeddings are learned and added to the class token (SIE); 0 = none.

    Attributes:
        out_channels: 768 + 512.
        parts: the losses of each.
        pooled: True, the map has one position.
        num_cameras: as ``cameras``.
        base: the network under the names of OpenAI.

    Raises:
        ReidError: if the images are smaller than a patch.
    """

    pooled = True
    out_channels = WIDTH + _PROJECTION
    parts = cut((WIDTH, _PROJECTION), (1.0, 1.0))

    def __init__(
        self, input_size: tuple[int, int] = (256, 128), *, patch_stride: int = PATCH, cameras: int = 0
    ) -> None:
        super().__init__()
        self.num_cameras = cameras
        if min(input_size) < PATCH:
            raise ReidError(f"INPUT.SIZE_TEST must be {PATCH} pixels at least for a ViT, got {list(input_size)}")
        self.base = ClipTransformer(grid_of(input_size, patch_stride), patch_stride, cameras)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) -> (N, 1280, 1, 1).

        Args:
            images: float32.
            cameras: (N,) int64; -1 or None = unknown, the mean of the cameras' embeddings stands for it.
        """
        token = self.base(images, cameras)
        return torch.cat([token, token @ self.base.proj], dim=1)[:, :, None, None]


class ClipTransformer(nn.Module):
    """CLIP's image transformer up to the class token before the projection.

    Args:
        grid: rows and columns of patches.
        stride: pixels from a patch to the next.
        cameras: rows of the table of cameras; 0 = no table.

    Attributes:
        grid: as the argument.
        proj: (768, 512), the projection.
    """

    def __init__(self, grid: tuple[int, int], stride: int, cameras: int) -> None:
        super().__init__()
        self.grid = grid
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, stride, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(WIDTH))
        self.positional_embedding = nn.Parameter(torch.empty(1 + grid[0] * grid[1], WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(*(Block(WIDTH) for _ in range(_DEPTH)))})
        self.proj = nn.Parameter(torch.empty(WIDTH, _PROJECTION))
        if cameras:
            self.cv_embed = nn.Parameter(torch.empty(cameras, WIDTH))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
        nn.init.normal_(self.class_embedding, std=0.02)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) images and (N,) cameras -> (N, 768), the class token after the last normalization."""
        patches = self.conv1(images).flatten(2).mT
        token = self.class_embedding.expand(images.shape[0], 1, -1)
        if hasattr(self, "cv_embed"):
            token = token + camera_vectors(self.cv_embed[:, None], cameras)
        tokens = self.ln_pre(torch.cat([token, patches], dim=1) + self.positional_embedding)
        first: Tensor = self.ln_post(self.transformer["resblocks"](tokens)[:, 0])
        return first


class Block(nn.Module):
    """Attention and a perceptron, each after a normalization and added to its input.

    Args:
        width: of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width)
        self.ln_1 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        output: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return output


class SelfAttention(nn.Module):
    """Attention among tokens, its parameters under the names of :class:`torch.nn.MultiheadAttention`.

    Args:
        width: of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        projections = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projections.reshape(*projections.shape[:2], 3, -1, _HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        features = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.out_proj(features.transpose(1, 2).flatten(2))
        return output


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), with which CLIP was trained instead of the GELU."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape."""
        return values * torch.sigmoid(1.702 * values)


def _fit(base: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as those of ``base``, which may differ in input size, stride and cameras."""
    assert isinstance(base, ClipTransformer)
    state = with_grid(tensors, "positional_embedding", base.grid)
    fit_cameras(state, base.state_dict(), "cv_embed", "class_embedding", 1.0)
    return state


def with_grid(tensors: Mapping[str, Tensor], name: str, grid: tuple[int, int]) -> dict[str, Tensor]:
    """The tensors with position embeddings of another grid.

    Args:
        tensors: by name.
        name: of the position embeddings (T, C), that of the class token first; if they are no matrix, they stay, and
            the check of the tensors will say so.
        grid: rows and columns of the patches.
    """
    state = dict(tensors)
    if name in state and state[name].ndim == 2:
        state[name] = resized(state[name][None], 1, grid)[0]
    return state


CLIP_VITS = {
    "clip_vit_base": Backbone(
        build=ClipViTBackbone,
        preprocessing=CLIP_IMAGES,
        options=("patch_stride", "cameras"),
        classifiers=(),
        fit=_fit,
        known_by_tensors=True,
        fixed_size=True,
    )
}
