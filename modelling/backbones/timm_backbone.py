"""Any network of the timm library as a backbone."""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelling.backbones.pixels import Pixels
from utils.errors import ReidError, did_you_mean

PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """A network of timm without its classifier.

    A convolutional network gives its last feature map; a network of tokens gives what its authors pool (the
    class token, or the mean of the patches) as a map of one position.

    Args:
        name: as timm lists it, a tag included if wanted (``vit_small_patch16_224.augreg_in21k``).
        input_size: height and width; networks of tokens are built for it and take no other.
        pretrained: load timm's weights, from its cache or by download.

    Attributes:
        out_channels: of the feature map, found by a trial run.
        pooled: whether the map has one position only, whose values may be negative.
        negative: share of the map of a trial image that is below 0.
        base: timm's network.

    Raises:
        ReidError: if timm is not installed, does not know the name, or cannot build it for this size.
    """

    def __init__(self, name: str, input_size: tuple[int, int] = (256, 128), *, pretrained: bool = False) -> None:
        super().__init__()
        base: Any = _create(name, input_size, pretrained).eval()
        self.base = base
        trial = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                if base.forward_features(trial).ndim == 4:
                    base.reset_classifier(0, "")  # a map is left to our own pooling
                self._channels_last = _is_channels_last(base, base(trial))
                feature_map = self(trial)
        except Exception as error:  # networks refuse a size in any way
            raise ReidError(_cannot(name, input_size, error)) from error
        base.train()
        self.out_channels = int(feature_map.shape[1])
        self.pooled = tuple(feature_map.shape[2:]) == (1, 1)
        self.negative = float((feature_map < 0).float().mean())

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, h, w)."""
        features: Tensor = self.base(images)
        if features.ndim == 3:  # tokens that the network's own head does not pool
            features = features.mean(1)
        if features.ndim == 2:
            return features[:, :, None, None]
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def timm_weights(name: str, input_size: tuple[int, int] = (256, 128)) -> dict[str, Tensor]:
    """The weights that timm has for a network, position embeddings fitted to the input size.

    Args:
        name: as timm lists it, without our ``timm:``.
        input_size: height and width.

    Raises:
        ReidError: if timm has none, or they can neither be found in its cache nor downloaded.
    """
    return cast(dict[str, Tensor], TimmBackbone(name, input_size, pretrained=True).base.state_dict())


def fitted_weights(name: str, base: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of timm, or of a network's authors, as timm would load it into a network of another size.

    Args:
        name: as timm lists it, without our ``timm:``.
        base: the network that is going to be filled.
        state: all tensors of the file by name; by its classifier some versions of timm tell an old file.

    Returns:
        Tensors under today's names without the classifier, position embeddings fitted to the input size of ``base``.
    """
    fit = getattr(sys.modules[type(base).__module__], "checkpoint_filter_fn", None)
    try:
        fitted = dict(state) if fit is None else dict(fit(dict(state), base))
    except Exception:  # of another network it fails in any way; the check of the tensors names them
        fitted = dict(state)
    classifiers = tuple(f"{classifier}." for classifier in classifier_names(name))
    return {inner: tensor for inner, tensor in fitted.items() if not inner.startswith(classifiers)}


def classifier_names(name: str) -> tuple[str, ...]:
    """The modules of a timm network that classify, which a backbone leaves out."""
    config = _configuration(_timm(), name)
    found = (config.classifier if config else None) or "fc"
    return (found,) if isinstance(found, str) else tuple(found)


def built_for_one_size(name: str) -> bool:
    """Whether a timm network is built for one input size and takes no other.

    Raises:
        ReidError: if timm is not installed or does not know the name.
    """
    config = _configuration(_timm(), name)
    return bool(config and config.fixed_input_size)


def timm_pixels(name: str) -> Pixels:
    """How the images were normalised on which timm's weights of a network were trained."""
    config = _configuration(_timm(), name)
    return Pixels(config.mean, config.std) if config else Pixels()


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ReidError("MODEL.NAME timm:... needs the timm library: pip install timm") from error
    library: ModuleType = timm
    return library


def _configuration(timm: ModuleType, name: str) -> Any:  # noqa: ANN401 (timm's own class, which may be absent)
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), count=3)
        raise ReidError(
            f"MODEL.NAME {PREFIX}{name} must name a network of timm {timm.__version__}; "
            f"timm.list_models() lists all{hint}"
        )
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ReidError(f"MODEL.NAME {PREFIX}{name}: {error}") from error


def _create(name: str, size: tuple[int, int], pretrained: bool) -> nn.Module:
    timm = _timm()
    options: dict[str, Any] = {"img_size": size} if built_for_one_size(name) else {}
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except Exception as error:  # downloads and constructors fail in any way
        if not pretrained:
            raise ReidError(_cannot(name, size, error)) from error
        raise ReidError(
            f"MODEL.PRETRAINED True needs timm's weights of {name}, which cannot be had "
            f"({' '.join(str(error).split())[:200]}); put them into the cache of huggingface_hub, give a "
            "local file as MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
        ) from error
    return network


def _is_channels_last(base: Any, features: Tensor) -> bool:  # noqa: ANN401 (any network of timm)
    channels = getattr(base, "head_hidden_size", None) or base.num_features
    declared = getattr(base, "output_fmt", None)
    return features.ndim == 4 and (
        declared == "NHWC" or (features.shape[1] != channels and features.shape[3] == channels)
    )


def _cannot(name: str, size: tuple[int, int], error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return (
        f"MODEL.NAME {PREFIX}{name} cannot be a backbone at {size[0]} x {size[1]} pixels ({reason}); "
        "choose another INPUT.SIZE_TRAIN or another network"
    )
