"""A trained network made ready to embed: folded batch normalizations, a layout in memory, a precision."""

import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modelling.network import ReidNetwork
from utils.precision import full_precision

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision of the backbone -> the type in which it computes."""

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""Order of images and feature maps in memory."""


class Embedder:
    """A prepared copy of a network, from normalized images to the vectors that retrieval compares.

    Validation, test and the Extractor embed with it, so they give the same vectors for the same weights. The
    backbone computes in ``precision``, the head in float32, whatever autocast the caller has chosen.

    Args:
        network: stays as it is.
        device: that computes.
        precision: one of :data:`PRECISIONS`.
        layout: one of :data:`LAYOUTS`.
        flip: a vector is the mean of those of the image and of its mirror image.

    Attributes:
        network: the copy, in evaluation mode.
    """

    def __init__(
        self,
        network: ReidNetwork,
        device: torch.device,
        precision: str = "fp32",
        layout: str = "channels_last",
        *,
        flip: bool = False,
    ) -> None:
        self._type, self._layout, self._flip = PRECISIONS[precision], LAYOUTS[layout], flip
        self.network = copy.deepcopy(network).eval()
        self.network.to(device).to(memory_format=self._layout)
        for part in self.network.trunk:
            fold_batch_norms(part)
            part.to(self._type)

    def __call__(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) float32 normalized images, and their cameras, (N,) int64 -> (N, D) float32 vectors."""
        with full_precision(images.device):  # a training may have allowed TF32
            pixels = images.to(self._type, memory_format=self._layout)
            vectors = self.network.embed(pixels, cameras).float()
            if self._flip:
                vectors = (vectors + self.network.embed(pixels.flip(3), cameras).float()) / 2
            return vectors


def fold_batch_norms(module: nn.Module) -> None:
    """Fold in place each BatchNorm2d into the Conv2d whose output it alone takes.

    In evaluation both are linear, so the product of their weights, formed in float32, does the work of both. That
    spares a pass over the feature map, and in 16 bits a rounding of it. The traced graph of the forward tells the
    pairs; what cannot be traced, and other normalizations (IBN), stay as they are.

    Args:
        module: in evaluation mode.
    """
    for conv_name, norm_name in list(_pairs(module)):
        conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
        _replace(module, conv_name, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
        # timm's BatchNormAct2d is a normalization with what follows it
        rest = [layer for layer in norm.children() if not isinstance(layer, nn.Identity)]
        _replace(module, norm_name, nn.Sequential(*rest) if rest else nn.Identity())


class _Tracer(fx.Tracer):
    """Takes every convolution and normalization for one step, also those of classes derived from torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_layer = isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm))
        return is_layer or super().is_leaf_module(m, module_qualified_name)


def _pairs(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of each convolution and of the normalization that can be folded into it."""
    try:
        graph = _Tracer().trace(module)
    except Exception:  # a forward that looks at values or sizes may raise anything
        for name, child in module.named_children():
            yield from _pairs(child, f"{prefix}{name}.")
        return
    layers = dict(module.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for norm in graph.nodes:
        conv = norm.args[0] if norm.args else None
        if (
            norm.op == "call_module"
            and isinstance(conv, fx.Node)
            and conv.op == "call_module"
            and len(conv.users) == calls[conv.target] == calls[norm.target] == 1
            and type(layers[conv.target]) is nn.Conv2d
            and _is_foldable(layers[norm.target])
        ):
            yield f"{prefix}{conv.target}", f"{prefix}{norm.target}"


def _is_foldable(norm: nn.Module) -> bool:
    is_norm = type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) or type(norm).__name__ == "BatchNormAct2d"
    return is_norm and norm.running_mean is not None


def _replace(root: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, layer)
