"""What the machine offers: device, arithmetic and processes for decoding."""

import os
from typing import Literal, get_args

import torch

from utils.errors import ReidError
from utils.processes import usable_cpus

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_WORKERS = 16


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where it is, else the CPU.

    Raises:
        ReidError: for a name torch does not know, or a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ReidError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ReidError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ReidError(f"device {name} needs a CUDA device, but torch sees {torch.cuda.device_count()}; use auto")
    return device


def choose_precision(name: str, device: torch.device, backbone: str) -> str:
    """``fp32``, ``bf16`` or ``fp16``; ``auto`` is the fastest that is known to leave the mAP where it is.

    On real images bf16 moves the mAP of a ResNet-18 by 0.05 point (up to 0.11 without :mod:`inference.fusion`), but
    that of an OSNet x0.25 by 0.2. So ``auto`` is fp32 for every backbone but a ResNet, and for those bf16 where the
    CPU multiplies it, fp16 (emulated: below 0.05 too) on CUDA.

    Args:
        name: one of :data:`PRECISIONS`.
        device: that computes.
        backbone: its name in the configuration.

    Raises:
        ReidError: for an unknown name, or fp16 on the CPU.
    """
    if name not in PRECISIONS:
        raise ReidError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if name == "fp16" and device.type == "cpu":
        raise ReidError("precision fp16 needs a CUDA device, got the CPU; use bf16 or auto")
    if name != "auto":
        return name
    if not is_resnet(backbone):
        return "fp32"
    if device.type == "cuda":
        return "fp16"
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def is_resnet(backbone: str) -> bool:
    """Whether a backbone of that name is one of our ResNets (IBN too; ``timm:resnet50`` is not ours)."""
    return backbone.startswith("resnet")


def type_of(precision: str) -> torch.dtype:
    """The torch type of a name that :func:`choose_precision` returned."""
    return _TYPES[precision]


def decoding_workers(device: torch.device) -> int:
    """Processes that keep the device busy: many beside a GPU; beside a CPU few, they take from its cores.

    Below four cores none: crops decode in a hundredth of the time of a network, less than a process costs.
    """
    cores = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun: processes on this machine
    return min(_MOST_WORKERS, max(1, cores) if device.type == "cuda" else cores // 4)


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has AVX512-BF16 (those with AMX have it too); elsewhere torch emulates bf16."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
