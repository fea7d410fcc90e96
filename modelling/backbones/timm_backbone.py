"""Any network of the timm library as a backbone."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from datasets.preprocessing import Preprocessing
from modelling.backbones.record import Backbone
from utils.errors import ReidError, did_you_mean, one_line

PREFIX = "timm:"


def timm_record(name: str) -> Backbone:
    """The record of a network of timm.

    Args:
        name: as timm lists it, without our ``timm:``, and with a tag if needed
            (``vit_small_patch16_224.augreg_in21k``).

    Raises:
        ReidError: if timm is not installed or does not know the name.
    """
    config = _configuration(name)
    modules = (config.classifier if config else None) or "fc"
    classifiers = (modules,) if isinstance(modules, str) else tuple(modules)
    images = Preprocessing()
    if config:
        images = Preprocessing(tuple(config.input_size[1:]), (*config.mean,), (*config.std,), config.interpolation)
    return Backbone(
        build=partial(TimmBackbone, name),
        weights=partial(timm_weights, name),
        preprocessing=images,
        classifiers=classifiers,
        fit=partial(_fit, classifiers),
        fixed_size=bool(config and config.fixed_input_size),
    )


class TimmBackbone(nn.Module):
    """A network of timm without its classifier.

    A convolutional network outputs its last feature map. A network of tokens outputs what its authors pool (the class
    token, or the mean of the patches) as a map of one position.

    Args:
        name: as for :func:`timm_record`.
        input_size: height and width; networks of tokens are built for it and take no other size.

    Attributes:
        out_channels: of the feature map, from a trial run.
        pooled: whether the map has one position only, whose values may be negative.
        negative: share of negative values in the map of a trial image.
        base: timm's network.

    Raises:
        ReidError: if timm is not installed, does not know the name, or cannot build it for this size.
    """

    def __init__(self, name: str, input_size: tuple[int, int] = (256, 128)) -> None:
        super().__init__()
        config = _configuration(name)
        size = {"img_size": input_size} if config and config.fixed_input_size else {}
        trial = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0))
        try:
            base: Any = import_timm().create_model(name, pretrained=False, num_classes=0, **size).eval()
            self.base = base
            with torch.no_grad():
                if base.forward_features(trial).ndim == 4:
                    base.reset_classifier(0, "")  # our own pooling follows
                self._channels_last = _is_channels_last(base, base(trial))
                feature_map = self(trial)
        except Exception as error:  # a network may raise anything for a size
            raise ReidError(
                f"MODEL.NAME {PREFIX}{name} cannot be a backbone at {input_size[0]} x {input_size[1]} pixels "
                f"({one_line(error)[:200]}); choose another INPUT.SIZE_TRAIN or another network"
            ) from error
        base.train()
        self.out_channels = int(feature_map.shape[1])
        self.pooled = tuple(feature_map.shape[2:]) == (1, 1)
        self.negative = float((feature_map < 0).float().mean())

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, ``out_channels``, h, w)."""
        features: Tensor = self.base(images)
        if features.ndim == 3:  # tokens that the network's own head did not pool
            features = features.mean(1)
        if features.ndim == 2:
            return features[:, :, None, None]
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def timm_weights(name: str) -> dict[str, Tensor]:
    """The weights that timm has for a network, at its own input size and with its classifier.

    Raises:
        ReidError: if timm has none, or they are not in its cache and the download fails.
    """
    try:
        weights: dict[str, Tensor] = import_timm().create_model(name, pretrained=True).state_dict()
    except Exception as error:  # a download may raise anything
        raise ReidError(
            f"MODEL.PRETRAINED True needs timm's weights of {name}, which cannot be fetched "
            f"({one_line(error)[:200]}); put them into the cache of huggingface_hub, give a local file as "
            "MODEL.PRETRAIN_PATH, or set MODEL.PRETRAINED False"
        ) from error
    return weights


def _fit(classifiers: tuple[str, ...], base: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as timm would load them into ``base``, without the classifier.

    Old names become current ones, and position embeddings get the size of ``base``. timm must see the classifier,
    because some of its versions recognize an old file by it.
    """
    convert = getattr(sys.modules[type(base).__module__], "checkpoint_filter_fn", None)
    state = dict(tensors)
    if convert is not None:
        # It may raise anything for a file of another network; the check of the tensors will name the problem.
        with suppress(Exception):
            state = dict(convert(dict(tensors), base))
    # Beside a classifier such as head.head.l lies a normalization, which the backbone does not have either.
    prefixes = tuple(f"{module.rpartition('.')[0] or module}." for module in classifiers)
    own = base.state_dict()
    return {name: tensor for name, tensor in state.items() if name in own or not name.startswith(prefixes)}


def import_timm() -> ModuleType:
    """The library, which is optional.

    Raises:
        ReidError: if it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ReidError("this MODEL.NAME needs the timm library: pip install timm") from error
    library: ModuleType = timm
    return library


def _configuration(name: str) -> Any:  # noqa: ANN401 (a class of timm, which may not be installed)
    timm = import_timm()
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


def _is_channels_last(base: Any, features: Tensor) -> bool:  # noqa: ANN401 (any network of timm)
    channels = getattr(base, "head_hidden_size", None) or base.num_features
    layout = getattr(base, "output_fmt", None)
    return features.ndim == 4 and (
        layout == "NHWC" or (features.shape[1] != channels and features.shape[3] == channels)
    )
