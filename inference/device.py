"""What computes: the device, and the processes that decode."""

import os
import re

import torch

from utils.errors import ReidError
from utils.processes import usable_cpus

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


def decoding_workers(device: torch.device) -> int:
    """Processes that keep the device busy: many beside a GPU; beside a CPU few, because they take its cores.

    There are none below four cores: crops decode in a hundredth of the time of a network, less than a process costs.
    """
    cores = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun: processes on this machine
    return min(_MOST_WORKERS, max(1, cores) if device.type == "cuda" else cores // 4)
