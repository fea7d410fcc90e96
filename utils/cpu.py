"""How the CPU computes: what it does with subnormal numbers, and with the memory of freed tensors."""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def flush_subnormals() -> None:
    """Take numbers below 1.2e-38 for zero in this thread, and in those that it starts from now on.

    A trained network holds and produces such numbers (weight decay shrinks the weights of dead channels), and a CPU
    computes them a hundred times slower than others. The features of images do not change by a bit.

    The mode belongs to a thread, and a thread inherits it when it starts. So scripts and loaders' workers call this
    function before their first tensor, because OpenMP's threads, once started, keep what they have. A library must
    not change the mode of its caller: it computes in a :func:`flushing_thread`.
    """
    torch.set_flush_denormal(True)


def flushing_thread() -> ThreadPoolExecutor:
    """A thread of its own that flushes subnormal numbers, whose OpenMP threads do so too."""
    return ThreadPoolExecutor(1, thread_name_prefix="compute", initializer=flush_subnormals)


def keep_freed_memory() -> bool:
    """Let the process keep the memory of freed tensors for the next ones instead of returning it to the system.

    A network on the CPU frees and asks for tens of megabytes in each layer. glibc maps such pieces again each time,
    and the kernel fills every page with zeros, which takes two fifths of the time of a ResNet-50 in fp32. The price:
    memory, once used, stays with the process until its end. The setting holds for the whole process, so the
    scripts call this function when they compute on the CPU, and a library does not.

    Returns:
        Whether the C library accepted it; False if it is not glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # No mappings, no return of the heap's end, and one heap for all threads, since only the first can grow at will.
    return bool(tune(_MMAP_MAX, 0) and tune(_TRIM_THRESHOLD, -1) and tune(_ARENA_MAX, 1))
