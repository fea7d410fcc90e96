"""What computes: the device, its precision, the network prepared for both, and the processes that decode."""

import os
import re
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.choices import PRECISIONS
from modelling.backbones import Backbone
from modelling.network import ReidNetwork
from utils.errors import ReidError
from utils.processes import usable_cpus

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_WORKERS = 16


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is a CUDA device, else the CPU.

    Raises:
        ReidError: for a name torch does not know, or a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise ReidError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ReidError(f"device {name} needs a CUDA device, but torch sees {torch.cuda.device_count()}; use auto")
    return device


def choose_precision(name: str, device: torch.device, record: Backbone) -> str:
    """``fp32``, ``bf16`` or ``fp16``; ``auto`` is the fastest that is known to leave the mAP where it is.

    On real images bf16 moves the mAP of a ResNet-18 by 0.05 point (up to 0.11 where batch normalizations are not
    folded), but that of an OSNet x0.25 by 0.2. So ``auto`` is fp32 for every backbone but a ResNet, and for those
    bf16 where the CPU multiplies it, fp16 (emulated: below 0.05 too) on CUDA.

    Args:
        name: one of :data:`inference.choices.PRECISIONS`.
        device: that computes.
        record: of the backbone.

    Raises:
        ReidError: for an unknown name, or fp16 on the CPU.
    """
    if name not in PRECISIONS:
        raise ReidError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if name == "fp16" and device.type == "cpu":
        raise ReidError("precision fp16 needs a CUDA device, got the CPU; use bf16 or auto")
    if name != "auto":
        return name
    if not record.safe_in_16_bits:
        return "fp32"
    if device.type == "cuda":
        return "fp16"
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def type_of(precision: str) -> torch.dtype:
    """The torch type of a name that :func:`choose_precision` returned."""
    return _TYPES[precision]


def prepare(network: ReidNetwork, record: Backbone, device: torch.device, precision: str) -> ReidNetwork:
    """Move and convert in place: channels last, the backbone in its precision, the head in float32.

    Args:
        network: in evaluation mode.
        record: of its backbone.
        device: that computes.
        precision: as :func:`choose_precision` returns it.

    Returns:
        The network.
    """
    network.to(device).to(memory_format=torch.channels_last)
    if precision != "fp32" and record.folds_batch_norm:
        fold_batch_norms(network.backbone)
    network.backbone.to(type_of(precision))
    return network


def fold_batch_norms(backbone: nn.Module) -> None:
    """Fold in place each BatchNorm2d into the Conv2d whose output it takes.

    In evaluation both are linear, so the product of their weights, formed in float32, does the work of both. In 16
    bits that spares a pass over the feature map, and a rounding of it.

    Args:
        backbone: in evaluation mode, with a record that says ``folds_batch_norm``. Normalizations of another kind
            (IBN) stay.
    """
    for module in list(backbone.modules()):
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())


def decoding_workers(device: torch.device) -> int:
    """Processes that keep the device busy: many beside a GPU; beside a CPU few, because they take its cores.

    There are none below four cores: crops decode in a hundredth of the time of a network, less than a process costs.
    """
    cores = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun: processes on this machine
    return min(_MOST_WORKERS, max(1, cores) if device.type == "cuda" else cores // 4)


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has AVX512-BF16 (those with AMX have it too); elsewhere torch emulates bf16."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
